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
//! mark for it, which all that one user watches have in common.
//!
//! fsnotify tells of a removed directory only the one that it was in, so that has a mark too, again one for all that
//! a user watches in it. When a directory is renamed it moves on to the other one.
//!
//! To set the time of the last change alone is a change of attributes, though fsnotify calls it writing, as it does a
//! truncation. Both are set by `notify_change()`, which tells of it before it gives up the inode's lock, so the size that
//! is seen then is the one that was set: it differs from the last one that was seen if it was a truncation, unless
//! somebody has written in between, and that is told besides.
//!
//! A descriptor that was opened with `O_PATH` names a file, maybe a symbolic link or a socket; who watches it must be one
//! who may read the file.
//!
//! What others do with the file, those notes are for who may read it: now, whatever the descriptor is for.
//!
//! # Where we differ
//!
//! What fsnotify does not see is not seen: writes through a mapping, and what other machines do to
//! a network file system. `NOTE_DELETE` comes with the last name, not with each. To set the time of the last access alone
//! is heard by who asked for `NOTE_READ` too: no reader is to pay for all others.

use super::{check_notes, mounts::MountWatch, ENTRIES};
use crate::{
    engine::{
        close::{self, PathCloses},
        knote::{Bodies, Knote},
        knote_memory::Parts,
        kqueue::Kqueue,
        objects::{ObjectKind, ObjectPlace, Objects},
        ops::{Attach, Attached, FilterOps, Report},
    },
    sys::{
        file::{chardev::object_of, contents, fdtable},
        lock::irqlock::IrqLock,
        memory::scratch::Scratch,
        notify::fsnotify::{
            self, fs, About, InodeLook, InodeState, Mark, MarkCount, Notify, Share,
        },
    },
    uapi::*, //
};
use kernel::{
    fs::File,
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    static_lock_class,
    sync::{aref::ARef, Arc, ArcBorrow, SpinLock}, //
};

pub(crate) static FILE_MARKS: MarkCount = MarkCount::new();
pub(crate) static FOLDER_MARKS: MarkCount = MarkCount::new();

/// The notes that tell what others do who do not change the file.
const OF_OTHERS: u32 = NOTE_OPEN | NOTE_CLOSE | NOTE_CLOSE_WRITE | NOTE_READ;
/// All notes that there are.
const NOTES: u32 = NOTE_DELETE
    | NOTE_WRITE
    | NOTE_EXTEND
    | NOTE_ATTRIB
    | NOTE_LINK
    | NOTE_RENAME
    | NOTE_REVOKE
    | OF_OTHERS;
/// The notes that tell of writing.
const OF_WRITING: u32 = NOTE_WRITE | NOTE_EXTEND;
/// The notes for which the size of a regular file is looked at, and is known.
const OF_SIZE: u32 = OF_WRITING | NOTE_ATTRIB;
/// The notes for which a directory's entries are watched.
const OF_ENTRIES: u32 = NOTE_WRITE | NOTE_EXTEND | NOTE_LINK;
/// The notes for which the folder that a directory is in is watched.
const OF_FOLDER: u32 = NOTE_DELETE | NOTE_LINK;

/// What a file consists of.
#[derive(Clone, Copy)]
enum Content {
    /// Bytes, as many as its size says.
    Bytes,
    /// It is made as it is read. Who makes it may say that it has changed, and says that by its name.
    Generated,
    /// Nothing that could be truncated.
    Other,
}

impl Content {
    fn of(file: &File) -> Self {
        if contents::is_generated(file) {
            Content::Generated
        } else if contents::is_regular(file) {
            Content::Bytes
        } else {
            Content::Other
        }
    }

    /// The events that tell of attributes which were set, the way that they are told of in all other cases. The file was
    /// of that size before.
    fn settle(self, events: u32, size: i64, now: InodeState) -> u32 {
        let times = match self {
            Content::Bytes if size != now.size => fs::ACCESS,
            Content::Bytes | Content::Other => fs::ACCESS | fs::MODIFY,
            Content::Generated => return events,
        };
        let more = if events & times != 0 { fs::ATTRIB } else { 0 };
        events & !times | more
    }
}

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
    is_directory: bool,
    content: Content,
    #[pin]
    heard: IrqLock<Heard>,
}

