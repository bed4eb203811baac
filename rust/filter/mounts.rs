// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_FS` reports that a file system was mounted or unmounted.
//!
//! # BSD says
//!
//! `fflags` of the event reports what has happened since the last report: `VQ_MOUNT`, `VQ_UNMOUNT`.
//! `EV_CLEAR` is always set.
//!
//! # Linux source
//!
//! The source is an fsnotify mark on the mount namespace of the task that adds the event. All
//! watchers of one user share the mark. The task that mounts or unmounts notifies a few of the
//! watchers. A workqueue notifies the others in bounded steps. Most of these are files with
//! `NOTE_REVOKE`.
//!
//! # Where we differ
//!
//! `fflags` of the change selects which of the two are reported; neither selects both. A mount that
//! is moved reports both. Bind mounts are mounts.

use super::check_notes;
use crate::{
    engine::{
        knote::{Knote, KnoteAccess},
        knote_memory::LockedKnote,
        objects::{ObjectCharge, ObjectKind, Objects},
        ops::{AttachArgs, Attached, FilterOps, Report},
    },
    sys::{
        memory::scratch::Scratch,
        notify::{
            fsnotify::{self, fs, About, InodeLook, MarkCount, Notify, Share},
            workqueue,
        },
    },
    uapi::*, //
};
use kernel::{
    fs::File,
    impl_has_work,
    new_spinlock,
    new_work,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{aref::ARef, Arc, ArcBorrow, SpinLock},
    workqueue::{Work, WorkItem}, //
};

/// The number of watchers that the task which mounts or unmounts notifies.
const TOLD_AT_ONCE: usize = 32;
/// The number of watchers that the work notifies before it releases the lock and the processor.
const TOLD_LATER: usize = 64;

pub(crate) static MARKS: MarkCount = MarkCount::new();

/// Counters of the mounts and unmounts in a namespace.
#[derive(Clone, Copy, Default)]
struct Happened {
    mounts: u64,
    unmounts: u64,
}

/// The notes that a watcher selects, and the notes that are pending.
struct Heard {
    wanted: u32,
    fired: u32,
    /// The counters that `fired` takes into account.
    seen: Happened,
}

/// A watcher of a mount namespace.
#[pin_data]
pub(super) struct MountWatcher {
    knote: ARef<Knote>,
    /// If set, only the unmount of the mount that this file was opened in is reported.
    file: Option<ARef<File>>,
    #[pin]
    heard: SpinLock<Heard>,
}

impl MountWatcher {
    /// Compares the counters with those that were recorded last. True if a selected note is new.
    fn hear(&self, happened: Happened) -> bool {
        let mut heard = self.heard.lock();
        let mut notes = 0;
        if happened.mounts != heard.seen.mounts {
            notes |= VQ_MOUNT;
        }
        if happened.unmounts != heard.seen.unmounts {
            notes |= VQ_UNMOUNT;
        }
        heard.seen = happened;
        notes &= heard.wanted;
        if notes == 0
            || self
                .file
                .as_deref()
                .is_some_and(|file| !fsnotify::is_unmounted(file))
        {
            return false;
        }
        // Notes that were already pending have activated the knote before.
        let news = notes & !heard.fired != 0;
        heard.fired |= notes;
        news
    }
}

/// The watchers of `EVFILT_FS` sort before those of files. Watchers of one kind are sorted by
/// address.
type Key = (bool, usize);

struct Watchers {
    watchers: RBTree<Key, Arc<MountWatcher>>,
    happened: Happened,
    /// The first watcher that was not notified yet.
    next: Option<Key>,
}

impl Watchers {
    /// Notifies at most `count` watchers, beginning with `from`. The first watcher behind them
    /// becomes `next`. Watchers of files are left out if nothing was unmounted.
    fn tell(&mut self, from: Key, count: usize, unmounted: bool) {
        let happened = self.happened;
        let mut cursor = self.watchers.cursor_lower_bound_mut(&from);
        let mut told = 0;
        while let Some(at) = cursor {
            let (&key, watcher) = at.current();
            if key.0 && !unmounted {
                return;
            }
            if told == count {
                self.next = Some(self.next.map_or(key, |next| next.min(key)));
                return;
            }
            if watcher.hear(happened) {
                watcher.knote.activate();
            }
            told += 1;
            cursor = at.move_next();
        }
    }
}

/// A mount namespace that a user watches.
#[pin_data]
pub(crate) struct Namespace {
    #[pin]
    watchers: SpinLock<Watchers>,
    #[pin]
    telling: Work<Namespace>,
}

impl_has_work! {
    impl HasWork<Self> for Namespace { self.telling }
}

