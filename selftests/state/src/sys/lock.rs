// SPDX-License-Identifier: GPL-2.0

//! The files of the module that are checked, and models of the items that they import.

#[path = "../../../../rust/sys/lock/flag.rs"]
pub(crate) mod flag;

pub(crate) mod raw_spin {
    //! A model of a lock.

    use loom::sync::{Mutex, MutexGuard};

    /// A mutex without poisoning, since loom ends at the first panic.
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
