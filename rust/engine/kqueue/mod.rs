// SPDX-License-Identifier: GPL-2.0

//! The structure of a kqueue, and its creation.
//!
//! The crate's documentation describes the locks and the data that they guard.

mod add;
mod batch;
mod deferred;
mod deliver;
mod fdinfo;
mod lifetime;
mod register;
mod scan;
mod wakeup;

use super::{
    close::{BindingCount, CloseWork, ClosedList, OwnerFdTable},
    filter_ops::Filter,
    knote::{Knote, KnoteInner, Layout, UnderMutex},
    knote_limit::User,
    knote_table::{KnoteTable, Knotes}, //
    knotes_guard::KnotesGuard,
    locks::{HasLockToken, LockToken, Locks},
    nesting::{Graph, NestingLinks},
    ready_list::ReadyList,
    recheck::{RecheckList, RecheckTimer},
    shared_state::SharedState,
    sleepers::Sleepers,
};
use crate::sys::{
    file::fdtable::{CurrentFdTable, FdTableId, FilePtr, WeakFile},
    lock::{flag::Flag, killable, raw_spin::IrqSave},
    memory::{slab::AllocMode, user_scratch::UserScratch},
    notify::poll_fasync::PollFasync, //
};
use deferred::DeferredKnote;
pub(crate) use scan::EventSink;
use scan::ScanId;

use core::mem::offset_of;
use kernel::{
    prelude::*,
    sync::{aref::ARef, lock::Guard, Arc, ArcBorrow, LockedBy},
};

/// What the kqueue's spin lock guards, except the state and the links of each knote.
pub(crate) struct ReadyState {
    token: LockToken<ReadyState>,
    /// The ready list: the queued knotes, in the order in which they are reported.
    pub(crate) queue: ReadyList,
    /// The knotes whose pipes may get more data without a wake-up. A timer evaluates them again.
    pub(crate) rechecks: RecheckList,
    /// The number of knotes of the current batch: a scan has taken them off the list, and has
    /// neither requeued nor removed them yet. They count as pending, so that no thread goes to
    /// sleep while another thread evaluates the only event. (A knote that a walk has taken off the
    /// list is not counted. If its event cannot be copied out, the scan requeues it and wakes a
    /// sleeper.)
    in_flight: usize,
    /// The number of knotes at the head of the list that the current scan has still to evaluate. If
    /// the first walk of a scan stops before the end of the list, it sets this number, and further
    /// walks follow. In other scans the number is not used. Knotes that become pending during the
    /// scan, or are requeued after a report, are behind these knotes.
    ///
    /// A pending knote that is retired or disabled during the scan subtracts one, even if it was
    /// behind the counted knotes. So the number may become too small, but never too large.
    ///
    /// If some events cannot be copied out, their knotes return to the head of the list and are
    /// added to the number. (If it was not used before, it is set to 0 first.) The scan continues
    /// with them when the program's memory has been faulted in.
    unevaluated: usize,
    /// The number of [spent](crate::engine::state) knotes in the table.
    pub(crate) spent: usize,
    /// The number of spent knotes that the last search for removable ones has left, because they
    /// have secondaries. It is 0 if one of them may be removable by now. If it equals `spent`,
    /// another search would find nothing.
    pub(crate) kept_spent: usize,
    /// True if a pending knote was retired or disabled since the scan began, so that `unevaluated`
    /// may be too small. If this is true at the end of a scan, the scan evaluates the whole list
    /// again if it has no event yet; otherwise it wakes the next sleeper.
    dequeued_during_scan: bool,
    /// The kevent() call whose scan has ended early, for instance because an event could not be
    /// copied out. (The address of the call's sink identifies the call.) That call may resume its
    /// scan, unless another scan has begun meanwhile.
    interrupted_scan: Option<ScanId>,
    /// True if a knote became pending since the last scan began, and no SIGIO was sent for it,
    /// because other knotes were pending already. A program that has collected all that was pending
    /// waits for the next SIGIO. So a scan that has evaluated all knotes that were pending at its
    /// start, and leaves others pending, sends the skipped SIGIO at its end.
    sigio_skipped: bool,
    /// The tasks that sleep until a knote is pending.
    pub(crate) sleepers: Sleepers,
    /// True if a task has ever polled the kqueue or requested SIGIO. From then on each activation
    /// that queues a knote notifies the pollers.
    was_polled: bool,
    /// True if the owner's descriptor table has no descriptor of the kqueue any more. Then
    /// registrations and scans fail.
    closed: bool,
    /// Knotes that are not in the table yet ([`Kqueue::defer_knote`]).
    deferred_knotes: Option<KBox<DeferredKnote>>,
    /// The kqueue's own file, until the last reference to that file is dropped.
    own_file: Option<WeakFile>,
}

impl HasLockToken for ReadyState {
    #[inline]
    fn token(&self) -> &LockToken<Self> {
        &self.token
    }
}

