// SPDX-License-Identifier: GPL-2.0

//! Polling a file, and being woken by the wait queues it names.
//!
//! [`PollWait::new`] calls the file's `->poll` with a poll table of our own,
//! whose queue procedure adds one wait-queue entry for each queue that the file
//! names (some name two). From then on the target's [`Wake::wake`] is called
//! whenever one of those queues is woken for something in the mask.
//!
//! # Context
//!
//! `Wake::wake` runs under the lock of the source's wait queue with interrupts
//! off, on any CPU: it may take interrupt-safe spin locks only and must not poll.
//!
//! # `POLLFREE`
//!
//! A source whose queue dies before its file (signalfd, aio, binder) wakes it
//! with `POLLFREE`. The callback unlinks its entry and, with a release store of
//! null to `Entry::head`, gives the queue up; [`Entry::detach`] reads it with
//! acquire under RCU, which keeps the queue's memory until it is done.
//!
//! C headers: [`include/linux/poll.h`](srctree/include/linux/poll.h),
//! [`include/linux/wait.h`](srctree/include/linux/wait.h)

use super::process::Process;
use crate::generated;
use core::{
    ffi::c_void,
    marker::PhantomPinned,
    ops::{BitOr, BitOrAssign},
    pin::Pin,
    ptr, //
};
use kernel::{
    alloc::Flags,
    bindings,
    fs::{File, LocalFile},
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        rcu,
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
};

/// A set of poll events (`__poll_t`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events(u32);

impl Events {
    pub(crate) const NONE: Events = Events(0);
    pub(crate) const IN: Events = Events(0x0001);
    pub(crate) const PRI: Events = Events(0x0002);
    pub(crate) const OUT: Events = Events(0x0004);
    pub(crate) const ERR: Events = Events(0x0008);
    pub(crate) const HUP: Events = Events(0x0010);
    pub(crate) const RDNORM: Events = Events(0x0040);
    pub(crate) const RDBAND: Events = Events(0x0080);
    pub(crate) const WRNORM: Events = Events(0x0100);
    pub(crate) const WRBAND: Events = Events(0x0200);
    pub(crate) const RDHUP: Events = Events(0x2000);

    const POLLFREE: Events = Events(0x4000);
    /// Since 7.3 a pipe wakes its reader for data added to data only if it was asked with this.
    const EDGE: Events = Events(1 << 31);

    /// True when any event of `other` is in this set.
    pub(crate) fn any(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// The set as `->poll` returns it.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for Events {
    type Output = Events;

    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}

/// Something that wants to know when a polled file changes.
pub(crate) trait Wake: Send + Sync + 'static {
    /// A queue of the file was woken; see the module's notes on context.
    fn wake(this: ArcBorrow<'_, Self>);
}

/// One wait-queue entry.
///
/// # Invariants
///
/// While `head` is not null, `wait` is linked into that queue and the queue is valid.
#[repr(C)]
struct Entry<T: Wake> {
    // First, so that a pointer to it is a pointer to the entry.
    wait: Opaque<bindings::wait_queue_entry>,
    head: Atomic<*mut bindings::wait_queue_head>,
    mask: Events,
    target: Arc<T>,
    next: Option<Pin<KBox<Entry<T>>>>,
    _pin: PhantomPinned,
}

// SAFETY: The wait-queue entry is only touched under its queue's lock; the rest is `Send + Sync`.
unsafe impl<T: Wake> Send for Entry<T> {}
// SAFETY: As above.
unsafe impl<T: Wake> Sync for Entry<T> {}

impl<T: Wake> Entry<T> {
    /// Allocates an entry and links it into `head`.
    ///
    /// # Safety
    ///
    /// `head` is a valid queue, and stays so until the file that named it is released, or it is
    /// woken with `POLLFREE`.
    unsafe fn link(
        head: *mut bindings::wait_queue_head,
        target: &Arc<T>,
        mask: Events,
        next: &mut Option<Pin<KBox<Entry<T>>>>,
        flags: Flags,
    ) -> Result<Pin<KBox<Entry<T>>>> {
        let wait = bindings::wait_queue_entry {
            func: Some(Self::woken),
            ..Default::default()
        };
        let mut entry = KBox::new(
            Entry {
                wait: Opaque::new(wait),
                head: Atomic::new(head),
                mask,
                target: target.clone(),
                next: None,
                _pin: PhantomPinned,
            },
            flags,
        )?;
        entry.next = next.take();
        let entry = KBox::into_pin(entry);
        // INVARIANT: The entry is linked into `head` from here on.
        // SAFETY: `head` is valid by this function's contract; the entry is pinned and is
        // unlinked before it is freed (`Entry::detach`).
        unsafe { bindings::add_wait_queue(head, entry.wait.get()) };
        Ok(entry)
    }

