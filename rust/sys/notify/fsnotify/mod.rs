// SPDX-License-Identifier: GPL-2.0

//! fsnotify: notification of events on an inode or a mount namespace.
//!
//! A [`Mark`] notifies its target of the events in its mask. An object may have several marks, and
//! a task that changes the object pays for each of them. The caller therefore limits the number of
//! marks of one user on one object. Objects that any number of watchers may watch have one
//! mark for all watchers of a user ([`SharedMark`]).
//!
//! Each user has a [`Group`] of each kind, so that users do not contend for the locks of a group. A
//! worker thread of the kernel frees a mark some time after the mark was destroyed.
//! [`wait_until_freed`] waits for that when the module is unloaded.
//!
//! # Context
//!
//! `Notify::notify` runs in the task that operates on the inode, possibly under locks of the inode,
//! and under the spin lock of the mark. It must not sleep, and its cost must not depend on the
//! number of watchers.
//!
//! C header: [`include/linux/fsnotify_backend.h`](srctree/include/linux/fsnotify_backend.h)

mod mark;
mod shared_mark;

pub(crate) use mark::{Group, Mark};
pub(crate) use shared_mark::{SharedMark, SharedMarks, SharedMarksOwner};

use crate::generated;
use core::ptr::NonNull;
use kernel::{
    bindings,
    fs::File,
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        ArcBorrow,
    },
    time::{delay::fsleep, Delta}, //
};
use mark::Object;

/// The events of the C header.
pub(crate) mod mask {
    pub(crate) const ACCESS: u32 = 0x1;
    pub(crate) const MODIFY: u32 = 0x2;
    pub(crate) const ATTRIB: u32 = 0x4;
    pub(crate) const CLOSE_WRITE: u32 = 0x8;
    pub(crate) const CLOSE_NOWRITE: u32 = 0x10;
    pub(crate) const OPEN: u32 = 0x20;
    pub(crate) const MOVED_FROM: u32 = 0x40;
    pub(crate) const MOVED_TO: u32 = 0x80;
    pub(crate) const CREATE: u32 = 0x100;
    pub(crate) const DELETE: u32 = 0x200;
    pub(crate) const DELETE_SELF: u32 = 0x400;
    pub(crate) const MOVE_SELF: u32 = 0x800;
    pub(crate) const UNMOUNT: u32 = 0x2000;
    pub(crate) const MNT_ATTACH: u32 = 0x0100_0000;
    pub(crate) const MNT_DETACH: u32 = 0x0200_0000;
    pub(crate) const ISDIR: u32 = 0x4000_0000;
}

/// The state of an inode.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InodeState {
    /// The size in bytes.
    pub(crate) size: i64,
    /// The number of links.
    pub(crate) links: u32,
    /// True for a directory that was removed.
    pub(crate) dead: bool,
}

/// The object of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventScope {
    /// The inode that the mark is on.
    Inode,
    /// An inode in the directory that the mark is on.
    Entry,
    /// The mount namespace that the mark is on.
    Mounts,
}

/// The inode of an event, as it was seen when the event was reported.
#[derive(Clone, Copy, Default)]
pub(crate) struct InodeSnapshot {
    pub(crate) address: usize,
    pub(crate) state: InodeState,
    /// True if the event reports that attributes were set, for instance the size or the times, and
    /// not a read or write through a descriptor. (This is only known for the inode that the mark is
    /// on.)
    pub(crate) is_setattr: bool,
}

impl InodeSnapshot {
    /// The inode of `file` now, without an event.
    pub(crate) fn now(file: &File) -> Self {
        InodeSnapshot {
            state: state(file),
            ..InodeSnapshot::default()
        }
    }
}

/// The target of a mark.
pub(crate) trait Notify: Send + Sync + 'static {
    /// The kind of object that the events are about.
    const SCOPE: EventScope;

    /// The number of marks of this kind. (This is a function because a constant of Rust 1.85 cannot
    /// refer to a mutable static.)
    fn marks() -> &'static MarkCount;

    /// Reports events, which are flags of [`mask`]. `inode` is the inode that they are about, if
    /// they are about one.
    fn notify(this: ArcBorrow<'_, Self>, events: u32, inode: InodeSnapshot);
}

/// The number of marks, including those that were destroyed but not yet freed.
///
/// An increment is relaxed, because no mark is created any more when the number is read. A
/// decrement has release ordering and the load acquire ordering, so a task that reads 0 comes after
/// the release of all marks.
pub(crate) struct MarkCount(Atomic<usize>);

impl MarkCount {
    pub(crate) const fn new() -> Self {
        MarkCount(Atomic::new(0))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(ordering::Acquire)
    }
}

/// Waits until all marks of a kind are freed. The caller guarantees that all were dropped and that
/// no mark is created any more. Sleeps.
pub(crate) fn wait_until_freed(marks: &MarkCount) {
    while marks.get() != 0 {
        // SAFETY: The function has no preconditions. The caller may sleep.
        unsafe { generated::fsnotify_wait_marks_destroyed() };
        fsleep(Delta::from_millis(1));
    }
    // The worker that has freed the last mark may still be running our function.
    // SAFETY: The function has no preconditions. The caller may sleep.
    unsafe { generated::fsnotify_wait_marks_destroyed() };
}

/// The address of the inode of `file`, which is valid as long as the file.
pub(crate) fn address(file: &File) -> usize {
    inode_of(file).as_ptr().addr()
}

/// The address of the current task's mount namespace.
///
/// # Errors
///
/// `EINVAL` for a task without one.
pub(crate) fn address_of_mounts() -> Result<usize> {
    Object::current_mounts().map(Object::address)
}

/// # Safety
///
/// `inode` is valid.
unsafe fn state_of(inode: NonNull<bindings::inode>) -> InodeState {
    let mut look = generated::kq_inode_look::default();
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { generated::kq_inode_look(inode.as_ptr(), &raw mut look) };
    InodeState {
        size: look.size,
        links: look.links,
        dead: look.dead,
    }
}

/// The state of the inode of `file`.
pub(crate) fn state(file: &File) -> InodeState {
    // SAFETY: A file has an inode as long as it lives.
    unsafe { state_of(inode_of(file)) }
}

/// True if `file` has a place in a mounted file system. It is false for sockets and for anonymous
/// files. fsnotify does not report operations through the descriptor with which such a file was
/// created.
pub(crate) fn is_in_mounted_fs(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_has_place(file.as_ptr()) }
}

/// True if the current task may read `file`, both through the descriptor and if it opened the file
/// again.
///
/// May sleep.
pub(crate) fn may_read(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_may_read(file.as_ptr()) == 0 }
}

/// True if the file system was unmounted at the mount point through which `file` was opened. (The
/// unmount was a lazy one, because the file is open.)
pub(crate) fn is_unmounted(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_is_unmounted(file.as_ptr()) }
}

fn inode_of(file: &File) -> NonNull<bindings::inode> {
    // SAFETY: A file has an inode as long as it lives. The field does not change.
    unsafe { NonNull::new_unchecked((*file.as_ptr()).f_inode) }
}
