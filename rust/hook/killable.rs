// SPDX-License-Identifier: GPL-2.0

//! Waiting for a mutex, but not when one is being killed.
//!
//! C header: [`include/linux/mutex.h`](srctree/include/linux/mutex.h)

use crate::generated;
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::ordering,
        barrier::smp_mb,
        lock::{mutex::MutexBackend, Guard},
        Mutex, //
    }, //
};

/// Acquires `mutex`; a signal that kills ends the wait.
///
/// # Errors
///
/// `EINTR`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> Result<Guard<'_, T, MutexBackend>> {
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
pub(crate) fn lock_or_leave<T>(mutex: &Mutex<T>) -> Result<Guard<'_, T, MutexBackend>> {
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