    /// The wake function of the wait-queue entry.
    ///
    /// # Safety
    ///
    /// `wait` is that of an `Entry<T>`, and linked; called under its queue's lock.
    unsafe extern "C" fn woken(
        wait: *mut bindings::wait_queue_entry,
        _mode: kernel::ffi::c_uint,
        _sync: kernel::ffi::c_int,
        key: *mut c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `wait` is the first field of a live `Entry<T>`: it is linked, and the entry is
        // not freed before it was unlinked under the lock that our caller holds.
        let entry = unsafe { &*wait.cast::<Entry<T>>() };
        let events = Events(key as usize as u32);
        // A queue woken without a key may be about anything.
        if events.0 == 0 || events.any(entry.mask) {
            T::wake(entry.target.as_arc_borrow());
        }
        if events.any(Events::POLLFREE) {
            // SAFETY: The entry is linked, and the queue's lock is held.
            unsafe { list_del_init(&raw mut (*wait).entry) };
            // INVARIANT: Unlinked. After this store `detach` may free the entry: touch it no more.
            entry.head.store(ptr::null_mut(), ordering::Release);
        }
        1
    }

    /// Unlinks the entry; when this returns, no callback runs or will run.
    fn detach(&self) {
        let _rcu = rcu::read_lock();
        let head = self.head.load(ordering::Acquire);
        if !head.is_null() {
            // SAFETY: Not null, so the queue has not been given up; it is freed an RCU grace
            // period after that at the earliest. The entry is linked into it, or a `POLLFREE`
            // that is running just now has left it self-linked, in which case unlinking it once
            // more under the lock does nothing.
            unsafe { bindings::remove_wait_queue(head, self.wait.get()) };
        }
    }
}

/// `list_del_init()`, which is inline in C.
///
/// # Safety
///
/// `entry` is linked into a valid list that nobody else accesses during the call.
unsafe fn list_del_init(entry: *mut bindings::list_head) {
    // SAFETY: By this function's contract.
    unsafe {
        (*(*entry).prev).next = (*entry).next;
        (*(*entry).next).prev = (*entry).prev;
        (*entry).next = entry;
        (*entry).prev = entry;
    }
}

/// The poll table that is handed to `->poll`.
#[repr(C)]
struct Queueing<'a, T: Wake> {
    // First, so that a pointer to it is a pointer to the whole.
    table: bindings::poll_table_struct,
    target: &'a Arc<T>,
    mask: Events,
    entries: Option<Pin<KBox<Entry<T>>>>,
    failed: bool,
}

impl<T: Wake> Queueing<'_, T> {
    /// The queue procedure of the poll table.
    ///
    /// # Safety
    ///
    /// Called by `->poll` with the `table` of a `Queueing<T>` and a valid queue, or null.
    unsafe extern "C" fn queue(
        _file: *mut bindings::file,
        head: *mut bindings::wait_queue_head,
        table: *mut bindings::poll_table,
    ) {
        // SAFETY: `table` is the first field of the `Queueing` that `PollWait::new` passed.
        let this = unsafe { &mut *table.cast::<Queueing<'_, T>>() };
        if this.failed || head.is_null() {
            return;
        }
        // SAFETY: A queue that `->poll` names is valid for as long as its file, which the owner of
        // the `PollWait` keeps, or until `POLLFREE`.
        let entry = unsafe {
            Entry::link(
                head,
                this.target,
                this.mask,
                &mut this.entries,
                GFP_KERNEL_ACCOUNT,
            )
        };
        match entry {
            Ok(entry) => this.entries = Some(entry),
            Err(_) => this.failed = true,
        }
    }
}

