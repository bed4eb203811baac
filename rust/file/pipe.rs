// SPDX-License-Identifier: GPL-2.0

//! Pipes and FIFOs. The bytes and the room are counted in `sys/file/pipe.rs`. The fast path uses
//! `poll_to_read` and `room`, and all else uses `evaluate`. Both must agree on what is ready.

use super::{poll, Direction, FileState};
use crate::sys::file::{file_type, pipe::Pipe, poll::FastPoll};
use kernel::fs::File;

/// Evaluates a pipe for a reader.
#[inline(always)]
pub(super) fn poll_to_read(file: &File, interrupts_off: bool) -> FastPoll {
    let Some(pipe) = Pipe::of(file).filter(|_| file_type::is_open_to_read(file)) else {
        return FastPoll::Unknown;
    };
    if !pipe.has_writer() {
        return poll_without_writer(&pipe, file);
    }
    match pipe.try_readable(interrupts_off) {
        Some(bytes) => FastPoll::ready_if(bytes > 0, || bytes),
        None => FastPoll::Unknown,
    }
}

/// Evaluates a pipe without a writer: either all writers have closed it, or none has opened it yet.
#[inline(never)]
fn poll_without_writer(pipe: &Pipe<'_>, file: &File) -> FastPoll {
    // A writer that opens the pipe changes the counter of writers, then their number, and then it
    // writes. The three are read in this order. So if there is no writer now, all writers that were
    // counted have left their bytes.
    let had_writer = pipe.had_writer(file);
    pipe.after_last_writer();
    if pipe.has_writer() {
        return FastPoll::Unknown;
    }
    pipe.after_last_writer();
    match pipe.try_readable(false) {
        Some(bytes) if had_writer => FastPoll::HungUp(bytes),
        Some(bytes) => FastPoll::ready_if(bytes > 0, || bytes),
        None => FastPoll::Unknown,
    }
}

/// Evaluates a pipe for a writer. The reader's descriptor of a pipe is never writable, and has hung
/// up when there is no writer any more.
#[inline(never)]
pub(super) fn room(file: &File) -> FastPoll {
    let Some(pipe) = Pipe::of(file) else {
        return FastPoll::Unknown;
    };
    if !file_type::is_open_to_write(file) {
        return if pipe.has_writer() {
            FastPoll::NotReady
        } else {
            FastPoll::Unknown
        };
    }
    if !pipe.has_reader() {
        return FastPoll::Ended(0);
    }
    let room = pipe.writable();
    FastPoll::ready_if(room > 0, || room)
}

pub(super) fn evaluate(file: &File, direction: Direction) -> Option<FileState> {
    let events = poll(file, direction);
    match direction {
        // A pipe may be readable for poll(2) without bytes, while a slot is being filled or
        // emptied. Such a pipe is not ready. It wakes its readers when the slot has been filled.
        Direction::Read => FileState::of(events, direction, || Some(Pipe::of(file)?.readable()))
            .filter(|state| state.eof || state.data > 0),
        Direction::Write => FileState::of(events, direction, || Some(Pipe::of(file)?.writable())),
        Direction::Except => FileState::of(events, direction, || None),
    }
}
