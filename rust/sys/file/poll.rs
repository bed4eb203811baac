// SPDX-License-Identifier: GPL-2.0

//! Polling a file, and the entry of a wait queue.
//!
//! An [`Entry`] is a part of its owner. Its owner links it into a queue that a file's `->poll` has
//! named, and has a function called whenever that queue is woken for something in a mask.
//!
//! # Context
//!
//! A wake function runs under the lock of the source's wait queue with interrupts
//! off, on any CPU: it may take interrupt-safe spin locks only and must not poll.
//!
//! # `POLLFREE`
//!
//! A source whose queue dies before its file (signalfd, aio, binder) wakes it
//! with `POLLFREE`. The callback unlinks its entry and, with a release store of
//! null to the entry's `private`, gives the queue up; [`Entry::detach`] reads it with
//! acquire under RCU, which keeps the queue's memory until it is done.
//!
//! C headers: [`include/linux/poll.h`](srctree/include/linux/poll.h),
//! [`include/linux/wait.h`](srctree/include/linux/wait.h)

use crate::sys::probe::symbol;
use core::{
    ffi::c_void,
    mem::offset_of,
    ops::{BitOr, BitOrAssign},
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering}, //
};
use kernel::{
    bindings,
    fs::{File, LocalFile},
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        rcu, //
    },
    types::Opaque, //
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
    pub(crate) const EDGE: Events = Events(1 << 31);

    /// True when any event of `other` is in this set.
    pub(crate) fn any(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// What `->poll` has returned.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Events(bits)
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

pub(crate) type WakeFunction = unsafe extern "C" fn(
    *mut bindings::wait_queue_entry,
    kernel::ffi::c_uint,
    kernel::ffi::c_int,
    *mut c_void,
) -> kernel::ffi::c_int;

/// A wait-queue entry.
///
/// # Invariants
///
/// While `private` is not null it is a valid queue, into which the entry is linked.
#[repr(transparent)]
pub(crate) struct Entry {
    wait: Opaque<bindings::wait_queue_entry>,
}

impl Entry {
    /// One that is in no queue, and will have that function called.
    pub(crate) fn new(function: WakeFunction) -> Self {
        Entry {
            wait: Opaque::new(bindings::wait_queue_entry {
                func: Some(function),
                ..Default::default()
            }),
        }
    }

    /// The queue that it is in, or null. (Rust's atomic, since both sides are here: the `kernel`
    /// crate's are calls.)
    fn head(&self) -> &AtomicPtr<bindings::wait_queue_head> {
        // SAFETY: The field is valid, and only accessed by this once the entry is linked.
        unsafe { AtomicPtr::from_ptr((&raw mut (*self.wait.get()).private).cast()) }
    }

    /// A number for whoever has the entry, which nothing is known of until it is written: what the
    /// compiler leaves free between two fields.
    #[inline]
    pub(crate) fn spare(&self) -> &AtomicU32 {
        const SPARE: usize = size_of::<u32>();
        const _: () = assert!(
            offset_of!(bindings::wait_queue_entry, flags) == 0
                && offset_of!(bindings::wait_queue_entry, private) == 2 * SPARE
        );
        // SAFETY: In the entry, behind a field of that size and before the next one, and only
        // accessed by this.
        unsafe { AtomicU32::from_ptr(self.wait.get().byte_add(SPARE).cast()) }
    }

    /// True if it is in a queue.
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        !self.head().load(Ordering::Acquire).is_null()
    }

    /// Links the entry, which is in no queue, into `head`.
    ///
    /// # Safety
    ///
    /// `head` is a valid queue, and stays so until the entry is detached, or it is woken with
    /// `POLLFREE`. The entry is pinned, and detached before it is freed.
    pub(crate) unsafe fn link(&self, head: *mut bindings::wait_queue_head) {
        // INVARIANT: The entry is linked into `head` from here on.
        // SAFETY: By this function's contract; nobody else knows the entry yet.
        unsafe {
            (*self.wait.get()).private = head.cast();
            bindings::add_wait_queue(head, self.wait.get());
        }
    }

    /// What a wake function does: calls `wake` if the queue was woken for something in `mask`.
    ///
    /// # Safety
    ///
    /// `wait` is that of a linked `Entry`, its queue's lock is held, and `key` what the wake
    /// function was called with. Nobody touches the entry after this.
    #[inline]
    pub(crate) unsafe fn woken(
        wait: *mut bindings::wait_queue_entry,
        key: *mut c_void,
        mask: Events,
        wake: impl FnOnce(),
    ) {
        let events = Events(key as usize as u32);
        // A queue woken without a key may be about anything.
        if events.0 == 0 || events.any(mask) {
            wake();
        }
        if events.any(Events::POLLFREE) {
            // SAFETY: The entry is linked, and the queue's lock is held. After the store `detach`
            // may have it freed.
            unsafe {
                list_del_init(&raw mut (*wait).entry);
                // INVARIANT: Unlinked.
                (*wait.cast::<Entry>())
                    .head()
                    .store(ptr::null_mut(), Ordering::Release);
            }
        }
    }

    /// Unlinks the entry; when this returns, no callback runs or will run.
    pub(crate) fn detach(&self) {
        // Not linked, or given up; nobody links it meanwhile.
        if !self.is_linked() {
            return;
        }
        let _rcu = rcu::read_lock();
        let head = self.head().load(Ordering::Acquire);
        if !head.is_null() {
            // SAFETY: Not null, so the queue has not been given up; it is freed an RCU grace
            // period after that at the earliest. The entry is linked into it, or a `POLLFREE`
            // that is running just now has left it self-linked, in which case unlinking it once
            // more under the lock does nothing.
            unsafe { bindings::remove_wait_queue(head, self.wait.get()) };
            // INVARIANT: Unlinked.
            self.head().store(ptr::null_mut(), Ordering::Relaxed);
        }
    }
}

