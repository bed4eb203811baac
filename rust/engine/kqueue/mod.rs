// SPDX-License-Identifier: GPL-2.0

//! The kqueue: registration, activation, scan, wake-up and close.
//!
//! The locks and what they guard are described in the crate's documentation.

use super::{
    close::{Bindings, ClosedKnote, ClosedList, Owner, Rewalk},
    guard::KnotesGuard,
    knote::{Bodies, Body, Knote},
    knote_memory::{Key, Keyed, Locks, Parts},
    limit::User,
    nesting::{Graph, Links},
    ready_list::{Look, Queue, Seen, Verdict, Walked},
    recheck::{self, RecheckList, RecheckTimer},
    sleepers::{self, Deadline, Sleepers, WakeFlags, Wakeup},
    state::{State, Take},
    table::{Knotes, Table},
    trace,
    usercopy::Buffer, //
};
use crate::{
    device::Shared,
    filter::{self, Attach, FastLook, FastPath, Filter, Report},
    sys::{
        file::{
            fdtable::{self, Closing, CurrentTable, FileAddress, Names, TableId, WeakFile},
            seqfile,
        },
        lock::{flag::Flag, irqlock::IrqSave, killable},
        memory::{
            arrayvec::{ArrayVec, Free},
            erased::Erased,
            scratch::Scratch,
            slab::Memory,
        },
        notify::notifier::Notifier,
    },
    uapi::*, //
};
use core::{
    mem::offset_of,
    num::NonZeroUsize,
    ops::BitOrAssign,
    ptr::NonNull, //
};
use kernel::{
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        aref::ARef,
        atomic::ordering,
        barrier::smp_mb,
        lock::Guard,
        rcu,
        Arc,
        ArcBorrow,
        LockedBy, //
    }, //
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

/// A knote that was made where the mutex cannot be had, with its source: the head of a list.
struct DeferredKnote {
    knote: ARef<Knote>,
    source: Erased,
    next: Option<KBox<DeferredKnote>>,
}

impl Ready {
    fn pending(&self) -> usize {
        self.queue.len() + self.in_flight
    }
}

/// Whom a scan has to wake, once it has released the spin lock.
#[derive(Clone, Copy, Default)]
#[must_use]
struct Wake {
    sleeper: bool,
    pollers: bool,
    /// SIGIO is to be sent.
    signals: bool,
}

impl BitOrAssign for Wake {
    fn bitor_assign(&mut self, other: Self) {
        self.sleeper |= other.sleeper;
        self.pollers |= other.pollers;
        self.signals |= other.signals;
    }
}

/// One of the sinks that there are, told from all others by where it is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SinkId(NonZeroUsize);

impl SinkId {
    fn of<S: EventSink>(sink: &S) -> Self {
        SinkId(NonNull::from(sink).addr())
    }
}

/// How many events a scan reports at once, and how many knotes it takes off the list: one round of the spin
/// lock, one copy to the program.
const BATCH: usize = 16;

/// How many it looks at, at most, at once: interrupts are off meanwhile. It may look once more, at others,
/// before it releases the spin lock.
const LOOKS: usize = 4 * BATCH;

/// What becomes of a knote that a scan took off the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disposition {
    /// It had nothing to report, and waits until its source fires again.
    Nothing,
    /// It was reported, and waits until its source fires again.
    Idle,
    /// It is pending still: others are first.
    AtTail,
    /// The same, but for something new.
    Again,
    /// It could not be reported: it is first.
    AtHead,
    /// It waits to be enabled.
    Disabled,
    /// The same, and there is something already.
    DisabledActive,
    /// That is for its filter to say, when the event has reached the program.
    AskFilter,
    /// Its descriptor was closed, or stands for another file now, or it has ended with its report: it
    /// is removed.
    Gone,
}

/// A knote in a scan's hands.
struct Taken {
    knote: ARef<Knote>,
    next: Disposition,
}

/// Those that were taken at once, in the order of the list.
type Batch = ArrayVec<Taken, BATCH>;
/// What there is to report of them.
type Events = ArrayVec<Kevent, BATCH>;

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