impl ReadyState {
    fn pending(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// True if all pending knotes are in the table, provided that the caller holds the mutex. A
    /// knote gets into the ready list before it is in the table only if it is being added, under
    /// the mutex, or if it is deferred. A knote leaves the table under the mutex, and it is retired
    /// before that.
    #[inline]
    pub(crate) fn has_only_table_knotes(&self) -> bool {
        // When the kqueue is closed, the deferred knotes are taken out of this field before they
        // are retired.
        self.deferred_knotes.is_none() && !self.closed
    }

    /// Disables a knote and makes it inactive. The change that enables the knote evaluates it.
    fn dequeue_and_disable(&mut self, knote: &Knote) {
        self.dequeue(knote);
        knote.state(self).take_evaluated(true);
    }

    /// Takes a knote off the list while no scan is running. A scan that has ended early may
    /// continue after that. True if the knote was in the list.
    fn dequeue(&mut self, knote: &Knote) -> bool {
        let held = self.remove_from_lists(knote);
        if held {
            self.unevaluated = self.unevaluated.saturating_sub(1);
            self.dequeued_during_scan = true;
        }
        held
    }

    /// Renews a spent knote, so that it is enabled and idle. Has no effect on other knotes.
    #[inline]
    fn renew(&mut self, knote: &Knote) {
        if knote.state(self).renew() {
            self.spent -= 1;
            self.kept_spent = 0;
        }
    }
}

/// One kqueue.
#[pin_data]
pub(crate) struct Kqueue {
    // The fields are dropped in order. This is the first one, because the callback of the timer
    // uses the others until the timer is dropped.
    #[pin]
    pub(crate) recheck_timer: RecheckTimer,
    /// The descriptor table that the kqueue belongs to. A task with another descriptor table can
    /// use this kqueue only to create a kqueue of its own (`KQUEUE_IOC_CREATE`).
    owner_fd_table: OwnerFdTable,
    shared: Arc<SharedState>,
    /// The user who opened the kqueue, and to whom its knotes are charged.
    user: Arc<User>,
    /// The edges to the kqueues that this one watches, and from those that watch it.
    pub(crate) edges: LockedBy<NestingLinks, Graph>,
    /// True if the kqueue was closed or there are deferred knotes.
    /// [`Kqueue::insert_deferred_and_lock_ready`] finds out which. The flag is written under the
    /// spin lock.
    ///
    /// A change reads the flag without the spin lock, so that most changes need not take that lock.
    /// The value may therefore be stale, which does no harm. If a close is missed, the closing task
    /// takes the mutex later and removes all knotes. If a deferred knote is missed, it is as if the
    /// fork had happened after the change. The next scan finds the knote under the spin lock.
    closed_or_deferred: Flag,
    /// True if a knote may be pending. The flag is written under the spin lock, and read without
    /// it. False is stored only while no knote is pending. A task that was woken by an activation,
    /// or is ordered after it in another way, reads true, unless a later scan has stored false. A
    /// task that runs at the same time as an activation may still read false. That does no harm,
    /// because a task that is going to sleep checks the list again under the lock.
    maybe_pending: Flag,
    #[pin]
    locks: Locks,
    #[pin]
    poll_fasync: PollFasync,
    /// The same file as [`ReadyState::own_file`], as a bare pointer. A task that holds a reference
    /// to the file may follow it without the spin lock.
    own_file_ptr: FilePtr,
    /// Knotes whose descriptors were closed by tasks that could not remove them.
    closed_knotes: ClosedList,
    /// True if `closed_knotes` is not empty, or if the task that closed the kqueue could not
    /// remove its knotes. A task reads this flag after it has released the mutex. The full barriers
    /// around the accesses are explained in `lifetime.rs` and checked by `selftests/state`
    /// (`leftover`).
    leftover_work: Flag,
    /// The task work that looks for the remaining knotes of a closed descriptor, if the close probe
    /// has stopped at one of its limits ([`crate::engine::close`]).
    pub(crate) close_work: CloseWork,
}

/// The task that calls kevent().
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    /// The descriptor table of the task and of the kqueue.
    pub(crate) fd_table: CurrentFdTable,
    /// The room for the next event in the program's event list. `FIONREAD` stores its result in
    /// user memory. So a filter lends this room to the `->unlocked_ioctl` of a watched file, with
    /// page faults disabled, and restores the bytes afterwards.
    pub(crate) scratch: UserScratch,
}

/// The guard of a kqueue's spin lock.
type ReadyGuard<'a> = Guard<'a, ReadyState, IrqSave>;

