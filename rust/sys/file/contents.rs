// SPDX-License-Identifier: GPL-2.0

//! Files that are a range of bytes, and where a descriptor is in it.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::poll;
use crate::{generated, sys::memory::field::read_once};
use kernel::{bindings, fs::LocalFile};

const TYPE: u32 = 0o170000;
const REGULAR: u32 = 0o100000;
const DIRECTORY: u32 = 0o040000;
const BLOCK_DEVICE: u32 = 0o060000;
const CHARACTER_DEVICE: u32 = 0o020000;
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;

fn mode(file: &LocalFile) -> u32 {
    // SAFETY: A file has an inode as long as it lives. What is in it besides the type may change.
    u32::from(unsafe { read_once(&raw const (*(*file.as_ptr()).f_inode).i_mode) })
}

/// True for a regular file.
pub(crate) fn is_regular(file: &LocalFile) -> bool {
    mode(file) & TYPE == REGULAR
}

/// True for a directory.
pub(crate) fn is_directory(file: &LocalFile) -> bool {
    mode(file) & TYPE == DIRECTORY
}

/// True for a character device.
pub(crate) fn is_character_device(file: &LocalFile) -> bool {
    mode(file) & TYPE == CHARACTER_DEVICE
}

/// True for a block device.
pub(crate) fn is_block_device(file: &LocalFile) -> bool {
    mode(file) & TYPE == BLOCK_DEVICE
}

/// True for a file on FUSE. (That may be a module, whose function need not stay in its place.)
fn is_of_fuse(file: &LocalFile) -> bool {
    poll::is_polled_by(file, c"fuse_file_poll", c"fuse")
}

/// True for a regular file whose contents are made as they are read, as those of procfs, debugfs and their like: it has
/// no pages of its own, and no size. (One that is generated and has a size is read to that. What has no place in a file
/// system, as a namespace's file, is not for reading.)
pub(crate) fn is_generated(file: &LocalFile) -> bool {
    // SAFETY: A file has an inode as long as it lives.
    is_regular(file)
        && unsafe {
            let inode = (*file.as_ptr()).f_inode;
            generated::kq_inode_has_no_pages(inode)
                && generated::kq_inode_size(inode) == 0
                && generated::kq_file_has_place(file.as_ptr())
        }
}

/// True for a regular file, a directory and a block device. A file of procfs or sysfs that says
/// when it changes, is a stream, or is generated, is none; nor is one that has no name.
pub(crate) fn has(file: &LocalFile) -> bool {
    // SAFETY: As above.
    let anonymous = unsafe { generated::kq_inode_is_anonymous((*file.as_ptr()).f_inode) };
    match mode(file) & TYPE {
        REGULAR if anonymous => false,
        REGULAR if poll::is_pollable(file) => is_of_fuse(file),
        REGULAR => !is_generated(file),
        kind => kind == DIRECTORY || kind == BLOCK_DEVICE,
    }
}

/// True when one can read from `file`.
#[inline]
pub(crate) fn is_open_to_read(file: &LocalFile) -> bool {
    // SAFETY: The file is valid; its mode stays as it was opened with.
    unsafe { (*file.as_ptr()).f_mode & FMODE_READ != 0 }
}

/// True when one can write to `file`.
#[inline]
pub(crate) fn is_open_to_write(file: &LocalFile) -> bool {
    // SAFETY: As above.
    unsafe { (*file.as_ptr()).f_mode & FMODE_WRITE != 0 }
}

/// True when who moves the descriptor holds a lock of the offset meanwhile, if there are others who
/// have the open file.
pub(crate) fn has_locked_offset(file: &LocalFile) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_has_position_lock(file.as_ptr()) }
}

/// Bytes from where the descriptor is to the end of the file; negative beyond the end.
pub(crate) fn distance(file: &LocalFile) -> i64 {
    let file = file.as_ptr();
    // SAFETY: As above. What is in a block device, another inode knows.
    unsafe {
        let inode: *mut bindings::inode = if is_block_device(LocalFile::from_raw_file(file)) {
            (*(*file).f_mapping).host
        } else {
            (*file).f_inode
        };
        generated::kq_inode_size(inode).saturating_sub(generated::kq_file_position(file))
    }
}
