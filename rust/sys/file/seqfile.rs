// SPDX-License-Identifier: GPL-2.0

//! The free space in the buffer of a sequence file.
//!
//! Output that does not fit into the buffer is dropped. The kernel then calls the show function
//! again with a buffer of twice the size.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use core::ptr;
use kernel::{bindings, seq_file::SeqFile};

fn raw(m: &SeqFile) -> *mut bindings::seq_file {
    ptr::from_ref(m).cast::<bindings::seq_file>().cast_mut()
}

/// `seq_has_overflowed()`: true if some output did not fit, so that further output is useless.
pub(crate) fn has_overflowed(m: &SeqFile) -> bool {
    // SAFETY: The sequence file is valid, and only this thread uses it (`SeqFile::from_raw`).
    unsafe { (*raw(m)).count == (*raw(m)).size }
}

/// True if at least `bytes` bytes fit. If they do not, the buffer is marked as overflowed, as if
/// they had been written.
pub(crate) fn has_room(m: &SeqFile, bytes: usize) -> bool {
    // SAFETY: The sequence file is valid, and only this thread uses it (`SeqFile::from_raw`). The
    // code below does what `seq_set_overflow()` does.
    unsafe {
        let raw = raw(m);
        let fits = bytes < (*raw).size - (*raw).count;
        if !fits {
            (*raw).count = (*raw).size;
        }
        fits
    }
}
