// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_VNODE` reports changes of the file that a descriptor refers to.
//!
//! # BSD says
//!
//! The change selects notes in `fflags`, and the event reports those that have occurred. Notes
//! accumulate. They are reset when they are reported with `EV_CLEAR`; without it they stay set.
//!
//! # Linux source
//!
//! The source is an fsnotify mark on the inode. The notes mean:
//!
//! | Note | Events |
//! |---|---|
//! | `NOTE_WRITE` | The file was written or truncated; an entry was created, removed or renamed |
//! | `NOTE_EXTEND` | The file was written, and is longer than its last recorded size |
//! | `NOTE_ATTRIB` | Attributes changed, and the link count did not |
//! | `NOTE_LINK` | The link count changed; a subdirectory was created or removed |
//! | `NOTE_DELETE` | The file has no name left |
//! | `NOTE_RENAME` | The file was renamed |
//! | `NOTE_OPEN`, `NOTE_CLOSE`, `NOTE_CLOSE_WRITE`, `NOTE_READ` | as in FreeBSD |
//! | `NOTE_REVOKE` | The file system was shut down, or the mount of the open file was unmounted |
//!
//! An open file keeps its file system mounted, so the unmount that `NOTE_REVOKE` reports is a lazy
//! one. It is detected by a mark on the mount namespace. All watches of one user share that mark.
//!
//! fsnotify reports the removal of a directory only to its parent. So the parent has a mark as
//! well, and all watches that one user has in that parent share it. When a watched directory is
//! renamed, its watch moves to the new parent.
//!
//! fsnotify reports `FS_MODIFY` both for a truncation and for a change of only the modification
//! time. This filter reports the latter as a change of attributes. Both are made by
//! `notify_change()`, which calls fsnotify before the caller releases the inode's lock. So the size
//! that the mark reads is the size that was set. If it differs from the last size that was read,
//! the event was a truncation. A write between the two may hide the difference, but that write is
//! reported itself.
//!
//! A descriptor that was opened with `O_PATH` only names a file, which may be a symbolic link or a
//! socket. The caller may watch it only if the caller may read the file. The same holds for notes
//! that report what other tasks do with a file without changing it. The permission is checked when
//! the notes are selected, whatever the access mode of the descriptor is.
//!
//! # Where we differ
//!
//! Events that fsnotify does not report are not reported here: writes through a mapping, and
//! changes that other machines make in a network file system. `NOTE_DELETE` is reported when the
//! last name is removed, and not for each name. A change of only the access time is also reported
//! to knotes with `NOTE_READ`, because a distinction would add a cost to every read of the file.

