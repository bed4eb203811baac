// SPDX-License-Identifier: GPL-2.0

//! A spin lock for what interrupts touch too.
//!
//! The `kernel` crate's `SpinLockIrq` counts who has interrupts off; this one saves and restores
//! them as C code does, which takes half as long.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use crate::generated;
use kernel::{
    bindings,
    ffi::{c_char, c_ulong},
    sync::lock::{Backend, Lock}, //
};

/// The lock.
pub(crate) type IrqLock<T> = Lock<T, IrqSave>;

/// How it is taken.
pub(crate) struct IrqSave;

/// A spin lock that only tasks take. The `kernel` crate's asks each time whether it is held.
pub(crate) type TaskLock<T> = Lock<T, Task>;

/// How that is taken.
pub(crate) struct Task;

// SAFETY: As below.
unsafe impl Backend for Task {
    type State = bindings::spinlock_t;
    type GuardState = ();

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By this function's contract.
        unsafe { bindings::__spin_lock_init(ptr, name, key) };
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: Initialised, by this function's contract.
        unsafe { bindings::spin_lock(ptr) };
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: Initialised, by this function's contract.
        (unsafe { bindings::spin_trylock(ptr) } != 0).then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, (): &()) {
        // SAFETY: We own the lock.
        unsafe { bindings::spin_unlock(ptr) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: As of `IrqSave`.
        unsafe { IrqSave::assert_is_held(ptr) };
    }
}

// SAFETY: A spin lock has one owner at a time; `relock` is the default one.
unsafe impl Backend for IrqSave {
    type State = bindings::spinlock_t;
    type GuardState = c_ulong;

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By this function's contract.
        unsafe { bindings::__spin_lock_init(ptr, name, key) };
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> c_ulong {
        // SAFETY: Initialised, by this function's contract.
        unsafe { generated::kq_spin_lock_irqsave(ptr) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<c_ulong> {
        let mut flags = 0;
        // SAFETY: Initialised, by this function's contract.
        let locked = unsafe { generated::kq_spin_trylock_irqsave(ptr, &raw mut flags) };
        locked.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, flags: &c_ulong) {
        // SAFETY: We own the lock, and these are the flags that taking it gave.
        unsafe { generated::kq_spin_unlock_irqrestore(ptr, *flags) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // Asked each time the lock is taken; only lockdep knows.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: Initialised, by this function's contract.
            unsafe { generated::kq_spin_assert_is_held(ptr) };
        }
    }
}