/// Where a scan puts what it reports. It stays in its place for as long as there are scans for it.
pub(crate) trait EventSink {
    /// How many more there is room for.
    fn room(&self) -> usize;
    /// True until something was reported.
    fn is_empty(&self) -> bool;
    /// The memory that the next event goes to.
    fn scratch(&self) -> Scratch;
    /// Copies events out, at most as many as there is room for. Gives how many were.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the others were not reported and stay pending.
    fn report(&mut self, events: &[Kevent]) -> (usize, Result);
}

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

    // Activation and wake-up.

    /// Marks a knote active, queues it if it is due, and wakes who waits for that.
    #[inline(never)]
    pub(crate) fn activate(&self, knote: &Knote, flags: WakeFlags) {
        let mut ready = self.locks.ready.lock();
        if ready.activate(knote) {
            self.announce(ready, knote, flags);
        }
    }

    /// Wakes who waits for a knote that was put into the list.
    #[inline(always)]
    fn announce(&self, mut ready: ReadyGuard<'_>, knote: &Knote, flags: WakeFlags) {
        self.maybe_pending.set(true);
        ready.sleepers.wake_one(flags);
        if ready.has_pollers {
            return self.announce_watched(ready, knote);
        }
        drop(ready);
        trace::activate(self, knote);
    }

    /// Does the rest of that if somebody polls the kqueue, or wants SIGIO.
    #[inline(never)]
    fn announce_watched(&self, mut ready: ReadyGuard<'_>, knote: &Knote) {
        let signals = ready.is_news();
        drop(ready);
        trace::activate(self, knote);
        self.notifier.notify(signals);
    }

    /// Puts a knote into the list that is due.
    #[inline(always)]
    fn queue(&self, ready: &mut Ready, knote: &Knote) {
        ready.push_back(knote);
        self.maybe_pending.set(true);
    }

    /// Has a knote, whose pipe may get more data without a wake-up, checked again later.
    pub(crate) fn recheck_later(&self, knote: &Knote) {
        let mut ready = self.locks.ready.lock();
        ready.schedule_recheck(knote);
        self.arm_recheck(&mut ready);
    }

    /// Arms the timer if knotes have come that are to be checked again.
    #[inline(always)]
    fn arm_recheck(&self, ready: &mut Ready) {
        if ready.rechecks.needs_timer() {
            self.arm_first_recheck(&mut ready.rechecks);
        }
    }

    /// Checks some of the knotes that are due for it, and activates those that have more to report. In a
    /// hard interrupt.
    pub(crate) fn recheck_next(&self, now: i64) {
        let mut ready = self.locks.ready.lock();
        let mut signals = false;
        let mut news = false;
        for _ in 0..recheck::LOOKS {
            let Some(looked) = ready.recheck_next(now) else {
                break;
            };
            let Some(knote) = looked else {
                continue;
            };
            if ready.activate(&knote) {
                self.maybe_pending.set(true);
                ready.sleepers.wake_one(WakeFlags::default());
                news |= ready.has_pollers;
                signals |= ready.has_pollers && ready.is_news();
                trace::activate(self, &knote);
            }
        }
        self.arm_next_recheck(&mut ready.rechecks, now);
        drop(ready);
        if news {
            self.notifier.notify(signals);
        }
    }

    /// False if there is nothing for a scan to find, nor was the kqueue closed. Both flags were written before
    /// the spin lock was released, so what has been made pending is seen by whoever knows of it; for what comes
    /// meanwhile one has to ask again, under the lock.
    #[inline]
    pub(crate) fn may_be_pending(&self) -> bool {
        self.maybe_pending.is_set() || self.closed_or_deferred.is_set()
    }

    #[inline]
    fn wake(&self, wake: Wake) {
        if wake.sleeper || wake.pollers || wake.signals {
            self.wake_some(wake);
        }
    }

    #[inline(never)]
    fn wake_some(&self, wake: Wake) {
        if wake.sleeper {
            self.locks
                .ready
                .lock()
                .sleepers
                .wake_one(WakeFlags::default());
        }
        if wake.pollers || wake.signals {
            self.notifier.notify(wake.signals);
        }
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

    /// Wakes another sleeper for what is pending: the one that was woken cannot collect it.
    pub(crate) fn pass_on(&self) {
        let mut ready = self.locks.ready.lock();
        if ready.pending() > 0 {
            ready.sleepers.wake_one(WakeFlags::default());
        }
    }

    // Removal: all that is retired here is taken out of the table and detached; see the crate's documentation.

    /// Takes a knote off the list for good: it is not reported any more.
    pub(crate) fn retire(&self, knote: &Knote) {
        self.locks.ready.lock().retire(knote);
    }

    /// The kqueue's own file, if it is still open.
    pub(crate) fn file(&self) -> Option<ARef<File>> {
        self.locks.ready.lock().file.as_ref()?.get()
    }

    /// The same for a knote whose descriptor was closed, and which was taken out of the tree of what is
    /// bound. Gives a reference to the kqueue's own file, unless that is being released.
    pub(crate) fn retire_closed(&self, knote: &Knote) -> Option<ARef<File>> {
        let mut ready = self.locks.ready.lock();
        knote.state(&mut ready).unlink();
        ready.retire(knote);
        ready.file.as_ref()?.get()
    }

    /// Ends a knote: it is not reported any more, not found any more, and its source is detached.
    #[inline(never)]
    fn remove(&self, knotes: &mut Knotes, knote: &Knote) {
        self.retire(knote);
        if knotes.table.remove(knote) {
            self.detach(&mut knotes.bodies, knote);
        }
    }

    /// Takes a knote's source away. No callback of it comes after that.
    fn detach(&self, bodies: &mut Bodies, knote: &Knote) {
        knote.detach(bodies);
        trace::detach(self, knote);
    }

    /// Removes a knote whose descriptor was closed; in process context, before close(2) returns. Who is
    /// being killed does not wait for the mutex.
    pub(crate) fn remove_closed(&self, closed: ClosedKnote) {
        match killable::lock_or_leave(&self.locks.knotes) {
            Ok(guard) => self.remove(&mut KnotesGuard::new(self, guard), closed.knote()),
            Err(_) => {
                self.leave(closed);
                self.settle_later();
            }
        }
    }

    /// Leaves it to who next releases the mutex to remove a knote whose descriptor was closed. From any
    /// context.
    pub(crate) fn leave(&self, closed: ClosedKnote) {
        self.deferred.push(closed);
        // Who sees the flag finds the knote.
        smp_mb(ordering::Full);
        self.owed.set(true);
    }

    /// There is something for the owner of the mutex to do when it releases it. If there is none, it is
    /// done here.
    fn settle_later(&self) {
        // Who clears the flag after it was set here finds what it is about (`selftests/state`, `leftover`).
        smp_mb(ordering::Full);
        self.owed.set(true);
        smp_mb(ordering::Full);
        self.settle();
    }

    /// True if something was left to the owner of the mutex.
    #[inline(always)]
    pub(crate) fn is_owed(&self) -> bool {
        self.owed.is_set()
    }

    /// Does what was left to the owner of the mutex, unless there is another one now. (Under the mutex a
    /// `->poll` may sleep as long as a program likes; so nobody waits here.)
    #[cold]
    pub(crate) fn settle(&self) {
        while let Some(mut knotes) = self.locks.knotes.try_lock() {
            self.owed.set(false);
            smp_mb(ordering::Full);
            let closed = self.locks.ready.lock().closed;
            if closed {
                self.remove_all(&mut knotes);
            }
            self.deferred
                .take_each(|closed| self.remove(&mut knotes, closed.knote()));
            drop(knotes);
            smp_mb(ordering::Full);
            if !self.owed.is_set() {
                return;
            }
        }
    }

    fn remove_all(&self, knotes: &mut Knotes) {
        let mut bucket = 0;
        while let Some(knote) = knotes.table.pop(&mut bucket) {
            self.retire(&knote);
            self.detach(&mut knotes.bodies, &knote);
        }
    }

    /// Turns all callers away, and ends all that is not in the table: the kqueue was closed.
    fn terminate(&self) {
        let mut adopted = {
            let mut ready = self.locks.ready.lock();
            ready.closed = true;
            self.closed_or_deferred.set(true);
            ready.sleepers.wake_all();
            ready.adopted.take()
        };
        while let Some(child) = adopted {
            let DeferredKnote {
                knote,
                source,
                next,
            } = KBox::into_inner(child);
            self.retire(&knote);
            drop(source);
            trace::detach(self, &knote);
            adopted = next;
        }
        self.notifier.notify(false);
    }

    /// `->flush`: a descriptor of the kqueue was closed.
    pub(crate) fn flush(this: ArcBorrow<'_, Self>, file: &File, closing: &Closing) {
        let watchers = &this.shared.nesting;
        let is_last = closing.is_last_in(this.owner.table(), file, |is_only_with| {
            watchers.with_watchers(&this, is_only_with)
        });
        if !is_last {
            return;
        }
        this.terminate();
        // Who is being killed does not wait for a `->poll` that sleeps.
        match killable::lock_or_leave(&this.locks.knotes) {
            Ok(guard) => this.remove_all(&mut KnotesGuard::new(&this, guard)),
            Err(_) => this.settle_later(),
        }
    }

    /// `->release`: nobody has a reference to the kqueue's file any more, so nobody is in a call.
    pub(crate) fn release(&self) {
        self.locks.ready.lock().file = None;
        self.terminate();
        let mut knotes = self.locks.knotes.lock();
        self.remove_all(&mut knotes);
        // Not wherever the last reference to the kqueue is dropped.
        let watcher = knotes.bodies.watcher.take();
        drop(knotes);
        drop(watcher);
        // Nothing is told any more, nor will be.
        self.recheck_timer.cancel();
    }

    // Registration.

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

    /// Applies one change (`kqueue_register`), after [`Kqueue::prepare`]. A caller that collects so
    /// many of what is pending right after that (or none) has the filter run then, and not twice.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unknown filter, or a value that the filter does not take.
    /// - `EBADF`: no such descriptor, or the kqueue was closed.
    /// - `ENOENT`: no such knote, and `EV_ADD` is not given.
    /// - `ENOSPC`: the user has as many knotes as they may.
    /// - `ENOMEM`; and what attaching to the source fails with.
    #[inline(always)]
    pub(crate) fn register(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        caller: Caller,
        collects: usize,
    ) -> Result {
        let filter = Filter::from_raw(change.filter).ok_or(EINVAL)?;
        let Knotes { table, bodies } = &mut *knotes;
        if let Some(found) = table.find_mut(change.ident, filter) {
            let knote = found.knote();
            let mut ready = this.locks.ready.lock();
            let mut parts = knote.parts(bodies);
            if !Self::is_current(&mut ready, &parts, caller.table) {
                drop(ready);
                let knote: ARef<Knote> = knote.into();
                if this.change_other(knotes, &knote, change)? {
                    return Ok(());
                }
            } else if change.has(EV_DELETE) && !change.has(EV_ADD) {
                ready.retire(knote);
                drop(ready);
                this.detach(bodies, &found.remove());
                table.free_if_empty();
                return Ok(());
            } else if filter::is_plain(filter) {
                if !this.modify_at_once(ready, &mut parts, change, collects) {
                    this.apply_seen(bodies, knote, change, true);
                }
                return Ok(());
            } else {
                drop(ready);
                return this.modify(bodies, knote, change, collects);
            }
        }
        Self::register_new(this, knotes, change, filter, caller.table, collects)
    }

    /// The same, if there is no such knote.
    #[inline(never)]
    fn register_new(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        table: CurrentTable,
        collects: usize,
    ) -> Result {
        let file = if filter.is_descriptor() {
            Some(Self::file_of(change, filter)?)
        } else {
            None
        };
        if !change.has(EV_ADD) {
            return Err(ENOENT);
        }
        let (knote, may_be_ready) = Self::add(this, knotes, change, filter, file, table)?;
        this.update(&mut knotes.bodies, &knote, change, may_be_ready, collects);
        knotes.table.insert(knote);
        Ok(())
    }

    /// The file of the descriptor that a change is for.
    #[inline(always)]
    fn file_of(change: &Kevent, filter: Filter) -> Result<ARef<File>> {
        fdtable::get(change.ident).or_else(|error| {
            if filter.takes_paths() {
                fdtable::get_path(change.ident)
            } else {
                Err(error)
            }
        })
    }

    /// The change is for a knote that was retired, or whose ident names something else by now. True if
    /// that is all there is to do.
    #[cold]
    fn change_other(&self, knotes: &mut Knotes, knote: &Knote, change: &Kevent) -> Result<bool> {
        let filter = knote.filter();
        if !knote.is_retired() && filter.outlives_name() {
            if change.has(EV_ADD) {
                // It stays until it is reported, behind the new one.
                return Ok(false);
            }
            if change.has(EV_DELETE) {
                self.remove(knotes, knote);
            } else {
                self.modify(&mut knotes.bodies, knote, change, 0)?;
            }
            return Ok(true);
        }
        if filter.is_descriptor() {
            // If there is none, all stays as it is.
            drop(Self::file_of(change, filter)?);
        }
        self.remove(knotes, knote);
        Ok(false)
    }

    /// Changes the parameters and the state of a knote.
    #[inline(always)]
    fn modify(
        &self,
        bodies: &mut Bodies,
        knote: &Knote,
        change: &Kevent,
        collects: usize,
    ) -> Result {
        let mut parts = knote.parts(bodies);
        let fflags = parts.body.fflags;
        filter::touch(&mut parts, change)?;
        parts.were_touched(fflags);
        if filter::starts_anew(knote.filter(), change) {
            self.reset(knote);
        }
        self.update(bodies, knote, change, true, collects);
        Ok(())
    }

    /// Does the same for a filter that keeps nothing ([`filter::is_plain`]), in one critical section of
    /// the spin lock, which it releases. False if the caller has to run the filter and to change the state
    /// ([`Kqueue::apply_seen`]), since it cannot be told with the spin lock held whether the knote is ready.
    #[inline(always)]
    fn modify_at_once(
        &self,
        mut ready: ReadyGuard<'_>,
        parts: &mut Parts<'_>,
        change: &Kevent,
        collects: usize,
    ) -> bool {
        let knote = parts.knote();
        let fflags = parts.body.fflags;
        filter::touch_plain(knote.filter(), parts.body, change);
        let (fast_path, file) = (parts.were_touched(fflags), parts.file);
        if self.may_be_unseen(&mut ready, knote, change, collects) {
            self.activate_unseen(ready, knote, change);
            return true;
        }
        match filter::is_ready_at_once(fast_path, knote.filter(), parts.body, file) {
            Some(active) if !change.has(EV_DISABLE) => {
                self.apply(ready, knote, active, change);
                true
            }
            _ => false,
        }
    }

    /// Brings the state of a knote up to date with a change that was made.
    #[inline(always)]
    fn update(
        &self,
        bodies: &mut Bodies,
        knote: &Knote,
        change: &Kevent,
        may_be_ready: bool,
        collects: usize,
    ) {
        if may_be_ready && collects > 0 && self.apply_unseen(knote, change, collects) {
            return;
        }
        if may_be_ready || change.has(EV_DISABLE | EV_ENABLE) {
            self.apply_seen(bodies, knote, change, may_be_ready);
        }
    }

    /// Marks a knote active without running its filter, if that [may be unseen](Self::may_be_unseen). False if
    /// not.
    #[inline(always)]
    fn apply_unseen(&self, knote: &Knote, change: &Kevent, collects: usize) -> bool {
        let mut ready = self.locks.ready.lock();
        let unseen = self.may_be_unseen(&mut ready, knote, change, collects);
        if unseen {
            self.activate_unseen(ready, knote, change);
        }
        unseen
    }

    /// True if a change may mark a knote active without running its filter: nobody but the caller
    /// would wake up for that, and its scan takes it off again if it is not ready. (Each one before
    /// it takes the room of one event at most, so the scan comes to it; one that is stopped short
    /// [verifies](Kqueue::verify).)
    #[inline(always)]
    fn may_be_unseen(
        &self,
        ready: &mut Ready,
        knote: &Knote,
        change: &Kevent,
        collects: usize,
    ) -> bool {
        // One that stays disabled is not seen by the scan, and would be thought ready.
        let stays_disabled =
            change.has(EV_DISABLE) || (knote.state(ready).is_disabled() && !change.has(EV_ENABLE));
        ready.queue.len() < collects
            && !stays_disabled
            && !ready.has_pollers
            && ready.sleepers.is_empty()
    }

    #[inline(always)]
    fn activate_unseen(&self, mut ready: ReadyGuard<'_>, knote: &Knote, change: &Kevent) {
        if Self::apply_to_state(knote.state(&mut ready), true, change) {
            self.queue(&mut ready, knote);
            drop(ready);
            trace::activate(self, knote);
        }
    }

    /// Runs the filter, if the knote may be ready, and changes its state as that and the change say.
    #[inline(never)]
    fn apply_seen(&self, bodies: &mut Bodies, knote: &Knote, change: &Kevent, may_be_ready: bool) {
        if may_be_ready && change.has(EV_DISABLE) {
            // It may be pending only because it was not looked at.
            self.take_off(knote);
        }
        let active = may_be_ready && knote.is_ready(bodies);
        if active || change.has(EV_DISABLE | EV_ENABLE) {
            self.apply(self.locks.ready.lock(), knote, active, change);
        }
    }

    /// Takes a knote off the list, and makes it inactive, be it disabled or not: its filter is asked after that.
    #[inline(never)]
    fn reset(&self, knote: &Knote) {
        let mut ready = self.locks.ready.lock();
        ready.remove(knote);
        let state = knote.state(&mut ready);
        let disabled = state.is_disabled();
        state.settle(disabled);
    }

    /// Takes a knote off the list, as a scan does before it runs the filter.
    fn take_off(&self, knote: &Knote) {
        let mut ready = self.locks.ready.lock();
        if ready.take_off(knote) {
            // A disabled one stays active.
            let _ = knote.state(&mut ready).take();
        }
    }

    /// Runs the filter of the knote that a change was for, which may have been marked active
    /// without that: there will be no scan. It keeps its place if it is ready.
    #[cold]
    pub(crate) fn verify(&self, knotes: &mut Knotes, change: &Kevent) {
        let Knotes { table, bodies } = knotes;
        let filter = Filter::from_raw(change.filter);
        let Some(knote) = filter.and_then(|filter| table.find(change.ident, filter)) else {
            return;
        };
        if !knote.state(&mut self.locks.ready.lock()).doubt() {
            return;
        }
        let is_ready = knote.is_ready(bodies);
        let mut ready = self.locks.ready.lock();
        if knote.state(&mut ready).resolve(is_ready) {
            ready.take_off(knote);
            if filter::needs_recheck_of_pipe(knote.filter(), knote.body(bodies)) {
                ready.schedule_recheck(knote);
                self.arm_recheck(&mut ready);
            }
        }
    }

    /// True if the knote must now be put into the list.
    #[inline(always)]
    fn apply_to_state(state: &mut State, active: bool, change: &Kevent) -> bool {
        state.change(active, change.has(EV_DISABLE), change.has(EV_ENABLE))
    }

    /// Marks a knote active if it is, then disables or enables it as the change says.
    fn apply(&self, mut ready: ReadyGuard<'_>, knote: &Knote, active: bool, change: &Kevent) {
        if Self::apply_to_state(knote.state(&mut ready), active, change) {
            ready.push_back(knote);
            self.announce(ready, knote, WakeFlags::default());
        } else if knote.state(&mut ready).is_disabled() && ready.take_off(knote) {
            // Its source has fired after it was taken off. A disabled one is not pending.
            let _ = knote.state(&mut ready).take();
        }
    }

    /// Takes a knote in that was made, with its source, where the mutex cannot be had: its children
    /// get one in the middle of a process's fork. It can be activated at once; it comes into the
    /// table when somebody next has the mutex, before anything is looked for or reported.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    pub(crate) fn adopt(&self, knote: &ARef<Knote>, source: Erased) -> Result {
        let child = DeferredKnote {
            knote: knote.clone(),
            source,
            next: None,
        };
        // Dropped after the lock was released if it is not taken.
        let mut child = KBox::new(child, Memory::Atomic.flags())?;
        let mut ready = self.locks.ready.lock();
        if ready.closed {
            return Err(EBADF);
        }
        child.next = ready.adopted.take();
        ready.adopted = Some(child);
        self.closed_or_deferred.set(true);
        drop(ready);
        trace::attach(self, &knote.name_event());
        Ok(())
    }

    /// Takes the spin lock, when all adopted knotes are in the table.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed. `ENOMEM`, then they wait on.
    #[inline]
    fn ready_for(&self, knotes: &mut Knotes) -> Result<ReadyGuard<'_>> {
        loop {
            let ready = self.locks.ready.lock();
            if ready.closed {
                return Err(EBADF);
            }
            if ready.adopted.is_none() {
                return Ok(ready);
            }
            drop(ready);
            self.admit(knotes)?;
        }
    }

    /// Takes an adopted knote into the table, if there is one.
    #[cold]
    fn admit(&self, knotes: &mut Knotes) -> Result {
        knotes.table.reserve(&self.user)?;
        let mut ready = self.locks.ready.lock();
        let Some(mut child) = ready.adopted.take() else {
            return Ok(());
        };
        ready.adopted = child.next.take();
        let closed_or_deferred = ready.closed || ready.adopted.is_some();
        self.closed_or_deferred.set(closed_or_deferred);
        drop(ready);
        let DeferredKnote { knote, source, .. } = KBox::into_inner(child);
        knote.body_mut(&mut knotes.bodies).source = Some(source);
        knotes.table.insert(knote);
        Ok(())
    }

    /// True when the knote was not retired, and its ident still names what it is about, and not something else by
    /// now.
    #[inline(always)]
    fn is_current(ready: &mut Ready, parts: &Parts<'_>, table: CurrentTable) -> bool {
        let knote = parts.knote();
        if knote.state(ready).is_deleting() {
            return false;
        }
        if knote.filter().is_descriptor() {
            parts.is_bound_by_name(ready, table)
        } else {
            filter::is_named(knote.filter(), parts.body, knote.ident())
        }
    }

    /// Gives the new knote, for which there is room in the table, and whether it may be ready already.
    #[inline]
    fn add(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        file: Option<ARef<File>>,
        table: CurrentTable,
    ) -> Result<(ARef<Knote>, bool)> {
        knotes.table.reserve(&this.user)?;
        let bodies = &mut knotes.bodies;
        let body = || Body::new(change);
        let knote = Self::new_knote(this, change.ident, filter, body, Memory::Wait)?;
        let attached = if filter::is_own(filter) {
            filter::attach_own(&knote, change, bodies)
        } else {
            let attach = Attach {
                knote: &knote,
                change,
                file,
                table,
                shared: &this.shared,
            };
            filter::attach(filter, attach, bodies)
        };
        let attached = attached.map(|attached| {
            let Parts {
                body, fast_path, ..
            } = knote.parts(bodies);
            body.source = attached.source;
            body.flags |= attached.flags;
            *fast_path = FastPath::of(filter, body);
            attached.may_be_ready
        });
        match attached {
            Ok(may_be_ready) => {
                trace::attach(&this, change);
                Ok((knote, may_be_ready))
            }
            Err(error) => {
                // It may have fired already.
                this.retire(&knote);
                knote.detach(bodies);
                Err(error)
            }
        }
    }

    // Collection.

    /// Reports pending knotes until there are no more or the sink is full (`kqueue_scan`).
    ///
    /// A level-triggered knote goes to the tail. No knote is looked at twice: the scan ends when all
    /// are seen that were pending when it began. The mutex is held throughout, be it taken already or not,
    /// so another scan begins when all that this one put back is in its place.
    ///
    /// Whoever has `entered` and made changes in that has some of them looked at here only.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there was nothing to report. What the sink fails with. Nothing is lost: the event stays pending, at the head, and one can
    /// [go on](Kqueue::resume_scan). `EBADF` if
    /// the kqueue was closed, `EINTR` if the caller is being killed, `ENOMEM`.
    #[inline(always)]
    pub(crate) fn scan(
        &self,
        entered: Option<(KnotesGuard<'_>, &Buffer)>,
        sink: &mut impl EventSink,
        caller: Caller,
    ) -> Result {
        let (mut entered, changes) = match entered {
            Some((entered, changes)) => (entered, Some(changes)),
            None => (self.enter(caller).inspect_err(|_| self.pass_on())?, None),
        };
        let knotes = &mut *entered;
        let mut ready = match self.ready_for(knotes) {
            Ok(ready) => ready,
            Err(error) => {
                self.stop_short(knotes, changes, sink);
                return Err(error);
            }
        };
        ready.stopped = None;
        let mut events = Events::new();
        let all = ready.queue.len();
        let Walked { seen, kept } = ready.poll_fast(
            &mut knotes.bodies,
            caller.table,
            all,
            sink.room(),
            &mut events,
        );
        self.arm_recheck(&mut ready);
        if seen < all {
            ready.unseen = all - seen;
            ready.retired_during_scan = false;
            ready.news = false;
            if events.len() < sink.room() {
                let table = caller.table;
                return self.scan_on(ready, knotes, changes, table, sink, (&mut events, kept));
            }
        }
        // All was seen, so that those that are kept are all that is pending; or there is no more room.
        let pending = kept || seen < all;
        self.maybe_pending.set(pending);
        let shared = pending && !ready.sleepers.is_empty();
        drop(ready);
        if events.is_empty() {
            return Err(EAGAIN);
        }
        let result = self.deliver(knotes, &events, Some(changes), seen == all, sink);
        if shared {
            self.wake_some(Wake {
                sleeper: true,
                ..Wake::default()
            });
        }
        result
    }

    /// Goes on with a scan that has failed because of its sink. Reports nothing if another one has
    /// begun in the meantime, since that may have put back what this one has reported, so that it
    /// would be reported twice.
    ///
    /// # Errors
    ///
    /// As [`Kqueue::scan`].
    #[cold]
    pub(crate) fn resume_scan(&self, sink: &mut impl EventSink, caller: Caller) -> Result {
        let mut entered = self.enter(caller).inspect_err(|_| self.pass_on())?;
        let knotes = &mut *entered;
        let mut ready = self.ready_for(knotes).inspect_err(|_| self.pass_on())?;
        if ready.stopped != Some(SinkId::of(sink)) {
            drop(ready);
            self.pass_on();
            return Err(EAGAIN);
        }
        ready.stopped = None;
        ready.news = false;
        let mut events = Events::new();
        let table = caller.table;
        let kept = ready.poll_fast_on(&mut knotes.bodies, table, sink.room(), &mut events);
        self.arm_recheck(&mut ready);
        self.scan_on(ready, knotes, None, table, sink, (&mut events, kept))
    }

    /// A scan ends that has not seen all that was pending when it began.
    #[cold]
    fn stop_short(&self, knotes: &mut Knotes, changes: Option<&Buffer>, sink: &impl EventSink) {
        for change in changes.into_iter().flat_map(Buffer::events) {
            self.verify(knotes, change);
        }
        let mut ready = self.locks.ready.lock();
        ready.stopped = Some(SinkId::of(sink));
        if ready.pending() > 0 {
            ready.sleepers.wake_one(WakeFlags::default());
        }
    }

    /// The same, after a first look under the spin lock, which has made those `events` and `kept` some.
    #[inline(never)]
    fn scan_on<'a>(
        &'a self,
        mut ready: ReadyGuard<'a>,
        knotes: &mut Knotes,
        changes: Option<&Buffer>,
        table: CurrentTable,
        sink: &mut impl EventSink,
        (events, mut kept): (&mut Events, bool),
    ) -> Result {
        let mut wake = Wake::default();
        let mut is_short = false;
        let result = loop {
            let (done, result) =
                self.scan_some(ready, knotes, table, sink, (events, kept), &mut wake);
            if done || result.is_err() || sink.room() == 0 {
                break result;
            }
            // A child of a process may have been born while the lock was free.
            ready = match self.ready_for(knotes) {
                Ok(ready) => ready,
                Err(error) => break Err(error),
            };
            if ready.unseen == 0 {
                if !ready.retired_during_scan || !sink.is_empty() {
                    let pending = ready.pending() > 0;
                    self.maybe_pending.set(pending);
                    wake.signals |= pending && ready.news;
                    is_short = ready.retired_during_scan;
                    drop(ready);
                    break Ok(());
                }
                // Closes have cut the scan short before it had anything to report: once more. There
                // is an end to that, since nobody can register anything meanwhile to close it again.
                ready.unseen = ready.queue.len();
                ready.retired_during_scan = false;
            }
            events.clear();
            kept = ready.poll_fast_on(&mut knotes.bodies, table, sink.room(), events);
            self.arm_recheck(&mut ready);
        };
        self.wake(wake);
        if is_short || result.is_err() {
            self.stop_short(knotes, changes, sink);
        }
        if sink.is_empty() {
            result.and(Err(EAGAIN))
        } else {
            result
        }
    }

    /// Reports what a glance has told, or the next batch if that was nothing. Gives whether there are surely no
    /// others to see.
    #[inline(always)]
    fn scan_some(
        &self,
        ready: ReadyGuard<'_>,
        knotes: &mut Knotes,
        table: CurrentTable,
        sink: &mut impl EventSink,
        (events, kept): (&Events, bool),
        wake: &mut Wake,
    ) -> (bool, Result) {
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        if events.is_empty() && ready.unseen == 0 {
            return (!ready.retired_during_scan, Ok(()));
        }
        if events.is_empty() {
            return self.scan_batch(ready, knotes, table, sink, wake);
        }
        // What is true for us is true for others, and what there is no room for is theirs.
        let shared = kept || (pending && events.len() == sink.room());
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unseen == 0;
        // Those that are pending besides have come while the lock was free.
        wake.signals |= done && ready.news;
        drop(ready);
        let result = self.deliver(knotes, events, None, false, sink);
        (done, result)
    }

    /// Reports events that were told at a glance, which was one at `all` that was pending. With the
    /// changes of the call, if any, if it was the `last` one of the scan.
    #[inline(always)]
    fn deliver(
        &self,
        knotes: &mut Knotes,
        events: &Events,
        last: Option<Option<&Buffer>>,
        all: bool,
        sink: &mut impl EventSink,
    ) -> Result {
        let (delivered, result) = sink.report(events);
        if trace::wants_deliveries() {
            self.trace_deliveries(events, delivered);
        }
        if delivered < events.len() {
            self.take_back(knotes, events.iter().skip(delivered), all);
            if let Some(changes) = last {
                self.stop_short(knotes, changes, sink);
            }
        }
        result
    }

    /// Makes pending again what was told at a glance and has not reached the program: first, and in its
    /// order. There are no others to see if `all` that was pending had been looked at.
    #[cold]
    fn take_back<'a>(
        &self,
        knotes: &mut Knotes,
        undelivered: impl DoubleEndedIterator<Item = &'a Kevent>,
        all: bool,
    ) {
        let Knotes { table, bodies } = knotes;
        if all {
            let mut ready = self.locks.ready.lock();
            ready.unseen = 0;
            ready.retired_during_scan = false;
        }
        let mut wake = Wake::default();
        for event in undelivered.rev() {
            let filter = Filter::from_raw(event.filter);
            let Some(knote) = filter.and_then(|filter| table.find(event.ident, filter)) else {
                continue;
            };
            filter::undelivered(knote.filter(), knote.body_mut(bodies), event);
            let mut ready = self.locks.ready.lock();
            let mut due = ready.remove(knote);
            let state = knote.state(&mut ready);
            // One that was dispatched is disabled by now.
            due |= state.change(true, false, event.has(EV_DISPATCH));
            if due {
                ready.push_front(knote);
                ready.unseen += 1;
                self.maybe_pending.set(true);
                wake.sleeper |= !ready.sleepers.is_empty();
                wake.pollers |= ready.has_pollers;
            }
        }
        self.wake(wake);
    }

    /// Takes a batch off the list, and reports those of it whose condition holds. Gives whether there are
    /// surely no others to see.
    #[inline(never)]
    fn scan_batch(
        &self,
        mut ready: ReadyGuard<'_>,
        knotes: &mut Knotes,
        table: CurrentTable,
        sink: &mut impl EventSink,
        wake: &mut Wake,
    ) -> (bool, Result) {
        let mut batch = Batch::new();
        ready.take(&knotes.bodies, table, sink.room(), &mut batch);
        drop(ready);
        knotes.bodies.scratch = sink.scratch();
        let result = self.report(knotes, &mut batch, sink);
        let mut ready = self.locks.ready.lock();
        let put_back = ready.put_back(&batch, result.is_err());
        wake.pollers |= put_back.news && ready.has_pollers;
        wake.signals |= put_back.signals && ready.has_pollers;
        let pending = ready.pending() > 0;
        self.maybe_pending.set(pending);
        let shared = put_back.news || put_back.level || (pending && sink.room() == 0);
        wake.sleeper |= shared && !ready.sleepers.is_empty();
        let done = ready.unseen == 0 && !ready.retired_during_scan;
        wake.signals |= done && pending && ready.news;
        drop(ready);
        (done, result)
    }

    /// Reports those of the batch whose condition holds, and decides what becomes of each.
    #[inline]
    fn report(&self, knotes: &mut Knotes, batch: &mut Batch, sink: &mut impl EventSink) -> Result {
        let mut events = Events::new();
        let mut asks_filter = false;
        let mut free = events.free(BATCH);
        for taken in batch.iter_mut() {
            let knote = &*taken.knote;
            if taken.next == Disposition::Gone {
                self.remove(knotes, knote);
                continue;
            }
            let Some(event) = knote.evaluate(&mut knotes.bodies) else {
                continue;
            };
            // A close in the meantime has ended it.
            if knote.is_retired() {
                continue;
            }
            taken.next = Self::after(knote.filter(), event.flags);
            asks_filter |= taken.next == Disposition::AskFilter;
            // There is room.
            free.push(event);
        }
        drop(free);
        if events.is_empty() {
            return Ok(());
        }
        let (delivered, result) = sink.report(&events);
        if asks_filter || delivered < events.len() {
            self.reported(knotes, batch, &events, delivered);
        }
        if trace::wants_deliveries() {
            self.trace_deliveries(&events, delivered);
        }
        result
    }

    #[cold]
    fn trace_deliveries(&self, events: &Events, delivered: usize) {
        for event in events.iter().take(delivered) {
            trace::deliver(self, event);
        }
    }

    /// What becomes of a knote whose event has those flags, once that has reached the program.
    #[inline]
    fn after(filter: Filter, flags: u16) -> Disposition {
        if filter.counts() {
            return Disposition::AskFilter;
        }
        match flags & (EV_ONESHOT | EV_CLEAR | EV_DISPATCH) {
            0 => Disposition::AtTail,
            EV_CLEAR => Disposition::Idle,
            flags if flags & EV_ONESHOT == 0 => Disposition::Disabled,
            _ => Disposition::AskFilter,
        }
    }

    /// The first so many events have reached the program: tells the filters, and decides about those
    /// that had to wait for that.
    #[inline(never)]
    fn reported(&self, knotes: &mut Knotes, batch: &mut Batch, events: &Events, delivered: usize) {
        let mut events = events.iter().take(delivered);
        for taken in batch.iter_mut() {
            // Those without an event.
            if matches!(taken.next, Disposition::Gone | Disposition::Nothing) {
                continue;
            }
            let Some(event) = events.next() else {
                taken.next = Disposition::AtHead;
                continue;
            };
            if taken.next != Disposition::AskFilter {
                continue;
            }
            let knote = &*taken.knote;
            if event.has(EV_ONESHOT) {
                self.remove(knotes, knote);
                taken.next = Disposition::Gone;
                continue;
            }
            let more = filter::reported(&mut knote.parts(&mut knotes.bodies), event);
            taken.next = if event.has(EV_DISPATCH) && more {
                Disposition::DisabledActive
            } else if event.has(EV_DISPATCH) {
                Disposition::Disabled
            } else if more {
                Disposition::Again
            } else if event.has(EV_CLEAR) {
                Disposition::Idle
            } else {
                Disposition::AtTail
            };
        }
    }

    /// Sleeps until something is pending or the kqueue is closed.
    pub(crate) fn wait(&self, deadline: Deadline) -> Wakeup {
        sleepers::sleep(&self.locks.ready, deadline, |ready| {
            ready.pending() > 0 || ready.closed
        })
    }

    // The kqueue as a file.

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

    /// One line for the kqueue, and one for each knote, by filter and ident: the order tells
    /// nothing of the table's secret.
    pub(crate) fn show(&self, m: &SeqFile) {
        let Ok(guard) = killable::lock(&self.locks.knotes) else {
            return;
        };
        let mut knotes = KnotesGuard::new(self, guard);
        // What cannot be admitted is not shown.
        let _ = self.ready_for(&mut knotes);
        let pending = self.locks.ready.lock().pending();
        seq_print!(
            m,
            "kqueue knotes: {} pending: {}\n",
            knotes.table.len(),
            pending
        );
        let len = knotes.table.len();
        if !seqfile::has_room(m, len.saturating_mul(SHORTEST_LINE)) {
            return;
        }
        let Ok(mut sorted) = KVVec::with_capacity(len, GFP_KERNEL_ACCOUNT) else {
            return;
        };
        knotes.table.for_each(|knote| {
            // There is room.
            let _ = sorted.push_within_capacity(&**knote);
        });
        sorted.sort_unstable_by_key(|knote: &&Knote| (-knote.filter().raw(), knote.ident()));
        for knote in sorted {
            if seqfile::has_overflowed(m) {
                return;
            }
            let state = knote.state(&mut self.locks.ready.lock()).name();
            let body = knote.body(&knotes.bodies);
            seq_print!(
                m,
                "knote filter: {} ident: {} flags: {:x} fflags: {:x} data: {} udata: {:x} \
                 state: {}\n",
                knote.filter().raw(),
                knote.ident(),
                body.flags,
                body.fflags,
                body.data,
                body.udata,
                state,
            );
        }
    }
}