impl Namespace {
    fn new() -> Result<Arc<Self>> {
        let watchers = Watchers {
            watchers: RBTree::new(),
            happened: Happened::default(),
            next: None,
        };
        Arc::pin_init(
            pin_init!(Namespace {
                watchers <- new_spinlock!(watchers, "kqueue_mounts"),
                telling <- new_work!("Namespace::telling"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Queues the work that notifies the other watchers.
    fn tell_later(this: Arc<Self>) {
        if let Some(queue) = workqueue::queue() {
            // If the work is queued already, it will notify them.
            let _ = queue.enqueue(this);
        }
    }
}

impl Notify for Namespace {
    const ABOUT: About = About::Mounts;

    fn marks() -> &'static MarkCount {
        &MARKS
    }

    fn notify(this: ArcBorrow<'_, Self>, events: u32, _: InodeLook) {
        let mut watchers = this.watchers.lock();
        if events & fs::MNT_ATTACH != 0 {
            watchers.happened.mounts += 1;
        }
        let unmounted = events & fs::MNT_DETACH != 0;
        if unmounted {
            watchers.happened.unmounts += 1;
        }
        watchers.tell((false, 0), TOLD_AT_ONCE, unmounted);
        if watchers.next.is_some() {
            drop(watchers);
            Self::tell_later(this.into());
        }
    }
}

impl WorkItem for Namespace {
    type Pointer = Arc<Namespace>;

    fn run(this: Arc<Namespace>) {
        let mut watchers = this.watchers.lock();
        let Some(next) = watchers.next.take() else {
            return;
        };
        watchers.tell(next, TOLD_LATER, true);
        if watchers.next.is_some() {
            drop(watchers);
            Self::tell_later(this);
        }
    }
}

/// A watch of a mount namespace. It ends when this is dropped.
pub(super) struct MountWatch {
    share: Share<Namespace, Objects>,
    key: Key,
    watcher: Arc<MountWatcher>,
}

impl MountWatch {
    /// Activates `knote` when a note in `wanted` occurs in the mount namespace of the current task.
    /// If `file` is given, the knote is activated only when the mount that the file was opened in
    /// is unmounted.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the task has no namespace.
    pub(super) fn new(knote: &Knote, wanted: u32, file: Option<&File>) -> Result<Self> {
        let share = Share::of_mounts(
            knote.kqueue().user().objects(),
            fs::MNT_ATTACH | fs::MNT_DETACH,
            Namespace::new,
        )?;
        let heard = Heard {
            wanted,
            fired: 0,
            seen: Happened::default(),
        };
        let watcher = Arc::pin_init(
            pin_init!(MountWatcher {
                knote: knote.into(),
                file: file.map(ARef::from),
                heard <- new_spinlock!(heard, "kqueue_mounts_heard"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let key = (file.is_some(), Arc::as_ptr(&watcher).addr());
        let node = RBTreeNode::new(key, watcher.clone(), GFP_KERNEL_ACCOUNT)?;
        let mut watchers = share.target().watchers.lock();
        watcher.heard.lock().seen = watchers.happened;
        // The key is not in the tree, because the watcher is new.
        watchers.watchers.insert(node);
        drop(watchers);
        Ok(MountWatch {
            share,
            key,
            watcher,
        })
    }

    /// Takes the notes that occurred since the last call.
    fn take(&self) -> u32 {
        let happened = self.share.target().watchers.lock().happened;
        self.watcher.hear(happened);
        core::mem::take(&mut self.watcher.heard.lock().fired)
    }

    /// Selects other notes from now on.
    fn want(&self, wanted: u32) {
        let happened = self.share.target().watchers.lock().happened;
        // What has happened until now counts for the notes that were selected before.
        if self.watcher.hear(happened) {
            self.watcher.knote.activate();
        }
        self.watcher.heard.lock().wanted = wanted;
    }
}

impl Drop for MountWatch {
    fn drop(&mut self) {
        let namespace = self.share.target();
        let node = namespace.watchers.lock().watchers.remove_node(&self.key);
        drop(node);
    }
}

/// All notes of the filter.
const NOTES: u32 = VQ_MOUNT | VQ_UNMOUNT;

/// The notes that a change selects.
fn wanted(fflags: u32) -> u32 {
    match fflags & NOTES {
        0 => NOTES,
        some => some,
    }
}

/// A watched mount namespace.
pub(crate) struct Mounts {
    watch: MountWatch,
    _charge: ObjectCharge,
    /// The notes that were collected and not reported.
    fired: u32,
}

impl FilterOps for Mounts {
    const HANDLES_DELIVERY: bool = true;
    const WEIGHT: u8 = 3;

    /// # Errors
    ///
    /// `EINVAL` for an unknown note; `ENOMEM`; `ENOSPC` if the user has as many watches of the
    /// namespace as the limit allows.
    fn attach(args: AttachArgs<'_>, _: &mut KnoteAccess) -> Result<Attached> {
        check_notes(args.change, NOTES)?;
        let address = fsnotify::address_of_mounts()?;
        let kqueue = args.knote.kqueue();
        let user = kqueue.user();
        let charge = user.charge_watch(ObjectKind::Mounts, (address, 0))?;
        let mounts = Mounts {
            watch: MountWatch::new(args.knote, wanted(args.change.fflags), None)?,
            _charge: charge,
            fired: 0,
        };
        Attached::with(mounts, EV_CLEAR)
    }

    /// # Errors
    ///
    /// `EINVAL` for an unknown note.
    #[inline(never)]
    fn touch(locked: LockedKnote<'_>, change: &Kevent) -> Result {
        let this = locked.inner.source_mut::<Mounts>().ok_or(ENOENT)?;
        check_notes(change, NOTES)?;
        this.watch.want(wanted(change.fflags));
        locked.inner.set_params(change);
        Ok(())
    }

    #[inline(never)]
    fn event(locked: LockedKnote<'_>, _: Scratch) -> Option<Report> {
        let this = locked.inner.source_mut::<Mounts>()?;
        this.fired |= this.watch.take();
        (this.fired != 0).then_some(Report {
            fflags: this.fired,
            ..Report::default()
        })
    }

    fn delivered(locked: LockedKnote<'_>, _: &Kevent) -> bool {
        if let Some(this) = locked.inner.source_mut::<Mounts>() {
            this.fired = 0;
        }
        false
    }
}
