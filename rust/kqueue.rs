// SPDX-License-Identifier: GPL-2.0

//! The kqueue: registration, activation, scan, wake-up and close.
//!
//! The locks and what they guard are described in the crate's documentation.

use crate::{
    device::Shared,
    filter::{Attach, Filter, Source},
    hook::{
        fdtable::{self, Closing, TableId, WeakFile},
        killable,
        notify::Notifier,
        params,
        queue::Queue,
        trace,
        usercopy::Scratch,
        waitqueue::{Deadline, WaitQueue, Wakeup}, //
    },
    knote::{Body, Knote, Saved},
    limit::{Place, User},
    nesting::{Graph, Links},
    state::Take,
    table::Table,
    uapi::*, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    fs::File,
    impl_has_work,
    new_mutex,
    new_spinlock_irq,
    new_work,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    static_lock_class,
    sync::{
        aref::ARef,
        lock::{mutex::MutexBackend, Guard},
        Arc, ArcBorrow, LockedBy, Mutex, SpinLockIrq,
    },
    workqueue::{Work, WorkItem}, //
};

/// What the kqueue's spin lock guards.
pub(crate) struct Ready {
    /// The pending knotes, in the order in which they are reported.
    pub(crate) queue: Queue,
    /// How many a scan has taken off the list and not decided about yet. They count as pending,
    /// so that nobody goes to sleep because another thread is just looking at the only event.
    in_flight: usize,
    /// How many threads sleep in kevent().
    sleepers: usize,
    /// Somebody polls the kqueue, or wants SIGIO.
    watched: bool,
    /// Its last descriptor in its table was closed: no more registrations, no more events.
    closed: bool,
    /// Knotes that are not in the table yet; see [`Kqueue::adopt`].
    adopted: Option<KBox<Adopted>>,
    /// The kqueue's own file.
    file: Option<WeakFile>,
}

/// A knote that was made where the mutex cannot be had, with its source: the head of a list.
struct Adopted {
    knote: Arc<Knote>,
    source: Source,
    next: Option<KBox<Adopted>>,
}

impl Ready {
    fn pending(&self) -> usize {
        self.queue.len() + self.in_flight
    }
}

/// Whom an activation has to wake, once the spin lock is released.
#[derive(Clone, Copy, Default)]
#[must_use]
struct Wake {
    sleeper: bool,
    pollers: bool,
}

/// How many knotes a scan takes off the list at once: one round of the spin lock, one copy to the
/// program.
const BATCH: usize = 16;

/// What becomes of a knote that a scan took off the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing, until its source fires again. It may have been removed.
    Idle,
    /// It is pending still: others are first.
    AtTail,
    /// The same, but for something new.
    Again,
    /// It could not be reported: it is first.
    AtHead,
    /// It waits to be enabled, for what is there already if it is active.
    Disabled { active: bool },
}

/// A knote in a scan's hands.
struct Taken {
    knote: Arc<Knote>,
    next: Next,
}

impl Taken {
    fn new(knote: Arc<Knote>) -> Self {
        Taken {
            knote,
            next: Next::Idle,
        }
    }
}

/// Those that were taken at once, in the order of the list, and what there is to report of them.
/// Empty between scans; it keeps its memory.
pub(crate) struct Batch {
    taken: KVec<Taken>,
    events: KVec<Kevent>,
}

impl Batch {
    fn new() -> Result<Self> {
        Ok(Batch {
            taken: KVec::with_capacity(BATCH, GFP_KERNEL_ACCOUNT)?,
            events: KVec::with_capacity(BATCH, GFP_KERNEL_ACCOUNT)?,
        })
    }

    fn clear(&mut self) {
        self.taken.clear();
        self.events.clear();
    }
}

