// SPDX-License-Identifier: GPL-2.0

//! The attacks.

mod closes;
mod files;
mod memory;
mod nested;
mod network;
mod signals;
mod timers;

use crate::report::Attack;

/// All attacks, by name.
pub const ALL: [(&str, Attack); 17] = [
    ("close_passed", closes::passed),
    ("close_range_growth", closes::close_range),
    ("exit_growth", closes::exit),
    ("vnode", files::vnode),
    ("contents", files::contents),
    ("siblings", files::siblings),
    ("mounts", files::mounts),
    ("revoke", files::revoke),
    ("signals", signals::signals),
    ("probes", signals::probes),
    ("nested_trigger", nested::trigger),
    ("nested_add", nested::add),
    ("nested_close_growth", nested::close),
    ("udp", network::udp),
    ("timers", timers::timers),
    ("memory_tables", memory::tables),
    ("memory_tracked", memory::tracked),
];
