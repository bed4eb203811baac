// SPDX-License-Identifier: GPL-2.0

//! The type of a file, and how it was opened.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::poll;
use crate::{generated, sys::memory::field::read_once};
use kernel::fs::LocalFile;

const TYPE: u32 = 0o170000;
const REGULAR: u32 = 0o100000;
const DIRECTORY: u32 = 0o040000;
const BLOCK_DEVICE: u32 = 0o060000;
const CHARACTER_DEVICE: u32 = 0o020000;
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;

fn mode(file: &LocalFile) -> u32 {
    // SAFETY: A file has an inode as long as it lives. The type bits of the mode never change; the
    // permission bits may.
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

/// True for a file on FUSE. (FUSE may be a module, so its poll function has no fixed address.)
fn is_on_fuse(file: &LocalFile) -> bool {
    poll::is_polled_by(file, c"fuse_file_poll", c"fuse")
}

/// True for a regular file whose contents are generated when they are read, as in procfs and
/// debugfs. Such a file has no page cache and its size is 0. (A generated file with a size is
/// readable up to that size. A file without a place in a mounted file system, such as a namespace
/// file, is not meant to be read.)
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

/// True if the file has contents with a size: a regular file, a directory, or a block device. It is
/// false for a file of procfs or sysfs that supports poll(2), that is a stream, or that is
/// generated. It is false for an anonymous file, too.
pub(crate) fn has_contents(file: &LocalFile) -> bool {
    // SAFETY: A file has an inode as long as it lives.
    let anonymous = unsafe { generated::kq_inode_is_anonymous((*file.as_ptr()).f_inode) };
    match mode(file) & TYPE {
        REGULAR if anonymous => false,
        REGULAR if poll::is_pollable(file) => is_on_fuse(file),
        REGULAR => !is_generated(file),
        kind => kind == DIRECTORY || kind == BLOCK_DEVICE,
    }
}

/// True if `file` is open for reading.
#[inline]
pub(crate) fn is_open_to_read(file: &LocalFile) -> bool {
    // SAFETY: The file is valid. Its mode does not change after the open.
    unsafe { (*file.as_ptr()).f_mode & FMODE_READ != 0 }
}

/// True if `file` is open for writing.
#[inline]
pub(crate) fn is_open_to_write(file: &LocalFile) -> bool {
    // SAFETY: The file is valid. Its mode does not change after the open.
    unsafe { (*file.as_ptr()).f_mode & FMODE_WRITE != 0 }
}