impl Kqueue {
    /// Creates the kqueue of `file`. It belongs to the descriptor table of the current task.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(file: WeakFile, shared: &Arc<SharedState>) -> Result<Arc<Self>> {
        let user = shared.users.current()?;
        let owner_fd_table = shared.bound_knotes.new_owner(FdTableId::current());
        let knotes = |table, under_mutex| Knotes {
            table: KnoteTable::new(table),
            under_mutex: UnderMutex::new(under_mutex, BindingCount::new(&shared.bound_knotes)),
        };
        let own_file_ptr = file.as_file_ptr();
        let ready = |token| ReadyState {
            sleepers: Sleepers::new(&token),
            token,
            queue: ReadyList::new(),
            rechecks: RecheckList::new(),
            in_flight: 0,
            unevaluated: 0,
            spent: 0,
            kept_spent: 0,
            dequeued_during_scan: false,
            interrupted_scan: None,
            sigio_skipped: false,
            was_polled: false,
            closed: false,
            deferred_knotes: None,
            own_file: Some(file),
        };
        Arc::pin_init(
            pin_init!(Self {
                recheck_timer <- RecheckTimer::new(),
                owner_fd_table,
                user,
                edges: LockedBy::new(&shared.nesting.graph, NestingLinks::new()),
                shared: shared.clone(),
                closed_or_deferred: Flag::new(),
                maybe_pending: Flag::new(),
                locks <- Locks::new(knotes, ready),
                poll_fasync <- PollFasync::new(),
                own_file_ptr,
                closed_knotes: ClosedList::new(),
                leftover_work: Flag::new(),
                close_work: CloseWork::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The descriptor table that the kqueue belongs to.
    #[inline]
    pub(crate) fn fd_table(&self) -> FdTableId {
        self.owner_fd_table.id()
    }

    /// The kqueue's own file, for tasks that have a reference to it.
    #[inline]
    pub(crate) fn own_file_ptr(&self) -> FilePtr {
        self.own_file_ptr
    }

    /// Checks that the kqueue belongs to the descriptor table of the current task, and returns that
    /// descriptor table. Whether the kqueue was closed is checked later, under its locks.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue belongs to another descriptor table. (A child process cannot use it.)
    #[inline(always)]
    pub(crate) fn check_usable(&self) -> Result<CurrentFdTable> {
        self.owner_fd_table.if_current().ok_or(EBADF)
    }

    /// The state that all kqueues share.
    #[inline]
    pub(crate) fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// The address of the kqueue that contains `locks`.
    #[inline(always)]
    pub(crate) fn of_locks(locks: *const Locks) -> *const Self {
        locks.wrapping_byte_sub(offset_of!(Self, locks)).cast()
    }

    /// The locks of the kqueue.
    #[inline]
    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// The user to whom the knotes of the kqueue are charged.
    pub(crate) fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Uncharges a knote of this filter.
    pub(crate) fn uncharge_knote(&self, filter: Filter) {
        self.user.uncharge_knote(filter);
    }

    /// Creates a knote. It is not in the table yet and has no source.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has reached the limit on knotes; `ENOMEM`, also if a limit on timers is
    /// reached.
    #[inline]
    pub(crate) fn new_knote(
        this: ArcBorrow<'_, Self>,
        ident: u64,
        filter: Filter,
        layout: Layout,
        inner: impl FnOnce() -> KnoteInner,
        mode: AllocMode,
    ) -> Result<ARef<Knote>> {
        // A pair of knotes is charged as one.
        let is_charged = layout != Layout::Secondary;
        if is_charged {
            this.user.charge_knote(filter)?;
        }
        let knote = Knote::alloc(
            &this.shared.knotes,
            this,
            ident,
            filter,
            layout,
            inner,
            mode,
        );
        if knote.is_err() && is_charged {
            this.user.uncharge_knote(filter);
        }
        knote
    }

    /// The number of pending knotes.
    pub(crate) fn pending(&self) -> usize {
        self.locks.ready.lock().pending()
    }

    /// [`Kqueue::pending`] without waiting for the spin lock, since the caller may hold the spin
    /// lock of another kqueue. `None` if the lock is not free, or if the kqueue was closed.
    pub(crate) fn try_pending(&self) -> Option<usize> {
        let ready = self.locks.ready.try_lock()?;
        (!ready.closed).then(|| ready.pending())
    }

    /// Takes the mutex on behalf of `caller`, to register or to scan.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller is being killed.
    #[inline]
    pub(crate) fn lock_knotes(&self, caller: Caller) -> Result<KnotesGuard<'_>> {
        let mut knotes = KnotesGuard::new(self, killable::lock(&self.locks.knotes)?);
        knotes.under_mutex.scratch = caller.scratch;
        Ok(knotes)
    }

    /// Inserts all deferred knotes into the table.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    #[inline(always)]
    pub(crate) fn insert_deferred_knotes(&self, knotes: &mut Knotes) -> Result {
        if self.closed_or_deferred.is_set() {
            // Taking the spin lock in this way inserts them.
            drop(self.insert_deferred_and_lock_ready(knotes)?);
        }
        Ok(())
    }

    /// Announces a poller, so that from now on pollers are notified of each activation that queues
    /// a knote. Returns the number of pending knotes, and whether the kqueue was closed.
    pub(crate) fn announce_poller(&self) -> (usize, bool) {
        let mut ready = self.locks.ready.lock();
        ready.was_polled = true;
        (ready.pending(), ready.closed)
    }

    /// The pollers and the SIGIO listeners.
    pub(crate) fn poll_fasync(&self) -> &PollFasync {
        &self.poll_fasync
    }
}