/// The length of a line for a knote, at least.
const SHORTEST_LINE: usize =
    "knote filter: -1 ident: 0 flags: 0 fflags: 0 data: 0 udata: 0 state: idle\n".len();

/// Of what was put back: is any pending again for what a scan has just told, or for news?
#[derive(Clone, Copy, Default)]
struct PutBack {
    level: bool,
    news: bool,
    /// The news are all that is pending.
    signals: bool,
}

impl Parts<'_> {
    /// The parameters of their knote were changed; its `fflags` were those.
    /// Gives how a scan looks at it now.
    #[inline(always)]
    fn were_touched(&mut self, fflags: u32) -> FastPath {
        if (self.body.fflags ^ fflags) & NOTE_LOWAT != 0 {
            *self.fast_path = FastPath::of(self.knote().filter(), self.body);
        }
        *self.fast_path
    }
}

impl Ready {
    /// Takes a knote off the list for good.
    #[inline(always)]
    fn retire(&mut self, knote: &Knote) {
        self.cancel_recheck(knote);
        if knote.state(self).delete() {
            self.unseen = self.unseen.saturating_sub(1);
            self.retired_during_scan = true;
            self.remove(knote);
        }
    }

    /// Looks at those at the head of the list, at most so many, for at most `room` events, until there is one that
    /// takes longer: its filter may sleep, it was disabled, it ends with its report, or its number is another file's.
    /// All is decided under the lock. (Not in line: what else the scan keeps would take the registers
    /// that the walk needs.)
    #[inline(never)]
    fn poll_fast(
        &mut self,
        bodies: &mut Bodies,
        table: CurrentTable,
        most: usize,
        room: usize,
        events: &mut Events,
    ) -> Walked {
        let free = events.free(room);
        self.walk(bodies, table, most.min(LOOKS), FastScan { free })
    }

