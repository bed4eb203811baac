// SPDX-License-Identifier: GPL-2.0

//! Regular files, directories and block devices. `data` is the distance from the offset to the end.

use super::{Direction, FileState};
use crate::sys::file::offset;
use kernel::fs::File;

pub(super) fn evaluate(file: &File, direction: Direction) -> Option<FileState> {
    match direction {
        Direction::Read => {
            let distance = offset::bytes_to_end(file);
            (distance != 0).then(|| FileState::ready(distance))
        }
        Direction::Write => Some(FileState::ready(0)),
        Direction::Except => None,
    }
}
