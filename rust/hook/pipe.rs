// SPDX-License-Identifier: GPL-2.0

//! What a pipe or FIFO holds and has room for.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use crate::generated;
use kernel::{fs::File, page::PAGE_SIZE};

/// What was seen of a pipe at one look.
pub(crate) struct Pipe(generated::kq_pipe_look);

impl Pipe {
    /// Looks at the pipe of `file`, if it is one.
    #[inline]
    pub(crate) fn of(file: &File) -> Option<Self> {
        let mut look = generated::kq_pipe_look::default();
        // SAFETY: The file is valid, and interrupts are on.
        let looked = unsafe { generated::kq_pipe_look(file.as_ptr(), &raw mut look) };
        looked.then_some(Pipe(look))
    }

    /// True when there is something to read, be it a message of no bytes.
    #[inline]
    pub(crate) fn has_something(&self) -> bool {
        self.0.used != 0
    }

    /// True if somebody had it open for writing.
    #[inline]
    pub(crate) fn has_writer(&self) -> bool {
        self.0.writers != 0
    }

    /// True if somebody had it open for reading.
    #[inline]
    pub(crate) fn has_reader(&self) -> bool {
        self.0.readers != 0
    }

    /// Bytes in the pipe.
    #[inline]
    pub(crate) fn readable(&self) -> i64 {
        i64::try_from(self.0.bytes).unwrap_or(i64::MAX)
    }

    /// Bytes of room in the pipe, in whole buffers; none if nobody will read it.
    #[inline]
    pub(crate) fn writable(&self) -> i64 {
        if !self.has_reader() {
            return 0;
        }
        i64::from(self.0.slots.saturating_sub(self.0.used)) * PAGE_SIZE as i64
    }
}
