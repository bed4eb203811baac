// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_PROC` reports that a process forks, executes a program or exits. `EVFILT_PROCDESC`
//! reports the exit of the process of a pidfd.
//!
//! # BSD says
//!
//! See `filt_proc`. `NOTE_FORK`, `NOTE_EXEC` and `NOTE_EXIT` are reported if they are selected.
//! Notes that occur before the report are reported together. `EV_CLEAR` is always set. The exit of
//! the process ends the knote. It is reported with `EV_EOF`, `EV_NODATA` and `EV_ONESHOT`, even if
//! `NOTE_EXIT` is not selected, and `data` is the wait status. With `NOTE_TRACK`, a child gets a
//! knote like that of its parent before the child runs. The first event of that knote is
//! `NOTE_CHILD`, and its `data` is the process ID of the parent. If the knote of the child could
//! not be made, the knote of the parent reports `NOTE_TRACKERR`.
//!
//! FreeBSD has process descriptors, which `EVFILT_PROCDESC` watches with `NOTE_EXIT`. A pidfd is
//! such a descriptor.
//!
//! # Linux source
//!
//! An exit is a wake-up of the wait queue that pidfds are polled on. So a process whose exit was
//! reported can be waited for. Forks and execs are reported by tracepoints. The fork tracepoint
//! must not wait for the mutex of the kqueue. It makes the knote of the child, attaches it, and
//! passes it to the kqueue. A task that holds the mutex later inserts the knote into the table
//! ([`Kqueue::defer_knote`](crate::engine::kqueue::Kqueue::defer_knote)).
//!
//! The permission is checked at each event ([`Observer`]).
//! After a process has executed a set-user-ID program, its events are no longer reported to
//! watchers that registered before.
//!
//! # Where we differ
//!
//! `NOTE_CHILD` is a separate event, as in FreeBSD, because `data` cannot contain both the process
//! ID of the parent and the wait status. If the process is a zombie at registration and `NOTE_EXIT`
//! is not selected, the registration fails with `ESRCH`.

use super::check_notes;
use crate::{
    engine::{
        close,
        filter_ops::{AttachArgs, Attached, FilterOps, Report},
        knote::{Knote, KnoteInner, Layout, LockedKnote, UnderMutex},
        kqueue::Kqueue,
        object_watches::{ObjectCharge, ObjectKind},
    },
    generated::kqueue_event,
    sys::{
        lock::raw_spin::IrqLock,
        memory::{
            erased_box::ErasedBox, memcg::MemcgRef, slab::AllocMode, user_scratch::UserScratch,
        },
        probe::{tracepoint::Tracepoint, watches::Watch},
        process::{
            exit::{ExitHandle, ExitTarget, ExitWatch},
            permission::{Observer, Subject},
            pid::{self, Exec, ExecTarget, ExitState, Fork, ForkTarget, ProcessState},
        },
    },
    uapi::*, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{aref::ARef, Arc, ArcBorrow}, //
};

/// All notes of `EVFILT_PROC`.
const NOTES: u32 = NOTE_EXIT | NOTE_FORK | NOTE_EXEC | NOTE_TRACK | NOTE_TRACKERR | NOTE_CHILD;

/// All notes of `EVFILT_PROCDESC`.
const PROCDESC_NOTES: u32 = NOTE_EXIT;

/// What a knote selects, and what has been recorded of the process.
struct Record {
    /// The notes that the program selected.
    wanted: u32,
    udata: u64,
    /// The memory cgroup that the knotes of children are charged to, once `NOTE_TRACK` was
    /// selected.
    memcg: Option<Arc<MemcgRef>>,
    /// The notes that occurred and were not collected.
    fired: u32,
    /// `NOTE_TRACKERR` was recorded because the watcher may no longer observe the process.
    denied: bool,
    /// Set once the process has exited: true if `NOTE_EXIT` was selected at that time.
    exited: Option<bool>,
    /// Set once the exit can be reported: the wait status, or 0 if the watcher may not know it.
    status: Option<i32>,
}

