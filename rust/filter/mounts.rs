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
//! An fsnotify mark on the mount namespace of who adds the event, one for all watchers of a user. Who mounts tells a
//! few of them; the others, `NOTE_REVOKE` of files above all, a kernel thread tells, some at a time.
//!
//! # Where we differ
//!
//! `fflags` of the change says which of the two are wanted, both if neither. A mount that is moved
//! reports both. Bind mounts are mounts.

use super::check_notes;
use crate::{
    engine::{
        knote::{Bodies, Knote},
        knote_memory::Parts,
        objects::{ObjectKind, ObjectPlace, Objects},
        ops::{Attach, Attached, FilterOps, Report},
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

/// How many watchers are told by who mounts or unmounts.
const TOLD_AT_ONCE: usize = 32;
/// How many the kernel thread tells before it lets others have the lock, and the processor.
const TOLD_LATER: usize = 64;

pub(crate) static MARKS: MarkCount = MarkCount::new();

/// What there was in a mount namespace, counted.
#[derive(Clone, Copy, Default)]
struct Happened {
    mounts: u64,
    unmounts: u64,
}

/// What was asked of the namespace, and heard.
struct Heard {
    wanted: u32,
    fired: u32,
    /// What `fired` takes account of.
    seen: Happened,
}

/// Who wants to know of a mount namespace.
#[pin_data]
pub(super) struct MountWatcher {
    knote: ARef<Knote>,
    /// Only of the end of the mount that this was opened in.
    file: Option<ARef<File>>,
    #[pin]
    heard: SpinLock<Heard>,
}

impl MountWatcher {
    /// Compares what has happened with what it has seen. True if there is news.
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
        // What it has heard of before, it was told.
        let news = notes & !heard.fired != 0;
        heard.fired |= notes;
        news
    }
}

/// Those that watch the filter's events come first; then by address.
type Key = (bool, usize);

struct Watchers {
    watchers: RBTree<Key, Arc<MountWatcher>>,
    happened: Happened,
    /// The first that is still to be told.
    next: Option<Key>,
}

impl Watchers {
    /// Tells at most `count` from that one on. Those behind them remain to be told. Those of files are left out if
    /// nothing was unmounted.
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

/// A mount namespace that is watched by a user.
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

    /// Has the others told.
    fn tell_later(this: Arc<Self>) {
        if let Some(queue) = workqueue::queue() {
            // Already queued is as good.
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

/// A watch of a mount namespace; over when dropped.
pub(super) struct MountWatch {
    share: Share<Namespace, Objects>,
    key: Key,
    watcher: Arc<MountWatcher>,
}

impl MountWatch {
    /// Activates `knote` when something in `wanted` happens in the current task's mount namespace; if it is for a file,
    /// only when the mount is gone that the file was opened in.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` for a task without a namespace.
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
        // The key is new.
        watchers.watchers.insert(node);
        drop(watchers);
        Ok(MountWatch {
            share,
            key,
            watcher,
        })
    }

    /// Takes what has happened since.
    fn take(&self) -> u32 {
        let happened = self.share.target().watchers.lock().happened;
        self.watcher.hear(happened);
        core::mem::take(&mut self.watcher.heard.lock().fired)
    }

    /// Asks for something else from now on.
    fn want(&self, wanted: u32) {
        let happened = self.share.target().watchers.lock().happened;
        // That was while the other was asked for.
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

/// All notes that there are.
const NOTES: u32 = VQ_MOUNT | VQ_UNMOUNT;

/// Which of the two a change asks for.
fn wanted(fflags: u32) -> u32 {
    match fflags & NOTES {
        0 => NOTES,
        some => some,
    }
}

/// A watched mount namespace.
pub(crate) struct Mounts {
    watch: MountWatch,
    _place: ObjectPlace,
    /// What has happened and was not reported.
    fired: u32,
}

impl FilterOps for Mounts {
    const COUNTS: bool = true;
    const WEIGHT: u8 = 3;

    /// # Errors
    ///
    /// `EINVAL` for a note that is unknown; `ENOMEM`; `ENOSPC` if the user watches the namespace as often as they may.
    fn attach(attach: Attach<'_>, _: &mut Bodies) -> Result<Attached> {
        check_notes(attach.change, NOTES)?;
        let address = fsnotify::address_of_mounts()?;
        let kqueue = attach.knote.kqueue();
        let user = kqueue.user();
        let place = user.watch_object(ObjectKind::Mounts, (address, 0))?;
        let mounts = Mounts {
            watch: MountWatch::new(attach.knote, wanted(attach.change.fflags), None)?,
            _place: place,
            fired: 0,
        };
        Attached::with(mounts, EV_CLEAR)
    }

    /// # Errors
    ///
    /// `EINVAL` for a note that is unknown.
    #[inline(never)]
    fn touch(parts: Parts<'_>, change: &Kevent) -> Result {
        let this = parts.body.source_mut::<Mounts>().ok_or(ENOENT)?;
        check_notes(change, NOTES)?;
        this.watch.want(wanted(change.fflags));
        parts.body.take(change);
        Ok(())
    }

    #[inline(never)]
    fn event(parts: Parts<'_>, _: Scratch) -> Option<Report> {
        let this = parts.body.source_mut::<Mounts>()?;
        this.fired |= this.watch.take();
        (this.fired != 0).then_some(Report {
            fflags: this.fired,
            ..Report::default()
        })
    }

    fn reported(parts: Parts<'_>, _: &Kevent) -> bool {
        if let Some(this) = parts.body.source_mut::<Mounts>() {
            this.fired = 0;
        }
        false
    }
}
