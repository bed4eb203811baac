// SPDX-License-Identifier: GPL-2.0

//! The close of every descriptor that a knote is bound to.
//!
//! The kernel has no hook for "this descriptor went away, though its file lives on". But each close
//! of a descriptor that was not opened with `O_PATH`, be it by close(2), close_range, dup2, exec,
//! exit or io_uring, calls `locks_remove_posix(file, table)`, and ftrace sees that. By then the slot
//! in the table is empty, or holds the new file, except at exit. So a binding is over when its
//! (table, number) no longer maps to its file. A table that is being torn down is left alone: each
//! kqueue that belongs to it is closed with it, and that ends its knotes.
//!
//! # Which knotes end
//!
//! The bound knotes are in a hash table of trees, one tree for each 64 KiB of memory. The hash is of
//! (file, table); each tree is ordered by (file, table, number). So a process that closes a
//! descriptor meets only what its own table has bound, however many knotes others have on the file.
//!
//! The probed function does not say which number was closed. It is taken from the system call that
//! the task is in ([`Closed`]): close(2), dup2(2) and dup3(2) name it, close_range(2) closes from the
//! lower end of its range. If that number has ended no knote, or there is none, the numbers that are
//! bound to the file are looked through, at most [`MOST_MAPPED`] of those that are still mapped (fewer if
//! the call has named a number, unless the task uses io_uring, which closes some at the end of any
//! call). If that was not all, and the call has named no number, the task goes through all of them once
//! before it returns to userspace ([`Rewalk`]), in a context that can be preempted: once for all that
//! it has closed in the call.
//!
//! # Descriptors that were opened with `O_PATH`
//!
//! `locks_remove_posix` is not called for those. They are closed by `filp_close`, or, in close(2), by
//! `fput_close_sync`, as all others are; a function probe sees these calls while such a descriptor is watched
//! ([`PathCloses`]), and leaves all other files alone. (Both are in another file of the kernel's than most of their callers;
//! in a kernel whose linker inlines all the same a close may not be seen. Then the knote stays until somebody collects, when
//! it is seen that its number is another file's, and is not reported.)
//!
//! # Cost
//!
//! While a knote is bound in the system, every close comes here, and nearly all
//! leave again after one barrier and one load: that of a count of the kqueues which belong to the
//! table, and others by hash. It is an `ftrace_ops` of its own, since a function probe (fprobe)
//! would have each close look up in a table which probe it is for.
//!
//! A close allocates nothing. A knote that ends leaves its tree at once, and what linked it there
//! becomes a task work of the closing task ([`ClosedKnote`]), which takes the knote out of its
//! kqueue before the system call returns.
//!
//! # Context and locks
//!
//! The callback runs in the closing task, with preemption off if somebody else traces the function
//! as well; so what it does is bounded. It closes nothing itself, so it does not recur. The lock of a
//! part of the trees is a spin lock that is taken by tasks only: here and by whoever binds or unbinds.
//! The kqueue's spin lock nests in it. It is released after [`ROUND`] knotes.
//!
//! # Against registration
//!
//! A knote is bound, then its slot is looked at again ([`crate::sys::file::fdtable::Names`]).
//! The closing task empties the slot, then looks for knotes. With a full barrier
//! between the two steps of each, at least one of them sees the other.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

use super::{knote::Bodies, knote_memory::Knote, kqueue::Kqueue};
use crate::{
    generated,
    sys::memory::ram,
    sys::{
        file::fdtable::{self, CurrentTable, Names, TableId},
        lock::irqlock::TaskLock,
        memory::{
            random::random,
            treap::{self, Item, Root, Treap},
        },
        probe::{
            fprobe::FunctionProbe,
            hook::{hash, Presence, Probe},
        },
        process::{pid::Process, taskwork},
    }, //
};
use core::{
    cell::UnsafeCell,
    cmp::Ordering,
    mem::offset_of,
    ptr::{self, NonNull},
    sync::atomic::{self, AtomicPtr, AtomicUsize}, //
};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_uint, c_ulong, c_void},
    fmt,
    fs::File,
    prelude::*,
    static_lock_class,
    sync::{
        aref::ARef,
        atomic::{ordering, Atomic},
        barrier::smp_mb,
        rcu,
        Arc, //
    },
    types::Opaque, //
};

/// Binary logarithm of the number of locks.
const LOCK_BITS: u32 = 8;
/// And of the number of counts of kqueues.
const OWNER_BITS: u32 = 10;
/// And of the most and fewest buckets.
const MOST_BITS: u32 = 18;
const FEWEST_BITS: u32 = 12;
/// And of the memory that there is a bucket for.
const MEMORY_BITS: u32 = 16;

/// How many knotes are looked at before the lock of their tree is released for a moment.
const ROUND: u32 = 32;
/// How many numbers that still map to the file are looked at, in a close, for one that does not.
const MOST_MAPPED: u32 = 64;
/// The same if the system call has named a number, on which there was no knote.
const MOST_MAPPED_BESIDES: u32 = 4;
/// How many knotes are ended at once.
const MOST_ENDED: u32 = 1024;