impl Record {
    /// Records the exit of the process. True if the exit can be reported now and could not before.
    fn exit(&mut self, end: ExitState) -> bool {
        let wanted = self.wanted & NOTE_EXIT != 0;
        let wanted_exit = *self.exited.get_or_insert(wanted);
        if !end.is_waitable || self.status.is_some() {
            return false;
        }
        if end.may_see_status {
            self.status = Some(end.status);
            self.fired |= if wanted_exit { NOTE_EXIT } else { 0 };
        } else {
            self.status = Some(0);
        }
        true
    }

    /// Records a note. True if the note is selected and was not pending.
    fn note(&mut self, note: u32) -> bool {
        let before = self.fired;
        self.fired |= note & (self.wanted | NOTE_TRACKERR);
        self.fired != before
    }
}

/// What a program requests: the notes, `udata`, and the memory cgroup that the
/// knotes of children are charged to.
type Selection = (u32, u64, Option<Arc<MemcgRef>>);

/// The memory cgroup that the knotes of children are charged to, if `NOTE_TRACK` is selected. It is
/// that of the current task.
fn memcg(fflags: u32) -> Result<Option<Arc<MemcgRef>>> {
    if fflags & NOTE_TRACK == 0 {
        return Ok(None);
    }
    Ok(Some(Arc::new(MemcgRef::current(), GFP_KERNEL_ACCOUNT)?))
}

/// A watched process. The exit queue and the tracepoints share this object.
pub(crate) type ProcessWatcher = ExitWatch<Watcher>;

/// The watcher of a process.
#[pin_data]
pub(crate) struct Watcher {
    knote: ARef<Knote>,
    /// The flags of the knote, which the knotes of children inherit.
    flags: u16,
    observer: Observer,
    #[pin]
    record: IrqLock<Record>,
}

impl Watcher {
    fn new<'a>(
        knote: &'a Knote,
        flags: u16,
        observer: Observer,
        (wanted, udata, memcg): Selection,
    ) -> impl PinInit<Self> + 'a {
        let record = Record {
            wanted,
            udata,
            memcg,
            fired: 0,
            denied: false,
            exited: None,
            status: None,
        };
        pin_init!(Self {
            knote: knote.into(),
            flags,
            observer,
            record <- IrqLock::new(record, c"kqueue_process", static_lock_class!()),
        })
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Records a note, and activates the knote if the note is new.
    fn fire(&self, note: u32) {
        let is_new = self.record.lock().note(note);
        if is_new {
            self.knote.activate();
        }
    }

    /// An event occurred that the watcher may not observe. A watcher with `NOTE_TRACK` gets
    /// `NOTE_TRACKERR` once.
    fn note_denied(&self) {
        let is_new = {
            let mut record = self.record.lock();
            let first = record.wanted & NOTE_TRACK != 0 && !record.denied;
            record.denied |= first;
            first && record.note(NOTE_TRACKERR)
        };
        if is_new {
            self.knote.activate();
        }
    }

    /// Makes a knote for a child, like that of its parent.
    fn track(&self, child: &pid::Process, (wanted, udata, memcg): Selection) -> Result {
        // The memory is charged to the task that selected `NOTE_TRACK`, and not to the task that
        // forks.
        let charged = memcg.clone();
        let _charged = charged.as_deref().map(MemcgRef::activate);
        let alloc = AllocMode::NoSleep.flags();
        let ident = child.pid_in(self.observer.namespace()).ok_or(ESRCH)?;
        let kqueue = self.knote.kqueue();
        let inner = KnoteInner::new(&kqueue_event {
            flags: self.flags,
            fflags: wanted,
            udata,
            ..Default::default()
        });
        let knote = Kqueue::new_knote(
            kqueue,
            ident,
            self.knote.filter(),
            Layout::of(self.knote.filter()),
            || inner,
            AllocMode::NoSleep,
        )?;
        let watcher = Watcher::new(
            &knote,
            self.flags,
            self.observer.clone(),
            (wanted, udata, memcg),
        );
        let exit = ExitHandle::new(child.clone(), watcher, alloc)?;
        let shared = kqueue.shared();
        let fork_exec = ForkExecWatches {
            _charge: charge_watches(&kqueue, child, AllocMode::NoSleep)?,
            fork: wants_forks(wanted)
                .then(|| shared.probes.forks.watch_atomic(child.id(), exit.watch()))
                .transpose()?,
            exec: wants_execs(wanted)
                .then(|| shared.probes.execs.watch_atomic(child.id(), exit.watch()))
                .transpose()?,
        };
        let attachment = Process {
            fork_exec: Some(KBox::new(fork_exec, alloc)?),
            exit,
            parent: Some(self.knote.ident() as i64),
            fired: 0,
        };
        kqueue.defer_knote(&knote, ErasedBox::of(attachment, alloc)?)?;
        knote.activate();
        Ok(())
    }
}

