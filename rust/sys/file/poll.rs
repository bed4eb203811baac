// SPDX-License-Identifier: GPL-2.0

//! Polling a file, and entries in the wait queues that files are polled on.
//!
//! A [`WaitEntry`] is embedded in its owner. The owner links it into a wait queue that the
//! `->poll` operation of a file has named. The entry's wake function then runs at each wake-up of
//! that queue.
//!
//! # Context
//!
//! A wake function runs under the lock of the source's wait queue, with interrupts disabled, on any
//! CPU. It may take only interrupt-safe spin locks, and it must not poll.
//!
//! # `POLLFREE`
//!
//! The wait queue of some sources is freed before the polled file is released (signalfd, binder).
//! Such a source wakes its queue with `POLLFREE` first. The wake function then unlinks its entry
//! and stores null to `private` with release semantics, which gives the queue up.
//! [`WaitEntry::detach`] reads `private` with acquire semantics in an RCU read-side critical
//! section, which keeps the memory of the queue valid until it is done.
//!
//! # Examples
//!
//! ```ignore
//! // In a wake function:
//! // SAFETY: The arguments are those of the wake function of a linked entry.
//! unsafe { WaitEntry::handle_wake_up(wait, key, PollEvents::IN, |_| target.wake()) };
//! ```
//!
//! C headers: [`include/linux/poll.h`](srctree/include/linux/poll.h),
//! [`include/linux/wait.h`](srctree/include/linux/wait.h)

use crate::{generated, sys::probe::symbol};
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
pub(crate) struct PollEvents(u32);

impl PollEvents {
    pub(crate) const NONE: PollEvents = PollEvents(0);
    pub(crate) const IN: PollEvents = PollEvents(0x0001);
    pub(crate) const PRI: PollEvents = PollEvents(0x0002);
    pub(crate) const OUT: PollEvents = PollEvents(0x0004);
    pub(crate) const ERR: PollEvents = PollEvents(0x0008);
    pub(crate) const HUP: PollEvents = PollEvents(0x0010);
    pub(crate) const RDNORM: PollEvents = PollEvents(0x0040);
    pub(crate) const RDBAND: PollEvents = PollEvents(0x0080);
    pub(crate) const WRNORM: PollEvents = PollEvents(0x0100);
    pub(crate) const WRBAND: PollEvents = PollEvents(0x0200);
    pub(crate) const RDHUP: PollEvents = PollEvents(0x2000);

    const POLLFREE: PollEvents = PollEvents(0x4000);
    /// Since Linux 7.3, a pipe wakes its readers for data that is added to unread data only if it
    /// was polled with this flag.
    pub(crate) const EDGE: PollEvents = PollEvents(1 << 31);

    /// True if the sets have an event in common.
    pub(crate) fn any(self, other: PollEvents) -> bool {
        self.0 & other.0 != 0
    }

    /// True if a wake-up for this set may be for an event in `mask`. A wake-up without events may
    /// be for any event.
    #[inline(always)]
    pub(crate) fn may_wake(self, mask: PollEvents) -> bool {
        self.0 == 0 || self.any(mask)
    }

    /// The set as `->poll` returns it.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The set that a `->poll` operation has returned.
    pub(in crate::sys) fn of_bits(bits: u32) -> Self {
        PollEvents(bits)
    }
}

impl BitOr for PollEvents {
    type Output = PollEvents;

    fn bitor(self, other: PollEvents) -> PollEvents {
        PollEvents(self.0 | other.0)
    }
}

impl BitOrAssign for PollEvents {
    fn bitor_assign(&mut self, other: PollEvents) {
        self.0 |= other.0;
    }
}

/// The state of one direction of a file, as far as it can be determined without sleeping.
#[derive(Clone, Copy)]
pub(crate) enum FastPoll {
    /// The file is ready. This is the number of bytes or the room.
    Ready(i64),
    /// The other side is gone in this direction. This number of bytes, or this much room, is left.
    Ended(i64),
    /// Like `Ended`, and poll(2) reports `POLLHUP`.
    HungUp(i64),
    NotReady,
    /// The file has to be polled, which may sleep.
    Unknown,
    /// The file has an error, which is an event in each direction. It has to be read separately.
    Failed,
}