    /// The same for a scan that is not done: at those that it has not seen. Gives whether some were
    /// kept.
    #[inline(always)]
    fn poll_fast_on(
        &mut self,
        bodies: &mut Bodies,
        table: CurrentTable,
        room: usize,
        events: &mut Events,
    ) -> bool {
        let unseen = self.unseen.min(self.queue.len());
        let walked = self.poll_fast(bodies, table, unseen, room, events);
        self.unseen = unseen - walked.seen;
        walked.kept
    }

    /// Takes a knote off the list while no scan has the mutex; one that was stopped may go on after
    /// that. True if it was there.
    fn take_off(&mut self, knote: &Knote) -> bool {
        let held = self.remove(knote);
        if held {
            self.unseen = self.unseen.saturating_sub(1);
            self.retired_during_scan = true;
        }
        held
    }

    /// Something was made pending for somebody who watches: true if whoever wants SIGIO is to be
    /// told.
    fn is_news(&mut self) -> bool {
        let first = self.queue.len() == 1;
        self.news |= !first;
        first
    }

    /// Takes the next knotes to evaluate off the list, at most `room`. They count as in flight from
    /// here on.
    #[inline]
    fn take(&mut self, bodies: &Bodies, table: CurrentTable, room: usize, batch: &mut Batch) {
        let rcu = rcu::read_lock();
        let names = Names::of(table, &rcu);
        for _ in 0..self.unseen.min(LOOKS) {
            if batch.len() == room.min(BATCH) {
                break;
            }
            let Some(knote) = self.pop_front() else {
                break;
            };
            self.unseen -= 1;
            if knote.state(self).take() == Take::Skip {
                // The table has a reference too, so this is not the last one.
                drop(knote);
                continue;
            }
            let bound = match knote.file(bodies) {
                Some(file) => names.maps(knote.ident(), file),
                None => true,
            };
            let next = if bound {
                Disposition::Nothing
            } else {
                Disposition::Gone
            };
            // There is room.
            let _ = batch.push(Taken { knote, next });
        }
        self.in_flight += batch.len();
    }

