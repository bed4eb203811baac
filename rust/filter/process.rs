// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_PROC`: a process forks, executes a program, exits. `EVFILT_PROCDESC`: that of a pidfd exits.
//!
//! # BSD says
//!
//! `filt_proc`: `NOTE_FORK`, `NOTE_EXEC` and `NOTE_EXIT` are reported when they were asked for,
//! together if they came together; `EV_CLEAR` is always set. The end of the process ends the knote:
//! it is reported with `EV_EOF`, `EV_NODATA` and `EV_ONESHOT`, even without `NOTE_EXIT`, `data`
//! being the wait status. With `NOTE_TRACK` a child gets a knote like its parent's, before it runs;
//! that reports `NOTE_CHILD` first, `data` being the parent's number. If it could not be made the
//! parent reports `NOTE_TRACKERR`.
//!
//! FreeBSD has process descriptors, and for these `EVFILT_PROCDESC` with `NOTE_EXIT`. A pidfd is such a descriptor.
//!
//! # Linux source
//!
//! The exit: the wait queue that pidfds are polled on, so that a process that was reported can be
//! waited for. Forks and execs: tracepoints. A fork may not wait for the kqueue's mutex: the
//! child's knote is made complete with its source, and handed to the kqueue, which takes it into
//! its table when somebody next has the mutex ([`Kqueue::adopt`](crate::engine::kqueue::Kqueue::adopt)).
//!
//! Who may be told what is asked anew at each event
//! ([`Observer`](crate::sys::process::observer::Observer)): what a process does after it has executed a
//! set-user-ID program is no longer for those who began to watch it before.
//!
//! # Where we differ
//!
//! `NOTE_CHILD` is an event of its own, as in FreeBSD: the parent's number and the wait status do
//! not fit into one `data`. A process that already is a zombie is `ESRCH` without `NOTE_EXIT`.

use super::check_notes;
use crate::{
    engine::{
        close,
        knote::{Bodies, Body, Knote},
        knote_memory::Parts,
        kqueue::Kqueue,
        objects::{ObjectKind, ObjectPlace},
        ops::{Attach, Attached, FilterOps, Report},
    },
    generated::kqueue_event,
    sys::{
        memory::{erased::Erased, memcg::Payer, scratch::Scratch, slab::Memory},
        probe::{hook::Watch, tracepoint::Tracepoint},
        process::{
            exit::{Exit, ExitWatch, Wake},
            observer::{Observer, Subject},
            pid::{self, End, Exec, Execs, Fork, Forks, Life},
        },
    },
    uapi::*, //
};
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow, SpinLockIrq}, //
};

/// All notes that there are.
const NOTES: u32 = NOTE_EXIT | NOTE_FORK | NOTE_EXEC | NOTE_TRACK | NOTE_TRACKERR | NOTE_CHILD;

/// Those that a process descriptor has.
const NOTES_OF_DESCRIPTORS: u32 = NOTE_EXIT;

/// What is known of a process, and asked of it.
struct Heard {
    /// What the program asked for.
    wanted: u32,
    udata: u64,
    /// Who is charged for the knotes of children, once they were asked for.
    payer: Option<Arc<Payer>>,
    /// What has happened of that and was not collected.
    fired: u32,
    /// `NOTE_TRACKERR` was told because what the process does is no longer ours to know.
    lost: bool,
    /// It has exited; whether that was asked for then.
    exited: Option<bool>,
    /// The exit can be told: the wait status, or 0 if that is not ours to know.
    status: Option<i32>,
}

impl Heard {
    /// The process has exited. True if that can be told, and could not before.
    fn exit(&mut self, end: End) -> bool {
        let wanted = self.wanted & NOTE_EXIT != 0;
        let asked = *self.exited.get_or_insert(wanted);
        if !end.can_be_waited_for || self.status.is_some() {
            return false;
        }
        if end.may_be_known {
            self.status = Some(end.status);
            self.fired |= if asked { NOTE_EXIT } else { 0 };
        } else {
            self.status = Some(0);
        }
        true
    }

    /// Something has happened. True if that is to be told, and was not waiting to be.
    fn note(&mut self, note: u32) -> bool {
        let before = self.fired;
        self.fired |= note & (self.wanted | NOTE_TRACKERR);
        self.fired != before
    }
}

/// What a program asks for: the events, its own data, and who is charged for the knotes of children.
type Asked = (u32, u64, Option<Arc<Payer>>);

/// Who is to be charged if children are asked for: the current task.
fn payer(fflags: u32) -> Result<Option<Arc<Payer>>> {
    if fflags & NOTE_TRACK == 0 {
        return Ok(None);
    }
    Ok(Some(Arc::new(Payer::current(), GFP_KERNEL_ACCOUNT)?))
}