impl FastPoll {
    /// `Ready` with `data`, or `NotReady`.
    #[inline(always)]
    pub(crate) fn ready_if(ready: bool, data: impl FnOnce() -> i64) -> Self {
        if ready {
            FastPoll::Ready(data())
        } else {
            FastPoll::NotReady
        }
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
/// While `private` is not null, it points to a valid queue into which the entry is linked.
#[repr(transparent)]
pub(crate) struct WaitEntry {
    wait: Opaque<bindings::wait_queue_entry>,
}

impl WaitEntry {
    /// An entry that is in no queue. `function` is called at each wake-up once it is linked.
    #[inline(always)]
    pub(crate) fn new(function: WakeFunction) -> Self {
        // `Default` would be a call, and the result would be copied.
        WaitEntry {
            wait: Opaque::new(bindings::wait_queue_entry {
                flags: 0,
                private: ptr::null_mut(),
                func: Some(function),
                entry: bindings::list_head {
                    next: ptr::null_mut(),
                    prev: ptr::null_mut(),
                },
            }),
        }
    }

    /// The queue that the entry is in, or null. When a queue is given up, its last wake-up stores
    /// null with release ordering. The loads have acquire ordering, so a task that reads null may
    /// free the entry. (The type is the atomic of `core`, because only Rust code accesses the
    /// field. The atomics of the `kernel` crate are function calls.)
    fn head(&self) -> &AtomicPtr<bindings::wait_queue_head> {
        // SAFETY: The field is valid. After the entry was linked it is accessed through this
        // reference only.
        unsafe { AtomicPtr::from_ptr((&raw mut (*self.wait.get()).private).cast()) }
    }

    /// A word for the use of the owner, stored in the padding between two fields. Its initial value
    /// is undefined.
    #[inline]
    pub(crate) fn spare(&self) -> &AtomicU32 {
        const SPARE: usize = size_of::<u32>();
        const _: () = assert!(
            offset_of!(bindings::wait_queue_entry, flags) == 0
                && offset_of!(bindings::wait_queue_entry, private) == 2 * SPARE
        );
        // SAFETY: The word is within the entry, behind a field of the same size and before the next
        // field. It is accessed through this reference only.
        unsafe { AtomicU32::from_ptr(self.wait.get().byte_add(SPARE).cast()) }
    }

    /// True if the entry is in a queue.
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        !self.head().load(Ordering::Acquire).is_null()
    }

    /// True if the entry is in `queue`.
    #[inline]
    pub(crate) fn is_in(&self, queue: *mut bindings::wait_queue_head) -> bool {
        ptr::eq(self.head().load(Ordering::Acquire), queue)
    }

    /// Links the entry into `head`. The entry is in no queue.
    ///
    /// # Safety
    ///
    /// `head` is a valid queue. It stays valid until the entry is detached or is woken with
    /// `POLLFREE`. The entry is pinned, and it is detached before it is freed.
    pub(crate) unsafe fn link(&self, head: *mut bindings::wait_queue_head) {
        // INVARIANT: The entry is linked into `head` from here on.
        // SAFETY: The caller upholds this function's safety contract. Nothing else refers to the
        // entry yet.
        unsafe {
            (*self.wait.get()).private = head.cast();
            bindings::add_wait_queue(head, self.wait.get());
        }
    }

    /// The body of a wake function: calls `wake` with the events of the wake-up if the queue may
    /// have been woken for an event in `mask`.
    ///
    /// # Safety
    ///
    /// `wait` belongs to a linked `WaitEntry`, the lock of its queue is held, and `key` is the
    /// argument of the wake function. The caller does not access the entry afterwards.
    #[inline]
    pub(crate) unsafe fn handle_wake_up(
        wait: *mut bindings::wait_queue_entry,
        key: *mut c_void,
        mask: PollEvents,
        wake: impl FnOnce(PollEvents),
    ) {
        let events = PollEvents(key as usize as u32);
        if events.may_wake(mask) {
            wake(events);
        }
        if events.any(PollEvents::POLLFREE) {
            // SAFETY: The entry is linked, and the lock of its queue is held. After the store,
            // `detach` returns without the lock, and the entry may be freed.
            unsafe {
                list_del_init(&raw mut (*wait).entry);
                // INVARIANT: The entry is not linked any more.
                (*wait.cast::<WaitEntry>())
                    .head()
                    .store(ptr::null_mut(), Ordering::Release);
            }
        }
    }

    /// Unlinks the entry. When this returns, no wake function of the entry runs or will run.
    pub(crate) fn detach(&self) {
        // The entry is not linked, or the queue was given up. The owner does not link it
        // concurrently.
        if !self.is_linked() {
            return;
        }
        let _rcu = rcu::read_lock();
        let head = self.head().load(Ordering::Acquire);
        if !head.is_null() {
            // SAFETY: `head` is not null, so the queue was not given up before the load. A queue
            // that is given up is freed at the earliest after an RCU grace period. The entry is
            // linked into the queue, or a concurrent `POLLFREE` wake-up has initialised its list
            // head. In the latter case, unlinking it again under the lock has no effect.
            unsafe { bindings::remove_wait_queue(head, self.wait.get()) };
            // INVARIANT: The entry is not linked any more.
            // The store is relaxed, because only the owner of the entry still accesses it.
            self.head().store(ptr::null_mut(), Ordering::Relaxed);
        }
    }
}

/// Takes the lock of a wait queue and releases it. If a wake-up of the queue has ended before, the
/// caller sees what happened before the wake-up. If it begins after that, it sees what the caller
/// has done before.
///
/// # Safety
///
/// `head` is a valid queue.
pub(crate) unsafe fn order_with_wake_ups(head: *mut bindings::wait_queue_head) {
    // SAFETY: By this function's contract, the queue and its lock are valid. The lock is released
    // with the flags that taking it has returned.
    unsafe {
        let lock = &raw mut (*head).lock;
        let flags = generated::kq_spin_lock_irqsave(lock);
        generated::kq_spin_unlock_irqrestore(lock, flags);
    }
}

/// `list_del_init()`, which is inline in C.
///
/// # Safety
///
/// `entry` is linked into a valid list that nothing else accesses during the call.
unsafe fn list_del_init(entry: *mut bindings::list_head) {
    // SAFETY: The caller upholds this function's safety contract.
    unsafe {
        let (next, prev) = ((*entry).next, (*entry).prev);
        (*next).prev = prev;
        // `waitqueue_active()` reads this pointer without the lock, so a single store writes it.
        (&raw mut (*prev).next).write_volatile(next);
        (&raw mut (*entry).next).write_volatile(entry);
        (*entry).prev = entry;
    }
}

pub(crate) type Operation =
    unsafe extern "C" fn(*mut bindings::file, *mut bindings::poll_table_struct) -> u32;

/// The present operations of a file. The kernel may replace them at any time when a device hangs up
/// or is unplugged (`__tty_hangup`, `snd_card_disconnect`). Therefore a caller reads them once for
/// everything that it does with them. Both the old and the new operations stay valid while the file
/// is referenced, because the module of the old operations is released only with the file.
#[inline]
pub(in crate::sys) fn operations(file: &LocalFile) -> &bindings::file_operations {
    // SAFETY: A file has operations as soon as it is open. They live as long as the file (see
    // above). Reads of the operations depend on the pointer, which orders them after its load.
    unsafe { &*(&raw const (*file.as_ptr()).f_op).read_volatile() }
}

#[inline]
pub(crate) fn poll_operation(file: &LocalFile) -> Option<Operation> {
    operations(file).poll
}

/// True if `file` has a `->poll` operation.
pub(crate) fn is_pollable(file: &LocalFile) -> bool {
    poll_operation(file).is_some()
}

/// True if the `->poll` function of `file` has this name and belongs to the kernel image or to the
/// given module. May sleep.
pub(crate) fn is_polled_by(file: &LocalFile, name: &CStr, module: &CStr) -> bool {
    let address = poll_address(file);
    address != 0 && symbol::is_kernel_or_module_function(address, name, module)
}

/// The `->poll` function of a kind of file. For some kinds of files the kernel exports nothing else
/// that identifies them.
pub(crate) struct PollFunction {
    name: &'static CStr,
    /// The address of the function, once a file that has it was found; 0 until then. Here and in
    /// `others` the accesses are relaxed, because an address is only compared, and a task that
    /// reads an old value looks up the name itself.
    address: Atomic<usize>,
    /// Addresses of other functions, by a part of the address. What is at such an address may be
    /// unloaded, but it never becomes a function of the kernel image.
    others: [Atomic<usize>; OTHERS],
}

/// The number of other functions that a [`PollFunction`] remembers. To find the name of a function
/// takes thousands of instructions.
const OTHERS: usize = 32;

impl PollFunction {
    /// The function of this name in the kernel image, which is never unloaded.
    pub(crate) const fn new(name: &'static CStr) -> Self {
        PollFunction {
            name,
            address: Atomic::new(0),
            others: [const { Atomic::new(0) }; OTHERS],
        }
    }