    /// Does with the knotes of a batch what was decided. One sleeper is to be woken if some stay
    /// pending: what is true for us is true for others, and each of them wakes the next. Pollers know
    /// of those already; they are told of what is new, and of what should have been reported and was
    /// not, which there is if it has `failed`.
    #[inline]
    fn put_back(&mut self, batch: &[Taken], failed: bool) -> PutBack {
        let mut result = PutBack::default();
        self.in_flight -= batch.len();
        if failed {
            self.put_back_at_head(batch);
            result.news = true;
        }
        for Taken { knote, next } in batch {
            if *next == Disposition::Gone {
                continue;
            }
            let state = knote.state(self);
            let due = match next {
                Disposition::AtTail => {
                    result.level = true;
                    state.activate()
                }
                Disposition::Again => {
                    result.news = true;
                    state.activate()
                }
                Disposition::Disabled => {
                    state.disable();
                    false
                }
                Disposition::DisabledActive => {
                    state.disable();
                    state.activate()
                }
                Disposition::Nothing
                | Disposition::Idle
                | Disposition::Gone
                | Disposition::AtHead
                | Disposition::AskFilter => false,
            };
            if knote.state(self).is_disabled() && self.remove(knote) {
                // Its source has fired while it was in the scan's hands. A disabled one is not pending.
                let _ = knote.state(self).take();
            }
            if due {
                result.signals |= *next == Disposition::Again && self.queue.len() == 0;
                self.push_back(knote);
            }
        }
        result
    }