/// A process that is watched; shared with whoever hears of it.
pub(crate) type ProcessWatcher = ExitWatch<Watcher>;

/// Who watches a process.
#[pin_data]
pub(crate) struct Watcher {
    knote: ARef<Knote>,
    /// The knote's flags, for its children.
    flags: u16,
    observer: Observer,
    #[pin]
    heard: SpinLockIrq<Heard>,
}

impl Watcher {
    fn new<'a>(
        knote: &'a Knote,
        flags: u16,
        observer: Observer,
        (wanted, udata, payer): Asked,
    ) -> impl PinInit<Self> + 'a {
        let heard = Heard {
            wanted,
            udata,
            payer,
            fired: 0,
            lost: false,
            exited: None,
            status: None,
        };
        pin_init!(Self {
            knote: knote.into(),
            flags,
            observer,
            heard <- new_spinlock_irq!(heard, "kqueue_process"),
        })
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Something has happened.
    fn fire(&self, note: u32) {
        let news = self.heard.lock().note(note);
        if news {
            self.knote.activate();
        }
    }

    /// Something has happened that is no longer ours to know. Of that a program that tracks is
    /// told, once.
    fn lose(&self) {
        let news = {
            let mut heard = self.heard.lock();
            let first = heard.wanted & NOTE_TRACK != 0 && !heard.lost;
            heard.lost |= first;
            first && heard.note(NOTE_TRACKERR)
        };
        if news {
            self.knote.activate();
        }
    }

    /// Gives a child a knote, as its parent has one.
    fn track(&self, child: &pid::Process, (wanted, udata, payer): Asked) -> Result {
        // Charged to whoever asked for it, and not to who forks.
        let charged = payer.clone();
        let _charged = charged.as_deref().map(Payer::pays);
        let alloc = Memory::Atomic.flags();
        let ident = child.number_in(self.observer.namespace()).ok_or(ESRCH)?;
        let kqueue = self.knote.kqueue();
        let body = Body::new(&kqueue_event {
            flags: self.flags,
            fflags: wanted,
            udata,
            ..Default::default()
        });
        let knote = Kqueue::new_knote(kqueue, ident, self.knote.filter(), || body, Memory::Atomic)?;
        let watcher = Watcher::new(
            &knote,
            self.flags,
            self.observer.clone(),
            (wanted, udata, payer),
        );
        let exit = Exit::new(child.clone(), watcher, alloc)?;
        let shared = kqueue.shared();
        let deeds = Deeds {
            _place: place(&kqueue, child, Memory::Atomic)?,
            fork: wants_forks(wanted)
                .then(|| shared.hooks.forks.watch_too(child.id(), exit.watch()))
                .transpose()?,
            exec: wants_execs(wanted)
                .then(|| shared.hooks.execs.watch_too(child.id(), exit.watch()))
                .transpose()?,
        };
        let source = Process {
            deeds: Some(KBox::new(deeds, alloc)?),
            exit,
            parent: Some(self.knote.ident() as i64),
            fired: 0,
        };
        kqueue.adopt(&knote, Erased::of(source, alloc)?)?;
        knote.activate();
        Ok(())
    }
}

impl Wake for ProcessWatcher {
    /// The queue is also woken when one of several threads is gone.
    fn wake(&self) {
        let Life::Exited(end) = self.process().life(self.observer()) else {
            return;
        };
        let news = self.heard.lock().exit(end);
        if news {
            self.knote.activate();
        }
    }
}

impl Forks for ProcessWatcher {
    fn forked(this: &Arc<Self>, parent: Subject<'_>, child: &pid::Process, first: Subject<'_>) {
        if !this.observer().may_look(parent) {
            return this.lose();
        }
        let asked = {
            let heard = this.heard.lock();
            (heard.wanted, heard.udata, heard.payer.clone())
        };
        if asked.0 & NOTE_TRACK != 0 {
            let may_track = this.observer().may_look(first);
            if !may_track || this.track(child, asked).is_err() {
                this.fire(NOTE_TRACKERR);
            }
        }
        this.fire(NOTE_FORK);
    }
}

impl Execs for ProcessWatcher {
    fn executed(this: ArcBorrow<'_, Self>, task: Subject<'_>) {
        if !this.observer().may_look(task) {
            return this.lose();
        }
        this.heard.lock().lost = false;
        this.fire(NOTE_EXEC);
    }
}