use super::{check_notes, fs::MountWatch, ENTRIES};
use crate::{
    engine::{
        close::{self, PathCloseWatch},
        filter_ops::{AttachArgs, Attached, FilterOps, Report},
        knote::{Knote, LockedKnote, UnderMutex},
        kqueue::Kqueue,
        object_watches::{ObjectCharge, ObjectKind, WatchedObjects},
    },
    sys::{
        file::{chardev::object_of, fdtable, file_type},
        lock::raw_spin::IrqLock,
        memory::user_scratch::UserScratch,
        notify::fsnotify::{
            self, mask, EventScope, InodeSnapshot, InodeState, Mark, MarkCount, Notify, SharedMark,
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
pub(crate) static PARENT_MARKS: MarkCount = MarkCount::new();

/// The notes that report accesses which do not change the file.
const ACCESS_NOTES: u32 = NOTE_OPEN | NOTE_CLOSE | NOTE_CLOSE_WRITE | NOTE_READ;
/// All notes of the filter.
const NOTES: u32 = NOTE_DELETE
    | NOTE_WRITE
    | NOTE_EXTEND
    | NOTE_ATTRIB
    | NOTE_LINK
    | NOTE_RENAME
    | NOTE_REVOKE
    | ACCESS_NOTES;
/// The notes that report writes.
const WRITE_NOTES: u32 = NOTE_WRITE | NOTE_EXTEND;
/// The notes for which the size of a regular file is read at each event, so that the last size is
/// known.
const SIZE_NOTES: u32 = WRITE_NOTES | NOTE_ATTRIB;
/// The notes for which a directory's entries are watched.
const ENTRY_NOTES: u32 = NOTE_WRITE | NOTE_EXTEND | NOTE_LINK;
/// The notes for which the parent of a directory is watched.
const PARENT_NOTES: u32 = NOTE_DELETE | NOTE_LINK;

/// What the contents of a file are.
#[derive(Clone, Copy)]
enum Content {
    /// Bytes. Their number is the size of the file.
    Bytes,
    /// The contents are generated when the file is read. The generator may report a change, and
    /// does so by the name of the file.
    Generated,
    /// The file cannot be truncated.
    Other,
}

impl Content {
    fn of(file: &File) -> Self {
        if file_type::is_generated(file) {
            Content::Generated
        } else if file_type::is_regular(file) {
            Content::Bytes
        } else {
            Content::Other
        }
    }

    /// Converts the events of a setattr operation, so that a change of only the times is reported
    /// as `FS_ATTRIB` as every other change of attributes is. `size` is the size of the file before
    /// the operation.
    fn normalize(self, events: u32, size: i64, now: InodeState) -> u32 {
        let times = match self {
            Content::Bytes if size != now.size => mask::ACCESS,
            Content::Bytes | Content::Other => mask::ACCESS | mask::MODIFY,
            Content::Generated => return events,
        };
        let more = if events & times != 0 { mask::ATTRIB } else { 0 };
        events & !times | more
    }
}

/// The recorded state of a file, and the notes that are selected and pending.
struct Record {
    wanted: u32,
    fired: u32,
    last: InodeState,
    /// The directory was renamed, so its parent may be another directory now.
    moved: bool,
}

/// A watched file. Its marks share this object.
#[pin_data]
pub(crate) struct FileWatcher {
    knote: ARef<Knote>,
    is_directory: bool,
    content: Content,
    #[pin]
    record: IrqLock<Record>,
}

impl FileWatcher {
    /// Compares the state of the file with the state that was recorded last, after `events` were
    /// reported. Activates the knote if a selected note is new.
    fn handle_events(&self, events: u32, inode: InodeSnapshot) {
        let state = inode.state;
        let is_new = {
            let mut record = self.record.lock();
            let events = if inode.is_setattr {
                self.content.normalize(events, record.last.size, state)
            } else {
                events
            };
            let notes = notes(events, self.is_directory, record.last, state) & record.wanted;
            record.last.links = state.links;
            // The flag is never cleared. The mark of the parent and the mark of the file itself may
            // report in another order than they have read the state.
            record.last.dead |= state.dead;
            // The size is recorded only at a write. Otherwise another event in the middle of a
            // write would hide that the write has extended the file.
            if events & mask::MODIFY != 0 {
                record.last.size = state.size;
            }
            // Notes that were already pending have activated the knote before.
            let mut is_new = notes & !record.fired != 0;
            record.fired |= notes;
            if self.is_directory && events & mask::MOVE_SELF != 0 {
                record.moved = true;
                is_new |= record.wanted & PARENT_NOTES != 0;
            }
            is_new
        };
        if is_new {
            self.knote.activate();
        }
    }

    /// Compares the state of the file with the state that was recorded last, without an event. The
    /// events of the file's mark wait meanwhile, so that this state replaces no newer one.
    fn compare_state(&self, file: &File, mark: &Mark<Self>) {
        mark.without_events(|| self.handle_events(0, InodeSnapshot::now(file)));
    }

    /// The fsnotify events that report the notes in `wanted`, and the events that all notes depend
    /// on.
    fn events_for(&self, wanted: u32) -> u32 {
        let mut events = mask::ATTRIB | mask::DELETE_SELF | mask::MOVE_SELF | mask::UNMOUNT;
        let mut add = |notes: u32, more: u32| {
            if wanted & notes != 0 {
                events |= more;
            }
        };
        add(WRITE_NOTES, mask::MODIFY);
        if self.is_directory || matches!(self.content, Content::Bytes) {
            // `FS_MODIFY` reports a change of the modification time. It is not requested for
            // devices, because each write to the device would report it.
            add(NOTE_ATTRIB, mask::MODIFY);
        }
        add(ENTRY_NOTES, ENTRIES);
        add(NOTE_OPEN, mask::OPEN);
        add(NOTE_CLOSE, mask::CLOSE_NOWRITE);
        add(NOTE_CLOSE_WRITE, mask::CLOSE_WRITE);
        add(NOTE_READ, mask::ACCESS);
        events
    }
}

impl Notify for FileWatcher {
    const SCOPE: EventScope = EventScope::Inode;

    fn marks() -> &'static MarkCount {
        &FILE_MARKS
    }

    fn notify(this: ArcBorrow<'_, Self>, events: u32, inode: InodeSnapshot) {
        this.handle_events(events, inode);
    }
}

/// The address of the inode, and the address of the watcher.
type Child = (usize, usize);

/// A directory that has subdirectories which a user watches.
#[pin_data]
pub(crate) struct ParentDir {
    #[pin]
    children: SpinLock<RBTree<Child, Arc<FileWatcher>>>,
}

impl ParentDir {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(ParentDir { children <- new_spinlock!(RBTree::new(), "kqueue_parent") }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl Notify for ParentDir {
    const SCOPE: EventScope = EventScope::Entry;

    fn marks() -> &'static MarkCount {
        &PARENT_MARKS
    }

    /// An entry of the directory was removed.
    fn notify(this: ArcBorrow<'_, Self>, _: u32, inode: InodeSnapshot) {
        let mut children = this.children.lock();
        let mut cursor = children.cursor_lower_bound_mut(&(inode.address, 0));
        while let Some(at) = cursor {
            let (key, watcher) = at.current();
            if key.0 != inode.address {
                break;
            }
            watcher.handle_events(0, inode);
            cursor = at.move_next();
        }
    }
}

/// The watch of the parent of a directory. It ends when this is dropped.
struct ParentWatch {
    mark: SharedMark<ParentDir, WatchedObjects>,
    child: Child,
}

impl ParentWatch {
    fn new(file: &File, watcher: &Arc<FileWatcher>) -> Result<Self> {
        let kqueue = watcher.knote.kqueue();
        let objects = kqueue.user().objects();
        let mark = SharedMark::of_parent(objects, file, mask::DELETE, ParentDir::new)?;
        let child = (fsnotify::address(file), Arc::as_ptr(watcher).addr());
        let node = RBTreeNode::new(child, watcher.clone(), GFP_KERNEL_ACCOUNT)?;
        // The key is not in the tree, because a watcher has one parent at a time.
        mark.target().children.lock().insert(node);
        Ok(ParentWatch { mark, child })
    }
}

impl Drop for ParentWatch {
    fn drop(&mut self) {
        let node = self.mark.target().children.lock().remove_node(&self.child);
        drop(node);
    }
}

/// The notes that occurred, given the `events` and the state of the file before and after them.
fn notes(events: u32, is_directory: bool, last: InodeState, now: InodeState) -> u32 {
    let grown = events & mask::MODIFY != 0 && now.size > last.size;
    let mut notes = if grown { NOTE_EXTEND } else { 0 };
    // This is the most frequent case.
    if events == mask::MODIFY && (now.links, now.dead) == (last.links, last.dead) {
        return notes | NOTE_WRITE;
    }
    let mut add = |events_of: u32, note: u32| {
        if events & events_of != 0 {
            notes |= note;
        }
    };
    add(mask::MODIFY | ENTRIES, NOTE_WRITE);
    add(mask::MOVE_SELF, NOTE_RENAME);
    add(mask::UNMOUNT, NOTE_REVOKE);
    add(mask::DELETE_SELF, NOTE_DELETE);
    add(mask::OPEN, NOTE_OPEN);
    add(mask::CLOSE_NOWRITE, NOTE_CLOSE);
    add(mask::CLOSE_WRITE, NOTE_CLOSE_WRITE);
    add(mask::ACCESS, NOTE_READ);
    let gone = |state: InodeState| state.dead || state.links == 0;
    let ends = gone(now) && !gone(last);
    let counted = now.links != last.links && !last.dead;
    // An event of a file reports either attributes or the link count. The link count of a directory
    // also changes with its entries. Those changes have events of their own, which may not have
    // been requested. So `FS_ATTRIB` on a directory counts as a change of the link count only if
    // the directory was removed.
    if !counted || (is_directory && !ends) {
        add(mask::ATTRIB, NOTE_ATTRIB);
    }
    if counted {
        notes |= NOTE_LINK;
    }
    if events & mask::ISDIR != 0 && events & (mask::CREATE | mask::DELETE) != 0 {
        notes |= NOTE_LINK;
    }
    if ends {
        notes |= NOTE_DELETE;
    }
    notes
}

/// True if the current task may select the notes in `wanted` for `file`.
fn may_select(file: &File, wanted: u32) -> bool {
    if fdtable::is_o_path(file) {
        // Opening a file with `O_PATH` requires no permission for the file itself.
        return fsnotify::may_read(file);
    }
    let restricted = if file_type::is_regular(file) || file_type::is_directory(file) {
        ACCESS_NOTES
    } else {
        // Writes do not change the inode of such a file. They are communication between tasks, for
        // instance on a terminal.
        ACCESS_NOTES | WRITE_NOTES
    };
    wanted & restricted == 0 || fsnotify::may_read(file)
}

/// A watched file.
pub(crate) struct Vnode {
    // The inode stays valid, because the knote is bound to the file and owns a reference to it.
    mark: Mark<FileWatcher>,
    /// The watch of the parent, if the file is a directory.
    parent: Option<ParentWatch>,
    /// The watch of the mount namespace, for `NOTE_REVOKE`.
    unmounts: Option<MountWatch>,
    /// The unmount has been reported.
    unmounted: bool,
    watcher: Arc<FileWatcher>,
    _charge: ObjectCharge,
    /// The registration of the close probe for descriptors that were opened with `O_PATH`.
    _closes: Option<PathCloseWatch>,
    /// The notes that occurred and were not reset.
    fired: u32,
}

impl Vnode {
    /// # Errors
    ///
    /// `EINVAL` for an unknown note, for a file that is not in a visible file system, and for a
    /// file that fsnotify does not support; `EACCES` for notes that require permission to read the
    /// file, and with `O_PATH` for all notes; `ENOSPC` if the user has as many watches of the file
    /// as the limit allows; `ENOMEM`; `EBADF` if there is no file.
    fn new(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Self> {
        let file = args.file.ok_or(EBADF)?;
        // A kqueue is refused, no matter whether it was opened from the device or created by the
        // ioctl.
        if !fsnotify::is_in_mounted_fs(&file) || object_of::<Kqueue>(&file).is_some() {
            return Err(EINVAL);
        }
        check_notes(args.change, NOTES)?;
        let wanted = args.change.fflags;
        if !may_select(&file, wanted) {
            return Err(EACCES);
        }
        let path_closes = fdtable::is_o_path(&file)
            .then(|| PathCloseWatch::new(&args.knote.kqueue().shared().bound_knotes))
            .transpose()?;
        close::bind(args.knote, file, args.fd_table, under_mutex)?;
        let file = args.knote.file(under_mutex).ok_or(EBADF)?;
        let kqueue = args.knote.kqueue();
        let user = kqueue.user();
        let charge = user.charge_watch(ObjectKind::Inode, (fsnotify::address(file), 0))?;
        let record = Record {
            wanted,
            fired: 0,
            last: fsnotify::state(file),
            moved: false,
        };
        let watcher = Arc::pin_init(
            pin_init!(FileWatcher {
                knote: args.knote.into(),
                is_directory: file_type::is_directory(file),
                content: Content::of(file),
                record <- IrqLock::new(record, c"kqueue_vnode", static_lock_class!()),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let events = watcher.events_for(wanted);
        let this = Vnode {
            mark: Mark::new(&user.objects().marks.files, file, events, &watcher)?,
            parent: Self::watch_parent(file, wanted, &watcher)?,
            unmounts: Self::watch_unmounts(file, wanted, &watcher)?,
            unmounted: false,
            watcher,
            _charge: charge,
            _closes: path_closes,
            fired: 0,
        };
        // The directory may have been removed before the watch of its parent existed.
        this.watcher.compare_state(file, &this.mark);
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

    fn watch_parent(
        file: &File,
        wanted: u32,
        watcher: &Arc<FileWatcher>,
    ) -> Result<Option<ParentWatch>> {
        if wanted & PARENT_NOTES == 0 || !watcher.is_directory {
            return Ok(None);
        }
        ParentWatch::new(file, watcher).map(Some)
    }

    /// # Errors
    ///
    /// `EINVAL` for an unknown note; `EACCES`, `ENOMEM`.
    fn modify(&mut self, file: &File, change: &Kevent) -> Result {
        check_notes(change, NOTES)?;
        let wanted = change.fflags;
        if !may_select(file, wanted) {
            return Err(EACCES);
        }
        let watcher = self.watcher.clone();
        let before = watcher.record.lock().wanted;
        // An existing watch is kept. So the mounts stay those of the namespace of the task that
        // added the knote.
        let parent = match self.parent {
            None => {
                watcher.record.lock().moved = false;
                Self::watch_parent(file, wanted, &watcher)?
            }
            Some(_) => None,
        };
        let unmounts = match self.unmounts {
            None => Self::watch_unmounts(file, wanted, &watcher)?,
            Some(_) => None,
        };
        self.mark.set_events(watcher.events_for(wanted | before));
        let moved = self.mark.without_events(|| {
            let mut record = watcher.record.lock();
            record.wanted = wanted;
            // State that was not recorded so far is recorded now, so that earlier changes are not
            // reported.
            let now = fsnotify::state(file);
            if before & SIZE_NOTES == 0 {
                record.last.size = now.size;
            }
            if before & ENTRY_NOTES == 0 && watcher.is_directory {
                record.last.links = now.links;
            }
            if before & PARENT_NOTES == 0 && watcher.is_directory {
                record.last.dead = now.dead;
            }
            record.moved && wanted & PARENT_NOTES != 0
        });
        if moved {
            watcher.knote.activate();
        }
        self.mark.set_events(watcher.events_for(wanted));
        if wanted & PARENT_NOTES == 0 {
            self.parent = None;
        } else if parent.is_some() {
            self.parent = parent;
        }
        if wanted & NOTE_REVOKE == 0 {
            self.unmounts = None;
        } else if unmounts.is_some() {
            self.unmounts = unmounts;
        }
        Ok(())
    }

    /// Collects the notes that occurred, and watches the new parent of a directory that was
    /// renamed.
    fn evaluate(&mut self, file: &File) -> Option<Report> {
        let (moved, wanted) = {
            let mut record = self.watcher.record.lock();
            self.fired |= core::mem::take(&mut record.fired);
            (core::mem::take(&mut record.moved), record.wanted)
        };
        if moved && wanted & PARENT_NOTES != 0 {
            // The old watch is dropped first, because the new parent may be the same directory.
            self.parent = None;
            match Self::watch_parent(file, wanted, &self.watcher) {
                Ok(parent) => self.parent = parent,
                // The next evaluation tries again.
                Err(_) => self.watcher.record.lock().moved = true,
            }
            // The directory may have been removed meanwhile.
            self.watcher.compare_state(file, &self.mark);
            self.fired |= core::mem::take(&mut self.watcher.record.lock().fired);
        }
        let unmounts = self.unmounts.is_some() && !self.unmounted;
        if unmounts && fsnotify::is_unmounted(file) {
            self.unmounted = true;
            self.fired |= NOTE_REVOKE;
        }
        if self.fired == 0 {
            return None;
        }
        let ended = self.fired & NOTE_REVOKE != 0;
        Some(Report {
            flags: if ended { EV_EOF | EV_NODATA } else { 0 },
            fflags: self.fired,
            data: 0,
        })
    }
}

impl FilterOps for Vnode {
    const IS_DESCRIPTOR: bool = true;
    const ACCEPTS_O_PATH: bool = true;
    const HANDLES_DELIVERY: bool = true;
    const CHARGE_UNITS: u8 = 4;

    /// # Errors
    ///
    /// See [`Vnode::new`].
    fn attach(args: AttachArgs<'_>, under_mutex: &mut UnderMutex) -> Result<Attached> {
        Attached::with(Vnode::new(args, under_mutex)?, 0)
    }

    /// # Errors
    ///
    /// See [`Vnode::modify`].
    #[inline(never)]
    fn touch(locked: LockedKnote<'_>, change: &Kevent) -> Result {
        let file = locked.file.ok_or(ENOENT)?;
        let this = locked.inner.attachment_mut::<Vnode>().ok_or(ENOENT)?;
        this.modify(file, change)?;
        locked.inner.set_params(change);
        Ok(())
    }

    #[inline(never)]
    fn event(locked: LockedKnote<'_>, _: UserScratch) -> Option<Report> {
        let this = locked.inner.attachment_mut::<Vnode>()?;
        this.evaluate(locked.file?)
    }

    fn delivered(locked: LockedKnote<'_>, event: &Kevent) -> bool {
        if event.has(EV_CLEAR) {
            if let Some(this) = locked.inner.attachment_mut::<Vnode>() {
                this.fired = 0;
            }
        }
        false
    }
}
