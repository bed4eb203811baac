// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_PROC`: a process forks, executes a program, exits.
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
//! # Linux source
//!
//! The exit: the wait queue that pidfds are polled on, so that a process that was reported can be
//! waited for. Forks and execs: tracepoints. A fork may not wait for the kqueue's mutex: the
//! child's knote is made complete with its source, and handed to the kqueue, which takes it into
//! its table when somebody next has the mutex ([`Kqueue::adopt`](crate::kqueue::Kqueue::adopt)).
//!
//! # Where we differ
//!
//! `NOTE_CHILD` is an event of its own, as in FreeBSD: the parent's number and the wait status do
//! not fit into one `data`. A process that already is a zombie is `ESRCH` without `NOTE_EXIT`.

use super::{Attach, Report};
use crate::{
    generated::kqueue_event,
    hook::{
        erased::Erased,
        pollwait::{Exit, Mourner, Wake},
        probe::Watch,
        process::{self, Exec, Execs, Fork, Forks, Life},
        slab::Memory,
        tracepoint::Tracepoint, //
    },
    knote::{Body, Knote},
    kqueue::Kqueue,
    uapi::*, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    new_spinlock_irq,
    pid_namespace::PidNamespace,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow, SpinLockIrq}, //
};

/// What is known of a process, and asked of it.
struct Heard {
    /// What the program asked for.
    wanted: u32,
    udata: u64,
    /// What has happened of that and was not collected.
    fired: u32,
    status: Option<i32>,
}

/// A process that is watched; shared with whoever hears of it.
pub(crate) type ProcessWatcher = Mourner<Watcher>;

/// Who watches a process.
#[pin_data]
pub(crate) struct Watcher {
    knote: ARef<Knote>,
    /// The knote's flags, for its children.
    flags: u16,
    /// Where the process's children are named.
    namespace: ARef<PidNamespace>,
    #[pin]
    heard: SpinLockIrq<Heard>,
}

impl Watcher {
    fn new<'a>(
        knote: &'a Knote,
        flags: u16,
        namespace: ARef<PidNamespace>,
        (wanted, udata): (u32, u64),
    ) -> impl PinInit<Self> + 'a {
        let heard = Heard {
            wanted,
            udata,
            fired: 0,
            status: None,
        };
        pin_init!(Self {
            knote: knote.into(),
            flags,
            namespace,
            heard <- new_spinlock_irq!(heard, "kqueue_process"),
        })
    }

    /// Something has happened.
    fn fire(&self, note: u32) {
        let wanted = {
            let mut heard = self.heard.lock();
            let wanted = heard.wanted & note != 0 || note == NOTE_TRACKERR;
            if wanted {
                heard.fired |= note;
            }
            wanted
        };
        if wanted {
            self.knote.activate();
        }
    }

    /// Gives a child a knote, as its parent has one.
    fn track(&self, child: &process::Process, wanted: u32, udata: u64) -> Result {
        let alloc = GFP_ATOMIC | __GFP_NOWARN;
        let ident = child.number_in(&self.namespace).ok_or(ESRCH)?;
        let kqueue = self.knote.kqueue();
        let body = Body::new(&kqueue_event {
            flags: self.flags,
            fflags: wanted,
            udata,
            ..Default::default()
        });
        let knote = Kqueue::new_knote(kqueue, ident, self.knote.filter(), || body, Memory::Atomic)?;
        let watcher = Watcher::new(&knote, self.flags, self.namespace.clone(), (wanted, udata));
        let exit = Exit::new(child.clone(), watcher, alloc)?;
        let shared = kqueue.shared();
        let source = Process {
            fork: wants_forks(wanted)
                .then(|| shared.forks.watch_too(child.id(), exit.mourner()))
                .transpose()?,
            exec: wants_execs(wanted)
                .then(|| shared.execs.watch_too(child.id(), exit.mourner()))
                .transpose()?,
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
        let Life::Exited(status) = self.process().life() else {
            return;
        };
        let first = self.heard.lock().status.replace(status).is_none();
        if first {
            self.knote.activate();
        }
    }
}

impl Forks for ProcessWatcher {
    fn forked(this: &Arc<Self>, child: &process::Process) {
        let (wanted, udata) = {
            let heard = this.heard.lock();
            (heard.wanted, heard.udata)
        };
        if wanted & NOTE_TRACK != 0 && this.track(child, wanted, udata).is_err() {
            this.fire(NOTE_TRACKERR);
        }
        this.fire(NOTE_FORK);
    }
}