/// What binds a knote to the file of a descriptor.
///
/// # Invariants
///
/// `file` is null, or a reference to a file is owned. In the latter case the knote is in the tree of
/// (file, table of its kqueue), unless it [is unlinked](Knote::is_unlinked). `file` only changes
/// while the knote is in no tree, under the mutex.
pub(crate) struct Bound {
    file: UnsafeCell<*mut bindings::file>,
    /// What links the knote in its tree, guarded by the lock of that. From when the close probe has
    /// taken the knote out, it is the memory of a [`ClosedKnote`]: there may be a million knotes.
    node: UnsafeCell<treap::Links<Knote>>,
}

const _: () = assert!(
    size_of::<bindings::callback_head>() <= size_of::<treap::Links<Knote>>()
        && align_of::<bindings::callback_head>() <= align_of::<treap::Links<Knote>>()
);

/// What the trees are ordered by.
pub(crate) struct Key {
    file: usize,
    table: usize,
    number: u64,
    /// The address of the knote; several may be on one number.
    knote: usize,
}

// SAFETY: A knote has its own links.
unsafe impl Item for Knote {
    type Key = Key;

    #[inline]
    unsafe fn links(this: *const Self) -> *mut treap::Links<Self> {
        // SAFETY: The knote is valid by this function's contract.
        unsafe { (*this).bound.node.get() }
    }

    #[inline]
    fn compare(&self, key: &Key) -> Ordering {
        let own = self.key();
        (own.file.cmp(&key.file))
            .then_with(|| own.table.cmp(&key.table))
            .then_with(|| own.number.cmp(&key.number))
            .then_with(|| own.knote.cmp(&key.knote))
    }

    #[inline]
    fn key(&self) -> Key {
        Key {
            // SAFETY: The file does not change while the knote is in a tree, or is put into one.
            file: unsafe { *self.bound.file.get() }.addr(),
            table: self.kqueue().table().address(),
            number: self.ident(),
            knote: ptr::from_ref(self).addr(),
        }
    }
}

impl Bound {
    /// To nothing.
    pub(in crate::engine) fn none() -> Self {
        Bound {
            file: UnsafeCell::new(ptr::null_mut()),
            node: UnsafeCell::new(treap::Links::NONE),
        }
    }

    /// True if it is to a file.
    pub(in crate::engine) fn is_bound(&mut self) -> bool {
        !self.file.get_mut().is_null()
    }

    /// The file.
    ///
    /// # Safety
    ///
    /// The mutex of the knote's kqueue is held, or the knote is known to be bound; and until the result is used no
    /// more it is not unbound.
    #[inline]
    pub(in crate::engine) unsafe fn file<'a>(&self) -> Option<&'a File> {
        // SAFETY: It does not change while the mutex is held, nor between binding and unbinding.
        let file = unsafe { *self.file.get() };
        // SAFETY: We own a reference by the type's invariant. An ioctl on another descriptor has
        // no `fdget_pos` active.
        (!file.is_null()).then(|| unsafe { File::from_raw_file(file) })
    }

    /// Ends the binding, if there is one, and drops the reference to the file.
    ///
    /// # Safety
    ///
    /// The mutex of the kqueue of `knote`, whose bindings those are, is held. This is its binding,
    /// and nobody has a reference to its file.
    #[inline]
    pub(in crate::engine) unsafe fn unbind(&self, knote: &Knote, bindings: &mut Bindings) {
        // SAFETY: It does not change but in there.
        if unsafe { *self.file.get() }.is_null() {
            return;
        }
        // SAFETY: By this function's contract.
        unsafe { self.give_up(knote, &bindings.hook) };
        bindings.one_less();
    }

    /// The same for one that is there, without counting it off.
    ///
    /// # Safety
    ///
    /// As [`Bound::unbind`], or nobody else uses the knote; made by that hook.
    #[inline(always)]
    pub(in crate::engine) unsafe fn give_up(&self, knote: &Knote, hook: &CloseHook) {
        // SAFETY: It does not change but here.
        let file = unsafe { *self.file.get() };
        debug_assert!(ptr::eq(self, &knote.bound));
        if let Some(bucket) = hook.bucket(file.addr(), knote.kqueue().table().address()) {
            let _guard = bucket.lock.lock();
            // The close probe may have taken it out. It does that under this lock.
            if !knote.is_unlinked() {
                // SAFETY: The lock is held; what is in the tree is unbound before it is freed.
                unsafe { bucket.tree(hook) }.remove(knote);
            }
        }
        // INVARIANT: In no tree, and the reference is given up.
        // SAFETY: We are the only one to change it; the reference is ours.
        unsafe {
            *self.file.get() = ptr::null_mut();
            bindings::fput(file);
        }
    }
}

/// A knote whose descriptor was closed, on its way out of its kqueue.
///
/// It is kept in the knote itself, so that it needs no memory.
///
/// # Invariants
///
/// Owns a reference to the knote, which is unlinked and whose node nobody else uses, and one to the
/// own file of its kqueue. The latter keeps the module loaded.
pub(crate) struct ClosedKnote(NonNull<Knote>);

// SAFETY: Knotes and files may be used from any thread.
unsafe impl Send for ClosedKnote {}

impl ClosedKnote {
    /// Where the node is in a knote.
    const NODE: usize = offset_of!(Knote, bound) + offset_of!(Bound, node);

    /// The knote.
    pub(crate) fn knote(&self) -> &Knote {
        // SAFETY: By the type's invariant.
        unsafe { self.0.as_ref() }
    }

    fn into_head(self) -> *mut bindings::callback_head {
        let knote = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: The node is within the knote.
        unsafe { knote.as_ptr().byte_add(Self::NODE).cast() }
    }