/// A place for one more who hears of what the process does. (Its end is told to all who ask, as it is
/// to all who poll its pidfd: each process of a server may wait for that of the first.)
fn place(kqueue: &Kqueue, process: &pid::Process, memory: Memory) -> Result<ObjectPlace> {
    let object = (process.id(), 0);
    kqueue
        .user()
        .watch_object_with(ObjectKind::Process, object, memory.flags())
}

fn wants_forks(fflags: u32) -> bool {
    fflags & (NOTE_FORK | NOTE_TRACK) != 0
}

/// Who tracks hears there of a program that is not theirs to watch.
fn wants_execs(fflags: u32) -> bool {
    fflags & (NOTE_EXEC | NOTE_TRACK) != 0
}

/// What is heard of a process besides its end. Most are watched for that alone.
struct Deeds {
    fork: Option<Watch<Tracepoint<Fork<ProcessWatcher>>>>,
    exec: Option<Watch<Tracepoint<Exec<ProcessWatcher>>>>,
    _place: ObjectPlace,
}

/// A watched process.
pub(crate) struct Process {
    exit: Exit<Watcher>,
    deeds: Option<KBox<Deeds>>,
    /// Of a child that was tracked, until that is reported: its parent's number.
    parent: Option<i64>,
    /// What has happened and was not reported.
    fired: u32,
}

