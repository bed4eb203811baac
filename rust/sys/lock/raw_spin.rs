// SPDX-License-Identifier: GPL-2.0

//! Raw spin locks.
//!
//! An [`IrqLock`] protects data that interrupt handlers use, too. A [`TaskLock`] protects data that
//! only tasks use.
//!
//! Probes take these locks, and may run with preemption disabled. On a real-time kernel
//! (`CONFIG_PREEMPT_RT`) a `spinlock_t` sleeps, and a `raw_spinlock_t` does not. Therefore both are
//! raw spin locks, on every kernel. While one is held, nothing may be allocated or freed, no
//! `spinlock_t` may be waited for, and no wait queue may be woken. (Lockdep checks that in the
//! debug kernel, by `CONFIG_PROVE_RAW_LOCK_NESTING`. Tasks may be woken.) As preemption is
//! disabled, the owner is in an RCU read-side critical section.
//!
//! They are cheaper than the locks of the `kernel` crate. `SpinLockIrq` counts nested sections with
//! interrupts disabled. An `IrqLock` saves and restores the interrupt flag as C code does, which
//! takes half as long.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use crate::generated;
use kernel::{
    bindings,
    ffi::{c_char, c_ulong},
    sync::lock::{Backend, Lock}, //
};

/// A spin lock that is held with interrupts disabled, and may be taken in any context but NMI.
pub(crate) type IrqLock<T> = Lock<T, IrqSave>;

/// The backend of [`IrqLock`]: `raw_spin_lock_irqsave()`.
pub(crate) struct IrqSave;

/// A spin lock that only tasks take. The `SpinLock` of the `kernel` crate checks at each access
/// whether it is held; this one does not.
pub(crate) type TaskLock<T> = Lock<T, Task>;

/// The backend of [`TaskLock`]: `raw_spin_lock()`.
pub(crate) struct Task;

// SAFETY: A spin lock has one owner at a time. `relock` is the default implementation.
unsafe impl Backend for Task {
    type State = bindings::raw_spinlock_t;
    type GuardState = ();

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { generated::kq_raw_spin_lock_init(ptr, name, key) };
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: The caller guarantees that the lock is initialised.
        unsafe { generated::kq_raw_spin_lock(ptr) };
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: The caller guarantees that the lock is initialised.
        unsafe { generated::kq_raw_spin_trylock(ptr) }.then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, (): &()) {
        // SAFETY: The caller guarantees that it owns the lock.
        unsafe { generated::kq_raw_spin_unlock(ptr) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller guarantees that the lock is initialised. Both backends have the same
        // state.
        unsafe { IrqSave::assert_is_held(ptr) };
    }
}

// SAFETY: A spin lock has one owner at a time. `relock` is the default implementation.
unsafe impl Backend for IrqSave {
    type State = bindings::raw_spinlock_t;
    type GuardState = c_ulong;

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { generated::kq_raw_spin_lock_init(ptr, name, key) };
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> c_ulong {
        // SAFETY: The caller guarantees that the lock is initialised.
        unsafe { generated::kq_raw_spin_lock_irqsave(ptr) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<c_ulong> {
        let mut flags = 0;
        // SAFETY: The caller guarantees that the lock is initialised.
        let locked = unsafe { generated::kq_raw_spin_trylock_irqsave(ptr, &raw mut flags) };
        locked.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, flags: &c_ulong) {
        // SAFETY: The caller owns the lock and passes the flags that the acquisition returned.
        unsafe { generated::kq_raw_spin_unlock_irqrestore(ptr, *flags) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // The `kernel` crate calls this at each acquisition. Only lockdep can check it.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: The caller guarantees that the lock is initialised.
            unsafe { generated::kq_raw_spin_assert_is_held(ptr) };
        }
    }
}