impl FileWatcher {
    /// Compares the file with what was last seen of it, after those events.
    fn hear(&self, events: u32, inode: InodeLook) {
        let state = inode.state;
        let news = {
            let mut heard = self.heard.lock();
            let events = if inode.sets {
                self.content.settle(events, heard.last.size, state)
            } else {
                events
            };
            let notes = notes(events, self.is_directory, heard.last, state) & heard.wanted;
            heard.last.links = state.links;
            // For good: the folder's mark and its own may tell in another order than they have looked.
            heard.last.dead |= state.dead;
            // Another event in the middle of a write must not hide that it made the file longer.
            if events & fs::MODIFY != 0 {
                heard.last.size = state.size;
            }
            // What it has heard of before, it was told.
            let mut news = notes & !heard.fired != 0;
            heard.fired |= notes;
            if self.is_directory && events & fs::MOVE_SELF != 0 {
                heard.moved = true;
                news |= heard.wanted & OF_FOLDER != 0;
            }
            news
        };
        if news {
            self.knote.activate();
        }
    }
}

impl FileWatcher {
    /// Compares the file with what was last seen of it, without an event.
    fn look(&self, file: &File) {
        let look = InodeLook {
            state: fsnotify::state(file),
            ..InodeLook::default()
        };
        self.hear(0, look);
    }

    /// The events that tell of `wanted`, and those that everything depends on.
    fn events_for(&self, wanted: u32) -> u32 {
        let mut events = fs::ATTRIB | fs::DELETE_SELF | fs::MOVE_SELF | fs::UNMOUNT;
        let mut add = |notes: u32, more: u32| {
            if wanted & notes != 0 {
                events |= more;
            }
        };
        add(OF_WRITING, fs::MODIFY);
        if self.is_directory || matches!(self.content, Content::Bytes) {
            // For the time of the last change. Of a device all that is written to it would be heard.
            add(NOTE_ATTRIB, fs::MODIFY);
        }
        add(OF_ENTRIES, ENTRIES);
        add(NOTE_OPEN, fs::OPEN);
        add(NOTE_CLOSE, fs::CLOSE_NOWRITE);
        add(NOTE_CLOSE_WRITE, fs::CLOSE_WRITE);
        add(NOTE_READ, fs::ACCESS);
        events
    }
}

impl Notify for FileWatcher {
    const ABOUT: About = About::Inode;

    fn marks() -> &'static MarkCount {
        &FILE_MARKS
    }

    fn notify(this: ArcBorrow<'_, Self>, events: u32, inode: InodeLook) {
        this.hear(events, inode);
    }
}

/// (address of the inode, address of the watcher)
type Child = (usize, usize);

/// A folder that has directories in it which a user watches.
#[pin_data]
pub(crate) struct Folder {
    #[pin]
    children: SpinLock<RBTree<Child, Arc<FileWatcher>>>,
}

impl Folder {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Folder { children <- new_spinlock!(RBTree::new(), "kqueue_folder") }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl Notify for Folder {
    const ABOUT: About = About::Entry;

    fn marks() -> &'static MarkCount {
        &FOLDER_MARKS
    }

    /// Something in it was removed.
    fn notify(this: ArcBorrow<'_, Self>, _: u32, inode: InodeLook) {
        let mut children = this.children.lock();
        let mut cursor = children.cursor_lower_bound_mut(&(inode.address, 0));
        while let Some(at) = cursor {
            let (key, watcher) = at.current();
            if key.0 != inode.address {
                break;
            }
            watcher.hear(0, inode);
            cursor = at.move_next();
        }
    }
}

/// The watch of the folder that a directory is in; over when dropped.
struct FolderWatch {
    share: Share<Folder, Objects>,
    child: Child,
}

impl FolderWatch {
    fn new(file: &File, watcher: &Arc<FileWatcher>) -> Result<Self> {
        let kqueue = watcher.knote.kqueue();
        let share = Share::of_folder(kqueue.user().objects(), file, fs::DELETE, Folder::new)?;
        let child = (fsnotify::address(file), Arc::as_ptr(watcher).addr());
        let node = RBTreeNode::new(child, watcher.clone(), GFP_KERNEL_ACCOUNT)?;
        // The key is new: a watcher has one folder at a time.
        share.target().children.lock().insert(node);
        Ok(FolderWatch { share, child })
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        let node = self.share.target().children.lock().remove_node(&self.child);
        drop(node);
    }
}

