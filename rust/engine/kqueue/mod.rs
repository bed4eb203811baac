// SPDX-License-Identifier: GPL-2.0

//! The kqueue: what it consists of, and how one is made.
//!
//! The locks and what they guard are described in the crate's documentation.

mod batch;
mod deferred;
mod deliver;
mod fdinfo;
mod lifetime;
mod register;
mod scan;
mod wakeup;

use super::{
    close::{BindingCount, ClosedList, OwnerTable, WalkWork},
    guard::KnotesGuard,
    knote::{Knote, KnoteAccess, KnoteInner},
    limit::User,
    locks::{Key, Keyed, Locks},
    nesting::{Graph, Links},
    ops::Filter,
    ready_list::Queue,
    recheck::{RecheckList, RecheckTimer},
    shared::Shared,
    sleepers::Sleepers,
    table::{Knotes, Table}, //
};
use crate::sys::{
    file::fdtable::{CurrentTable, FileAddress, TableId, WeakFile},
    lock::{flag::Flag, irqlock::IrqSave, killable},
    memory::{scratch::Scratch, slab::Memory},
    notify::notifier::Notifier, //
};
use deferred::DeferredKnote;
pub(crate) use scan::EventSink;
use scan::SinkId;

use core::mem::offset_of;
use kernel::{
    prelude::*,
    sync::{aref::ARef, lock::Guard, Arc, ArcBorrow, LockedBy},
};

/// What the kqueue's spin lock guards.
pub(crate) struct Ready {
    key: Key<Ready>,
    /// The pending knotes, in the order in which they are reported.
    pub(crate) queue: Queue,
    /// The knotes whose pipes may get more data without a wake-up.
    pub(crate) rechecks: RecheckList,
    /// The number of knotes that a scan has taken off the list and has not decided about yet. They
    /// count as pending, so that no thread goes to sleep while another thread evaluates the only
    /// event. (A knote that the scan decides about under the spin lock does not count. If its event
    /// cannot be copied out, a sleeper is woken again.)
    in_flight: usize,
    /// For a scan that has not ended with its first walk of the list: the number of knotes at the
    /// head that were pending when the scan began and that it has not evaluated. Requeued knotes
    /// and new ones come behind them. If a pending knote is retired meanwhile, the number decreases
    /// by one wherever the knote was in the list, since it may have been one of them.
    unevaluated: usize,
    /// The number of [spent](crate::engine::state) knotes in the table.
    pub(crate) spent: usize,
    /// A pending knote was retired since the scan began.
    retired_during_scan: bool,
    /// The sink of the last scan if that scan was stopped short. Until another scan begins, the
    /// `unevaluated` knotes are those that the stopped scan did not evaluate or could not report.
    stopped_sink: Option<SinkId>,
    /// Something became pending for which no SIGIO was sent, since something was pending already.
    /// (SIGIO is sent for it if that happened during a scan that does not evaluate it.)
    unsignalled: bool,
    /// The tasks that wait until something is pending.
    pub(crate) sleepers: Sleepers,
    /// Some task polls the kqueue, or has asked for SIGIO. This is never reset.
    has_pollers: bool,
    /// The last descriptor of the kqueue in its table was closed: there are no more registrations
    /// and no more events.
    closed: bool,
    /// Knotes that are not in the table yet; see [`Kqueue::defer_knote`].
    deferred_knotes: Option<KBox<DeferredKnote>>,
    /// The kqueue's own file.
    file: Option<WeakFile>,
}

impl Keyed for Ready {
    #[inline]
    fn key(&self) -> &Key<Self> {
        &self.key
    }
}

impl Ready {
    fn pending(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// Renews a spent knote: it is enabled and idle. Does nothing to another knote.
    #[inline]
    fn renew(&mut self, knote: &Knote) {
        if knote.state(self).renew() {
            self.spent -= 1;
        }
    }
}

/// One kqueue.
#[pin_data]
pub(crate) struct Kqueue {
    // This is the first field, because the function of the timer uses the others until this one is
    // dropped.
    #[pin]
    pub(crate) recheck_timer: RecheckTimer,
    /// The descriptor table that the kqueue belongs to. Tasks with another table cannot use it.
    owner: OwnerTable,
    shared: Arc<Shared>,
    /// The user who opened the kqueue; its knotes count for that user.
    user: Arc<User>,
    pub(crate) links: LockedBy<Links, Graph>,
    /// The kqueue was closed, or there are adopted knotes. The flag is written under the spin lock
    /// and means that these have to be looked at under that lock. The owner of the mutex may read
    /// it without the spin lock, since a task that closes the kqueue takes the mutex after it has
    /// set the flag.
    closed_or_deferred: Flag,
    /// Something may be pending. It is written under the spin lock as well.
    maybe_pending: Flag,
    #[pin]
    locks: Locks,
    #[pin]
    notifier: Notifier,
    /// The kqueue's own file, for tasks that have a reference to it.
    own_file: FileAddress,
    /// Knotes whose descriptors were closed by tasks that could not remove them.
    closed_knotes: ClosedList,
    /// There are deferred knotes, or the kqueue was closed by a task that could not remove the
    /// knotes. The task that releases the mutex looks at it.
    leftover_work: Flag,
    /// The task work that continues a close which meets more knotes than it may go through.
    pub(crate) walk_work: WalkWork,
}

/// The task that has called kevent().
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    /// The descriptor table of the task and of the kqueue.
    pub(crate) table: CurrentTable,
    /// Memory of the task that a file's answer can be written to.
    pub(crate) scratch: Scratch,
}