impl ExitTarget for ProcessWatcher {
    /// The queue is also woken when one of several threads exits.
    fn wake(&self) {
        let ProcessState::Exited(end) = self.process().state(self.observer()) else {
            return;
        };
        let is_new = self.record.lock().exit(end);
        if is_new {
            self.knote.activate();
        }
    }
}

impl ForkTarget for ProcessWatcher {
    fn forked(this: &Arc<Self>, parent: Subject<'_>, child: &pid::Process, first: Subject<'_>) {
        if !this.observer().may_observe(parent) {
            return this.note_denied();
        }
        let selection = {
            let record = this.record.lock();
            (record.wanted, record.udata, record.memcg.clone())
        };
        if selection.0 & NOTE_TRACK != 0 {
            let may_track = this.observer().may_observe(first);
            if !may_track || this.track(child, selection).is_err() {
                this.fire(NOTE_TRACKERR);
            }
        }
        this.fire(NOTE_FORK);
    }
}

impl ExecTarget for ProcessWatcher {
    fn executed(this: ArcBorrow<'_, Self>, task: Subject<'_>) {
        if !this.observer().may_observe(task) {
            return this.note_denied();
        }
        this.record.lock().denied = false;
        this.fire(NOTE_EXEC);
    }
}

/// Reserves a place for one more watch of what a process does. The exit needs none. It is reported
/// by the wait queue that all pollers of a pidfd use, and each process of a server may wait for the
/// exit of the first one.
fn charge_watches(
    kqueue: &Kqueue,
    process: &pid::Process,
    mode: AllocMode,
) -> Result<ObjectCharge> {
    let object = (process.id(), 0);
    kqueue
        .user()
        .charge_watch_with(ObjectKind::Process, object, mode.flags())
}

fn wants_forks(fflags: u32) -> bool {
    fflags & (NOTE_FORK | NOTE_TRACK) != 0
}

/// A knote with `NOTE_TRACK` also watches execs, because an exec may end the permission to watch.
fn wants_execs(fflags: u32) -> bool {
    fflags & (NOTE_EXEC | NOTE_TRACK) != 0
}

/// The watches of a process besides its exit. Most knotes watch only the exit.
struct ForkExecWatches {
    fork: Option<Watch<Tracepoint<Fork<ProcessWatcher>>>>,
    exec: Option<Watch<Tracepoint<Exec<ProcessWatcher>>>>,
    _charge: ObjectCharge,
}

/// A watched process.
pub(crate) struct Process {
    exit: ExitHandle<Watcher>,
    fork_exec: Option<KBox<ForkExecWatches>>,
    /// The process ID of the parent, if this is the knote of a tracked child and `NOTE_CHILD` was
    /// not reported yet.
    parent: Option<i64>,
    /// The notes that were collected and not reported.
    fired: u32,
}

