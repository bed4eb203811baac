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
//! `fflags` of the change selects which of the two are reported. If `fflags` is 0, both are
//! reported. A mount that is moved reports both. Bind mounts are mounts.

use super::check_notes;
use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FilterOps, Report},
        knote::{Knote, LockedKnote, UnderMutex},
        object_watches::{ObjectCharge, ObjectKind, WatchedObjects},
    },
    sys::{
        memory::user_scratch::UserScratch,
        notify::{
            fsnotify::{self, mask, EventScope, InodeSnapshot, MarkCount, Notify, SharedMark},
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
const NOTIFY_INLINE_MAX: usize = 32;
/// The number of watchers that the work notifies before it releases the lock and the processor.
const NOTIFY_WORK_MAX: usize = 64;

pub(crate) static MARKS: MarkCount = MarkCount::new();

/// Counters of the mounts and unmounts in a namespace.
#[derive(Clone, Copy, Default)]
struct MountCounts {
    mounts: u64,
    unmounts: u64,
}

/// The notes that a watcher selects, and the notes that are pending.
struct Record {
    wanted: u32,
    fired: u32,
    /// The counters that `fired` takes into account.
    seen: MountCounts,
}

/// A watcher of a mount namespace.
#[pin_data]
pub(super) struct MountWatcher {
    knote: ARef<Knote>,
    /// If set, only the unmount of the mount that this file was opened in is reported.
    file: Option<ARef<File>>,
    #[pin]
    record: SpinLock<Record>,
}

impl MountWatcher {
    /// Compares the counters with those that were recorded last. True if a selected note is new.
    fn update_record(&self, counts: MountCounts) -> bool {
        let mut record = self.record.lock();
        let mut notes = 0;
        if counts.mounts != record.seen.mounts {
            notes |= VQ_MOUNT;
        }
        if counts.unmounts != record.seen.unmounts {
            notes |= VQ_UNMOUNT;
        }
        record.seen = counts;
        notes &= record.wanted;
        if notes == 0
            || self
                .file
                .as_deref()
                .is_some_and(|file| !fsnotify::is_unmounted(file))
        {
            return false;
        }
        // Notes that were already pending have activated the knote before.
        let is_new = notes & !record.fired != 0;
        record.fired |= notes;
        is_new
    }
}

/// The watchers of `EVFILT_FS` sort before those of files. Watchers of one kind are sorted by
/// address.
type Key = (bool, usize);

struct Watchers {
    watchers: RBTree<Key, Arc<MountWatcher>>,
    counts: MountCounts,
    /// The first watcher that was not notified yet.
    next: Option<Key>,
}

impl Watchers {
    /// Notifies at most `count` watchers, beginning with `from`. The first watcher behind them
    /// becomes `next`. Watchers of files are left out if nothing was unmounted.
    fn notify(&mut self, from: Key, count: usize, unmounted: bool) {
        let counts = self.counts;
        let mut cursor = self.watchers.cursor_lower_bound_mut(&from);
        let mut notified = 0;
        while let Some(at) = cursor {
            let (&key, watcher) = at.current();
            if key.0 && !unmounted {
                return;
            }
            if notified == count {
                self.next = Some(self.next.map_or(key, |next| next.min(key)));
                return;
            }
            if watcher.update_record(counts) {
                watcher.knote.activate();
            }
            notified += 1;
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
    notify_work: Work<Namespace>,
}

impl_has_work! {
    impl HasWork<Self> for Namespace { self.notify_work }
}

impl Namespace {
    fn new() -> Result<Arc<Self>> {
        let watchers = Watchers {
            watchers: RBTree::new(),
            counts: MountCounts::default(),
            next: None,
        };
        Arc::pin_init(
            pin_init!(Namespace {
                watchers <- new_spinlock!(watchers, "kqueue_mounts"),
                notify_work <- new_work!("Namespace::notify_work"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Queues the work that notifies the other watchers.
    fn queue_work(this: Arc<Self>) {
        if let Some(queue) = workqueue::queue() {
            // If the work is queued already, it will notify them.
            let _ = queue.enqueue(this);
        }
    }
}

impl Notify for Namespace {
    const SCOPE: EventScope = EventScope::Mounts;

    fn marks() -> &'static MarkCount {
        &MARKS
    }

    fn notify(this: ArcBorrow<'_, Self>, events: u32, _: InodeSnapshot) {
        let mut watchers = this.watchers.lock();
        if events & mask::MNT_ATTACH != 0 {
            watchers.counts.mounts += 1;
        }
        let unmounted = events & mask::MNT_DETACH != 0;
        if unmounted {
            watchers.counts.unmounts += 1;
        }
        watchers.notify((false, 0), NOTIFY_INLINE_MAX, unmounted);
        if watchers.next.is_some() {
            drop(watchers);
            Self::queue_work(this.into());
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
        watchers.notify(next, NOTIFY_WORK_MAX, true);
        if watchers.next.is_some() {
            drop(watchers);
            Self::queue_work(this);
        }
    }
}

/// A watch of a mount namespace. It ends when this is dropped.
pub(super) struct MountWatch {
    mark: SharedMark<Namespace, WatchedObjects>,
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
        let mark = SharedMark::of_mounts(
            knote.kqueue().user().objects(),
            mask::MNT_ATTACH | mask::MNT_DETACH,
            Namespace::new,
        )?;
        let record = Record {
            wanted,
            fired: 0,
            seen: MountCounts::default(),
        };
        let watcher = Arc::pin_init(
            pin_init!(MountWatcher {
                knote: knote.into(),
                file: file.map(ARef::from),
                record <- new_spinlock!(record, "kqueue_mounts_record"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let key = (file.is_some(), Arc::as_ptr(&watcher).addr());
        let node = RBTreeNode::new(key, watcher.clone(), GFP_KERNEL_ACCOUNT)?;
        let mut watchers = mark.target().watchers.lock();
        watcher.record.lock().seen = watchers.counts;
        // The key is not in the tree, because the watcher is new.
        watchers.watchers.insert(node);
        drop(watchers);
        Ok(MountWatch { mark, key, watcher })
    }

    /// Takes the notes that occurred since the last call.
    fn take_notes(&self) -> u32 {
        // The lock is held, so that no counts are compared with older ones.
        let watchers = self.mark.target().watchers.lock();
        self.watcher.update_record(watchers.counts);
        core::mem::take(&mut self.watcher.record.lock().fired)
    }

    /// Selects other notes from now on.
    fn select(&self, wanted: u32) {
        let watchers = self.mark.target().watchers.lock();
        // What has happened until now counts for the notes that were selected before.
        let is_new = self.watcher.update_record(watchers.counts);
        self.watcher.record.lock().wanted = wanted;
        drop(watchers);
        if is_new {
            self.watcher.knote.activate();
        }
    }
}

impl Drop for MountWatch {
    fn drop(&mut self) {
        let namespace = self.mark.target();
        let node = namespace.watchers.lock().watchers.remove_node(&self.key);
        drop(node);
    }
}

/// All notes of the filter.
const NOTES: u32 = VQ_MOUNT | VQ_UNMOUNT;

/// The notes that a change selects.
fn selected_notes(fflags: u32) -> u32 {
    match fflags & NOTES {
        0 => NOTES,
        some => some,
    }
}

/// A watched mount namespace.
pub(crate) struct Fs {
    watch: MountWatch,
    _charge: ObjectCharge,
    /// The notes that were collected and not reported.
    fired: u32,
}

impl FilterOps for Fs {
    const HANDLES_DELIVERY: bool = true;
    const CHARGE_UNITS: u8 = 3;

    /// # Errors
    ///
    /// `EINVAL` for an unknown note; `ENOMEM`; `ENOSPC` if the user has as many watches of the
    /// namespace as the limit allows.
    fn attach(args: AttachArgs<'_>, _: &mut UnderMutex) -> Result<Attached> {
        check_notes(args.change, NOTES)?;
        let address = fsnotify::address_of_mounts()?;
        let kqueue = args.knote.kqueue();
        let user = kqueue.user();
        let charge = user.charge_watch(ObjectKind::Mounts, (address, 0))?;
        let mounts = Fs {
            watch: MountWatch::new(args.knote, selected_notes(args.change.fflags), None)?,
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
        let this = locked.inner.attachment_mut::<Fs>().ok_or(ENOENT)?;
        check_notes(change, NOTES)?;
        this.watch.select(selected_notes(change.fflags));
        locked.inner.set_params(change);
        Ok(())
    }

    #[inline(never)]
    fn event(locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        let this = locked.inner.attachment_mut::<Fs>()?;
        this.fired |= this.watch.take_notes();
        (this.fired != 0).then_some(Report {
            fflags: this.fired,
            ..Report::default()
        })
    }

    fn delivered(locked: LockedKnote<'_>, _: &Kevent) -> bool {
        if let Some(this) = locked.inner.attachment_mut::<Fs>() {
            this.fired = 0;
        }
        false
    }
}
