// SPDX-License-Identifier: GPL-2.0

//! Telling poll(2), epoll and SIGIO, outside all locks of the event's source.
//!
//! An event arrives in the middle of somebody else's wake-up, under locks of
//! theirs. Waking pollers there would nest wait queues of one kind (of objects
//! that watch each other, as epolls do), and SIGIO would take signal locks under whatever is
//! held. So both are done from an [`irq_work`](srctree/include/linux/irq_work.h):
//! a moment later, on the same CPU, holding nothing. A chain of such objects is then
//! a sequence of such steps, with no recursion, however deep it is.

use crate::{
    generated,
    sys::file::{chardev::PollTable, poll::Events, waitqueue::WaitQueue},
};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    bindings,
    error::to_result,
    fs::File,
    prelude::*,
    static_lock_class,
    types::Opaque, //
};

/// The pollers and the SIGIO listeners of one object.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Notifier {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    work: Opaque<bindings::irq_work>,
    #[pin]
    pollers: WaitQueue,
    fasync: Opaque<*mut bindings::fasync_struct>,
    /// SIGIO is to be sent.
    signals: AtomicBool,
}

// SAFETY: `irq_work`, wait queues and fasync lists are made for use by many threads.
unsafe impl Send for Notifier {}
// SAFETY: As above.
unsafe impl Sync for Notifier {}

impl Notifier {
    /// Nobody to notify yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes.
            work <- Opaque::ffi_init(|slot| unsafe {
                generated::kq_init_irq_work(slot, Some(Self::run))
            }),
            pollers <- WaitQueue::new(c"notifier_pollers", static_lock_class!()),
            fasync: Opaque::new(core::ptr::null_mut()),
            signals: AtomicBool::new(false),
        })
    }

    /// Has pollers woken soon, and SIGIO sent if it `signals`. From any context.
    pub(crate) fn notify(&self, signals: bool) {
        if signals {
            // Queueing the work orders this before its function, also if it is queued already.
            self.signals.store(true, Ordering::Relaxed);
        }
        // SAFETY: Initialised in `new`, and waited for in `drop`.
        unsafe { bindings::irq_work_queue(self.work.get()) };
    }

    /// Queues the caller of `->poll` on the pollers.
    pub(crate) fn register(&self, file: &File, table: &PollTable) {
        table.wait(file, &self.pollers);
    }

    /// `->fasync`: adds or removes a listener (`O_ASYNC`).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn fasync(&self, fd: i32, file: &File, on: bool) -> Result {
        // SAFETY: The file is valid; the list head has its own locking, within `fasync_helper`.
        let ret =
            unsafe { bindings::fasync_helper(fd, file.as_ptr(), on.into(), self.fasync.get()) };
        to_result(ret.min(0))
    }

    /// The irq_work's function; hard interrupt context (a thread's on PREEMPT_RT).
    ///
    /// # Safety
    ///
    /// `work` is that of a `Notifier`.
    unsafe extern "C" fn run(work: *mut bindings::irq_work) {
        // SAFETY: `work` is the first field of a live `Notifier`: `drop` waits for us.
        let this = unsafe { &*work.cast::<Notifier>() };
        let key = (Events::IN | Events::RDNORM).bits() as usize;
        // SAFETY: The queue is initialised; the key is a mask of events cast to a pointer, as
        // `wake_up_poll()` does it.
        unsafe {
            bindings::__wake_up(
                this.pollers.as_raw(),
                bindings::TASK_NORMAL,
                1,
                core::ptr::without_provenance_mut(key),
            )
        };
        if !this.signals.swap(false, Ordering::Relaxed) {
            return;
        }
        // SAFETY: The list head is valid, and `kill_fasync` may be called from interrupts.
        unsafe {
            bindings::kill_fasync(
                this.fasync.get(),
                bindings::SIGIO as i32,
                bindings::POLL_IN as i32,
            )
        };
    }
}

#[pinned_drop]
impl PinnedDrop for Notifier {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised in `new`. Its owner drops it in process context.
        unsafe { bindings::irq_work_sync(self.work.get()) };
    }
}