impl Execs for ProcessWatcher {
    fn executed(this: ArcBorrow<'_, Self>) {
        this.fire(NOTE_EXEC);
    }
}

fn wants_forks(fflags: u32) -> bool {
    fflags & (NOTE_FORK | NOTE_TRACK) != 0
}

fn wants_execs(fflags: u32) -> bool {
    fflags & NOTE_EXEC != 0
}

/// A watched process.
pub(crate) struct Process {
    exit: Exit<Watcher>,
    fork: Option<Watch<Tracepoint<Fork<ProcessWatcher>>>>,
    exec: Option<Watch<Tracepoint<Exec<ProcessWatcher>>>>,
    /// Of a child that was tracked, until that is reported: its parent's number.
    parent: Option<i64>,
    /// What has happened and was not reported.
    fired: u32,
}

impl Process {
    /// # Errors
    ///
    /// `ESRCH` if there is no such process, or it is a zombie and `NOTE_EXIT` is not asked for;
    /// `EACCES` if it is another user's; `ENOMEM`.
    pub(super) fn attach(attach: Attach<'_>) -> Result<Self> {
        let change = attach.change;
        let process = process::Process::find(change.ident).ok_or(ESRCH)?;
        let namespace = process::current_namespace().ok_or(ESRCH)?;
        let flags = change.flags | EV_CLEAR;
        let asked = (change.fflags, change.udata);
        let watcher = Watcher::new(attach.knote, flags, namespace, asked);
        let exit = Exit::new(process, watcher, GFP_KERNEL_ACCOUNT)?;
        let watcher = exit.mourner();
        watcher.process().check_access()?;
        // Whoever exits from here on is heard of; who did before, may be a zombie.
        let life = watcher.process().life();
        if life != Life::Running {
            let mut heard = watcher.heard.lock();
            if let Life::Exited(status) = life {
                heard.status = Some(status);
            }
            if heard.status.is_none() || change.fflags & NOTE_EXIT == 0 {
                return Err(ESRCH);
            }
        }
        let mut this = Process {
            exit,
            fork: None,
            exec: None,
            parent: None,
            fired: 0,
        };
        this.watch(attach.knote, change.fflags)?;
        Ok(this)
    }

    /// Has as much heard as `fflags` asks for.
    fn watch(&mut self, knote: &Knote, fflags: u32) -> Result {
        let kqueue = knote.kqueue();
        let shared = kqueue.shared();
        let watcher = self.exit.mourner();
        let id = watcher.process().id();
        if wants_forks(fflags) && self.fork.is_none() {
            self.fork = Some(shared.forks.watch(id, watcher)?);
        }
        if wants_execs(fflags) && self.exec.is_none() {
            self.exec = Some(shared.execs.watch(id, watcher)?);
        }
        if !wants_forks(fflags) {
            self.fork = None;
        }
        if !wants_execs(fflags) {
            self.exec = None;
        }
        Ok(())
    }

    pub(super) fn touch(&mut self, change: &Kevent) -> Result {
        let watcher = self.exit.mourner().clone();
        self.watch(&watcher.knote, change.fflags)?;
        let mut heard = watcher.heard.lock();
        heard.wanted = change.fflags;
        if !change.has(EV_KEEPUDATA) {
            heard.udata = change.udata;
        }
        Ok(())
    }

    /// True when `ident` still is the process's number, and not another's.
    pub(super) fn has_number(&self, ident: u64) -> bool {
        self.exit.mourner().process().has_number(ident)
    }

    pub(super) fn event(&mut self) -> Option<Report> {
        if let Some(parent) = self.parent {
            return Some(Report {
                fflags: NOTE_CHILD,
                data: parent,
                ..Report::default()
            });
        }
        let mut heard = self.exit.mourner().heard.lock();
        self.fired |= core::mem::take(&mut heard.fired);
        match heard.status {
            Some(status) => Some(Report {
                flags: EV_EOF | EV_NODATA | EV_ONESHOT,
                fflags: self.fired | (heard.wanted & NOTE_EXIT),
                data: status.into(),
            }),
            None if self.fired != 0 => Some(Report {
                fflags: self.fired,
                ..Report::default()
            }),
            None => None,
        }
    }

    /// True if there is more to report.
    pub(super) fn reported(&mut self) -> bool {
        if self.parent.take().is_some() {
            return self.event().is_some();
        }
        self.fired = 0;
        false
    }
}
