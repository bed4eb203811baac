// SPDX-License-Identifier: GPL-2.0

//! State that filters share and that belongs to no knote: the probes of all kqueues, and the marks
//! of one user.

use super::{
    contents::{self, ContentWatcher},
    mounts::{self, Namespace},
    process::ProcessWatcher,
    signal::SignalWatcher,
    vnode::{self, FileWatcher, ParentDir}, //
};
use crate::{
    engine::objects::Objects,
    sys::{
        file::{eventfd, timerfd},
        notify::fsnotify::{self, Group, MarkCount, Shares, Sharing},
        probe::{hook::Hook, seek::SeekHooks, tracepoint::Tracepoint},
        process::pid::{ExecHook, ForkHook, SignalHook},
    }, //
};
use kernel::{fmt, prelude::*, sync::Arc};

/// The probes. Each of them is registered while a knote needs it.
pub(crate) struct Hooks {
    pub(super) forks: Arc<ForkHook<ProcessWatcher>>,
    pub(super) execs: Arc<ExecHook<ProcessWatcher>>,
    pub(super) signals: Arc<SignalHook<SignalWatcher>>,
    pub(super) seeks: SeekHooks<ContentWatcher>,
}

/// The number of marks of each kind, with the names that debugfs shows.
fn marks() -> [(&'static str, &'static MarkCount); 4] {
    [
        ("content", &contents::MARKS),
        ("file", &vnode::FILE_MARKS),
        ("parent", &vnode::PARENT_MARKS),
        ("mount", &mounts::MARKS),
    ]
}

impl Hooks {
    /// Makes the probes. None of them is registered yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Hooks {
            forks: Hook::new(Tracepoint::new())?,
            execs: Hook::new(Tracepoint::new())?,
            signals: Hook::new(Tracepoint::new())?,
            seeks: SeekHooks::new()?,
        })
    }

    /// Writes one line for each probe and for each kind of marks, for debugfs.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.forks.show("fork", f)?;
        self.execs.show("exec", f)?;
        self.signals.show("signal", f)?;
        self.seeks.show(f)?;
        for (name, marks) in marks() {
            writeln!(f, "{name} marks: {}", marks.get())?;
        }
        writeln!(f, "eventfd counters: {}", eventfd::state())?;
        writeln!(f, "timerfd counts: {}", timerfd::state())
    }

    /// Unregisters all probes and waits for running handlers, and waits until all marks are freed.
    /// No kqueue is open any more.
    pub(crate) fn stop(&self) {
        self.forks.stop();
        self.execs.stop();
        self.signals.stop();
        self.seeks.stop();
        for (_, marks) in marks() {
            fsnotify::wait_until_freed(marks);
        }
    }
}

/// The marks of one user.
#[pin_data]
pub(crate) struct UserMarks {
    #[pin]
    pub(super) files: Group<FileWatcher>,
    #[pin]
    pub(super) contents: Group<ContentWatcher>,
    #[pin]
    parents: Shares<ParentDir>,
    #[pin]
    mounts: Shares<Namespace>,
}

impl UserMarks {
    /// Makes the groups, without marks.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            files <- Group::new(),
            contents <- Group::new(),
            parents <- Shares::new(),
            mounts <- Shares::new(),
        })
    }
}

impl Sharing<ParentDir> for Objects {
    fn shares(&self) -> &Shares<ParentDir> {
        &self.marks.parents
    }
}

impl Sharing<Namespace> for Objects {
    fn shares(&self) -> &Shares<Namespace> {
        &self.marks.mounts
    }
}