/// The guard of a kqueue's spin lock.
type ReadyGuard<'a> = Guard<'a, Ready, IrqSave>;

impl Kqueue {
    /// A kqueue of the current task's descriptor table, behind `file`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(file: WeakFile, shared: &Arc<Shared>) -> Result<Arc<Self>> {
        let user = shared.users.current()?;
        let owner = shared.bound_knotes.new_owner(TableId::current());
        let knotes = |table, access| Knotes {
            table: Table::new(table),
            access: KnoteAccess::new(access, BindingCount::new(&shared.bound_knotes)),
        };
        let own_file = file.address();
        let ready = |key| Ready {
            sleepers: Sleepers::new(&key),
            key,
            queue: Queue::new(),
            rechecks: RecheckList::new(),
            in_flight: 0,
            unevaluated: 0,
            spent: 0,
            retired_during_scan: false,
            stopped_sink: None,
            unsignalled: false,
            has_pollers: false,
            closed: false,
            deferred_knotes: None,
            file: Some(file),
        };
        Arc::pin_init(
            pin_init!(Self {
                recheck_timer <- RecheckTimer::new(),
                owner,
                user,
                links: LockedBy::new(&shared.nesting.graph, Links::new()),
                shared: shared.clone(),
                closed_or_deferred: Flag::new(),
                maybe_pending: Flag::new(),
                locks <- Locks::new(knotes, ready),
                notifier <- Notifier::new(),
                own_file,
                closed_knotes: ClosedList::new(),
                leftover_work: Flag::new(),
                walk_work: WalkWork::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The descriptor table that it belongs to.
    #[inline]
    pub(crate) fn table(&self) -> TableId {
        self.owner.table()
    }

    /// The kqueue's own file, for tasks that have a reference to it.
    #[inline]
    pub(crate) fn own_file(&self) -> FileAddress {
        self.own_file
    }

    /// Checks that the current task may use the kqueue, which is in its table. Whether the kqueue
    /// was closed is seen under its locks.
    ///
    /// # Errors
    ///
    /// `EBADF` if it belongs to another descriptor table (it is not inherited over fork).
    #[inline(always)]
    pub(crate) fn check_usable(&self) -> Result<CurrentTable> {
        self.owner.if_current().ok_or(EBADF)
    }

    /// What all kqueues share.
    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The kqueue that has those locks.
    #[inline(always)]
    pub(crate) fn of_locks(locks: *const Locks) -> *const Self {
        locks.wrapping_byte_sub(offset_of!(Self, locks)).cast()
    }

    /// Its locks.
    #[inline]
    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// The user for whom the kqueue counts.
    pub(crate) fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Gives back the place of one of the user's knotes.
    pub(crate) fn uncharge_knote(&self, filter: Filter) {
        self.user.uncharge_knote(filter);
    }

    /// A knote that is not in the table yet, and has no source.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as many as they may; `ENOMEM`, also if there are too many timers.
    #[inline]
    pub(crate) fn new_knote(
        this: ArcBorrow<'_, Self>,
        ident: u64,
        filter: Filter,
        inner: impl FnOnce() -> KnoteInner,
        memory: Memory,
    ) -> Result<ARef<Knote>> {
        this.user.charge_knote(filter)?;
        Knote::alloc(&this.shared.knotes, this, ident, filter, inner, memory)
            .inspect_err(|_| this.user.uncharge_knote(filter))
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
        knotes.access.scratch = caller.scratch;
        Ok(knotes)
    }

    /// Takes all adopted knotes into the table.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    #[inline(always)]
    pub(crate) fn insert_deferred_knotes(&self, knotes: &mut Knotes) -> Result {
        if self.closed_or_deferred.is_set() {
            drop(self.lock_ready(knotes)?);
        }
        Ok(())
    }

    /// The number of pending knotes, and whether the kqueue was closed. From now on pollers are
    /// notified of the next activation.
    pub(crate) fn poll_state(&self) -> (usize, bool) {
        let mut ready = self.locks.ready.lock();
        ready.has_pollers = true;
        (ready.pending(), ready.closed)
    }

    /// The pollers and the SIGIO listeners.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}
