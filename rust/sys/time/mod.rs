// SPDX-License-Identifier: GPL-2.0

//! Clocks and timers.

pub(crate) mod hrtimer;