impl Process {
    /// # Errors
    ///
    /// `ESRCH` if there is no such process, or if it is a zombie and `NOTE_EXIT` is not selected;
    /// `EINVAL` for an unknown note; `EACCES` if the caller may not watch the process; `ENOSPC` if
    /// the user has as many watches of it as the limit allows; `ENOMEM`.
    fn from_pid(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Self> {
        check_notes(args.change, NOTES)?;
        let process = pid::Process::find(args.change.ident).ok_or(ESRCH)?;
        Self::new(args.knote, args.change, process, under_mutex, true)
    }

    /// # Errors
    ///
    /// `EINVAL` for a descriptor that is not a pidfd, and for a note that the filter does not have;
    /// `ESRCH` for the pidfd of a thread, if the process was reaped, or if it is a zombie and
    /// `NOTE_EXIT` is not selected; `EBADF` if there is no file; `ENOMEM`.
    fn from_pidfd(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Self> {
        check_notes(args.change, PROCDESC_NOTES)?;
        let file = args.file.ok_or(EBADF)?;
        let process = pid::Process::of_pidfd(&file).ok_or(EINVAL)?;
        close::bind(args.knote, file, args.fd_table, under_mutex)?;
        // The owner of a pidfd may know of the exit, as poll(2) reports it. The status is reported
        // only to a watcher that could wait for the process or inspect it.
        Self::new(args.knote, args.change, process, under_mutex, false)
    }

    /// Watches a process. If `is_checked`, the caller must have permission to watch it.
    #[inline]
    fn new(
        knote: &Knote,
        change: &Kevent,
        process: pid::Process,
        under_mutex: &mut UnderMutex,
        is_checked: bool,
    ) -> Result<Self> {
        let observer = Observer::current(&process, &mut under_mutex.watcher)?;
        let fflags = change.fflags;
        let selection = (fflags, change.udata, memcg(fflags)?);
        let watcher = Watcher::new(knote, change.flags | EV_CLEAR, observer, selection);
        let exit = ExitHandle::new(process, watcher, GFP_KERNEL_ACCOUNT)?;
        let watcher = exit.watch();
        let (process, observer) = (watcher.process(), watcher.observer());
        let only_exit = !wants_forks(fflags) && !wants_execs(fflags);
        // An exit from now on is reported by the queue. A process that exited before may be a
        // zombie.
        let state = if is_checked {
            let (may_observe, state) = observer.check_access(process, only_exit)?;
            if !may_observe {
                watcher.note_denied();
            }
            state
        } else {
            process.state(observer)
        };
        match state {
            ProcessState::Running => {}
            ProcessState::Exited(end) if fflags & NOTE_EXIT != 0 => {
                watcher.record.lock().exit(end);
            }
            ProcessState::Exited(_) | ProcessState::Gone => return Err(ESRCH),
        }
        let mut this = Process {
            exit,
            fork_exec: None,
            parent: None,
            fired: 0,
        };
        if !only_exit {
            this.watch(knote, fflags)?;
        }
        Ok(this)
    }

    /// Registers the watches that `fflags` needs, and drops the others.
    fn watch(&mut self, knote: &Knote, fflags: u32) -> Result {
        let (forks, execs) = (wants_forks(fflags), wants_execs(fflags));
        if !forks && !execs {
            self.fork_exec = None;
            return Ok(());
        }
        let kqueue = knote.kqueue();
        let shared = kqueue.shared();
        let watcher = self.exit.watch();
        let id = watcher.process().id();
        let fork_exec = match &mut self.fork_exec {
            Some(fork_exec) => fork_exec,
            fork_exec => fork_exec.insert(KBox::new(
                ForkExecWatches {
                    fork: None,
                    exec: None,
                    _charge: charge_watches(&kqueue, watcher.process(), AllocMode::MaySleep)?,
                },
                GFP_KERNEL_ACCOUNT,
            )?),
        };
        if forks && fork_exec.fork.is_none() {
            fork_exec.fork = Some(shared.probes.forks.watch(id, watcher)?);
        }
        if execs && fork_exec.exec.is_none() {
            fork_exec.exec = Some(shared.probes.execs.watch(id, watcher)?);
        }
        if !forks {
            fork_exec.fork = None;
        }
        if !execs {
            fork_exec.exec = None;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// `EINVAL` for a note that is not in `notes`; `ENOSPC`, `ENOMEM`.
    fn modify(&mut self, change: &Kevent, notes: u32) -> Result {
        check_notes(change, notes)?;
        let watcher = self.exit.watch().clone();
        // A reference that is not needed is dropped after the lock was released.
        let mut memcg = memcg(change.fflags)?;
        self.watch(&watcher.knote, change.fflags)?;
        let mut record = watcher.record.lock();
        record.wanted = change.fflags;
        // The memory cgroup of the first registration stays.
        if record.memcg.is_none() {
            record.memcg = memcg.take();
        }
        if !change.has(EV_KEEPUDATA) {
            record.udata = change.udata;
        }
        Ok(())
    }

    /// True if `ident` is still the process ID of this process, and not of another one.
    fn has_pid(&self, ident: u64) -> bool {
        self.exit.watch().process().has_pid(ident)
    }

    /// The report of what has occurred and was not reported.
    fn evaluate(&mut self) -> Option<Report> {
        if let Some(parent) = self.parent {
            return Some(Report {
                fflags: NOTE_CHILD,
                data: parent,
                ..Report::default()
            });
        }
        let mut record = self.exit.watch().record.lock();
        self.fired |= core::mem::take(&mut record.fired);
        match record.status {
            Some(status) => Some(Report {
                flags: EV_EOF | EV_NODATA | EV_ONESHOT,
                fflags: self.fired,
                data: status.into(),
            }),
            None if self.fired != 0 => Some(Report {
                fflags: self.fired,
                ..Report::default()
            }),
            None => None,
        }
    }

    /// Resets the state after an event was delivered. True if there is more to report.
    fn finish_delivery(&mut self) -> bool {
        if self.parent.take().is_some() {
            return self.evaluate().is_some();
        }
        self.fired = 0;
        false
    }
}

/// `f_touch` of both filters.
#[inline(never)]
fn touch(locked: LockedKnote<'_>, change: &Kevent, notes: u32) -> Result {
    let this = locked.inner.attachment_mut::<Process>().ok_or(ENOENT)?;
    this.modify(change, notes)?;
    locked.inner.set_params(change);
    Ok(())
}

/// `f_event` of both filters.
#[inline(never)]
fn event(locked: LockedKnote<'_>) -> Option<Report> {
    locked.inner.attachment_mut::<Process>()?.evaluate()
}

/// `delivered` of both filters.
fn delivered(locked: LockedKnote<'_>) -> bool {
    let this = locked.inner.attachment_mut::<Process>();
    this.is_some_and(Process::finish_delivery)
}

/// `EVFILT_PROC`.
pub(super) struct Proc;

impl FilterOps for Proc {
    const STAYS_AFTER_PID_REUSE: bool = true;
    const HANDLES_DELIVERY: bool = true;
    const CHARGE_UNITS: u8 = 4;

    /// # Errors
    ///
    /// See [`Process::from_pid`].
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        Attached::with(Process::from_pid(args, under_mutex)?, EV_CLEAR)
    }

    /// # Errors
    ///
    /// See [`Process::modify`].
    fn touch(locked: LockedKnote<'_>, change: &Kevent) -> Result {
        touch(locked, change, NOTES)
    }

    fn event(locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        event(locked)
    }

    fn delivered(locked: LockedKnote<'_>, _: &Kevent) -> bool {
        delivered(locked)
    }

    #[inline]
    fn matches_ident(inner: &KnoteInner, ident: u64) -> bool {
        let Some(attachment) = &inner.attachment else {
            return true;
        };
        let process = attachment.as_ref::<Process>();
        process.is_some_and(|process| process.has_pid(ident))
    }

    fn watches_same(inner: &KnoteInner, other: &KnoteInner) -> bool {
        let process = |inner: &KnoteInner| {
            let attachment = inner.attachment.as_ref()?.as_ref::<Process>()?;
            Some(attachment.exit.watch().process().id())
        };
        process(inner) == process(other)
    }
}

/// `EVFILT_PROCDESC`.
pub(super) struct Procdesc;

impl FilterOps for Procdesc {
    const IS_DESCRIPTOR: bool = true;
    const HANDLES_DELIVERY: bool = true;
    const CHARGE_UNITS: u8 = 4;

    /// # Errors
    ///
    /// See [`Process::from_pidfd`].
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        Attached::with(Process::from_pidfd(args, under_mutex)?, EV_CLEAR)
    }

    /// # Errors
    ///
    /// See [`Process::modify`].
    fn touch(locked: LockedKnote<'_>, change: &Kevent) -> Result {
        touch(locked, change, PROCDESC_NOTES)
    }

    fn event(locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        event(locked)
    }

    fn delivered(locked: LockedKnote<'_>, _: &Kevent) -> bool {
        delivered(locked)
    }
}
