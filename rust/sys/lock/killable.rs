// SPDX-License-Identifier: GPL-2.0

//! A mutex that a task stops waiting for when it receives a fatal signal.
//!
//! C header: [`include/linux/mutex.h`](srctree/include/linux/mutex.h)

use crate::generated;
use core::ptr;
use kernel::{
    bindings,
    ffi::c_char,
    prelude::*,
    sync::{
        atomic::ordering,
        barrier::smp_mb,
        lock::{Backend, Guard, Lock}, //
    }, //
};

/// A mutex whose acquisition by [`lock`] is killable.
pub(crate) type KillableMutex<T> = Lock<T, Killable>;

/// The backend of [`KillableMutex`]. (The mutex of the `kernel` crate checks at each access whether
/// it is held; this one does not.)
pub(crate) struct Killable;

// SAFETY: A mutex has one owner at a time. `relock` is the default implementation.
unsafe impl Backend for Killable {
    type State = bindings::mutex;
    type GuardState = ();

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { bindings::__mutex_init(ptr, name, key) };
    }

    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: The caller guarantees that the lock is initialised.
        unsafe { bindings::mutex_lock(ptr) };
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: The caller guarantees that the lock is initialised.
        (unsafe { bindings::mutex_trylock(ptr) } != 0).then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, (): &()) {
        // SAFETY: The caller guarantees that it owns the lock.
        unsafe { bindings::mutex_unlock(ptr) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // Only lockdep can check it.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: The caller guarantees that the lock is initialised.
            unsafe { bindings::mutex_assert_is_held(ptr) };
        }
    }
}

/// Acquires `mutex`. A fatal signal ends the wait.
///
/// # Errors
///
/// `EINTR`.
pub(crate) fn lock<T>(mutex: &KillableMutex<T>) -> Result<Guard<'_, T, Killable>> {
    let raw = ptr::from_ref(mutex).cast::<bindings::mutex>().cast_mut();
    // SAFETY: A `Lock` begins with its state, as `Lock::from_raw` relies on, too. The state was
    // initialised when the lock was created.
    if unsafe { generated::kq_mutex_lock_killable(raw) } != 0 {
        return Err(EINTR);
    }
    // SAFETY: The caller guarantees that it owns the lock.
    Ok(unsafe { Guard::new(mutex, ()) })
}

/// Acquires `mutex` for a caller that may leave its work to the current owner of the mutex. A fatal
/// signal ends the wait. A task that is exiting does not wait at all, because no signal would end
/// its wait.
///
/// # Errors
///
/// `EINTR`.
pub(crate) fn lock_or_leave<T>(mutex: &KillableMutex<T>) -> Result<Guard<'_, T, Killable>> {
    // SAFETY: The current task is valid. Only the task itself writes this flag.
    if unsafe { (*bindings::get_current()).flags } & bindings::PF_EXITING != 0 {
        return mutex.try_lock().ok_or(EINTR);
    }
    lock(mutex)
}

/// A full barrier directly after the release of a mutex (`smp_mb__after_atomic`). The release by
/// itself orders only what comes before it.
#[inline(always)]
pub(crate) fn barrier_after_unlock() {
    // The release of a mutex is an atomic read-modify-write operation, contended or not, and on x86
    // each of these is a full barrier. The call of `mutex_unlock` prevents reordering by the
    // compiler. (The mutex of a real-time kernel may be released by a plain store.)
    if !cfg!(CONFIG_X86) || cfg!(CONFIG_PREEMPT_RT) {
        smp_mb(ordering::Full);
    }
}