    /// # Safety
    ///
    /// `head` came from [`ClosedKnote::into_head`], and is given up.
    unsafe fn from_head(head: *mut bindings::callback_head) -> Self {
        // INVARIANT: What was given up before is owned again.
        // SAFETY: The head is within a knote.
        ClosedKnote(unsafe { NonNull::new_unchecked(head.byte_sub(Self::NODE).cast()) })
    }

    /// Has the knote removed by the current task before it returns to userspace, or by whoever next
    /// has the mutex of its kqueue if the task does not.
    fn remove_on_return(self) {
        let head = self.into_head();
        // SAFETY: The node is ours by the type's invariant; the file of the kqueue, to which a
        // reference is kept, keeps the module's text.
        if unsafe { taskwork::add(head, Self::run) }.is_err() {
            // SAFETY: It was not queued.
            let this = unsafe { Self::from_head(head) };
            let kqueue: Arc<Kqueue> = this.knote().kqueue().into();
            // Not here, since a spin lock is held: whoever next releases the mutex removes it.
            kqueue.leave(this);
        }
    }

    /// The function of the task work.
    ///
    /// # Safety
    ///
    /// Called with the head that [`ClosedKnote::remove_on_return`] has queued.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract.
        let this = unsafe { Self::from_head(head) };
        let kqueue: Arc<Kqueue> = this.knote().kqueue().into();
        kqueue.remove_closed(this);
    }
}

impl Drop for ClosedKnote {
    fn drop(&mut self) {
        let file = self.knote().kqueue().own_file();
        // SAFETY: The references are ours by the type's invariant. What `fput` defers runs after our
        // caller has returned, so that no text of the module can be gone too early.
        unsafe {
            drop(ARef::from_raw(self.0));
            bindings::fput(file.as_ptr());
        }
    }
}

/// Closed knotes that a kqueue removes later. Anybody may add one, from any context.
pub(crate) struct ClosedList(AtomicPtr<bindings::callback_head>);

impl ClosedList {
    /// None.
    pub(crate) const fn new() -> Self {
        ClosedList(AtomicPtr::new(ptr::null_mut()))
    }

    /// Adds one.
    pub(crate) fn push(&self, knote: ClosedKnote) {
        let head = knote.into_head();
        let mut first = self.0.load(atomic::Ordering::Relaxed);
        loop {
            // SAFETY: The head is ours until it is in the list.
            unsafe {
                head.write(bindings::callback_head {
                    next: first,
                    func: None,
                });
            }
            let (release, relaxed) = (atomic::Ordering::Release, atomic::Ordering::Relaxed);
            match self.0.compare_exchange_weak(first, head, release, relaxed) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    /// Takes all that were added, and calls `each` with each.
    pub(crate) fn take_each(&self, mut each: impl FnMut(ClosedKnote)) {
        let mut at = self.0.swap(ptr::null_mut(), atomic::Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: It was in the list, which was taken as a whole.
            let (next, knote) = unsafe { ((*at).next, ClosedKnote::from_head(at)) };
            at = next;
            each(knote);
        }
    }
}

impl Drop for ClosedList {
    fn drop(&mut self) {
        self.take_each(drop);
    }
}

/// The knotes that are bound to descriptors, and the probe that tells of closes.
#[pin_data]
#[repr(C)]
pub(crate) struct CloseHook {
    // First, so that a pointer to it is a pointer to the whole.
    #[pin]
    presence: Presence<CloseProbe>,
    #[pin]
    paths: Presence<PathProbe>,
    /// How many kqueues there are by hash of the table that they belong to.
    owners: KVec<Atomic<u32>>,
    /// Secret and odd, so that nobody knows whose files share a chain.
    multiplier: u64,
    /// What a hash is shifted by to be the number of a bucket.
    shift: u32,
    /// A tree of knotes each.
    buckets: KVVec<Root<Knote>>,
    /// Each for the buckets whose numbers end alike.
    locks: KVec<Pin<KBox<TaskLock<()>>>>,
    /// The probe has seen the close that tests it.
    proved: Atomic<bool>,
}

// SAFETY: The buckets are guarded by the locks; an address that was read without one is only
// compared with null.
unsafe impl Send for CloseHook {}
// SAFETY: As above.
unsafe impl Sync for CloseHook {}

/// A tree of bound knotes, and its lock.
#[derive(Clone, Copy)]
struct Bucket<'a> {
    root: &'a Root<Knote>,
    lock: &'a TaskLock<()>,
}

impl<'a> Bucket<'a> {
    /// # Safety
    ///
    /// The lock is held for as long as the result is used; the bucket is that hook's.
    #[inline]
    unsafe fn tree(self, hook: &CloseHook) -> Treap<'a, Knote> {
        // SAFETY: By this function's contract. A knote is taken out of its tree before it is freed.
        unsafe { Treap::new(self.root, hook.multiplier) }
    }
}

/// The table that a kqueue belongs to: that of the task which opened it.
///
/// An address alone does not tell tables apart, since a kqueue may outlive its table: io_uring can
/// open a file without giving it a number. So the first call on a kqueue must come from the process
/// that opened it, or from one that shares the table with it at that time. That call is on a
/// descriptor of the table, and from then on the kqueue is closed at the latest when the table goes.
pub(crate) struct Owner {
    hook: Arc<CloseHook>,
    table: TableId,
    opener: Option<Process>,
    /// The address of the table once there was such a call, 0 until then.
    confirmed: AtomicUsize,
}

