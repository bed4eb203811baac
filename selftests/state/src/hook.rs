// SPDX-License-Identifier: GPL-2.0

//! The module's hooks that are checked, and what they find around them.

pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

#[path = "../../../rust/hook/flag.rs"]
pub(crate) mod flag;
#[path = "../../../rust/hook/sleepers.rs"]
#[allow(dead_code, clippy::undocumented_unsafe_blocks)]
pub(crate) mod sleepers;

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

pub(crate) mod knote {
    //! Keys, which prove nothing here.

    use std::marker::PhantomData;

    pub(crate) struct Key<L>(pub(crate) PhantomData<L>);
}
