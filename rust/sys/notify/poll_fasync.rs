// SPDX-License-Identifier: GPL-2.0

//! Deferred wake-up of pollers (poll(2), epoll) and deferred SIGIO, outside all locks of the
//! event's source.
//!
//! An event arrives within a wake-up by another subsystem, under the locks of that subsystem. A
//! wake-up of pollers in that context would nest the locks of wait queues of one lockdep class (of
//! objects that watch each other, as epoll instances do), and SIGIO would take signal locks under
//! arbitrary locks. Therefore an [`irq_work`](srctree/include/linux/irq_work.h) does both a moment
//! later, on the same CPU, with no locks held. (On a real-time kernel a work item does it, because
//! an irq_work runs in a thread there, and waiting for one takes an RCU grace period.) Along a
//! chain of such objects, each wake-up queues the work of the next object. There is no recursion,
//! whatever the depth of the chain.
//!
//! # Context
//!
//! [`PollFasync::notify`] may be called in any context. The work runs in hard interrupt context, or
//! in a thread if it is a work item.

use crate::{
    generated,
    sys::file::{chardev::PollTable, poll::PollEvents, waitqueue::WaitQueue},
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

/// The pollers and the SIGIO listeners of one file.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct PollFasync {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    work: Opaque<generated::kq_deferred_call>,
    #[pin]
    pollers: WaitQueue,
    fasync: Opaque<*mut bindings::fasync_struct>,
    /// True if the next run of the work has to send SIGIO.
    send_sigio: AtomicBool,
}

// SAFETY: Any thread may use an `irq_work`, a wait queue, or a fasync list.
unsafe impl Send for PollFasync {}
// SAFETY: Any thread may use an `irq_work`, a wait queue, or a fasync list.
unsafe impl Sync for PollFasync {}

impl PollFasync {
    /// An object without pollers or listeners.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The initialiser guarantees that `slot` is valid for writes.
            work <- Opaque::ffi_init(|slot| unsafe {
                generated::kq_deferred_call_init(slot, Some(Self::run))
            }),
            pollers <- WaitQueue::new(c"poll_fasync_pollers", static_lock_class!()),
            fasync: Opaque::new(core::ptr::null_mut()),
            send_sigio: AtomicBool::new(false),
        })
    }

    /// Schedules the wake-up of the pollers, and SIGIO if `send_sigio` is true. May be called in
    /// any context.
    pub(crate) fn notify(&self, send_sigio: bool) {
        if send_sigio {
            // Queueing orders this store before the run of the work, even if the work is already
            // queued: it begins with a fully ordered operation (`irq_work_claim`), which pairs with
            // the barrier before each run (`irq_work_single`). (`queue_work` guarantees the same.)
            self.send_sigio.store(true, Ordering::Relaxed);
        }
        // SAFETY: The work was initialised in `new`. `drop` waits for it.
        unsafe { generated::kq_deferred_call_queue(self.work.get()) };
    }

    /// Adds the caller of `->poll` to the pollers.
    pub(crate) fn register(&self, file: &File, table: &PollTable) {
        table.wait(file, &self.pollers);
    }

    /// `->fasync`: adds or removes a listener (`O_ASYNC`).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn fasync(&self, fd: i32, file: &File, on: bool) -> Result {
        // SAFETY: The file is valid. `fasync_helper` does the locking of the list.
        let ret =
            unsafe { bindings::fasync_helper(fd, file.as_ptr(), on.into(), self.fasync.get()) };
        to_result(ret.min(0))
    }

    /// The function of the work.
    ///
    /// # Safety
    ///
    /// `work` is the work of a live `PollFasync`.
    unsafe extern "C" fn run(work: *mut generated::kq_deferred_call) {
        // SAFETY: `work` is the first field of a `PollFasync`. The object is alive, because `drop`
        // waits for this function.
        let this = unsafe { &*work.cast::<PollFasync>() };
        let key = (PollEvents::IN | PollEvents::RDNORM).bits() as usize;
        // SAFETY: The queue is initialised. The key is an event mask cast to a pointer, as in
        // `wake_up_poll()`.
        unsafe {
            bindings::__wake_up(
                this.pollers.as_raw(),
                bindings::TASK_NORMAL,
                1,
                core::ptr::without_provenance_mut(key),
            )
        };
        // Relaxed ordering suffices, because the flag guards no other memory.
        if !this.send_sigio.swap(false, Ordering::Relaxed) {
            return;
        }
        // SAFETY: The list head is valid. `kill_fasync` may be called in interrupt context.
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
impl PinnedDrop for PollFasync {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The work was initialised in `new`. The owner is dropped in process context, where
        // this may wait.
        unsafe { generated::kq_deferred_call_wait(self.work.get()) };
    }
}