    /// True if `file` is polled with this function. May sleep.
    pub(crate) fn is_of(&self, file: &LocalFile) -> bool {
        let address = poll_address(file);
        match self.address.load(ordering::Relaxed) {
            0 => address != 0 && self.is_at(address),
            known => address == known,
        }
    }

    /// True if this is the function at `address`, when no file with the function was found yet.
    fn is_at(&self, address: usize) -> bool {
        // Functions are aligned to 16 bytes.
        let other = self.others.get((address >> 4) % OTHERS);
        if other.is_some_and(|other| other.load(ordering::Relaxed) == address) {
            return false;
        }
        let is = symbol::is_kernel_function(address, self.name);
        if is {
            self.address.store(address, ordering::Relaxed);
        } else if let Some(other) = other {
            other.store(address, ordering::Relaxed);
        }
        is
    }
}

/// The address of the `->poll` function of `file`; 0 if there is none.
#[inline]
pub(in crate::sys) fn poll_address(file: &LocalFile) -> usize {
    poll_operation(file).map_or(0, |poll| (poll as *const c_void).addr())
}

/// A poll table that passes each wait queue to a function.
#[repr(C)]
struct QueueTable<F> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    table: bindings::poll_table_struct,
    each: F,
}

impl<F: FnMut(*mut bindings::wait_queue_head)> QueueTable<F> {
    /// The queue procedure of the poll table.
    ///
    /// # Safety
    ///
    /// The caller is a `->poll` function, and `table` is that of a `QueueTable<F>`.
    unsafe extern "C" fn queue(
        _file: *mut bindings::file,
        queue: *mut bindings::wait_queue_head,
        table: *mut bindings::poll_table,
    ) {
        // SAFETY: By this function's contract, `table` is the first field of a `QueueTable<F>`.
        // `poll_queues` does not access that value during the call of `->poll`.
        let this = unsafe { &mut *table.cast::<QueueTable<F>>() };
        if !queue.is_null() {
            (this.each)(queue);
        }
    }
}

