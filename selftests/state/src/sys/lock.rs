// SPDX-License-Identifier: GPL-2.0

//! Locks.

#[path = "../../../../rust/sys/lock/flag.rs"]
pub(crate) mod flag;

pub(crate) mod irqlock {
    //! A lock.

    use loom::sync::{Mutex, MutexGuard};

    /// One that is not poisoned, since loom ends at the first panic.
    pub(crate) struct IrqLock<T>(Mutex<T>);

    impl<T> IrqLock<T> {
        pub(crate) fn new(value: T) -> Self {
            IrqLock(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}
