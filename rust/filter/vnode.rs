// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_VNODE`: the file of a descriptor changes.
//!
//! # BSD says
//!
//! What was asked for in `fflags` and has happened is reported in `fflags`; it accumulates until it
//! is reported with `EV_CLEAR`, and stays without.
//!
//! # Linux source
//!
//! fsnotify marks on the inode:
//!
//! | Note | Events |
//! |---|---|
//! | `NOTE_WRITE` | written, truncated; entries of a directory made, removed, renamed |
//! | `NOTE_EXTEND` | that, and it is longer than it ever was seen |
//! | `NOTE_ATTRIB` | attributes, without a change of the link count |
//! | `NOTE_LINK` | the link count changed; a directory in it was made or removed |
//! | `NOTE_DELETE` | no name is left |
//! | `NOTE_RENAME` | renamed |
//! | `NOTE_OPEN`, `NOTE_CLOSE`, `NOTE_CLOSE_WRITE`, `NOTE_READ` | (FreeBSD's) |
//! | `NOTE_REVOKE` | the file system is shut down, or unmounted where the file was opened |
//!
//! An open file keeps its file system, so the latter is a lazy unmount; the mount namespace has a
//! mark for it.
//!
//! fsnotify tells of a removed directory only the one that it was in, so that has a mark too, which
//! moves along when the directory is renamed.
//!
//! # Where we differ
//!
//! What fsnotify does not see is not seen: writes through a mapping, and what other machines do to
//! a network file system. `NOTE_DELETE` comes with the last name, not with each.

use super::{mounts::MountWatcher, Attach, Report, ENTRIES};
use crate::{
    device::Shared,
    hook::{
        close,
        contents,
        fsnotify::{self, fs, Group, InodeState, Mark, Notify},
        irqlock::IrqLock, //
    },
    knote::{Bodies, Knote},
    uapi::*, //
};
use kernel::{
    fs::File,
    prelude::*,
    static_lock_class,
    sync::{aref::ARef, Arc, ArcBorrow}, //
};

/// What is asked of the folder that a directory is in.
const OF_PARENT: u32 = fs::DELETE;

/// What is known of a file.
struct Heard {
    wanted: u32,
    fired: u32,
    last: InodeState,
    /// It was renamed: the folder to watch may be another one.
    moved: bool,
}

/// A file that is watched; shared with its marks.
#[pin_data]
pub(crate) struct FileWatcher {
    knote: ARef<Knote>,
    #[pin]
    heard: IrqLock<Heard>,
}

impl Notify for FileWatcher {
    const MOUNTS: bool = false;

    fn notify(this: ArcBorrow<'_, Self>, events: u32, state: InodeState) {
        let due = {
            let mut heard = this.heard.lock();
            let notes = notes(events, heard.last, state) & heard.wanted;
            heard.last.links = state.links;
            heard.last.dead = state.dead;
            // Another event in the middle of a write must not hide that it made the file longer.
            if events & fs::MODIFY != 0 {
                heard.last.size = state.size;
            }
            heard.fired |= notes;
            let moved = events & fs::MOVE_SELF != 0;
            heard.moved |= moved;
            notes != 0 || moved
        };
        if due {
            this.knote.activate();
        }
    }
}

/// What has happened, when a file that was as `last` said is as `now` says.
fn notes(events: u32, last: InodeState, now: InodeState) -> u32 {
    let grown = events & fs::MODIFY != 0 && now.size > last.size;
    let mut notes = if grown { NOTE_EXTEND } else { 0 };
    // Nearly all are this.
    if events == fs::MODIFY && (now.links, now.dead) == (last.links, last.dead) {
        return notes | NOTE_WRITE;
    }
    let mut add = |events_of: u32, note: u32| {
        if events & events_of != 0 {
            notes |= note;
        }
    };
    add(fs::MODIFY | ENTRIES, NOTE_WRITE);
    add(fs::MOVE_SELF, NOTE_RENAME);
    add(fs::UNMOUNT, NOTE_REVOKE);
    add(fs::DELETE_SELF, NOTE_DELETE);
    add(fs::OPEN, NOTE_OPEN);
    add(fs::CLOSE_NOWRITE, NOTE_CLOSE);
    add(fs::CLOSE_WRITE, NOTE_CLOSE_WRITE);
    add(fs::ACCESS, NOTE_READ);
    if now.links == last.links {
        add(fs::ATTRIB, NOTE_ATTRIB);
    } else {
        notes |= NOTE_LINK;
    }
    if events & fs::ISDIR != 0 && events & (fs::CREATE | fs::DELETE) != 0 {
        notes |= NOTE_LINK;
    }
    let gone = |state: InodeState| state.dead || state.links == 0;
    if gone(now) && !gone(last) {
        notes |= NOTE_DELETE;
    }
    notes
}

/// The events that tell of `wanted`, and those that everything depends on.
fn events_for(wanted: u32) -> u32 {
    let mut events = fs::ATTRIB | fs::DELETE_SELF | fs::MOVE_SELF | fs::UNMOUNT;
    let mut add = |notes: u32, more: u32| {
        if wanted & notes != 0 {
            events |= more;
        }
    };
    add(NOTE_WRITE | NOTE_EXTEND | NOTE_LINK, ENTRIES | fs::MODIFY);
    add(NOTE_OPEN, fs::OPEN);
    add(NOTE_CLOSE, fs::CLOSE_NOWRITE);
    add(NOTE_CLOSE_WRITE, fs::CLOSE_WRITE);
    add(NOTE_READ, fs::ACCESS);
    events
}