impl Owner {
    #[inline]
    pub(crate) fn table(&self) -> TableId {
        self.table
    }

    /// The table, if it is that of the current task.
    #[inline(always)]
    pub(crate) fn if_current(&self) -> Option<CurrentTable> {
        let confirmed = self.confirmed.load(atomic::Ordering::Relaxed);
        TableId::at(confirmed)
            .if_current()
            .or_else(|| self.confirm())
    }

    #[cold]
    fn confirm(&self) -> Option<CurrentTable> {
        if self.confirmed.load(atomic::Ordering::Relaxed) != 0 {
            return None;
        }
        let table = self.table.if_current()?;
        let opener = self.opener.as_ref()?;
        if !opener.is_current() && !opener.has_table(self.table) {
            return None;
        }
        self.confirmed
            .store(self.table.address(), atomic::Ordering::Relaxed);
        Some(table)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let owners = &self.hook.owners;
        if let Some(count) = owners.get(hash(self.table.address(), OWNER_BITS)) {
            count.fetch_sub(1, ordering::Relaxed);
        }
    }
}

/// How many knotes of one kqueue are bound. While there are some, the probe is there.
pub(crate) struct Bindings {
    hook: Arc<CloseHook>,
    count: usize,
}

impl Bindings {
    pub(crate) fn new(hook: &Arc<CloseHook>) -> Self {
        Bindings {
            hook: hook.clone(),
            count: 0,
        }
    }

    #[inline]
    fn one_more(&mut self) -> Result {
        if self.count == 0 {
            self.hook.presence.acquire()?;
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn one_less(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            self.hook.presence.release();
        }
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        // Of knotes that were not unbound, but given up.
        if self.count > 0 {
            self.hook.presence.release();
        }
    }
}

/// Binds `knote` to `file`: it hears when its number in `table`, which is its kqueue's, no longer refers to the file.
///
/// # Errors
///
/// `EBADF` if the number refers to something else by now; then it may be bound all the same. What registering the
/// probe fails with: `EBUSY` if ftrace is switched off.
pub(crate) fn bind(
    knote: &Knote,
    file: ARef<File>,
    table: CurrentTable,
    bodies: &mut Bodies,
) -> Result {
    knote.check(bodies);
    // SAFETY: The mutex is held.
    if unsafe { knote.bound.file() }.is_some() {
        return Ok(());
    }
    bodies.bindings.one_more()?;
    // SAFETY: As above.
    if unsafe { bodies.bindings.hook.link(knote, file, table) } {
        return Ok(());
    }
    // SAFETY: As above.
    if unsafe { knote.bound.file() }.is_none() {
        bodies.bindings.one_less();
    }
    Err(EBADF)
}

/// The probe of the function.
#[repr(C)]
pub(crate) struct CloseProbe {
    // First, so that a pointer to it is a pointer to the whole.
    ops: Opaque<bindings::ftrace_ops>,
}

// SAFETY: The structure is only handed to functions with locks of their own.
unsafe impl Send for CloseProbe {}
// SAFETY: As above.
unsafe impl Sync for CloseProbe {}

// SAFETY: The structure is not the kernel's own (`FTRACE_OPS_FL_DYNAMIC`), so
// `unregister_ftrace_function` waits for all tasks that may be in the callback or on their way.
unsafe impl Probe for CloseProbe {
    unsafe fn register(&self, presence: *const Presence<Self>) -> Result {
        let ops = self.ops.get();
        let function = generated::locks_remove_posix as *const c_void;
        // SAFETY: The structure is initialised, not registered, and stays in its place.
        unsafe {
            to_result(bindings::ftrace_set_filter_ip(
                ops,
                function.addr() as c_ulong,
                0,
                1,
            ))?;
            to_result(bindings::register_ftrace_function(ops))
                .inspect_err(|_| bindings::ftrace_free_filter(ops))?;
        }
        // SAFETY: The presence is the first field of a hook, which is valid by this function's
        // contract.
        let proved = unsafe { &*presence.cast::<CloseHook>() }.prove();
        if proved.is_err() {
            // SAFETY: It was just registered.
            unsafe { self.unregister(presence) };
        }
        proved
    }

