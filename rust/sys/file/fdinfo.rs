// SPDX-License-Identifier: GPL-2.0

//! What a file tells of itself in `/proc/PID/fdinfo`.
//!
//! For counters that the kernel keeps private; the text is ABI
//! ([`Documentation/filesystems/proc.rst`](srctree/Documentation/filesystems/proc.rst)). Only
//! eventfds and timerfds are asked, whose functions (`eventfd_show_fdinfo`, `timerfd_show`) take
//! the lock of their counter and print.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use super::poll::operations;
use kernel::{bindings, fs::File};

/// More than the files that are asked say.
const TEXT: usize = 512;

/// How a number is written.
#[derive(Clone, Copy)]
pub(crate) enum Base {
    Ten,
    Sixteen,
}

/// The number after `key` in what `file` tells. May sleep, as the file likes.
pub(crate) fn number(file: &File, key: &[u8], base: Base) -> Option<u64> {
    let mut text = [0u8; TEXT];
    let mut m = bindings::seq_file {
        buf: text.as_mut_ptr().cast(),
        size: TEXT,
        ..Default::default()
    };
    let show = operations(file).show_fdinfo?;
    // SAFETY: The file is valid. `m` has a buffer, which is all that printing to it needs; it
    // outlives the call.
    unsafe { show(&raw mut m, file.as_ptr()) };
    let text = text.get(..m.count)?;
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key))?;
    let digits = core::str::from_utf8(line).ok()?.trim();
    let number = match base {
        Base::Ten => digits.parse(),
        Base::Sixteen => u64::from_str_radix(digits, 16),
    };
    number.ok()
}
