// SPDX-License-Identifier: GPL-2.0

//! The room in the buffer of a sequence file. What does not fit is lost; the kernel then asks for
//! all of it again, with a buffer of twice the size.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use core::ptr;
use kernel::{bindings, seq_file::SeqFile};

fn raw(m: &SeqFile) -> *mut bindings::seq_file {
    ptr::from_ref(m).cast::<bindings::seq_file>().cast_mut()
}

/// `seq_has_overflowed()`: something has not fitted, so nothing more needs to be said.
pub(crate) fn has_overflowed(m: &SeqFile) -> bool {
    // SAFETY: Valid, and used by this thread alone (`SeqFile::from_raw`).
    unsafe { (*raw(m)).count == (*raw(m)).size }
}

/// Whether at least so many bytes fit. If not that counts as an overflow, as if they had been
/// written.
pub(crate) fn has_room(m: &SeqFile, bytes: usize) -> bool {
    // SAFETY: As above; this is what `seq_set_overflow()` does.
    unsafe {
        let raw = raw(m);
        let fits = bytes < (*raw).size - (*raw).count;
        if !fits {
            (*raw).count = (*raw).size;
        }
        fits
    }
}
