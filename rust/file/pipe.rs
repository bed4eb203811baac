// SPDX-License-Identifier: GPL-2.0

//! Pipes and FIFOs.

use super::{poll, Direction, Look};
use crate::{
    engine::ops::FastLook,
    sys::file::{contents, pipe::Pipe},
};
use kernel::fs::File;

/// Evaluates a pipe for a reader.
#[inline(always)]
pub(super) fn poll_to_read(file: &File, interrupts_off: bool) -> FastLook {
    let Some(pipe) = Pipe::of(file).filter(|_| contents::is_open_to_read(file)) else {
        return FastLook::Unknown;
    };
    if !pipe.has_writer() {
        return poll_without_writer(&pipe, file);
    }
    match pipe.readable_at_once(interrupts_off) {
        Some(bytes) => FastLook::ready_if(bytes > 0, || bytes),
        None => FastLook::Unknown,
    }
}

/// Evaluates a pipe without a writer: either all writers have closed it, or none has opened it yet.
#[inline(never)]
fn poll_without_writer(pipe: &Pipe<'_>, file: &File) -> FastLook {
    match pipe.readable_at_once(false) {
        Some(bytes) if pipe.had_writer(file) => FastLook::HungUp(bytes),
        Some(bytes) => FastLook::ready_if(bytes > 0, || bytes),
        None => FastLook::Unknown,
    }
}

#[inline(never)]
pub(super) fn room(file: &File) -> FastLook {
    match Pipe::of(file).filter(|_| contents::is_open_to_write(file)) {
        Some(pipe) if !pipe.has_reader() => FastLook::Ended(0),
        Some(pipe) => {
            let room = pipe.writable();
            FastLook::ready_if(room > 0, || room)
        }
        None => FastLook::Unknown,
    }
}

pub(super) fn look(file: &File, direction: Direction) -> Option<Look> {
    let events = poll(file, direction);
    match direction {
        // A pipe may be readable for poll(2) without bytes, while a slot is being filled or
        // emptied. Such a pipe is not ready. It wakes its readers when the slot has been filled.
        Direction::Read => Look::of(events, direction, || Some(Pipe::of(file)?.readable()))
            .filter(|look| look.eof || look.data > 0),
        Direction::Write => Look::of(events, direction, || Some(Pipe::of(file)?.writable())),
        Direction::Except => Look::of(events, direction, || None),
    }
}