    unsafe fn unregister(&self, _: *const Presence<Self>) {
        let ops = self.ops.get();
        // SAFETY: Registered, by this function's contract.
        unsafe {
            bindings::unregister_ftrace_function(ops);
            bindings::ftrace_free_filter(ops);
        }
    }
}

impl CloseProbe {
    /// The callback: `locks_remove_posix(file, table)` is being entered.
    ///
    /// # Safety
    ///
    /// Called by the probe of a [`CloseHook`], with the registers at that function's entry.
    unsafe extern "C" fn closing(
        _ip: c_ulong,
        _parent: c_ulong,
        ops: *mut bindings::ftrace_ops,
        regs: *mut bindings::ftrace_regs,
    ) {
        // SAFETY: It is the first field of the first field of the first field of a live hook, which
        // unregisters before it goes.
        let hook = unsafe { &*ops.cast::<CloseHook>() };
        // SAFETY: `regs` are those of the probed function's entry, whose first argument this is.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) } as usize;
        // The slot was emptied before; see the module's notes on registration.
        smp_mb(ordering::Full);
        // SAFETY: As above, the second argument.
        let table = unsafe { generated::kq_ftrace_argument(regs.cast(), 1) } as usize;
        if !hook.has_kqueue(table) {
            return;
        }
        if table == hook.cookie() {
            hook.proved.store(true, ordering::Release);
        } else if hook.may_be_bound(file, table) {
            // SAFETY: The caller of the probed function holds both.
            unsafe {
                hook.closed(
                    file as *mut bindings::file,
                    table as *mut bindings::files_struct,
                )
            };
        }
    }
}

/// The probe of the functions by which files go that were opened with `O_PATH`.
#[repr(C)]
pub(crate) struct PathProbe {
    // First, so that a pointer to it is a pointer to the whole.
    functions: FunctionProbe,
}

// SAFETY: `unregister` waits for the handlers.
unsafe impl Probe for PathProbe {
    unsafe fn register(&self, _: *const Presence<Self>) -> Result {
        // SAFETY: By this function's contract: the probe is in the presence, which stays in its place.
        unsafe { self.functions.register() }
    }

    unsafe fn unregister(&self, _: *const Presence<Self>) {
        // SAFETY: By this function's contract.
        unsafe { self.functions.unregister() };
    }
}

impl PathProbe {
    fn new() -> Self {
        PathProbe {
            functions: FunctionProbe::new(
                &[c"filp_close", c"fput_close_sync"],
                generated::fprobe {
                    entry_handler: Some(Self::closing),
                    ..Default::default()
                },
            ),
        }
    }

    /// `filp_close(file, ..)` or `fput_close_sync(file)` is being entered.
    ///
    /// # Safety
    ///
    /// Called by the probe of a [`CloseHook`], with the registers at that function's entry.
    unsafe extern "C" fn closing(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: `regs` are those of the probed function's entry, whose first argument this is.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) } as *mut bindings::file;
        // SAFETY: The caller of the probed function has a reference to it.
        if !unsafe { generated::kq_file_is_path(file) } {
            return 0;
        }
        // SAFETY: It is the first field of all that it is in, up to the presence in a live hook, which unregisters before it
        // goes.
        let hook = unsafe {
            let paths = probe.cast::<Presence<PathProbe>>();
            &*kernel::container_of!(paths, CloseHook, paths)
        };
        // The slot was emptied before; see the module's notes on registration.
        smp_mb(ordering::Full);
        let table = TableId::current();
        if hook.has_kqueue(table.address()) && hook.may_be_bound(file.addr(), table.address()) {
            // SAFETY: The file as above; the table is the current task's.
            unsafe { hook.closed(file, fdtable::current_files()) };
        }
        0
    }
}

/// While there is one, a close of a descriptor that was opened with `O_PATH` ends the knotes that are bound to it.
pub(crate) struct PathCloses(Arc<CloseHook>);

impl PathCloses {
    /// To be made before such a knote is bound.
    ///
    /// # Errors
    ///
    /// What registering the probe fails with.
    pub(crate) fn new(hook: &Arc<CloseHook>) -> Result<Self> {
        hook.paths.acquire()?;
        Ok(PathCloses(hook.clone()))
    }
}

impl Drop for PathCloses {
    fn drop(&mut self) {
        self.0.paths.release();
    }
}

/// Which number the current task is closing, as far as its system call says.
#[derive(Clone, Copy)]
enum Closed {
    /// That number.
    Number(u64),
    /// One of these, the lower ones first.
    Range(u64, u64),
    /// It does not say.
    Unknown,
}

impl Closed {
    /// What the system call of the current task says of a close in `table`. It is a hint: the file may
    /// be closed by something else that happens to run in that call, or at its end.
    fn hint(table: TableId) -> Self {
        if TableId::current() != table {
            return Closed::Unknown;
        }
        // SAFETY: No preconditions; a task that has such a call has its registers.
        unsafe {
            if !generated::kq_task_has_native_call() {
                return Closed::Unknown;
            }
            // As wide as the call takes them.
            let argument = |n| u64::from(generated::kq_call_argument(n) as c_uint);
            match generated::kq_call_number() as c_uint {
                generated::kq_call_KQ_CALL_CLOSE => Closed::Number(argument(0)),
                generated::kq_call_KQ_CALL_DUP2 | generated::kq_call_KQ_CALL_DUP3 => {
                    Closed::Number(argument(1))
                }
                generated::kq_call_KQ_CALL_CLOSE_RANGE => Closed::Range(argument(0), argument(1)),
                _ => Closed::Unknown,
            }
        }
    }
}

/// True if the current task may close descriptors besides what its system call says: io_uring closes some
/// at the end of any call.
fn closes_by_itself() -> bool {
    // SAFETY: No preconditions.
    unsafe { generated::kq_task_has_io_uring() }
}

/// How a walk over the knotes that are bound to a file has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// It has seen all that it was to see. True if it has ended a knote.
    Complete(bool),
    /// It gave up.
    Incomplete,
}

/// What a kqueue is for the walk that a close has left unfinished: the task work that finishes it.
#[repr(C)]
pub(crate) struct Rewalk {
    // First, so that a pointer to it is a pointer to the whole.
    head: UnsafeCell<bindings::callback_head>,
    /// The address of the file whose knotes are to be gone through; 0 while the work is not queued.
    file: AtomicUsize,
}