/// One kqueue.
#[pin_data]
pub(crate) struct Kqueue {
    /// The descriptor table that it belongs to. Nobody else can use it.
    owner: TableId,
    shared: Arc<Shared>,
    /// Who opened it, and pays for its knotes.
    user: User,
    pub(crate) links: LockedBy<Links, Graph>,
    #[pin]
    pub(crate) table: Mutex<Table>,
    #[pin]
    pub(crate) ready: SpinLockIrq<Ready>,
    #[pin]
    sleepers: WaitQueue,
    #[pin]
    notifier: Notifier,
    #[pin]
    sweep: Work<Kqueue>,
}

impl_has_work! {
    impl HasWork<Self> for Kqueue { self.sweep }
}

/// Where a scan puts what it reports.
pub(crate) trait EventSink {
    /// How many more there is room for.
    fn room(&self) -> usize;
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
        let user = shared.users.enter(params::current_uid())?;
        let batch = Batch::new()?;
        let ready = Ready {
            queue: Queue::new(),
            in_flight: 0,
            sleepers: 0,
            watched: false,
            closed: false,
            adopted: None,
            file: Some(file),
        };
        Arc::pin_init(
            pin_init!(Self {
                owner: TableId::current(),
                user,
                links: LockedBy::new(&shared.nesting.graph, Links::new()),
                shared: shared.clone(),
                table <- new_mutex!(Table::new(batch), "kqueue_table"),
                ready <- new_spinlock_irq!(ready, "kqueue_ready"),
                sleepers <- WaitQueue::new(c"kqueue_sleepers", static_lock_class!()),
                notifier <- Notifier::new(),
                sweep <- new_work!("Kqueue::sweep"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// True when the kqueue belongs to `table`.
    pub(crate) fn is_in_table(&self, table: TableId) -> bool {
        self.owner == table
    }

    /// Checks that the current task may use the kqueue.
    ///
    /// # Errors
    ///
    /// `EBADF` if it belongs to another descriptor table (it is not inherited over fork), or its
    /// last descriptor there was closed.
    pub(crate) fn check_usable(&self) -> Result {
        if self.owner != TableId::current() || self.ready.lock().closed {
            return Err(EBADF);
        }
        Ok(())
    }

    /// What all kqueues share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes a place for one more knote.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as many as they may.
    pub(crate) fn take_place(&self) -> Result<Place> {
        self.user.take_place()
    }

    // Activation and wake-up.

    /// Marks a knote active, and queues it if it is due.
    pub(crate) fn activate(&self, knote: ArcBorrow<'_, Knote>) {
        let wake = {
            let mut ready = self.ready.lock();
            if !knote.queueing.access_mut(&mut ready).state.activate() {
                return;
            }
            ready.push(knote, false);
            ready.wake()
        };
        trace::activate(self, &knote);
        self.wake(wake);
    }

    fn wake(&self, wake: Wake) {
        if wake.sleeper {
            self.sleepers.wake_one();
        }
        if wake.pollers {
            self.notifier.notify();
        }
    }

    /// Wakes another sleeper for what is pending: the one that was woken is being killed.
    fn pass_on(&self) {
        let wake = {
            let ready = self.ready.lock();
            ready.pending() > 0 && ready.sleepers > 0
        };
        if wake {
            self.sleepers.wake_one();
        }
    }

    // Removal. All paths end in `remove`; see the crate's documentation.

    /// Takes a knote off the list for good: it is not reported any more.
    ///
    /// Gives the list's reference, to be dropped without the lock.
    pub(crate) fn retire(&self, knote: &Knote) -> Option<Arc<Knote>> {
        let mut ready = self.ready.lock();
        if !knote.queueing.access_mut(&mut ready).state.delete() {
            return None;
        }
        ready.remove(knote)
    }

    /// The kqueue's own file, if it is still open.
    pub(crate) fn file(&self) -> Option<ARef<File>> {
        self.ready.lock().file.as_ref()?.get()
    }

    /// Ends a knote: it is not reported any more, not found any more, and its source is detached.
    fn remove(&self, table: &mut Table, knote: &Arc<Knote>) {
        drop(self.retire(knote));
        table.remove(knote);
        self.detach(table, knote);
    }

    /// Takes a knote's source away. No callback of it comes after that.
    fn detach(&self, table: &mut Table, knote: &Knote) {
        if let Some(source) = knote.body.access_mut(table).source.take() {
            drop(source);
            trace::detach(self, knote);
        }
    }

    /// Ends a knote whose descriptor was closed; in process context, before close(2) returns.
    pub(crate) fn remove_closed(&self, knote: &Arc<Knote>) {
        self.remove(&mut self.table.lock(), knote);
    }

    /// Ends all knotes that were retired for a closed descriptor, but not removed.
    fn sweep(&self) {
        let mut table = self.table.lock();
        // One at a time: removing changes what is walked. Only run when memory was short.
        loop {
            let mut found = None;
            table.for_each(|knote| {
                if found.is_none() && self.is_retired(knote) {
                    found = Some(knote.clone());
                }
            });
            let Some(knote) = found else { return };
            self.remove(&mut table, &knote);
        }
    }

    fn is_retired(&self, knote: &Knote) -> bool {
        let ready = self.ready.lock();
        knote.queueing.access(&ready).state.is_deleting()
    }

    /// Ends all knotes and turns all callers away: the kqueue was closed.
    fn terminate(&self) {
        let mut adopted = {
            let mut ready = self.ready.lock();
            ready.closed = true;
            ready.adopted.take()
        };
        self.sleepers.wake_all();
        while let Some(child) = adopted {
            let Adopted {
                knote,
                source,
                next,
            } = KBox::into_inner(child);
            drop(self.retire(&knote));
            drop(source);
            trace::detach(self, &knote);
            adopted = next;
        }
        {
            let mut table = self.table.lock();
            let mut bucket = 0;
            while let Some(knote) = table.pop(&mut bucket) {
                drop(self.retire(&knote));
                self.detach(&mut table, &knote);
            }
        }
        self.notifier.notify();
    }

    /// `->flush`: a descriptor of the kqueue was closed.
    pub(crate) fn flush(&self, file: &File, closing: &Closing) {
        if closing.is_last_in(self.owner, file) {
            self.terminate();
        }
    }

    /// `->release`: nobody has a reference to the kqueue's file any more.
    pub(crate) fn release(&self) {
        self.ready.lock().file = None;
        self.terminate();
    }

    // Registration.

    /// Takes the mutex, to register or to scan on behalf of a task with that `scratch` memory.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller is being killed.
    pub(crate) fn enter(&self, scratch: Scratch) -> Result<Guard<'_, Table, MutexBackend>> {
        let mut table = killable::lock(&self.table)?;
        table.scratch = scratch;
        Ok(table)
    }

    /// Applies one change (`kqueue_register`).
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unknown filter, or a value that the filter does not take.
    /// - `EBADF`: no such descriptor, or the kqueue was closed.
    /// - `ENOENT`: no such knote, and `EV_ADD` is not given.
    /// - `ENOSPC`: the user has as many knotes as they may.
    /// - `ENOMEM`; and what attaching to the source fails with.
    pub(crate) fn register(
        this: ArcBorrow<'_, Self>,
        table: &mut Table,
        change: &Kevent,
    ) -> Result {
        this.admit(table)?;
        let filter = Filter::from_raw(change.filter).ok_or(EINVAL)?;
        let file = if filter.is_descriptor() {
            Some(fdtable::get(change.ident)?)
        } else {
            None
        };

        let knote = match this.find_live(table, change, filter, file.as_deref()) {
            Some(knote) => {
                if change.has(EV_ADD) || !change.has(EV_DELETE) {
                    Self::modify(table, &knote, change)?;
                    knote
                } else {
                    this.remove(table, &knote);
                    return Ok(());
                }
            }
            None if change.has(EV_ADD) => Self::add(this, table, change, filter, file)?,
            None => return Err(ENOENT),
        };

        let active = knote.evaluate(table).is_some();
        if active || change.has(EV_DISABLE | EV_ENABLE) {
            this.apply(&knote, active, change);
        }
        Ok(())
    }

    /// Marks a knote active if it is, then disables or enables it as the change says.
    fn apply(&self, knote: &Arc<Knote>, active: bool, change: &Kevent) {
        let wake = {
            let mut ready = self.ready.lock();
            let state = &mut knote.queueing.access_mut(&mut ready).state;
            let mut due = active && state.activate();
            if change.has(EV_DISABLE) {
                state.disable();
            }
            if change.has(EV_ENABLE) {
                due |= state.enable();
            }
            if !due {
                return;
            }
            ready.push(knote.as_arc_borrow(), false);
            ready.wake()
        };
        trace::activate(self, knote);
        self.wake(wake);
    }

    /// Takes a knote in that was made, with its source, where the mutex cannot be had: its children
    /// get one in the middle of a process's fork. It can be activated at once; it comes into the
    /// table when somebody next has the mutex, before anything is looked for or reported.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed, `ENOMEM`.
    pub(crate) fn adopt(&self, knote: &Arc<Knote>, source: Source) -> Result {
        let child = Adopted {
            knote: knote.clone(),
            source,
            next: None,
        };
        // Dropped after the lock was released if it is not taken.
        let mut child = KBox::new(child, GFP_ATOMIC | __GFP_NOWARN)?;
        let mut ready = self.ready.lock();
        if ready.closed {
            return Err(EBADF);
        }
        child.next = ready.adopted.take();
        ready.adopted = Some(child);
        drop(ready);
        trace::attach(self, &Kevent::of_knote(knote));
        Ok(())
    }

    /// Takes adopted knotes into the table.
    ///
    /// # Errors
    ///
    /// `EBADF` if the kqueue was closed. `ENOMEM`, then they wait on.
    fn admit(&self, table: &mut Table) -> Result {
        loop {
            {
                let ready = self.ready.lock();
                if ready.closed {
                    return Err(EBADF);
                }
                if ready.adopted.is_none() {
                    return Ok(());
                }
            }
            table.reserve()?;
            let mut ready = self.ready.lock();
            let Some(mut child) = ready.adopted.take() else {
                return Ok(());
            };
            ready.adopted = child.next.take();
            drop(ready);
            let Adopted { knote, source, .. } = KBox::into_inner(child);
            knote.body.access_mut(table).source = Some(source);
            table.insert(knote);
        }
    }

    /// The knote that a change is for. One that was left behind by a closed descriptor ends here.
    fn find_live(
        &self,
        table: &mut Table,
        change: &Kevent,
        filter: Filter,
        file: Option<&File>,
    ) -> Option<Arc<Knote>> {
        let knote = table.find(change.ident, filter)?;
        let (named, outlives) = match &knote.body.access(table).source {
            Some(source) => (source.is_named(change.ident, file), source.outlives_name()),
            None => (false, false),
        };
        if !self.is_retired(&knote) {
            if named || (outlives && !change.has(EV_ADD)) {
                return Some(knote);
            }
            // It stays until it is reported, behind the new one.
            if outlives {
                return None;
            }
        }
        self.remove(table, &knote);
        None
    }

    fn add(
        this: ArcBorrow<'_, Self>,
        table: &mut Table,
        change: &Kevent,
        filter: Filter,
        file: Option<ARef<File>>,
    ) -> Result<Arc<Knote>> {
        table.reserve()?;
        let saved = Saved {
            fflags: change.fflags,
            data: change.data,
        };
        let body = Body::new(change.flags, saved, change.udata);
        let knote = Knote::new(this, change.ident, filter, body, GFP_KERNEL_ACCOUNT)?;
        let attach = Attach {
            knote: &knote,
            change,
            file,
            shared: &this.shared,
        };
        let (source, flags) = match Source::attach(filter, attach) {
            Ok(attached) => attached,
            Err(error) => {
                // It may have fired already.
                drop(this.retire(&knote));
                return Err(error);
            }
        };
        let body = knote.body.access_mut(table);
        body.source = Some(source);
        body.flags |= flags;
        table.insert(knote.clone());
        // A close that came too early for the watch is seen here.
        if !knote.is_bound(table) {
            this.remove(table, &knote);
            return Err(EBADF);
        }
        trace::attach(&this, change);
        Ok(knote)
    }

    fn modify(table: &mut Table, knote: &Knote, change: &Kevent) -> Result {
        let body = knote.body.access_mut(table);
        let Some(source) = &mut body.source else {
            return Err(ENOENT);
        };
        let udata = body.udata;
        source.touch(change, &mut body.saved, &mut body.udata)?;
        if change.has(EV_KEEPUDATA) {
            body.udata = udata;
        }
        Ok(())
    }

    // Collection.

    /// Reports pending knotes until there are no more or the sink is full (`kqueue_scan`).
    ///
    /// A level-triggered knote goes to the tail. No knote is looked at twice: the scan ends at the
    /// first that it has seen. The mutex is held throughout, so another scan begins when all that
    /// this one put back is in its place.
    ///
    /// # Errors
    ///
    /// What the sink fails with. Nothing is lost: the event stays pending, at the head. `EINTR` if
    /// the caller is being killed.
    pub(crate) fn scan(&self, sink: &mut impl EventSink, scratch: Scratch) -> Result {
        let mut table = self.enter(scratch).inspect_err(|_| self.pass_on())?;
        table.scan += 1;
        let mut batch = table.batch.take().ok_or(ENOMEM)?;
        let mut result = Ok(());
        while result.is_ok() && sink.room() > 0 {
            self.take(table.scan, sink.room(), &mut batch);
            if batch.taken.is_empty() {
                break;
            }
            result = self.report(&mut table, &mut batch, sink);
            self.put_back(&batch);
            batch.clear();
        }
        table.batch = Some(batch);
        result
    }

    /// Takes the next knotes to evaluate off the list, at most `room`. They count as in flight from
    /// here on.
    fn take(&self, scan: u64, room: usize, batch: &mut Batch) {
        let mut ready = self.ready.lock();
        while batch.taken.len() < room.min(batch.taken.capacity()) {
            let Some(front) = ready.queue.front() else {
                break;
            };
            if front.queueing.access(&ready).scan == scan {
                break;
            }
            let Some(knote) = ready.queue.pop_front() else {
                break;
            };
            let queueing = knote.queueing.access_mut(&mut ready);
            queueing.scan = scan;
            match queueing.state.take() {
                Take::Evaluate => {
                    let taken = Taken::new(knote);
                    // There is room.
                    if batch.taken.push_within_capacity(taken).is_ok() {
                        ready.in_flight += 1;
                    }
                }
                // The table has a reference too, so this is not the last one.
                Take::Skip => drop(knote),
            }
        }
    }

    /// Reports those of the batch whose condition holds, and decides what becomes of each.
    fn report(&self, table: &mut Table, batch: &mut Batch, sink: &mut impl EventSink) -> Result {
        for taken in batch.taken.iter_mut() {
            if let Some(event) = self.evaluate(table, taken) {
                // There is room.
                if batch.events.push_within_capacity(event).is_ok() {
                    taken.next = Next::AtHead;
                }
            }
        }
        if batch.events.is_empty() {
            return Ok(());
        }
        let (told, result) = sink.report(&batch.events);
        let due = batch
            .taken
            .iter_mut()
            .filter(|taken| taken.next == Next::AtHead);
        for (taken, event) in due.zip(batch.events.iter().take(told)) {
            trace::deliver(self, event);
            taken.next = self.reported(table, &taken.knote, event);
        }
        result
    }

    /// The event of a knote that is still bound to its source, if its condition holds.
    fn evaluate(&self, table: &mut Table, taken: &mut Taken) -> Option<Kevent> {
        let knote = &taken.knote;
        if knote.body.access(table).source.is_none() && self.admit(table).is_err() {
            taken.next = Next::AtTail;
            return None;
        }
        let event = knote.evaluate(table);
        // After that: a close in the meantime is seen too.
        if !knote.is_bound(table) {
            self.remove(table, knote);
            return None;
        }
        event
    }

    /// The event has reached the program.
    fn reported(&self, table: &mut Table, knote: &Arc<Knote>, event: &Kevent) -> Next {
        let more = match &mut knote.body.access_mut(table).source {
            Some(source) => source.reported(event),
            None => false,
        };
        if event.has(EV_ONESHOT) {
            self.remove(table, knote);
            Next::Idle
        } else if event.has(EV_DISPATCH) {
            Next::Disabled { active: more }
        } else if more {
            Next::Again
        } else if !event.has(EV_CLEAR) {
            Next::AtTail
        } else {
            Next::Idle
        }
    }

    /// Does with the knotes of a batch what was decided. One sleeper is woken if some stay pending:
    /// what is true for us is true for others, and each of them wakes the next. Pollers know of
    /// those already; they are told of what is new, and of what should have been reported and was not.
    fn put_back(&self, batch: &Batch) {
        let wake = {
            let mut ready = self.ready.lock();
            let mut wake = Wake::default();
            ready.in_flight -= batch.taken.len();
            for taken in batch.taken.iter() {
                let knote = &taken.knote;
                let state = &mut knote.queueing.access_mut(&mut ready).state;
                let due = match taken.next {
                    Next::Idle | Next::AtHead => false,
                    Next::AtTail | Next::Again => state.activate(),
                    Next::Disabled { active } => {
                        state.disable();
                        active && state.activate()
                    }
                };
                if due {
                    ready.push(knote.as_arc_borrow(), false);
                }
                match taken.next {
                    Next::Again => wake = ready.wake(),
                    Next::AtTail => wake.sleeper |= ready.sleepers > 0,
                    Next::Idle | Next::AtHead | Next::Disabled { .. } => {}
                }
            }
            let unreported = batch.taken.iter().rev();
            for taken in unreported.filter(|taken| taken.next == Next::AtHead) {
                let knote = &taken.knote;
                if knote.queueing.access_mut(&mut ready).state.activate() {
                    ready.push(knote.as_arc_borrow(), true);
                    wake = ready.wake();
                }
            }
            wake
        };
        self.wake(wake);
    }

    /// Sleeps until something is pending or the kqueue is closed.
    pub(crate) fn wait(&self, deadline: Deadline) -> Wakeup {
        self.ready.lock().sleepers += 1;
        let wakeup = self.sleepers.wait(deadline, || {
            let ready = self.ready.lock();
            ready.pending() > 0 || ready.closed
        });
        self.ready.lock().sleepers -= 1;
        wakeup
    }

    // The kqueue as a file.

    /// The number of pending knotes, and whether the kqueue was closed; whoever asks will be
    /// notified of the next one.
    pub(crate) fn poll_state(&self) -> (usize, bool) {
        let mut ready = self.ready.lock();
        ready.watched = true;
        (ready.pending(), ready.closed)
    }

    /// Where pollers and SIGIO listeners are.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// One line for the kqueue, and one for each knote.
    pub(crate) fn show(&self, m: &SeqFile) {
        let Ok(mut table) = killable::lock(&self.table) else {
            return;
        };
        // What cannot be admitted is not shown.
        let _ = self.admit(&mut table);
        let pending = self.ready.lock().pending();
        seq_print!(m, "kqueue knotes: {} pending: {}\n", table.len(), pending);
        table.for_each(|knote| {
            let state = {
                let ready = self.ready.lock();
                knote.queueing.access(&ready).state.name()
            };
            let body = knote.body.access(&table);
            seq_print!(
                m,
                "knote filter: {} ident: {} flags: {:x} fflags: {:x} data: {} udata: {:x} \
                 state: {}\n",
                knote.filter().raw(),
                knote.ident(),
                body.flags,
                body.saved.fflags,
                body.saved.data,
                body.udata,
                state,
            );
        });
    }
}

impl Ready {
    fn wake(&self) -> Wake {
        Wake {
            sleeper: self.sleepers > 0,
            pollers: self.watched,
        }
    }
}

impl WorkItem for Kqueue {
    type Pointer = Arc<Kqueue>;

    fn run(this: Arc<Kqueue>) {
        this.sweep();
    }
}
