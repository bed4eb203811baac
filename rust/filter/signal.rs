// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_SIGNAL` counts the signals that are sent to the process.
//!
//! # BSD says
//!
//! `ident` is the number of the signal. `data` counts how often the signal was sent, since the last
//! report, to the process that added the event or to one of its threads. A signal is also counted
//! if it is blocked, ignored or already pending. The filter does not affect the delivery of the
//! signal. `EV_CLEAR` is always set.
//!
//! # Linux source
//!
//! The source is the tracepoint `signal_generate`. It is called for each attempt to send a signal,
//! with the siglock of the receiver held. Each signal number has a watch of its own. The process
//! may execute a program that the task which added the event may not inspect. From then on, signals
//! are not counted ([`Observer`]).

use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FilterOps, Report},
        knote::{Knote, LockedKnote, UnderMutex},
        object_watches::{ObjectCharge, ObjectKind},
    },
    sys::{
        memory::user_scratch::UserScratch,
        probe::{tracepoint::Tracepoint, watches::Watch},
        process::{
            permission::{Observer, Subject},
            pid::{self, Process, SignalTarget, SIGNAL_MAX},
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

/// The counter of a signal. The tracepoint shares this object.
pub(crate) struct SignalWatcher {
    knote: ARef<Knote>,
    /// The watched process, which is the one that added the event. The observer owns a reference to
    /// its `struct pid`, so that the identity is not reused.
    observer: Observer,
    /// The number of signals since the last collection. Relaxed ordering suffices: the operations
    /// are read-modify-write operations, each of which sees the one before it. A task that adds to
    /// 0 then takes the lock of the kqueue to activate the knote, so a scan which finds the knote
    /// active sees that signal (`selftests/state`, `knote`).
    count: Atomic<i64>,
}

impl SignalTarget for SignalWatcher {
    fn signalled(this: ArcBorrow<'_, Self>, task: Subject<'_>) {
        // If the count was not 0, the task that made it so has activated the knote or is about to
        // do so.
        if this.observer.may_observe(task) && this.count.fetch_add(1, ordering::Relaxed) == 0 {
            this.knote.activate();
        }
    }
}

/// The source of a knote: the watch, and the signals that were not reported.
pub(crate) struct Signal {
    _watch: Watch<Tracepoint<pid::Signal<SignalWatcher>>>,
    _charge: ObjectCharge,
    watcher: Arc<SignalWatcher>,
    /// The number of signals that were collected from the watcher and not reported.
    count: i64,
}

impl Signal {
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal; `ENOSPC` if the user has as many watches of the signal
    /// as the limit allows; `ENOMEM`.
    fn new(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Self> {
        let number = i32::try_from(args.change.ident).map_err(|_| EINVAL)?;
        if !(1..=SIGNAL_MAX).contains(&number) {
            return Err(EINVAL);
        }
        let own = Process::current().ok_or(ESRCH)?;
        let watcher = Arc::new(
            SignalWatcher {
                knote: args.knote.into(),
                observer: Observer::current(&own, &mut under_mutex.watcher)?,
                count: Atomic::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let process = watcher.observer.process();
        let object = (process.id(), number as u32);
        let kqueue = args.knote.kqueue();
        let charge = kqueue.user().charge_watch(ObjectKind::Process, object)?;
        Ok(Signal {
            _charge: charge,
            _watch: kqueue
                .shared()
                .probes
                .signals
                .watch(process.signal_id(number), &watcher)?,
            watcher,
            count: 0,
        })
    }
}

impl FilterOps for Signal {
    const CHANGE_AFFECTS_KNOTE_ONLY: bool = true;
    const HANDLES_DELIVERY: bool = true;
    const CHARGE_UNITS: u8 = 3;

    /// # Errors
    ///
    /// See [`Signal::new`].
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        Attached::with(Signal::new(args, under_mutex)?, EV_CLEAR)
    }

    #[inline(never)]
    fn event(locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        let this = locked.inner.attachment_mut::<Signal>()?;
        let more = this.watcher.count.xchg(0, ordering::Relaxed);
        this.count = this.count.saturating_add(more);
        (this.count != 0).then_some(Report::of(this.count))
    }

    fn delivered(locked: LockedKnote<'_>, _: &Kevent) -> bool {
        if let Some(this) = locked.inner.attachment_mut::<Signal>() {
            this.count = 0;
        }
        false
    }
}
