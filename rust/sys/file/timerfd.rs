// SPDX-License-Identifier: GPL-2.0

//! The expirations of a timerfd that were not read yet.
//!
//! They are in a structure that is private to `fs/timerfd.c`. Where it has them is [proved](super::proof) by the wait
//! queue that the file is polled with, which is in front of them, and by what the text of `/proc/PID/fdinfo` says. The
//! count is a single word that the function of the timer and read(2) change with the lock of that wait queue held. It is
//! read without the lock, at once: `timerfd_poll` does no more with it than to compare it with 0.

use super::{
    fdinfo::{self, Base},
    poll::{self, PollFunction},
    proof::Proof,
};
use crate::{generated::*, sys::memory::field::Field};
use kernel::{
    bindings,
    fs::{file::LocalFile, File}, //
};

const WAIT: Field<bindings::wait_queue_head> = Field::at(kq_offset_KQ_TIMERFD_WQH);
const TICKS: Field<u64> = Field::at(kq_offset_KQ_TIMERFD_TICKS);
const CLOCK: Field<i32> = Field::at(kq_offset_KQ_TIMERFD_CLOCKID);

static PROOF: Proof = Proof::new();
static POLL: PollFunction = PollFunction::new(c"timerfd_poll");

/// How counts are had, in a word.
pub(crate) fn state() -> &'static str {
    PROOF.state()
}

/// True if `file` is a timerfd. May sleep.
pub(crate) fn is(file: &LocalFile) -> bool {
    POLL.is_of(file)
}

/// The count of `file`, if it is a timerfd and counts can be read. Never sleeps.
#[inline]
pub(crate) fn count_at_once(file: &File) -> Option<u64> {
    // SAFETY: The file is valid. The proof holds for timerfds alone, whose private data is the structure, for as long as the
    // file is open.
    PROOF
        .holds_for(file)
        .then(|| unsafe { TICKS.read((*file.as_ptr()).private_data) })
}

/// The count of `file`, if it is a timerfd. May sleep.
pub(crate) fn count(file: &File) -> Option<u64> {
    if !is(file) {
        return None;
    }
    if let Some(count) = count_at_once(file) {
        return Some(count);
    }
    let told = text(file)?;
    if PROOF.is_open() && told != 0 {
        let clock = fdinfo::number(file, b"clockid:", Base::Ten)?;
        let wait = poll::first_queue(file);
        // SAFETY: It is a timerfd, so that its private data is the structure. If that is laid out in another way, this is
        // still memory of the kernel's, as the structure is longer than what is read of it; and what is read is compared,
        // not used.
        let (ticks, is_clock, is_wait) = unsafe {
            let context = (*file.as_ptr()).private_data;
            (
                TICKS.read(context),
                u64::try_from(CLOCK.read(context)) == Ok(clock),
                WAIT.of(context).cast_mut() == wait,
            )
        };
        // The timer may expire, or be read, in between.
        if text(file) == Some(told) {
            PROOF.conclude(file, is_wait && is_clock && ticks == told);
        }
    }
    Some(told)
}

/// The count as the kernel tells it.
fn text(file: &File) -> Option<u64> {
    fdinfo::number(file, b"ticks:", Base::Ten)
}
