// SPDX-License-Identifier: GPL-2.0

//! Watching what there is between the offset and the end of a regular file, a directory or a block device, for
//! `EVFILT_READ`.

use super::ENTRIES;
use crate::{
    engine::{
        knote::Knote,
        objects::{ObjectKind, ObjectPlace},
    },
    sys::{
        file::contents,
        notify::fsnotify::{self, fs, About, InodeLook, Mark, MarkCount, Notify},
        probe::{
            hook::Watch,
            seek::{Seek, SeekProbe},
        },
    }, //
};
use kernel::{
    fs::File,
    new_spinlock_irq,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow, SpinLockIrq}, //
};

pub(crate) static MARKS: MarkCount = MarkCount::new();

/// What was seen of a file.
struct Seen {
    /// There was something between the offset and the end.
    something: bool,
    /// There are news since a scan has looked, and it was told.
    told: bool,
}

/// Someone who waits for there to be something between the offset and the end of a file.
#[pin_data]
pub(crate) struct ContentWatcher {
    knote: ARef<Knote>,
    file: ARef<File>,
    #[pin]
    seen: SpinLockIrq<Seen>,
}

impl ContentWatcher {
    /// A scan looks: what it sees, later news are measured by.
    fn look(&self) {
        let mut seen = self.seen.lock();
        seen.told = false;
        seen.something = contents::distance(&self.file) != 0;
    }

    /// There may be news, if it is one that there is something where there was nothing, or in any case.
    fn hear(&self, any: bool) {
        let news = {
            let mut seen = self.seen.lock();
            let before = seen.something;
            seen.something = contents::distance(&self.file) != 0;
            let news = (any || (seen.something && !before)) && !seen.told;
            seen.told |= news;
            news
        };
        if news {
            self.knote.activate();
        }
    }
}

impl Notify for ContentWatcher {
    const ABOUT: About = About::Inode;

    fn marks() -> &'static MarkCount {
        &MARKS
    }

    /// Written or truncated: news, whatever was there before.
    fn notify(this: ArcBorrow<'_, Self>, _: u32, _: InodeLook) {
        this.hear(true);
    }
}

impl Seek for ContentWatcher {
    /// Reading on is no news, going back from the end is.
    fn moved(this: ArcBorrow<'_, Self>) {
        this.hear(false);
    }
}

/// What tells of a regular file.
pub(super) struct Contents {
    _mark: Mark<ContentWatcher>,
    _watch: Watch<SeekProbe<ContentWatcher>>,
    watcher: Arc<ContentWatcher>,
    _places: [ObjectPlace; 2],
}

impl Contents {
    /// A scan evaluates the knote: later news are measured by what it sees.
    pub(super) fn look(&self) {
        self.watcher.look();
    }

    pub(super) fn new(file: &File, knote: &Knote) -> Result<Self> {
        // What is written to others, by the one descriptor that there is, fsnotify is not told of.
        if !fsnotify::has_place(file) {
            return Err(EINVAL);
        }
        let kqueue = knote.kqueue();
        let user = kqueue.user();
        let inode = (fsnotify::address(file), 0);
        let open = (file.as_ptr().addr(), 0);
        let places = [
            user.watch_object(ObjectKind::Inode, inode)?,
            user.watch_object(ObjectKind::OpenFile, open)?,
        ];
        let seen = Seen {
            something: false,
            told: false,
        };
        let watcher = Arc::pin_init(
            pin_init!(ContentWatcher {
                knote: knote.into(),
                file: file.into(),
                seen <- new_spinlock_irq!(seen, "kqueue_contents"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let marks = &user.objects().marks.contents;
        Ok(Contents {
            _mark: Mark::new(marks, file, fs::MODIFY | ENTRIES, &watcher)?,
            _watch: kqueue.shared().hooks.seeks.watch(file, &watcher)?,
            watcher,
            _places: places,
        })
    }
}
