// SPDX-License-Identifier: GPL-2.0

//! The offset of an open file.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::file_type::is_block_device;
use crate::generated;
use kernel::{bindings, fs::LocalFile};

/// True if a task that changes the file offset holds the offset lock (`f_pos_lock`) meanwhile,
/// provided that other references to the open file exist.
pub(crate) fn has_locked_offset(file: &LocalFile) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_has_position_lock(file.as_ptr()) }
}

/// The number of bytes from the file offset to the end of the file. It is negative if the offset is
/// beyond the end.
pub(crate) fn bytes_to_end(file: &LocalFile) -> i64 {
    let file = file.as_ptr();
    // SAFETY: The file is valid and has an inode. The size of a block device is that of the inode
    // of its mapping.
    unsafe {
        let inode: *mut bindings::inode = if is_block_device(LocalFile::from_raw_file(file)) {
            (*(*file).f_mapping).host
        } else {
            (*file).f_inode
        };
        generated::kq_inode_size(inode).saturating_sub(generated::kq_file_position(file))
    }
}