    #[cold]
    fn put_back_at_head(&mut self, batch: &[Taken]) {
        let unreported = batch.iter().rev();
        for taken in unreported.filter(|taken| taken.next == Disposition::AtHead) {
            if taken.knote.state(self).activate() {
                self.push_front(&taken.knote);
                self.unseen += 1;
            }
        }
    }
}

/// A look at pending knotes under the spin lock, and room for their events.
struct FastScan<'a> {
    free: Free<'a, Kevent>,
}

impl Look for FastScan<'_> {
    #[inline(always)]
    fn decide(&mut self, mut seen: Seen<'_>) -> Verdict {
        if self.free.is_full() || seen.state.is_disabled() {
            return Verdict::Stop;
        }
        let Some(file) = seen.file() else {
            return self.decide_without_file(&mut seen);
        };
        match filter::poll_fast(seen.fast_path, seen.knote, seen.body, file) {
            FastLook::Ready(data) => self.report(&mut seen, Report::of(data), false),
            FastLook::Nothing => {
                seen.state.settle(false);
                Verdict::Remove
            }
            FastLook::Unknown => Verdict::Stop,
            FastLook::Ended(data) => {
                let report = filter::end(seen.knote.filter(), data, false);
                self.report(&mut seen, report, true)
            }
            FastLook::HungUp(data) => {
                let report = filter::end(seen.knote.filter(), data, true);
                self.report(&mut seen, report, true)
            }
        }
    }
}

