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
//! siglock held. Each number is watched by itself. After the process has executed a program that is
//! not for who added the event to look at, it counts nothing ([`Observer`]).

use crate::{
    engine::{
        knote::{Bodies, Knote},
        knote_memory::Parts,
        objects::{ObjectKind, ObjectPlace},
        ops::{Attach, Attached, FilterOps, Report},
    },
    sys::{
        memory::scratch::Scratch,
        probe::{hook::Watch, tracepoint::Tracepoint},
        process::{
            observer::{Observer, Subject},
            pid::{self, Process, Signals, SIGNAL_MAX},
        },
    },
    uapi::*, //
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

/// Who counts a signal; shared with the tracepoint.
pub(crate) struct SignalWatcher {
    knote: ARef<Knote>,
    /// The process itself. Keeps its identity its own.
    observer: Observer,
    count: Atomic<i64>,
}

impl Signals for SignalWatcher {
    fn signalled(this: ArcBorrow<'_, Self>, task: Subject<'_>) {
        // What was counted and not collected has activated the knote, or is about to.
        if this.observer.may_look(task) && this.count.fetch_add(1, ordering::Relaxed) == 0 {
            this.knote.activate();
        }
    }
}

/// A counted signal.
pub(crate) struct Signal {
    _watch: Watch<Tracepoint<pid::Signal<SignalWatcher>>>,
    _place: ObjectPlace,
    watcher: Arc<SignalWatcher>,
    /// How often it was sent and not reported.
    count: i64,
}

impl Signal {
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal; `ENOSPC` if the user has as many watches of it as they
    /// may; `ENOMEM`.
    fn new(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Self> {
        let number = i32::try_from(attach.change.ident).map_err(|_| EINVAL)?;
        if !(1..=SIGNAL_MAX).contains(&number) {
            return Err(EINVAL);
        }
        let own = Process::current().ok_or(ESRCH)?;
        let watcher = Arc::new(
            SignalWatcher {
                knote: attach.knote.into(),
                observer: Observer::current(&own, &mut bodies.watcher)?,
                count: Atomic::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let process = watcher.observer.process();
        let object = (process.id(), number as u32);
        let kqueue = attach.knote.kqueue();
        let place = kqueue.user().watch_object(ObjectKind::Process, object)?;
        Ok(Signal {
            _place: place,
            _watch: kqueue
                .shared()
                .hooks
                .signals
                .watch(process.signal_id(number), &watcher)?,
            watcher,
            count: 0,
        })
    }
}

impl FilterOps for Signal {
    const IS_PLAIN: bool = true;
    const COUNTS: bool = true;
    const WEIGHT: u8 = 3;

    /// # Errors
    ///
    /// As [`Signal::new`].
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        Attached::with(Signal::new(attach, bodies)?, EV_CLEAR)
    }

    #[inline(never)]
    fn event(parts: Parts<'_>, _: Scratch) -> Option<Report> {
        let this = parts.body.source_mut::<Signal>()?;
        let more = this.watcher.count.xchg(0, ordering::Relaxed);
        this.count = this.count.saturating_add(more);
        (this.count != 0).then_some(Report::of(this.count))
    }

    fn reported(parts: Parts<'_>, _: &Kevent) -> bool {
        if let Some(this) = parts.body.source_mut::<Signal>() {
            this.count = 0;
        }
        false
    }
}
