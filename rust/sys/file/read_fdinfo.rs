// SPDX-License-Identifier: GPL-2.0

//! The text that a file reports in `/proc/PID/fdinfo`.
//!
//! The module parses this text for counters that are private to the kernel. The text is ABI
//! ([`Documentation/filesystems/proc.rst`](srctree/Documentation/filesystems/proc.rst)). It is used
//! only for eventfds, timerfds and signalfds, whose functions (`eventfd_show_fdinfo`,
//! `timerfd_show`, `signalfd_show_fdinfo`) take the lock of their counter, if there is one, and
//! print.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use super::poll::operations;
use kernel::{bindings, fs::File};

/// The size of the buffer, which is larger than the text of these files.
const TEXT: usize = 512;

/// The base in which the text shows a number.
#[derive(Clone, Copy)]
pub(crate) enum Base {
    Ten,
    Sixteen,
}

/// The number that follows `key` in the text of `file`. May sleep, depending on the file.
pub(crate) fn number(file: &File, key: &[u8], base: Base) -> Option<u64> {
    let mut text = [0u8; TEXT];
    let mut m = bindings::seq_file {
        buf: text.as_mut_ptr().cast(),
        size: TEXT,
        ..Default::default()
    };
    let show = operations(file).show_fdinfo?;
    // SAFETY: The file is valid. `m` has a buffer, which is all that a print to it requires, and it
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
