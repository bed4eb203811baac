// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_SIGNAL`: a signal is sent to the process.
//!
//! # BSD says
//!
//! `ident` is the signal's number. `data` is how often it was sent, since that was last reported,
//! to the process that added the event, or to one of its threads; also when it is blocked, ignored
//! or pending already. It does not keep the signal from being delivered. `EV_CLEAR` is always set.
//!
//! # Linux source
//!
//! The tracepoint `signal_generate`, which each attempt to send one comes to, with the receiver's
//! siglock held.

use super::{Attach, Report};
use crate::{
    hook::{
        probe::Watch,
        process::{self, Process, Signals},
        tracepoint::Tracepoint, //
    },
    knote::Knote, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{ordering, Atomic},
        Arc,
        ArcBorrow, //
    }, //
};

/// The highest signal number, which is a real-time one.
const SIGNAL_MAX: i32 = 64;

/// Who counts a signal; shared with the tracepoint.
pub(crate) struct SignalWatcher {
    knote: ARef<Knote>,
    /// Keeps the identity of the process its own.
    process: Process,
    number: i32,
    count: Atomic<i64>,
}

impl Signals for SignalWatcher {
    fn signalled(this: ArcBorrow<'_, Self>, number: i32) {
        if number == this.number {
            this.count.fetch_add(1, ordering::Relaxed);
            this.knote.activate();
        }
    }
}

/// A counted signal.
pub(crate) struct Signal {
    _watch: Watch<Tracepoint<process::Signal<SignalWatcher>>>,
    watcher: Arc<SignalWatcher>,
    /// How often it was sent and not reported.
    count: i64,
}

impl Signal {
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal, `ENOMEM`.
    pub(super) fn attach(attach: Attach<'_>) -> Result<Self> {
        let number = i32::try_from(attach.change.ident).map_err(|_| EINVAL)?;
        if !(1..=SIGNAL_MAX).contains(&number) {
            return Err(EINVAL);
        }
        let watcher = Arc::new(
            SignalWatcher {
                knote: attach.knote.into(),
                process: Process::current().ok_or(ESRCH)?,
                number,
                count: Atomic::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Signal {
            _watch: attach
                .shared
                .signals
                .watch(watcher.process.id(), &watcher)?,
            watcher,
            count: 0,
        })
    }

    pub(super) fn event(&mut self) -> Option<Report> {
        let more = self.watcher.count.xchg(0, ordering::Relaxed);
        self.count = self.count.saturating_add(more);
        (self.count != 0).then_some(Report {
            data: self.count,
            ..Report::default()
        })
    }

    pub(super) fn reported(&mut self) {
        self.count = 0;
    }
}
