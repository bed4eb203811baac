// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_FS`: a file system is mounted or unmounted.
//!
//! # BSD says
//!
//! `fflags` tells what has happened since that was last reported: `VQ_MOUNT`, `VQ_UNMOUNT`.
//! `EV_CLEAR` is always set.
//!
//! # Linux source
//!
//! An fsnotify mark on the mount namespace of who adds the event.
//!
//! # Where we differ
//!
//! `fflags` of the change says which of the two are wanted, both if neither. A mount that is moved
//! reports both. Bind mounts are mounts.

use super::{Attach, Report};
use crate::{
    device::Shared,
    hook::fsnotify::{fs, InodeState, Mark, Notify},
    knote::Knote,
    uapi::*, //
};
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow, SpinLockIrq}, //
};

/// What was asked of the namespace, and heard.
struct Heard {
    wanted: u32,
    fired: u32,
}

/// A mount namespace that is watched; shared with its mark.
#[pin_data]
pub(crate) struct MountWatcher {
    knote: ARef<Knote>,
    #[pin]
    heard: SpinLockIrq<Heard>,
}

impl Notify for MountWatcher {
    const MOUNTS: bool = true;

    fn notify(this: ArcBorrow<'_, Self>, events: u32, _: InodeState) {
        let mut notes = 0;
        if events & fs::MNT_ATTACH != 0 {
            notes |= VQ_MOUNT;
        }
        if events & fs::MNT_DETACH != 0 {
            notes |= VQ_UNMOUNT;
        }
        let due = {
            let mut heard = this.heard.lock();
            let notes = notes & heard.wanted;
            heard.fired |= notes;
            notes != 0
        };
        if due {
            this.knote.activate();
        }
    }
}

impl MountWatcher {
    /// Activates `knote` when something in `wanted` happens in the current task's mount namespace.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn watch(
        shared: &Shared,
        knote: &Knote,
        wanted: u32,
    ) -> Result<(Arc<Self>, Mark<Self>)> {
        let heard = Heard { wanted, fired: 0 };
        let watcher = Arc::pin_init(
            pin_init!(MountWatcher {
                knote: knote.into(),
                heard <- new_spinlock_irq!(heard, "kqueue_mounts"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let events = fs::MNT_ATTACH | fs::MNT_DETACH;
        let mark = Mark::on_mounts(&shared.mounts, events, &watcher)?;
        Ok((watcher, mark))
    }
}

/// Which of the two a change asks for.
fn wanted(fflags: u32) -> u32 {
    match fflags & (VQ_MOUNT | VQ_UNMOUNT) {
        0 => VQ_MOUNT | VQ_UNMOUNT,
        some => some,
    }
}

/// A watched mount namespace.
pub(crate) struct Mounts {
    _mark: Mark<MountWatcher>,
    watcher: Arc<MountWatcher>,
    /// What has happened and was not reported.
    fired: u32,
}

impl Mounts {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn attach(attach: Attach<'_>) -> Result<Self> {
        let wanted = wanted(attach.change.fflags);
        let (watcher, mark) = MountWatcher::watch(attach.shared, attach.knote, wanted)?;
        Ok(Mounts {
            _mark: mark,
            watcher,
            fired: 0,
        })
    }

    pub(super) fn touch(&mut self, change: &Kevent) {
        self.watcher.heard.lock().wanted = wanted(change.fflags);
    }

    pub(super) fn event(&mut self) -> Option<Report> {
        self.fired |= core::mem::take(&mut self.watcher.heard.lock().fired);
        (self.fired != 0).then_some(Report {
            fflags: self.fired,
            ..Report::default()
        })
    }

    pub(super) fn reported(&mut self) {
        self.fired = 0;
    }
}