/// A watched file.
pub(crate) struct Vnode {
    // The inode is the file's, to which the knote is bound.
    mark: Mark<FileWatcher>,
    /// That of the folder which a directory is in.
    parent: Option<Mark<FileWatcher>>,
    /// That of the mount namespace, for `NOTE_REVOKE`.
    unmounts: Option<Mark<MountWatcher>>,
    /// The unmount was told.
    unmounted: bool,
    watcher: Arc<FileWatcher>,
    /// What has happened and was not cleared.
    fired: u32,
}

impl Vnode {
    /// # Errors
    ///
    /// `EINVAL` for a file that has no place in a file system, or one that has no fsnotify;
    /// `ENOMEM`; `EBADF` if there is no file.
    pub(super) fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Self> {
        let file = attach.file.ok_or(EBADF)?;
        if !fsnotify::has_inode_of_its_own(&file) {
            return Err(EINVAL);
        }
        let wanted = attach.change.fflags;
        close::bind(attach.knote, file, attach.table, bodies)?;
        let file = attach.knote.file(bodies).ok_or(EBADF)?;
        let heard = Heard {
            wanted,
            fired: 0,
            last: fsnotify::state(file),
            moved: false,
        };
        let watcher = Arc::pin_init(
            pin_init!(FileWatcher {
                knote: attach.knote.into(),
                heard <- IrqLock::new(heard, c"kqueue_vnode", static_lock_class!()),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let files = &attach.shared.files;
        Ok(Vnode {
            mark: Mark::new(files, file, events_for(wanted), &watcher)?,
            parent: Self::watch_parent(files, file, wanted, &watcher)?,
            unmounts: Self::watch_unmounts(attach.shared, attach.knote, wanted)?,
            unmounted: false,
            watcher,
            fired: 0,
        })
    }

    fn watch_unmounts(
        shared: &Shared,
        knote: &Knote,
        wanted: u32,
    ) -> Result<Option<Mark<MountWatcher>>> {
        if wanted & NOTE_REVOKE == 0 {
            return Ok(None);
        }
        let (_, mark) = MountWatcher::watch(shared, knote, VQ_UNMOUNT)?;
        Ok(Some(mark))
    }

    fn watch_parent(
        files: &Arc<Group<FileWatcher>>,
        file: &File,
        wanted: u32,
        watcher: &Arc<FileWatcher>,
    ) -> Result<Option<Mark<FileWatcher>>> {
        if wanted & (NOTE_DELETE | NOTE_LINK) == 0 || !contents::is_directory(file) {
            return Ok(None);
        }
        Mark::on_parent(files, file, OF_PARENT, watcher).map(Some)
    }

    pub(super) fn touch(&mut self, file: &File, change: &Kevent) -> Result {
        let wanted = change.fflags;
        let watcher = self.watcher.clone();
        // The marks stay: that of the mounts is in the namespace of who added it.
        if watcher.heard.lock().wanted == wanted {
            return Ok(());
        }
        let kqueue = watcher.knote.kqueue();
        let files = &kqueue.shared().files;
        let mark = Mark::new(files, file, events_for(wanted), &watcher)?;
        let parent = Self::watch_parent(files, file, wanted, &watcher)?;
        let unmounts = Self::watch_unmounts(kqueue.shared(), &watcher.knote, wanted)?;
        self.mark = mark;
        self.parent = parent;
        self.unmounts = unmounts;
        watcher.heard.lock().wanted = wanted;
        Ok(())
    }

    pub(super) fn event(&mut self, file: &File) -> Option<Report> {
        let (moved, wanted) = {
            let mut heard = self.watcher.heard.lock();
            self.fired |= core::mem::take(&mut heard.fired);
            (core::mem::take(&mut heard.moved), heard.wanted)
        };
        if moved && self.parent.is_some() {
            let kqueue = self.watcher.knote.kqueue();
            let files = &kqueue.shared().files;
            match Self::watch_parent(files, file, wanted, &self.watcher) {
                Ok(parent) => self.parent = parent,
                // Next time, then.
                Err(_) => self.watcher.heard.lock().moved = true,
            }
            // It may be gone again since.
            let state = fsnotify::state(file);
            Notify::notify(self.watcher.as_arc_borrow(), 0, state);
            self.fired |= core::mem::take(&mut self.watcher.heard.lock().fired);
        }
        let unmounts = self.unmounts.is_some() && !self.unmounted;
        if unmounts && fsnotify::is_unmounted(file) {
            self.unmounted = true;
            self.fired |= NOTE_REVOKE;
        }
        if self.fired == 0 {
            return None;
        }
        let over = self.fired & NOTE_REVOKE != 0;
        Some(Report {
            flags: if over { EV_EOF | EV_NODATA } else { 0 },
            fflags: self.fired,
            data: 0,
        })
    }

    pub(super) fn reported(&mut self, clear: bool) {
        if clear {
            self.fired = 0;
        }
    }
}
