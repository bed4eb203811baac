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

use super::{Attach, Report, Source};
use crate::{
    hook::{
        pollwait::{PollWait, Wake},
        probe::Watch,
        process::{self, Exec, Execs, Fork, Forks, Life},
        tracepoint::Tracepoint, //
    },
    knote::{Body, Knote, Saved},
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
#[pin_data]
pub(crate) struct ProcessWatcher {
    knote: Arc<Knote>,
    /// The knote's flags, for its children.
    flags: u16,
    process: process::Process,
    /// Where the process's children are named.
    namespace: ARef<PidNamespace>,
    #[pin]
    heard: SpinLockIrq<Heard>,
}

impl ProcessWatcher {
    fn new(
        knote: &Arc<Knote>,
        flags: u16,
        process: process::Process,
        namespace: ARef<PidNamespace>,
        (wanted, udata): (u32, u64),
        alloc: kernel::alloc::Flags,
    ) -> Result<Arc<Self>> {
        let heard = Heard {
            wanted,
            udata,
            fired: 0,
            status: None,
        };
        Arc::pin_init(
            pin_init!(Self {
                knote: knote.clone(),
                flags,
                process,
                namespace,
                heard <- new_spinlock_irq!(heard, "kqueue_process"),
            }),
            alloc,
        )
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
            Knote::activate(self.knote.as_arc_borrow());
        }
    }

    /// Gives a child a knote, as its parent has one.
    fn track(&self, child: &process::Process, wanted: u32, udata: u64) -> Result {
        let alloc = GFP_ATOMIC | __GFP_NOWARN;
        let ident = child.number_in(&self.namespace).ok_or(ESRCH)?;
        let kqueue = self.knote.kqueue();
        let saved = Saved {
            fflags: wanted,
            data: 0,
        };
        let body = Body::new(self.flags, saved, udata);
        let knote = Knote::new(kqueue, ident, self.knote.filter(), body, alloc)?;
        let watcher = ProcessWatcher::new(
            &knote,
            self.flags,
            child.clone(),
            self.namespace.clone(),
            (wanted, udata),
            alloc,
        )?;
        let shared = kqueue.shared();
        let source = Process {
            _exit: PollWait::on_exit(&watcher.process, &watcher, alloc)?,
            fork: wants_forks(wanted)
                .then(|| shared.forks.watch_too(child.id(), &watcher))
                .transpose()?,
            exec: wants_execs(wanted)
                .then(|| shared.execs.watch_too(child.id(), &watcher))
                .transpose()?,
            watcher,
            parent: Some(self.knote.ident() as i64),
            fired: 0,
        };
        kqueue.adopt(&knote, Source::Process(source))?;
        Knote::activate(knote.as_arc_borrow());
        Ok(())
    }
}

impl Wake for ProcessWatcher {
    /// The queue is also woken when one of several threads is gone.
    fn wake(this: ArcBorrow<'_, Self>) {
        let Life::Exited(status) = this.process.life() else {
            return;
        };
        let first = this.heard.lock().status.replace(status).is_none();
        if first {
            Knote::activate(this.knote.as_arc_borrow());
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
    // In this order: the queue is the process's, which the watcher keeps.
    _exit: PollWait<ProcessWatcher>,
    fork: Option<Watch<Tracepoint<Fork<ProcessWatcher>>>>,
    exec: Option<Watch<Tracepoint<Exec<ProcessWatcher>>>>,
    watcher: Arc<ProcessWatcher>,
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
        let watcher = ProcessWatcher::new(
            attach.knote,
            change.flags | EV_CLEAR,
            process,
            namespace,
            (change.fflags, change.udata),
            GFP_KERNEL_ACCOUNT,
        )?;
        let exit = PollWait::on_exit(&watcher.process, &watcher, GFP_KERNEL_ACCOUNT)?;
        watcher.process.check_access()?;
        // Whoever exits from here on is heard of; who did before, may be a zombie.
        let life = watcher.process.life();
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
            _exit: exit,
            fork: None,
            exec: None,
            watcher,
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
        let id = self.watcher.process.id();
        if wants_forks(fflags) && self.fork.is_none() {
            self.fork = Some(shared.forks.watch(id, &self.watcher)?);
        }
        if wants_execs(fflags) && self.exec.is_none() {
            self.exec = Some(shared.execs.watch(id, &self.watcher)?);
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
        let watcher = self.watcher.clone();
        self.watch(&watcher.knote, change.fflags)?;
        let mut heard = watcher.heard.lock();
        heard.wanted = change.fflags;
        heard.udata = change.udata;
        Ok(())
    }

    /// True when `ident` still is the process's number, and not another's.
    pub(super) fn has_number(&self, ident: u64) -> bool {
        self.watcher.process.has_number(ident)
    }

    pub(super) fn event(&mut self) -> Option<Report> {
        if let Some(parent) = self.parent {
            return Some(Report {
                fflags: NOTE_CHILD,
                data: parent,
                ..Report::default()
            });
        }
        let mut heard = self.watcher.heard.lock();
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
