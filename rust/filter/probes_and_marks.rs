// SPDX-License-Identifier: GPL-2.0

//! State that filters share and that belongs to no knote: the probes of all kqueues, and the marks
//! of one user.

use super::{
    fs::{self, Namespace},
    offset_watch::{self, OffsetWatcher},
    process::ProcessWatcher,
    signal::SignalWatcher,
    vnode::{self, FileWatcher, ParentDir}, //
};
use crate::{
    engine::object_watches::WatchedObjects,
    sys::{
        file::{eventfd, inotify, signalfd, timerfd},
        notify::fsnotify::{self, Group, MarkCount, SharedMarks, SharedMarksOwner},
        probe::{seek::SeekWatches, tracepoint::Tracepoint, watches::WatchedProbe},
        process::pid::{ExecWatches, ForkWatches, SignalWatches},
    }, //
};
use kernel::{fmt, prelude::*, sync::Arc};

/// The probes. Each of them is registered while a knote needs it.
pub(crate) struct FilterProbes {
    pub(super) forks: Arc<ForkWatches<ProcessWatcher>>,
    pub(super) execs: Arc<ExecWatches<ProcessWatcher>>,
    pub(super) signals: Arc<SignalWatches<SignalWatcher>>,
    pub(super) seeks: SeekWatches<OffsetWatcher>,
}

/// The number of marks of each kind, with the names that debugfs shows.
fn marks() -> [(&'static str, &'static MarkCount); 4] {
    [
        ("content", &offset_watch::MARKS),
        ("file", &vnode::FILE_MARKS),
        ("parent", &vnode::PARENT_MARKS),
        ("mount", &fs::MARKS),
    ]
}

impl FilterProbes {
    /// Makes the probes. None of them is registered yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(FilterProbes {
            forks: WatchedProbe::new(Tracepoint::new())?,
            execs: WatchedProbe::new(Tracepoint::new())?,
            signals: WatchedProbe::new(Tracepoint::new())?,
            seeks: SeekWatches::new()?,
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
        writeln!(f, "timerfd counts: {}", timerfd::state())?;
        writeln!(f, "signalfd sets: {}", signalfd::state())?;
        writeln!(f, "inotify sizes: {}", inotify::state())
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
    pub(super) offsets: Group<OffsetWatcher>,
    #[pin]
    parents: SharedMarks<ParentDir>,
    #[pin]
    mounts: SharedMarks<Namespace>,
}

impl UserMarks {
    /// Makes the groups, without marks.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            files <- Group::new(),
            offsets <- Group::new(),
            parents <- SharedMarks::new(),
            mounts <- SharedMarks::new(),
        })
    }
}

impl SharedMarksOwner<ParentDir> for WatchedObjects {
    fn shared_marks(&self) -> &SharedMarks<ParentDir> {
        &self.marks.parents
    }
}

impl SharedMarksOwner<Namespace> for WatchedObjects {
    fn shared_marks(&self) -> &SharedMarks<Namespace> {
        &self.marks.mounts
    }
}