// SAFETY: The head is used by who has changed `file` from 0, until the work runs.
unsafe impl Send for Rewalk {}
// SAFETY: As above.
unsafe impl Sync for Rewalk {}

impl Rewalk {
    /// No walk is unfinished.
    pub(crate) fn new() -> Self {
        Rewalk {
            head: UnsafeCell::new(bindings::callback_head {
                next: ptr::null_mut(),
                func: None,
            }),
            file: AtomicUsize::new(0),
        }
    }

    /// Has the current task go through all knotes of `file` before it returns to userspace. False if
    /// the work is queued for another file already, or the task does not return to userspace.
    fn finish_on_return(kqueue: &Kqueue, file: usize) -> bool {
        let this = &kqueue.rewalk;
        let (acquire, relaxed) = (atomic::Ordering::Acquire, atomic::Ordering::Relaxed);
        match this.file.compare_exchange(0, file, acquire, relaxed) {
            Ok(_) => {}
            // The walk has yet to begin.
            Err(other) => return other == file,
        }
        let Some(own_file) = kqueue.file() else {
            this.file.store(0, atomic::Ordering::Release);
            // It is being released, with all its knotes.
            return true;
        };
        // SAFETY: The head is ours. The file keeps the kqueue, and the module's text; the work drops
        // that reference.
        let queued = unsafe { taskwork::add(this.head.get(), Self::run) }.is_ok();
        if queued {
            core::mem::forget(own_file);
        } else {
            this.file.store(0, atomic::Ordering::Release);
        }
        queued
    }

    /// The function of the task work.
    ///
    /// # Safety
    ///
    /// Called with the head of a kqueue's `Rewalk`, and a reference to the file of that kqueue.
    unsafe extern "C" fn run(head: *mut bindings::callback_head) {
        // SAFETY: By this function's contract; the file keeps the kqueue.
        let kqueue = unsafe { &*kernel::container_of!(head.cast::<Rewalk>(), Kqueue, rewalk) };
        let own_file = kqueue.own_file();
        // From here on the work may be queued again.
        let file = kqueue.rewalk.file.swap(0, atomic::Ordering::AcqRel);
        if TableId::current() == kqueue.table() {
            kqueue.shared().closes.rewalk(file, kqueue.table());
        }
        // SAFETY: The reference is ours. What `fput` defers runs after we have returned.
        unsafe { bindings::fput(own_file.as_ptr()) };
    }
}