/// What has happened, when a file that was as `last` said is as `now` says.
fn notes(events: u32, is_directory: bool, last: InodeState, now: InodeState) -> u32 {
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
    let gone = |state: InodeState| state.dead || state.links == 0;
    let ends = gone(now) && !gone(last);
    let counted = now.links != last.links && !last.dead;
    // A file's own event says the one or the other. A directory's count changes with what is in it, of which there are
    // other events, that may not have been asked for; the one on itself is about that only if it ends.
    if !counted || (is_directory && !ends) {
        add(fs::ATTRIB, NOTE_ATTRIB);
    }
    if counted {
        notes |= NOTE_LINK;
    }
    if events & fs::ISDIR != 0 && events & (fs::CREATE | fs::DELETE) != 0 {
        notes |= NOTE_LINK;
    }
    if ends {
        notes |= NOTE_DELETE;
    }
    notes
}

/// True if the current task may ask for those notes of `file`.
fn may_ask(file: &File, wanted: u32) -> bool {
    if fdtable::is_path(file) {
        // To name a file takes no right to it.
        return fsnotify::may_read(file);
    }
    let told = if contents::is_regular(file) || contents::is_directory(file) {
        OF_OTHERS
    } else {
        // Writing does not change the file itself: it is what others do with a terminal, say.
        OF_OTHERS | OF_WRITING
    };
    wanted & told == 0 || fsnotify::may_read(file)
}

/// A watched file.
pub(crate) struct Vnode {
    // The inode is the file's, to which the knote is bound.
    mark: Mark<FileWatcher>,
    /// That of the folder which a directory is in.
    folder: Option<FolderWatch>,
    /// That of the mount namespace, for `NOTE_REVOKE`.
    unmounts: Option<MountWatch>,
    /// The unmount was told.
    unmounted: bool,
    watcher: Arc<FileWatcher>,
    _place: ObjectPlace,
    /// For a descriptor that was opened with `O_PATH`.
    _closes: Option<PathCloses>,
    /// What has happened and was not cleared.
    fired: u32,
}