impl Process {
    /// # Errors
    ///
    /// `ESRCH` if there is no such process, or it is a zombie and `NOTE_EXIT` is not asked for;
    /// `EINVAL` for a note that is unknown; `EACCES` if it is not the caller's to watch; `ENOSPC` if
    /// the user has as many watches of it as they may; `ENOMEM`.
    fn of_number(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Self> {
        check_notes(attach.change, NOTES)?;
        let process = pid::Process::find(attach.change.ident).ok_or(ESRCH)?;
        Self::new(attach.knote, attach.change, process, bodies, true)
    }

    /// # Errors
    ///
    /// `EINVAL` for a descriptor that is no pidfd, and for a note that such a one does not have;
    /// `ESRCH` for one of a thread, if nothing is left of the process, or it is a zombie and
    /// `NOTE_EXIT` is not asked for; `EBADF` if there is no file; `ENOMEM`.
    fn of_descriptor(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Self> {
        check_notes(attach.change, NOTES_OF_DESCRIPTORS)?;
        let file = attach.file.ok_or(EBADF)?;
        let process = pid::Process::of_pidfd(&file).ok_or(EINVAL)?;
        close::bind(attach.knote, file, attach.table, bodies)?;
        // Whoever has a pidfd may know of the end, as poll(2) tells it; of the status, who may wait
        // or look.
        Self::new(attach.knote, attach.change, process, bodies, false)
    }

    /// A watch, of a process that is the caller's to watch if that `is_checked`.
    #[inline]
    fn new(
        knote: &Knote,
        change: &Kevent,
        process: pid::Process,
        bodies: &mut Bodies,
        is_checked: bool,
    ) -> Result<Self> {
        let observer = Observer::current(&process, &mut bodies.watcher)?;
        let fflags = change.fflags;
        let asked = (fflags, change.udata, payer(fflags)?);
        let watcher = Watcher::new(knote, change.flags | EV_CLEAR, observer, asked);
        let exit = Exit::new(process, watcher, GFP_KERNEL_ACCOUNT)?;
        let watcher = exit.watch();
        let (process, observer) = (watcher.process(), watcher.observer());
        let only_end = !wants_forks(fflags) && !wants_execs(fflags);
        // Whoever exits from here on is heard of; who did before, may be a zombie.
        let life = if is_checked {
            let (may_look, life) = process.check_access(observer, only_end)?;
            if !may_look {
                watcher.lose();
            }
            life
        } else {
            process.life(observer)
        };
        match life {
            Life::Running => {}
            Life::Exited(end) if fflags & NOTE_EXIT != 0 => {
                watcher.heard.lock().exit(end);
            }
            Life::Exited(_) | Life::Gone => return Err(ESRCH),
        }
        let mut this = Process {
            exit,
            deeds: None,
            parent: None,
            fired: 0,
        };
        if !only_end {
            this.watch(knote, fflags)?;
        }
        Ok(this)
    }

    /// Has as much heard as `fflags` asks for.
    fn watch(&mut self, knote: &Knote, fflags: u32) -> Result {
        let (forks, execs) = (wants_forks(fflags), wants_execs(fflags));
        if !forks && !execs {
            self.deeds = None;
            return Ok(());
        }
        let kqueue = knote.kqueue();
        let shared = kqueue.shared();
        let watcher = self.exit.watch();
        let id = watcher.process().id();
        let deeds = match &mut self.deeds {
            Some(deeds) => deeds,
            deeds => deeds.insert(KBox::new(
                Deeds {
                    fork: None,
                    exec: None,
                    _place: place(&kqueue, watcher.process(), Memory::Wait)?,
                },
                GFP_KERNEL_ACCOUNT,
            )?),
        };
        if forks && deeds.fork.is_none() {
            deeds.fork = Some(shared.hooks.forks.watch(id, watcher)?);
        }
        if execs && deeds.exec.is_none() {
            deeds.exec = Some(shared.hooks.execs.watch(id, watcher)?);
        }
        if !forks {
            deeds.fork = None;
        }
        if !execs {
            deeds.exec = None;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// `EINVAL` for a note that is none of `notes`; `ENOSPC`, `ENOMEM`.
    fn modify(&mut self, change: &Kevent, notes: u32) -> Result {
        check_notes(change, notes)?;
        let watcher = self.exit.watch().clone();
        // One that is not needed is dropped after the lock was released.
        let mut payer = payer(change.fflags)?;
        self.watch(&watcher.knote, change.fflags)?;
        let mut heard = watcher.heard.lock();
        heard.wanted = change.fflags;
        // The first one goes on paying.
        if heard.payer.is_none() {
            heard.payer = payer.take();
        }
        if !change.has(EV_KEEPUDATA) {
            heard.udata = change.udata;
        }
        Ok(())
    }

    /// True when `ident` still is the process's number, and not another's.
    fn has_number(&self, ident: u64) -> bool {
        self.exit.watch().process().has_number(ident)
    }

    /// What has happened and was not reported.
    fn evaluate(&mut self) -> Option<Report> {
        if let Some(parent) = self.parent {
            return Some(Report {
                fflags: NOTE_CHILD,
                data: parent,
                ..Report::default()
            });
        }
        let mut heard = self.exit.watch().heard.lock();
        self.fired |= core::mem::take(&mut heard.fired);
        match heard.status {
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

    /// An event was delivered. True if there is more to report.
    fn collected(&mut self) -> bool {
        if self.parent.take().is_some() {
            return self.evaluate().is_some();
        }
        self.fired = 0;
        false
    }
}

/// `f_touch` of both filters.
#[inline(never)]
fn touch(parts: Parts<'_>, change: &Kevent, notes: u32) -> Result {
    let this = parts.body.source_mut::<Process>().ok_or(ENOENT)?;
    this.modify(change, notes)?;
    parts.body.take(change);
    Ok(())
}

/// `f_event` of both filters.
#[inline(never)]
fn event(parts: Parts<'_>) -> Option<Report> {
    parts.body.source_mut::<Process>()?.evaluate()
}

/// An event of one of the filters was delivered.
fn reported(parts: Parts<'_>) -> bool {
    let this = parts.body.source_mut::<Process>();
    this.is_some_and(Process::collected)
}

/// `EVFILT_PROC`.
pub(super) struct Proc;

impl FilterOps for Proc {
    const OUTLIVES_NAME: bool = true;
    const COUNTS: bool = true;
    const WEIGHT: u8 = 4;

    /// # Errors
    ///
    /// As [`Process::of_number`].
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        Attached::with(Process::of_number(attach, bodies)?, EV_CLEAR)
    }

    /// # Errors
    ///
    /// As [`Process::modify`].
    fn touch(parts: Parts<'_>, change: &Kevent) -> Result {
        touch(parts, change, NOTES)
    }

    fn event(parts: Parts<'_>, _: Scratch) -> Option<Report> {
        event(parts)
    }

    fn reported(parts: Parts<'_>, _: &Kevent) -> bool {
        reported(parts)
    }

    #[inline]
    fn is_named(body: &Body, ident: u64) -> bool {
        let Some(source) = &body.source else {
            return true;
        };
        let process = source.as_ref::<Process>();
        process.is_some_and(|process| process.has_number(ident))
    }
}

/// `EVFILT_PROCDESC`.
pub(super) struct Procdesc;

impl FilterOps for Procdesc {
    const IS_DESCRIPTOR: bool = true;
    const COUNTS: bool = true;
    const WEIGHT: u8 = 4;

    /// # Errors
    ///
    /// As [`Process::of_descriptor`].
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        Attached::with(Process::of_descriptor(attach, bodies)?, EV_CLEAR)
    }

    /// # Errors
    ///
    /// As [`Process::modify`].
    fn touch(parts: Parts<'_>, change: &Kevent) -> Result {
        touch(parts, change, NOTES_OF_DESCRIPTORS)
    }

    fn event(parts: Parts<'_>, _: Scratch) -> Option<Report> {
        event(parts)
    }

    fn reported(parts: Parts<'_>, _: &Kevent) -> bool {
        reported(parts)
    }
}
