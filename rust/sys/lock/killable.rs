// SPDX-License-Identifier: GPL-2.0

//! A mutex for which nobody waits who is being killed.
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

/// The mutex.
pub(crate) type KillableMutex<T> = Lock<T, Killable>;

/// How it is taken. (The `kernel` crate's asks each time whether it is held.)
pub(crate) struct Killable;

// SAFETY: A mutex has one owner at a time; `relock` is the default one.
unsafe impl Backend for Killable {
    type State = bindings::mutex;
    type GuardState = ();

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By this function's contract.
        unsafe { bindings::__mutex_init(ptr, name, key) };
    }

    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: Initialised, by this function's contract.
        unsafe { bindings::mutex_lock(ptr) };
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: Initialised, by this function's contract.
        (unsafe { bindings::mutex_trylock(ptr) } != 0).then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, (): &()) {
        // SAFETY: We own the lock.
        unsafe { bindings::mutex_unlock(ptr) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // Only lockdep knows.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: Initialised, by this function's contract.
            unsafe { bindings::mutex_assert_is_held(ptr) };
        }
    }
}

/// Acquires `mutex`; a signal that kills ends the wait.
///
/// # Errors
///
/// `EINTR`.
pub(crate) fn lock<T>(mutex: &KillableMutex<T>) -> Result<Guard<'_, T, Killable>> {
    let raw = ptr::from_ref(mutex).cast::<bindings::mutex>().cast_mut();
    // SAFETY: A `Lock` begins with its state (`Lock::from_raw` relies on it too), which was
    // initialised when it was made.
    if unsafe { generated::kq_mutex_lock_killable(raw) } != 0 {
        return Err(EINTR);
    }
    // SAFETY: We own the lock.
    Ok(unsafe { Guard::new(mutex, ()) })
}

/// The same for who may leave it to the owner of the mutex to do what is to be done. A task that exits
/// does not wait, as no signal would end that.
///
/// # Errors
///
/// `EINTR`.
pub(crate) fn lock_or_leave<T>(mutex: &KillableMutex<T>) -> Result<Guard<'_, T, Killable>> {
    // SAFETY: The current task is valid; the flag is written by itself.
    if unsafe { (*bindings::get_current()).flags } & bindings::PF_EXITING != 0 {
        return mutex.try_lock().ok_or(EINTR);
    }
    lock(mutex)
}

/// Orders all that comes after it behind the release of a mutex that came right before, which alone is a
/// release only (`smp_mb__after_atomic`).
#[inline(always)]
pub(crate) fn barrier_after_unlock() {
    // A mutex is released by an atomic read-modify-write, be it contended or not, and on x86 each of
    // those is a full barrier. The call of `mutex_unlock` keeps the compiler from moving anything.
    if !cfg!(CONFIG_X86) {
        smp_mb(ordering::Full);
    }
}
