// SPDX-License-Identifier: GPL-2.0

//! Regular files, directories and block devices. `data` is the distance from the offset to the end.

use super::{Direction, Look};
use crate::sys::file::contents;
use kernel::fs::File;

pub(super) fn look(file: &File, direction: Direction) -> Option<Look> {
    match direction {
        Direction::Read => {
            let distance = contents::distance(file);
            (distance != 0).then(|| Look::ready(distance))
        }
        Direction::Write => Some(Look::ready(0)),
        Direction::Except => None,
    }
}
