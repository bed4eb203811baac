// SPDX-License-Identifier: GPL-2.0

//! The number of expirations of a timerfd that were not read yet.
//!
//! The count is in a structure that is private to `fs/timerfd.c`. The layout is
//! [verified](super::layout_check) by two facts: the wait queue that the file is polled on, which
//! precedes the count, is at the expected offset, and the values equal those in the text of
//! `/proc/PID/fdinfo`. The count is a single word. The timer's callback and read(2) change it with
//! the lock of that wait queue held. The module cannot take that lock in a scan, and reads the word
//! in a single load. Each increase is followed by a wake-up, so none is missed.

use super::{
    layout_check::LayoutCheck,
    poll::{self, PollFunction},
    read_fdinfo::{self, Base},
};
use crate::{generated::*, sys::memory::field::Field};
use kernel::{
    bindings,
    fs::{file::LocalFile, File}, //
};

const WAIT: Field<bindings::wait_queue_head> = Field::at(kq_offset_KQ_TIMERFD_WQH);
const TICKS: Field<u64> = Field::at(kq_offset_KQ_TIMERFD_TICKS);
const CLOCK: Field<i32> = Field::at(kq_offset_KQ_TIMERFD_CLOCKID);

static LAYOUT: LayoutCheck = LayoutCheck::new();
static POLL: PollFunction = PollFunction::new(c"timerfd_poll");

/// One word for statistics: how the module obtains the count.
pub(crate) fn state() -> &'static str {
    LAYOUT.state()
}

/// True if `file` is a timerfd. May sleep.
pub(crate) fn is(file: &LocalFile) -> bool {
    POLL.is_of(file)
}

/// The count of `file`, if it is a timerfd and the layout is verified. Never sleeps.
#[inline]
pub(crate) fn try_count(file: &File) -> Option<u64> {
    // SAFETY: The file is valid. The verification holds for timerfds only. The private data of a
    // timerfd is the structure as long as the file is open.
    LAYOUT
        .is_verified_for(file)
        .then(|| unsafe { TICKS.read((*file.as_ptr()).private_data) })
}

/// The count of `file`, if it is a timerfd. May sleep.
pub(crate) fn count(file: &File) -> Option<u64> {
    if !is(file) {
        return None;
    }
    if let Some(count) = try_count(file) {
        return Some(count);
    }
    let reported = count_from_fdinfo(file)?;
    if LAYOUT.is_undecided() && reported != 0 {
        let clock = read_fdinfo::number(file, b"clockid:", Base::Ten)?;
        let wait = poll::first_queue(file);
        // SAFETY: The file is a timerfd, so its private data is the structure. If the layout
        // differs, the address still refers to kernel memory, because the structure is longer than
        // the range that is read. In that case the values are only compared and not used.
        let (ticks, is_clock, is_wait) = unsafe {
            let context = (*file.as_ptr()).private_data;
            (
                TICKS.read(context),
                u64::try_from(CLOCK.read(context)) == Ok(clock),
                WAIT.of(context).cast_mut() == wait,
            )
        };
        // The wait queue and the clock of a timerfd do not change. The count does: a timer that
        // expires or is read at this moment must not rule the declaration out for all.
        if !is_wait || !is_clock {
            LAYOUT.record(file, false);
        } else if ticks == reported && count_from_fdinfo(file) == Some(reported) {
            LAYOUT.record(file, true);
        }
    }
    Some(reported)
}

/// The count as reported in the fdinfo text.
fn count_from_fdinfo(file: &File) -> Option<u64> {
    read_fdinfo::number(file, b"ticks:", Base::Ten)
}