/// A file's wait queues, listened to for as long as this lives.
pub(crate) struct PollWait<T: Wake> {
    entries: Option<Pin<KBox<Entry<T>>>>,
}

impl<T: Wake> PollWait<T> {
    /// Listens to `file` for the events in `mask`, on behalf of `target`.
    ///
    /// The caller keeps a reference to `file` until the value is dropped.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the file cannot be polled, `ENOMEM`.
    pub(crate) fn new(file: &File, target: &Arc<T>, mask: Events) -> Result<Self> {
        let mut queueing = Queueing {
            table: bindings::poll_table_struct {
                _qproc: Some(Queueing::<T>::queue),
                _key: (mask | Events::EDGE | Events::ERR | Events::HUP).0,
            },
            target,
            mask: mask | Events::ERR | Events::HUP,
            entries: None,
            failed: false,
        };
        let operation = poll_operation(file).ok_or(EINVAL)?;
        // SAFETY: The file is valid, the table is ours and outlives the call; may sleep.
        unsafe { operation(file.as_ptr(), &raw mut queueing.table) };
        let this = PollWait {
            entries: queueing.entries.take(),
        };
        if queueing.failed {
            return Err(ENOMEM);
        }
        Ok(this)
    }

    /// On whose behalf; `None` if the file named no queue.
    pub(crate) fn target(&self) -> Option<&Arc<T>> {
        self.entries.as_ref().map(|entry| &entry.target)
    }

    /// Listens to the end of a process, on behalf of `target`; with `GFP_ATOMIC` from anywhere.
    ///
    /// The caller keeps a reference to the process until the value is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn on_exit(process: &Process, target: &Arc<T>, flags: Flags) -> Result<Self> {
        let mut next = None;
        // SAFETY: The queue lives as long as the process's `struct pid`, which the caller keeps.
        let entry =
            unsafe { Entry::link(process.exit_queue(), target, Events::IN, &mut next, flags) }?;
        Ok(PollWait {
            entries: Some(entry),
        })
    }
}

impl<T: Wake> Drop for PollWait<T> {
    fn drop(&mut self) {
        let mut next = self.entries.take();
        while let Some(mut entry) = next {
            entry.detach();
            // SAFETY: `next` is not structurally pinned, and nothing is moved out of the entry
            // but its successor's box.
            next = unsafe { entry.as_mut().get_unchecked_mut() }.next.take();
        }
    }
}

type Operation = unsafe extern "C" fn(*mut bindings::file, *mut bindings::poll_table_struct) -> u32;

pub(super) fn poll_operation(file: &LocalFile) -> Option<Operation> {
    // SAFETY: A file's operations are set before it is opened and stay while it is referenced.
    unsafe { (*(*file.as_ptr()).f_op).poll }
}

/// True when `file` can be polled.
pub(crate) fn is_pollable(file: &LocalFile) -> bool {
    poll_operation(file).is_some()
}

/// True when the function that `file` is polled with has that name: the kernel exports nothing
/// else by which one could tell some kinds of files. May sleep.
pub(crate) fn is_polled_by(file: &LocalFile, name: &CStr) -> bool {
    let Some(operation) = poll_operation(file) else {
        return false;
    };
    let mut symbol = [0u8; generated::KQ_SYMBOL_LEN as usize];
    // SAFETY: There is room for any symbol.
    let len = unsafe {
        bindings::sprint_symbol_no_offset(
            symbol.as_mut_ptr().cast(),
            (operation as *const c_void).addr(),
        )
    };
    // The name of a module may follow.
    usize::try_from(len)
        .ok()
        .and_then(|len| symbol.get(..len)?.split(|byte| *byte == b' ').next())
        .is_some_and(|symbol| symbol == name.to_bytes())
}

/// Which of the events in `want`, and of those that cannot be masked, `file` is ready for now. May
/// sleep.
pub(crate) fn poll(file: &File, want: Events) -> Events {
    let mut table = bindings::poll_table_struct {
        _qproc: None,
        _key: want.0,
    };
    match poll_operation(file) {
        // SAFETY: The file is valid; the table asks for no queueing.
        Some(operation) => Events(unsafe { operation(file.as_ptr(), &raw mut table) }),
        None => Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM,
    }
}