impl CloseHook {
    /// Nothing is bound yet, and the probe is not registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let wanted = ram::total_memory() >> MEMORY_BITS;
        let bits = wanted.checked_ilog2().unwrap_or(0);
        let bits = bits.clamp(FEWEST_BITS, MOST_BITS);
        let mut buckets = KVVec::with_capacity(1 << bits, GFP_KERNEL)?;
        for _ in 0..1usize << bits {
            buckets.push(Root::new(), GFP_KERNEL)?;
        }
        let mut locks = KVec::with_capacity(1 << LOCK_BITS, GFP_KERNEL)?;
        for _ in 0..1 << LOCK_BITS {
            let lock = TaskLock::new((), c"kqueue_bound", static_lock_class!());
            locks.push(KBox::pin_init(lock, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let probe = CloseProbe {
            ops: Opaque::new(bindings::ftrace_ops {
                func: Some(CloseProbe::closing),
                // Whoever switches ftrace off (`kernel.ftrace_enabled`) is told that it is in use.
                flags: (bindings::FTRACE_OPS_FL_SAVE_ARGS | bindings::FTRACE_OPS_FL_PERMANENT)
                    as c_ulong,
                ..Default::default()
            }),
        };
        let mut owners = KVec::with_capacity(1 << OWNER_BITS, GFP_KERNEL)?;
        for _ in 0..1 << OWNER_BITS {
            owners.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                presence <- Presence::new(probe),
                paths <- Presence::new(PathProbe::new()),
                owners,
                multiplier: random() | 1,
                shift: u64::BITS - bits,
                buckets,
                locks,
                proved: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// A kqueue of that table is made, and exists for as long as the result.
    pub(crate) fn enter(self: &Arc<Self>, table: TableId) -> Owner {
        if let Some(count) = self.owners.get(hash(table.address(), OWNER_BITS)) {
            count.fetch_add(1, ordering::Relaxed);
        }
        Owner {
            hook: self.clone(),
            table,
            opener: Process::current(),
            confirmed: AtomicUsize::new(0),
        }
    }

    /// What stands for a table in the close that tests the probe.
    #[inline]
    fn cookie(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Closes a file of our own as the kernel closes all others, and sees whether the probe was
    /// called. A compiler that inlines across files may have left no call.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it was not; `ENFILE`, `ENOMEM`.
    fn prove(&self) -> Result {
        const OPERATIONS: &bindings::file_operations = &bindings::file_operations {
            owner: kernel::module::this_module::<crate::LocalModule>().as_ptr(),
            ..pin_init::zeroed()
        };
        // SAFETY: The name and the operations live as long as the module, which the file pins.
        let file = from_err_ptr(unsafe {
            generated::anon_inode_getfile(
                c"[kqueue-probe]".as_char_ptr(),
                OPERATIONS,
                ptr::null_mut(),
                bindings::O_RDONLY as c_int,
            )
        })?;
        self.proved.store(false, ordering::Relaxed);
        let count = self
            .owners
            .get(hash(self.cookie(), OWNER_BITS))
            .ok_or(EINVAL)?;
        count.fetch_add(1, ordering::Full);
        // SAFETY: The file is ours. Its closer is only compared: no lock is anybody's of that name.
        unsafe { bindings::filp_close(file, ptr::from_ref(self).cast_mut().cast()) };
        count.fetch_sub(1, ordering::Full);
        if self.proved.load(ordering::Acquire) {
            Ok(())
        } else {
            Err(EOPNOTSUPP)
        }
    }

    /// False when there is no kqueue of the table at that address.
    #[inline]
    fn has_kqueue(&self, table: usize) -> bool {
        self.owners
            .get(hash(table, OWNER_BITS))
            // SAFETY: Read at once. (The `kernel` crate's atomic loads are function calls.)
            .is_some_and(|count| unsafe { count.as_ptr().read_volatile() } != 0)
    }

    #[inline]
    fn bucket_of(&self, file: usize, table: usize) -> usize {
        let hash =
            (file as u64 ^ (table as u64).rotate_left(u64::BITS / 2)).wrapping_mul(self.multiplier);
        hash.wrapping_shr(self.shift) as usize
    }

    #[inline]
    fn bucket(&self, file: usize, table: usize) -> Option<Bucket<'_>> {
        let number = self.bucket_of(file, table);
        Some(Bucket {
            root: self.buckets.get(number)?,
            lock: self.locks.get(number & ((1 << LOCK_BITS) - 1))?,
        })
    }

    /// False when no knote of the table's kqueues is bound to the file at that address.
    #[inline]
    fn may_be_bound(&self, file: usize, table: usize) -> bool {
        self.buckets
            .get(self.bucket_of(file, table))
            .is_some_and(|root| !root.is_empty())
    }

    /// Puts `knote`, which is bound to nothing, into the tree of `file`. True if its number in
    /// `table`, which is its kqueue's, refers to the file after that.
    ///
    /// # Safety
    ///
    /// The mutex of its kqueue is held.
    unsafe fn link(&self, knote: &Knote, file: ARef<File>, table: CurrentTable) -> bool {
        let bound = &knote.bound;
        let address = knote.kqueue().table().address();
        let Some(bucket) = self.bucket(file.as_ptr().addr(), address) else {
            return false;
        };
        let _guard = bucket.lock.lock();
        // INVARIANT: The reference is the binding's now, and the knote is put into the tree.
        // SAFETY: The mutex is held, and the lock. A knote is unbound before it is freed.
        unsafe {
            *bound.file.get() = ARef::into_raw(file).as_ptr().cast();
            bucket.tree(self).insert(knote);
        }
        smp_mb(ordering::Full);
        // SAFETY: A spin lock is held, which is an RCU read-side critical section. The mutex is held.
        unsafe {
            let names = Names::in_rcu(table);
            bound
                .file()
                .is_some_and(|file| names.maps(knote.ident(), file))
        }
    }

    /// A descriptor of `file` in `table` was closed: ends the knotes that were bound to it.
    ///
    /// # Safety
    ///
    /// Both are valid, or `table` is the owner of no descriptor table and not equal to one.
    unsafe fn closed(&self, file: *mut bindings::file, table: *mut bindings::files_struct) {
        let Some(bucket) = self.bucket(file.addr(), table.addr()) else {
            return;
        };
        let id = TableId::of(table);
        if !self.has_bound(bucket, file.addr(), id) {
            return;
        }
        // Only a table has bound knotes, so it is one. When it goes, its kqueues go.
        // SAFETY: The table is valid.
        if unsafe { fdtable::is_dying(table) } {
            return;
        }
        // SAFETY: As above.
        let maps = |number| unsafe { fdtable::maps(table, number, file) };
        let walk = |numbers, mapped| self.end(bucket, (file.addr(), id), numbers, mapped, &maps);
        let hint = Closed::hint(id);
        let walked = match hint {
            Closed::Number(number) => walk((number, number), MOST_MAPPED),
            Closed::Range(first, last) => walk((first, last), MOST_MAPPED),
            Closed::Unknown => Walk::Complete(false),
        };
        let unfinished = match walked {
            Walk::Complete(true) => false,
            Walk::Incomplete => true,
            // Something else has closed it.
            Walk::Complete(false) if self.is_rewalk_due(bucket, file.addr(), id) => false,
            Walk::Complete(false) => {
                let all = (0, u64::MAX);
                if matches!(hint, Closed::Number(_)) && !closes_by_itself() {
                    walk(all, MOST_MAPPED_BESIDES);
                    false
                } else {
                    walk(all, MOST_MAPPED) == Walk::Incomplete
                }
            }
        };
        if unfinished {
            self.finish_later(bucket, file.addr(), id);
        }
    }

    /// The key that is before those of all knotes that are bound to a file and a table.
    fn before_all(file: usize, table: TableId) -> Key {
        Key {
            file,
            table: table.address(),
            number: 0,
            knote: 0,
        }
    }

    /// The first knote at or behind `from` of the same file and table.
    ///
    /// # Safety
    ///
    /// The lock of the bucket is held for as long as the result is used.
    unsafe fn first_bound<'a>(&self, bucket: Bucket<'a>, from: &Key) -> Option<&'a Knote> {
        // SAFETY: By this function's contract; a knote that is in the tree is valid.
        let knote = unsafe { &*ptr::from_ref(bucket.tree(self).lower_bound(from)?) };
        let key = knote.key();
        ((key.file, key.table) == (from.file, from.table)).then_some(knote)
    }

    /// True if a knote is bound to that file and table.
    fn has_bound(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> bool {
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        unsafe { self.first_bound(bucket, &Self::before_all(file, table)) }.is_some()
    }

    /// The kqueue that a walk over the knotes of that file and table is left to.
    fn keeper(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> Option<Arc<Kqueue>> {
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        let knote = unsafe { self.first_bound(bucket, &Self::before_all(file, table)) }?;
        // It may be on its way to be freed.
        Some(knote.get()?.kqueue().into())
    }

    /// True if such a walk was left to a task and has yet to begin.
    fn is_rewalk_due(&self, bucket: Bucket<'_>, file: usize, table: TableId) -> bool {
        self.keeper(bucket, file, table)
            .is_some_and(|kqueue| kqueue.rewalk.file.load(atomic::Ordering::Acquire) == file)
    }

    /// Leaves the rest of a walk to the current task, when it returns to userspace.
    fn finish_later(&self, bucket: Bucket<'_>, file: usize, table: TableId) {
        let Some(kqueue) = self.keeper(bucket, file, table) else {
            return;
        };
        if !Rewalk::finish_on_return(&kqueue, file) {
            // At its own cost, then.
            self.rewalk(file, table);
        }
    }

    /// Goes through all knotes that are bound to that file, in the table of the current task.
    fn rewalk(&self, file: usize, table: TableId) {
        let (Some(bucket), Some(current)) =
            (self.bucket(file, table.address()), table.if_current())
        else {
            return;
        };
        let maps = |number| {
            let rcu = rcu::read_lock();
            Names::of(current, &rcu).maps_address(number, file)
        };
        let mut from = 0;
        // In parts, so that what is mapped is passed in the end.
        while let Some(next) = self.next_number(bucket, file, table, from) {
            while !maps(next)
                && self.end(bucket, (file, table), (next, next), MOST_MAPPED, &maps)
                    == Walk::Incomplete
            {}
            let Some(after) = next.checked_add(1) else {
                return;
            };
            from = after;
        }
    }

    /// The first number from `from` on that is bound to that file and table.
    fn next_number(
        &self,
        bucket: Bucket<'_>,
        file: usize,
        table: TableId,
        from: u64,
    ) -> Option<u64> {
        let mut key = Self::before_all(file, table);
        key.number = from;
        let _guard = bucket.lock.lock();
        // SAFETY: The lock is held.
        Some(unsafe { self.first_bound(bucket, &key) }?.key().number)
    }

    /// Ends the knotes of those numbers that do not map to their file any more. When one was found that
    /// does not, it stops at the next one that does, since numbers are closed in ascending order. It gives
    /// up after so many that do.
    fn end(
        &self,
        bucket: Bucket<'_>,
        (file, table): (usize, TableId),
        (first, last): (u64, u64),
        most_mapped: u32,
        maps: &impl Fn(u64) -> bool,
    ) -> Walk {
        let mut from = Self::before_all(file, table);
        from.number = first;
        let (mut ended, mut mapped) = (0, 0);
        loop {
            let _guard = bucket.lock.lock();
            for _ in 0..ROUND {
                // SAFETY: The lock is held.
                let Some(knote) = (unsafe { self.first_bound(bucket, &from) }) else {
                    return Walk::Complete(ended > 0);
                };
                from = knote.key();
                if from.number > last {
                    return Walk::Complete(ended > 0);
                }
                if !maps(from.number) {
                    if ended == MOST_ENDED {
                        return Walk::Incomplete;
                    }
                    ended += 1;
                    // SAFETY: The lock is held, and the knote is in the tree.
                    unsafe { self.end_one(bucket, knote) };
                    from.knote = from.knote.wrapping_add(1);
                    continue;
                }
                if ended > 0 {
                    return Walk::Complete(true);
                }
                if mapped == most_mapped {
                    return Walk::Incomplete;
                }
                mapped += 1;
                // All that is bound to that number stays.
                from.number = from.number.saturating_add(1);
                from.knote = 0;
            }
        }
    }

    /// Ends a knote whose number was closed.
    ///
    /// # Safety
    ///
    /// It is in the tree of that bucket, whose lock is held.
    unsafe fn end_one(&self, bucket: Bucket<'_>, knote: &Knote) {
        // One that is just being freed takes itself out.
        let Some(knote) = knote.get() else {
            return;
        };
        // SAFETY: By this function's contract.
        unsafe { bucket.tree(self) }.remove(&knote);
        // A kqueue that is being released removes all its knotes anyway.
        let Some(file) = knote.kqueue().retire_closed(&knote) else {
            return;
        };
        core::mem::forget(file);
        // INVARIANT: Both references are owned; the knote is unlinked, and so nobody else uses its
        // node.
        ClosedKnote(ARef::into_raw(knote)).remove_on_return();
    }

    /// For an administrator: whether the probe is registered, and how many kqueues have a knote that is bound; the same for
    /// knotes of descriptors that were opened with `O_PATH`.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.presence.show("close", f)?;
        self.paths.show("path", f)
    }

    /// Takes the probes away now. No knote is bound any more.
    pub(crate) fn stop(&self) {
        self.presence.stop();
        self.paths.stop();
    }
}
