// SPDX-License-Identifier: GPL-2.0

//! The kqueue: what it consists of, and how one is made.
//!
//! The locks and what they guard are described in the crate's documentation.

mod adopt;
mod batch;
mod deliver;
mod fdinfo;
mod lifetime;
mod register;
mod scan;
mod wakeup;

use super::{
    close::{Bindings, ClosedList, Owner, Rewalk},
    guard::KnotesGuard,
    knote::{Bodies, Body, Knote},
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
use adopt::DeferredKnote;
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
    /// The number of knotes that a scan has taken off the list and not decided about yet. They count as
    /// pending, so that no thread goes to sleep because another one is just looking at the only event.
    /// (A knote that is decided about under the spin lock does not count; if its event cannot be copied
    /// out, a sleeper is woken again.)
    in_flight: usize,
    /// For a scan that has not ended with its first look at the list: the number of knotes, at the head,
    /// that were pending when the scan began and that it has not seen. Knotes that are put back, and
    /// new ones, come behind them. If a pending knote was retired meanwhile, wherever it was in the
    /// list, the number is one less, since the knote may have been one of them.
    unseen: usize,
    /// That has happened.
    retired_during_scan: bool,
    /// The last scan, whose sink was this one, was stopped short. Until another one begins, those
    /// that it has not seen, or could not report, are the `unseen` ones.
    stopped: Option<SinkId>,
    /// Something became pending that whoever wants SIGIO was not told of, as there was something
    /// already. (They are if that was in the middle of a scan, which does not look at it.)
    news: bool,
    /// Who waits for something to be pending.
    pub(crate) sleepers: Sleepers,
    /// Somebody polls the kqueue, or wants SIGIO. It stays so.
    has_pollers: bool,
    /// Its last descriptor in its table was closed: no more registrations, no more events.
    closed: bool,
    /// Knotes that are not in the table yet; see [`Kqueue::adopt`].
    adopted: Option<KBox<DeferredKnote>>,
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
}

/// One kqueue.
#[pin_data]
pub(crate) struct Kqueue {
    // First, as its function uses the others until it is dropped.
    #[pin]
    pub(crate) recheck_timer: RecheckTimer,
    /// The descriptor table that it belongs to. Nobody else can use it.
    owner: Owner,
    shared: Arc<Shared>,
    /// Who opened it, and pays for its knotes.
    user: Arc<User>,
    pub(crate) links: LockedBy<Links, Graph>,
    /// It was closed, or there are adopted knotes: to be looked at under the spin lock, which this is
    /// written under. Who has the mutex may ask without that one: who closes takes the mutex after this.
    closed_or_deferred: Flag,
    /// Something may be pending. Written under the spin lock as well.
    maybe_pending: Flag,
    #[pin]
    locks: Locks,
    #[pin]
    notifier: Notifier,
    /// Its own file, for who has a reference to that.
    own_file: FileAddress,
    /// Knotes whose descriptors were closed by tasks that could not remove them.
    deferred: ClosedList,
    /// There are such, or the kqueue was closed by a task that could not remove the knotes: to be
    /// looked at by who releases the mutex.
    owed: Flag,
    /// For a close that comes to more knotes than it can look at.
    pub(crate) rewalk: Rewalk,
}

/// The task that is in a call.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    /// The table of it and of the kqueue.
    pub(crate) table: CurrentTable,
    /// Memory of its own.
    pub(crate) scratch: Scratch,
}

/// The spin lock of a kqueue, taken.
type ReadyGuard<'a> = Guard<'a, Ready, IrqSave>;

impl Kqueue {
    /// A kqueue of the current task's descriptor table, behind `file`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(file: WeakFile, shared: &Arc<Shared>) -> Result<Arc<Self>> {
        let user = shared.users.enter()?;
        let owner = shared.closes.enter(TableId::current());
        let knotes = |table, bodies| Knotes {
            table: Table::new(table),
            bodies: Bodies::new(bodies, Bindings::new(&shared.closes)),
        };
        let own_file = file.address();
        let ready = |key| Ready {
            sleepers: Sleepers::new(&key),
            key,
            queue: Queue::new(),
            rechecks: RecheckList::new(),
            in_flight: 0,
            unseen: 0,
            retired_during_scan: false,
            stopped: None,
            news: false,
            has_pollers: false,
            closed: false,
            adopted: None,
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
                deferred: ClosedList::new(),
                owed: Flag::new(),
                rewalk: Rewalk::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The descriptor table that it belongs to.
    #[inline]
    pub(crate) fn table(&self) -> TableId {
        self.owner.table()
    }

    /// Its own file, for who has a reference to that.
    #[inline]
    pub(crate) fn own_file(&self) -> FileAddress {
        self.own_file
    }

    /// Checks that the current task may use the kqueue, which is in its table. That it is not closed, who takes its locks
    /// sees there.
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

    /// The kqueue whose locks those are.
    #[inline(always)]
    pub(crate) fn of_locks(locks: *const Locks) -> *const Self {
        locks.wrapping_byte_sub(offset_of!(Self, locks)).cast()
    }

    /// Its locks.
    #[inline]
    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// For whom it counts.
    pub(crate) fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Gives back the place of a knote of its user's.
    pub(crate) fn leave_place(&self, filter: Filter) {
        self.user.leave_place(filter);
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
        body: impl FnOnce() -> Body,
        memory: Memory,
    ) -> Result<ARef<Knote>> {
        this.user.take_place(filter)?;
        Knote::alloc(&this.shared.knotes, this, ident, filter, body, memory)
            .inspect_err(|_| this.user.leave_place(filter))
    }

    /// How many are pending, by now.
    pub(crate) fn pending(&self) -> usize {
        self.locks.ready.lock().pending()
    }

    /// The same without waiting for the spin lock: the caller may have that of another kqueue. `None` if the lock is not
    /// free, or if the kqueue was closed.
    pub(crate) fn pending_at_once(&self) -> Option<usize> {
        let ready = self.locks.ready.try_lock()?;
        (!ready.closed).then(|| ready.pending())
    }

    /// Takes the mutex, to register or to scan on behalf of that `caller`.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller is being killed.
    #[inline]
    pub(crate) fn enter(&self, caller: Caller) -> Result<KnotesGuard<'_>> {
        let mut knotes = KnotesGuard::new(self, killable::lock(&self.locks.knotes)?);
        knotes.bodies.scratch = caller.scratch;
        Ok(knotes)
    }

    /// Sees to it that all adopted knotes are in the table.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    #[inline(always)]
    pub(crate) fn prepare(&self, knotes: &mut Knotes) -> Result {
        if self.closed_or_deferred.is_set() {
            drop(self.ready_for(knotes)?);
        }
        Ok(())
    }

    /// The number of pending knotes, and whether the kqueue was closed; whoever asks_filter will be
    /// notified of the next one.
    pub(crate) fn poll_state(&self) -> (usize, bool) {
        let mut ready = self.locks.ready.lock();
        ready.has_pollers = true;
        (ready.pending(), ready.closed)
    }

    /// Where pollers and SIGIO listeners are.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}
