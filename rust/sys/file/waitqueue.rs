// SPDX-License-Identifier: GPL-2.0

//! A wait queue for the pollers of a file.
//!
//! C header: [`include/linux/wait.h`](srctree/include/linux/wait.h)

use core::marker::PhantomPinned;
use kernel::{
    bindings,
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

/// A `wait_queue_head`.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Any thread may use a wait queue, because it has a lock of its own.
unsafe impl Send for WaitQueue {}
// SAFETY: Any thread may use a wait queue, because it has a lock of its own.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// An empty queue whose lock is of the given lockdep class.
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes. The name and the lock class are static.
            head <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            _pin: PhantomPinned,
        })
    }

    /// The C structure, for other wrappers that pass it to the kernel.
    pub(in crate::sys) fn as_raw(&self) -> *mut bindings::wait_queue_head {
        self.head.get()
    }
}