impl FastScan<'_> {
    /// Decides about a knote that is on no descriptor, or whose number refers to another file by now.
    #[inline(always)]
    fn decide_without_file(&mut self, seen: &mut Seen<'_>) -> Verdict {
        if seen.fast_path != FastPath::User {
            return Verdict::Stop;
        }
        match filter::take_user_event(seen.body) {
            Some(report) => self.report(seen, report, false),
            None => {
                seen.state.settle(false);
                Verdict::Remove
            }
        }
    }

    /// Reports an event, and decides what becomes of its knote. More may come of a pipe without a wake-up, unless this
    /// reports its end.
    #[inline(always)]
    fn report(&mut self, seen: &mut Seen<'_>, report: Report, is_end: bool) -> Verdict {
        let event = seen.knote.event(seen.body, report);
        let flags = event.flags;
        self.free.push(event);
        if flags & (EV_CLEAR | EV_DISPATCH) == 0 {
            return Verdict::Keep;
        }
        if flags & EV_DISPATCH != 0 {
            seen.state.settle(true);
            return Verdict::Remove;
        }
        if !is_end && seen.fast_path == FastPath::PipeEdge {
            seen.state.settle_for_recheck();
            return Verdict::Recheck;
        }
        seen.state.settle(false);
        Verdict::Remove
    }
}