/// Calls the `->poll` function of `file`, and calls `each` with each wait queue that the function
/// names. Such a queue is valid until the file is released or the queue is woken with `POLLFREE`.
/// Returns the events that the file is ready for, of those in `want` and those that cannot be
/// masked. `None` if the file cannot be polled. May sleep.
pub(crate) fn poll_queues(
    file: &File,
    want: PollEvents,
    each: impl FnMut(*mut bindings::wait_queue_head),
) -> Option<PollEvents> {
    /// The poll table for `each`, whose type has no name.
    fn table_of<F: FnMut(*mut bindings::wait_queue_head)>(
        want: PollEvents,
        each: F,
    ) -> QueueTable<F> {
        QueueTable {
            table: bindings::poll_table_struct {
                _qproc: Some(QueueTable::<F>::queue),
                _key: want.0,
            },
            each,
        }
    }
    let operation = poll_operation(file)?;
    let mut table = table_of(want, each);
    // SAFETY: The file is valid. The table is a local variable that outlives the call.
    Some(PollEvents(unsafe {
        operation(file.as_ptr(), (&raw mut table).cast())
    }))
}

/// The address of the first wait queue that the `->poll` function of `file` names; null if it names
/// none. May sleep.
pub(in crate::sys) fn first_queue(file: &File) -> *mut bindings::wait_queue_head {
    let mut first: *mut bindings::wait_queue_head = ptr::null_mut();
    poll_queues(file, PollEvents::IN, |queue| {
        if first.is_null() {
            first = queue;
        }
    });
    first
}

/// The events that `file` is ready for now, of those in `want` and those that cannot be masked. May
/// sleep.
pub(crate) fn poll(file: &File, want: PollEvents) -> PollEvents {
    let mut table = bindings::poll_table_struct {
        _qproc: None,
        _key: want.0,
    };
    match poll_operation(file) {
        // SAFETY: The file is valid. The table has no queue function, so nothing is queued.
        Some(operation) => PollEvents(unsafe { operation(file.as_ptr(), &raw mut table) }),
        None => PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM,
    }
}
