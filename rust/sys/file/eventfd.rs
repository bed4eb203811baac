// SPDX-License-Identifier: GPL-2.0

//! The counter of an eventfd.
//!
//! The counter is in a structure that is private to `fs/eventfd.c` and is declared here a second
//! time. The declaration is [verified](super::layout_check) with one eventfd whose counter and id
//! are both nonzero and equal those in its fdinfo text. The counter is read without its lock, in a
//! single load, as `eventfd_poll` does.

use super::{
    layout_check::LayoutCheck,
    poll::PollFunction,
    read_fdinfo::{self, Base},
};
use crate::sys::memory::field::read_once;
use kernel::{
    bindings,
    fs::{file::LocalFile, File}, //
};

/// The first fields of `struct eventfd_ctx`, including all that are read here.
#[repr(C)]
struct Context {
    _kref: bindings::kref,
    _wqh: bindings::wait_queue_head,
    count: u64,
    _flags: u32,
    id: i32,
}

static LAYOUT: LayoutCheck = LayoutCheck::new();

/// One word for statistics: how the module obtains the counter.
pub(crate) fn state() -> &'static str {
    LAYOUT.state()
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
    // SAFETY: The private data of an eventfd is its context as long as the file is open. If the
    // layout differs, the address still refers to kernel memory: a context contains at least these
    // fields in some order, so its slab object is not smaller than this structure. In that case the
    // values are only compared and not used.
    unsafe { (*file.as_ptr()).private_data.cast::<Context>() }
}

/// The counter as reported in the fdinfo text.
fn count_from_fdinfo(file: &File) -> Option<u64> {
    read_fdinfo::number(file, b"eventfd-count:", Base::Sixteen)
}

/// The counter of `file`, if it is an eventfd and the layout is verified. Never sleeps.
#[inline]
pub(crate) fn try_count(file: &File) -> Option<u64> {
    // SAFETY: The verification holds for eventfds only. The counter may change concurrently, so a
    // single load reads it.
    LAYOUT
        .is_verified_for(file)
        .then(|| unsafe { read_once(&raw const (*context(file)).count) })
}

/// The counter of `file`, if it is an eventfd. May sleep.
pub(crate) fn count(file: &File) -> Option<u64> {
    if !is(file) {
        return None;
    }
    if let Some(count) = try_count(file) {
        return Some(count);
    }
    let reported = count_from_fdinfo(file)?;
    if LAYOUT.is_undecided() {
        // SAFETY: The file is an eventfd. Each field is read in a single load.
        let values = unsafe {
            let context = context(file);
            (
                read_once(&raw const (*context).count),
                read_once(&raw const (*context).id),
            )
        };
        // The id of the system's first eventfd is 0, and equal zeros verify nothing.
        if reported != 0 && values.1 != 0 {
            let id = read_fdinfo::number(file, b"eventfd-id:", Base::Ten)?;
            // The id of an eventfd does not change. The counter does: a write or a read at this
            // moment must not rule the declaration out for all.
            if values.1 != i32::try_from(id).ok()? {
                LAYOUT.record(file, false);
            } else if values.0 == reported && count_from_fdinfo(file) == Some(reported) {
                LAYOUT.record(file, true);
            }
        }
    }
    Some(reported)
}