impl Vnode {
    /// # Errors
    ///
    /// `EINVAL` for a note that is unknown, for a file that has no place in a file system, or one that has no fsnotify;
    /// `EACCES` for notes that only who may read the file can ask for, with `O_PATH` for any; `ENOSPC` if the user watches the file as often
    /// as they may; `ENOMEM`; `EBADF` if there is no file.
    fn new(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Self> {
        let file = attach.file.ok_or(EBADF)?;
        // A kqueue is one however it was made.
        if !fsnotify::has_place(&file) || object_of::<Kqueue>(&file).is_some() {
            return Err(EINVAL);
        }
        check_notes(attach.change, NOTES)?;
        let wanted = attach.change.fflags;
        if !may_ask(&file, wanted) {
            return Err(EACCES);
        }
        let closes = fdtable::is_path(&file)
            .then(|| PathCloses::new(&attach.knote.kqueue().shared().closes))
            .transpose()?;
        close::bind(attach.knote, file, attach.table, bodies)?;
        let file = attach.knote.file(bodies).ok_or(EBADF)?;
        let kqueue = attach.knote.kqueue();
        let user = kqueue.user();
        let place = user.watch_object(ObjectKind::Inode, (fsnotify::address(file), 0))?;
        let heard = Heard {
            wanted,
            fired: 0,
            last: fsnotify::state(file),
            moved: false,
        };
        let watcher = Arc::pin_init(
            pin_init!(FileWatcher {
                knote: attach.knote.into(),
                is_directory: contents::is_directory(file),
                content: Content::of(file),
                heard <- IrqLock::new(heard, c"kqueue_vnode", static_lock_class!()),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let events = watcher.events_for(wanted);
        let this = Vnode {
            mark: Mark::new(&user.objects().marks.files, file, events, &watcher)?,
            folder: Self::watch_folder(file, wanted, &watcher)?,
            unmounts: Self::watch_unmounts(file, wanted, &watcher)?,
            unmounted: false,
            watcher,
            _place: place,
            _closes: closes,
            fired: 0,
        };
        // It may have been removed before the folder was watched.
        this.watcher.look(file);
        Ok(this)
    }

    fn watch_unmounts(
        file: &File,
        wanted: u32,
        watcher: &FileWatcher,
    ) -> Result<Option<MountWatch>> {
        if wanted & NOTE_REVOKE == 0 {
            return Ok(None);
        }
        MountWatch::new(&watcher.knote, VQ_UNMOUNT, Some(file)).map(Some)
    }

    fn watch_folder(
        file: &File,
        wanted: u32,
        watcher: &Arc<FileWatcher>,
    ) -> Result<Option<FolderWatch>> {
        if wanted & OF_FOLDER == 0 || !watcher.is_directory {
            return Ok(None);
        }
        FolderWatch::new(file, watcher).map(Some)
    }

    /// # Errors
    ///
    /// `EINVAL` for a note that is unknown; `EACCES`, `ENOMEM`.
    fn modify(&mut self, file: &File, change: &Kevent) -> Result {
        check_notes(change, NOTES)?;
        let wanted = change.fflags;
        if !may_ask(file, wanted) {
            return Err(EACCES);
        }
        let watcher = self.watcher.clone();
        let before = watcher.heard.lock().wanted;
        // What is watched already stays so: the mounts are those of the namespace of who has added it.
        let folder = match self.folder {
            None => {
                watcher.heard.lock().moved = false;
                Self::watch_folder(file, wanted, &watcher)?
            }
            Some(_) => None,
        };
        let unmounts = match self.unmounts {
            None => Self::watch_unmounts(file, wanted, &watcher)?,
            Some(_) => None,
        };
        self.mark.set_events(watcher.events_for(wanted | before));
        let moved = {
            let mut heard = watcher.heard.lock();
            heard.wanted = wanted;
            // What was not heard of until now counts from now on.
            let now = fsnotify::state(file);
            if before & OF_SIZE == 0 {
                heard.last.size = now.size;
            }
            if before & OF_ENTRIES == 0 && watcher.is_directory {
                heard.last.links = now.links;
            }
            if before & OF_FOLDER == 0 && watcher.is_directory {
                heard.last.dead = now.dead;
            }
            heard.moved && wanted & OF_FOLDER != 0
        };
        if moved {
            watcher.knote.activate();
        }
        self.mark.set_events(watcher.events_for(wanted));
        if wanted & OF_FOLDER == 0 {
            self.folder = None;
        } else if folder.is_some() {
            self.folder = folder;
        }
        if wanted & NOTE_REVOKE == 0 {
            self.unmounts = None;
        } else if unmounts.is_some() {
            self.unmounts = unmounts;
        }
        Ok(())
    }

    /// Collects what has happened, and follows a directory that was moved.
    fn evaluate(&mut self, file: &File) -> Option<Report> {
        let (moved, wanted) = {
            let mut heard = self.watcher.heard.lock();
            self.fired |= core::mem::take(&mut heard.fired);
            (core::mem::take(&mut heard.moved), heard.wanted)
        };
        if moved && wanted & OF_FOLDER != 0 {
            // First out of the old one: it may be the same.
            self.folder = None;
            match Self::watch_folder(file, wanted, &self.watcher) {
                Ok(folder) => self.folder = folder,
                // Next time, then.
                Err(_) => self.watcher.heard.lock().moved = true,
            }
            // It may be gone again since.
            self.watcher.look(file);
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
}

impl FilterOps for Vnode {
    const IS_DESCRIPTOR: bool = true;
    const TAKES_PATHS: bool = true;
    const COUNTS: bool = true;
    const WEIGHT: u8 = 4;

    /// # Errors
    ///
    /// As [`Vnode::new`].
    fn attach(attach: Attach<'_>, bodies: &mut Bodies) -> Result<Attached> {
        Attached::with(Vnode::new(attach, bodies)?, 0)
    }

    /// # Errors
    ///
    /// As [`Vnode::modify`].
    #[inline(never)]
    fn touch(parts: Parts<'_>, change: &Kevent) -> Result {
        let file = parts.file.ok_or(ENOENT)?;
        let this = parts.body.source_mut::<Vnode>().ok_or(ENOENT)?;
        this.modify(file, change)?;
        parts.body.take(change);
        Ok(())
    }

    #[inline(never)]
    fn event(parts: Parts<'_>, _: Scratch) -> Option<Report> {
        parts.body.source_mut::<Vnode>()?.evaluate(parts.file?)
    }

    fn reported(parts: Parts<'_>, event: &Kevent) -> bool {
        if event.has(EV_CLEAR) {
            if let Some(this) = parts.body.source_mut::<Vnode>() {
                this.fired = 0;
            }
        }
        false
    }
}