/// `list_del_init()`, which is inline in C.
///
/// # Safety
///
/// `entry` is linked into a valid list that nobody else accesses during the call.
unsafe fn list_del_init(entry: *mut bindings::list_head) {
    // SAFETY: The caller upholds this function's safety contract.
    unsafe {
        let (next, prev) = ((*entry).next, (*entry).prev);
        (*next).prev = prev;
        // Who only asks whether a list is empty has no lock (`waitqueue_active()`).
        (&raw mut (*prev).next).write_volatile(next);
        (&raw mut (*entry).next).write_volatile(entry);
        (*entry).prev = entry;
    }
}

pub(crate) type Operation =
    unsafe extern "C" fn(*mut bindings::file, *mut bindings::poll_table_struct) -> u32;

/// A file's operations as they are now: those of one that hangs up or is unplugged are replaced at
/// any time (`__tty_hangup`, `snd_card_disconnect`), so they are read once for all that is done
/// with them. Neither the old ones nor the new ones go while the file is referenced: the former's
/// module is not let go of before the file is released.
#[inline]
pub(in crate::sys) fn operations(file: &LocalFile) -> &bindings::file_operations {
    // SAFETY: A file has operations from its opening on. They live as long as it, see above.
    unsafe { &*(&raw const (*file.as_ptr()).f_op).read_volatile() }
}

#[inline]
pub(crate) fn poll_operation(file: &LocalFile) -> Option<Operation> {
    operations(file).poll
}

/// True when `file` can be polled.
pub(crate) fn is_pollable(file: &LocalFile) -> bool {
    poll_operation(file).is_some()
}

/// True when the function that `file` is polled with has that name, and is the kernel's own or that
/// module's. May sleep.
pub(crate) fn is_polled_by(file: &LocalFile, name: &CStr, module: &CStr) -> bool {
    let address = poll_address(file);
    address != 0 && symbol::is_module_s(address, name, module)
}

/// A function that a kind of file is polled with: the kernel exports nothing else by which one
/// could tell some kinds.
pub(crate) struct PollFunction {
    name: &'static CStr,
    /// Its address, once a file was seen that has it; 0 until then.
    address: Atomic<usize>,
}

impl PollFunction {
    /// That of the kernel's own code, which stays in its place, with that name.
    pub(crate) const fn new(name: &'static CStr) -> Self {
        PollFunction {
            name,
            address: Atomic::new(0),
        }
    }

    /// True when `file` is polled with it. May sleep.
    pub(crate) fn is_of(&self, file: &LocalFile) -> bool {
        let address = poll_address(file);
        match self.address.load(ordering::Relaxed) {
            0 => {
                let is = address != 0 && symbol::is_kernel_s(address, self.name);
                if is {
                    self.address.store(address, ordering::Relaxed);
                }
                is
            }
            known => address == known,
        }
    }
}

/// The address of the function that `file` is polled with, 0 if there is none.
#[inline]
pub(in crate::sys) fn poll_address(file: &LocalFile) -> usize {
    poll_operation(file).map_or(0, |poll| (poll as *const c_void).addr())
}

/// The poll table of [`first_queue`].
#[repr(C)]
struct Naming {
    // The first field, so that a pointer to it is also a pointer to the structure.
    table: bindings::poll_table_struct,
    queue: *mut bindings::wait_queue_head,
}

impl Naming {
    /// The queue procedure of the poll table.
    ///
    /// # Safety
    ///
    /// Called by `->poll` with the `table` of a `Naming`.
    unsafe extern "C" fn queue(
        _file: *mut bindings::file,
        queue: *mut bindings::wait_queue_head,
        table: *mut bindings::poll_table,
    ) {
        // SAFETY: `table` is the first field of the `Naming` that `first_queue` passed.
        let this = unsafe { &mut *table.cast::<Naming>() };
        if this.queue.is_null() {
            this.queue = queue;
        }
    }
}

/// The address of the first wait queue that `file` names when it is polled; null if there is none.
/// May sleep.
pub(in crate::sys) fn first_queue(file: &File) -> *mut bindings::wait_queue_head {
    let mut naming = Naming {
        table: bindings::poll_table_struct {
            _qproc: Some(Naming::queue),
            _key: Events::IN.0,
        },
        queue: ptr::null_mut(),
    };
    if let Some(operation) = poll_operation(file) {
        // SAFETY: The file is valid; the table is ours and outlives the call.
        unsafe { operation(file.as_ptr(), &raw mut naming.table) };
    }
    naming.queue
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
