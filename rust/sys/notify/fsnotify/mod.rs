// SPDX-License-Identifier: GPL-2.0

//! fsnotify: hearing of what happens to an inode, or to a mount namespace.
//!
//! A [`Mark`] has its target told of the events in its mask. There may be several on one object;
//! the caller limits the number of marks of one user, since the task that changes the object pays
//! for each mark. An object that may have any number of watchers has one mark for all watchers of a
//! user ([`Share`]).
//!
//! Each user has a [`Group`] of each kind, so that none waits for another one's lock. A mark is
//! freed some time after it was destroyed, by a worker of the kernel; [`wait_until_freed`] waits
//! for that when the module goes.
//!
//! # Context
//!
//! `Notify::notify` runs in the task that does something to the inode, which may hold the inode's
//! locks, under the mark's own spin lock: it must not sleep, nor take longer for more watchers.
//!
//! C header: [`include/linux/fsnotify_backend.h`](srctree/include/linux/fsnotify_backend.h)

mod mark;
mod share;

pub(crate) use mark::{Group, Mark};
pub(crate) use share::{Share, Shares, Sharing};

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

/// Events, as in the C header.
pub(crate) mod fs {
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

/// What an inode is like.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InodeState {
    /// Bytes.
    pub(crate) size: i64,
    /// How many names it has.
    pub(crate) links: u32,
    /// A directory that was removed.
    pub(crate) dead: bool,
}

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The inode that the mark is on.
    Inode,
    /// One in the directory that the mark is on.
    Entry,
    /// The mount namespace that the mark is on.
    Mounts,
}

/// An inode that something happened to.
#[derive(Clone, Copy, Default)]
pub(crate) struct InodeLook {
    pub(crate) address: usize,
    pub(crate) state: InodeState,
    /// The event tells of attributes that are set, the size and the times among them, and not of
    /// reading or writing by a descriptor. (Only known of the inode that the mark is on.)
    pub(crate) sets: bool,
}

/// Who wants to know of inodes, or of mount namespaces.
pub(crate) trait Notify: Send + Sync + 'static {
    /// What it is told of.
    const ABOUT: About;

    /// How many marks there are of this kind. (This is a function because a constant of Rust 1.85
    /// cannot refer to a static that can change.)
    fn marks() -> &'static MarkCount;

    /// Something happened: events of [`fs`]. `inode` is what it is about, if that is one.
    fn notify(this: ArcBorrow<'_, Self>, events: u32, inode: InodeLook);
}

/// A number of marks, those included that wait to be freed.
pub(crate) struct MarkCount(Atomic<usize>);

impl MarkCount {
    pub(crate) const fn new() -> Self {
        MarkCount(Atomic::new(0))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(ordering::Acquire)
    }
}

/// Waits until all marks of a kind are freed. No mark is made any more, and all were dropped.
pub(crate) fn wait_until_freed(marks: &MarkCount) {
    while marks.get() != 0 {
        // SAFETY: No preconditions; may sleep.
        unsafe { generated::fsnotify_wait_marks_destroyed() };
        fsleep(Delta::from_millis(1));
    }
    // The worker that freed the last one may still be in our function.
    // SAFETY: The reason given above applies here too.
    unsafe { generated::fsnotify_wait_marks_destroyed() };
}

/// Where the inode of `file` is, as long as the file is.
pub(crate) fn address(file: &File) -> usize {
    inode_of(file).as_ptr().addr()
}

/// Where the current task's mount namespace is.
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

/// What `file` is like.
pub(crate) fn state(file: &File) -> InodeState {
    // SAFETY: A file has an inode as long as it lives.
    unsafe { state_of(inode_of(file)) }
}

/// True when `file` is one that has a place in a file system that is mounted: no socket, and
/// nothing anonymous. Of those fsnotify is not told what is done through the descriptor that made
/// them.
pub(crate) fn has_place(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_has_place(file.as_ptr()) }
}

/// True when the current task may read what is in `file`, now and if it were opened anew.
///
/// May sleep.
pub(crate) fn may_read(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_may_read(file.as_ptr()) == 0 }
}

/// True when the file system was unmounted where `file` was opened (lazily, as the file is open).
pub(crate) fn is_unmounted(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_is_unmounted(file.as_ptr()) }
}

fn inode_of(file: &File) -> NonNull<bindings::inode> {
    // SAFETY: A file has an inode as long as it lives; the field does not change.
    unsafe { NonNull::new_unchecked((*file.as_ptr()).f_inode) }
}
