// SPDX-License-Identifier: GPL-2.0

//! The counter of an eventfd.
//!
//! It is in a structure that is private to `fs/eventfd.c`, which is declared here a second time, and is
//! [proved](super::proof) by one eventfd whose counter and number, neither of them 0, are what its text says. The counter
//! is read without its lock, at once, as `eventfd_poll` reads it.

use super::{
    fdinfo::{self, Base},
    poll::PollFunction,
    proof::Proof,
};
use crate::sys::memory::field::read_once;
use kernel::{
    bindings,
    fs::{file::LocalFile, File}, //
};

/// `struct eventfd_ctx`, up to what is of interest.
#[repr(C)]
struct Context {
    _kref: bindings::kref,
    _wqh: bindings::wait_queue_head,
    count: u64,
    _flags: u32,
    id: i32,
}

static PROOF: Proof = Proof::new();

/// How counters are had, in a word.
pub(crate) fn state() -> &'static str {
    PROOF.state()
}

static POLL: PollFunction = PollFunction::new(c"eventfd_poll");

/// True if `file` is an eventfd. May sleep.
pub(crate) fn is(file: &LocalFile) -> bool {
    POLL.is_of(file)
}

/// The context of an eventfd.
///
/// # Safety
///
/// `file` is an eventfd.
#[inline]
unsafe fn context(file: &File) -> *const Context {
    // SAFETY: An eventfd's private data is its context, for as long as it is open. If its layout is
    // another one, this is still memory of the kernel's, and what is read is compared, not used:
    // both fields are within the 64 bytes that the smallest allocation of that size has.
    unsafe { (*file.as_ptr()).private_data.cast::<Context>() }
}

/// Its counter as the kernel tells it.
fn text(file: &File) -> Option<u64> {
    fdinfo::number(file, b"eventfd-count:", Base::Sixteen)
}

/// The counter of `file`, if it is an eventfd and counters can be read. Never sleeps.
#[inline]
pub(crate) fn count_at_once(file: &File) -> Option<u64> {
    // SAFETY: The proof holds for eventfds alone. The counter may change meanwhile; it is read at once.
    PROOF
        .holds_for(file)
        .then(|| unsafe { read_once(&raw const (*context(file)).count) })
}

/// The counter of `file`, if it is an eventfd.
pub(crate) fn count(file: &File) -> Option<u64> {
    if !is(file) {
        return None;
    }
    if let Some(count) = count_at_once(file) {
        return Some(count);
    }
    let told = text(file)?;
    if PROOF.is_open() {
        // SAFETY: It is one; both are read at once.
        let seen = unsafe {
            let context = context(file);
            (
                read_once(&raw const (*context).count),
                read_once(&raw const (*context).id),
            )
        };
        // The system's first eventfd has the number 0, which proves nothing.
        if told != 0 && seen.1 != 0 {
            let id = fdinfo::number(file, b"eventfd-id:", Base::Ten)?;
            // Somebody may add to it in between.
            if text(file) == Some(told) {
                PROOF.conclude(file, seen == (told, i32::try_from(id).ok()?));
            }
        }
    }
    Some(told)
}
