// SPDX-License-Identifier: GPL-2.0

//! Shared memory in which the processes of a round report their progress to the watching process.

use crate::sys;
use std::{
    fmt::Write,
    sync::atomic::{AtomicI32, AtomicU64, AtomicU8, AtomicUsize, Ordering::Relaxed},
};

const SLOTS: usize = 256;
const TEXT: usize = 1 << 16;
const NAME: usize = 64;

/// The present action of one thread.
pub struct Slot {
    tid: AtomicI32,
    step: AtomicU64,
    name: [AtomicU8; NAME],
    args: [AtomicU64; 3],
}

impl Slot {
    /// Records the next action.
    pub fn at(&self, step: u64, name: &str, args: [u64; 3]) {
        self.step.store(step, Relaxed);
        let bytes = name.bytes().chain(std::iter::repeat(0));
        for (to, byte) in self.name.iter().zip(bytes) {
            to.store(byte, Relaxed);
        }
        for (to, arg) in self.args.iter().zip(args) {
            to.store(arg, Relaxed);
        }
    }

    /// The id of the thread in its own process namespace, and the action that it recorded last.
    fn record(&self) -> (i32, String) {
        let name: Vec<u8> = self.name.iter().map(|byte| byte.load(Relaxed)).collect();
        let name = String::from_utf8_lossy(&name);
        let [a, b, c] = [0, 1, 2].map(|at| self.args[at].load(Relaxed));
        let text = format!(
            "step {}: {} {a:#x} {b:#x} {c:#x}",
            self.step.load(Relaxed),
            name.trim_end_matches('\0')
        );
        (self.tid.load(Relaxed), text)
    }
}

/// The things that are counted.
#[derive(Clone, Copy)]
pub enum Count {
    /// Operations.
    Steps,
    /// Calls of a kqueue.
    Calls,
    /// Changes that were applied.
    Changes,
    /// Events that were reported.
    Events,
    /// Descriptors that were opened.
    Opened,
    /// Allocations that were made to fail.
    Faults,
}

/// The names of the counts.
const COUNTS: [&str; 6] = ["steps", "calls", "changes", "events", "opened", "faults"];

/// The shared memory.
pub struct Board {
    slots: [Slot; SLOTS],
    used: AtomicUsize,
    counts: [AtomicU64; COUNTS.len()],
    /// One bit for each kind of descriptor that could be opened.
    pub kinds: AtomicU64,
    text: [AtomicU8; TEXT],
    len: AtomicUsize,
}

impl Board {
    /// An empty board, which forked children share.
    pub fn new() -> &'static Board {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let memory = sys::call(
            libc::SYS_mmap,
            &[
                0,
                size_of::<Board>(),
                protection as usize,
                flags as usize,
                usize::MAX,
                0,
            ],
        );
        let memory = memory.expect("shared memory") as *const Board;
        // SAFETY: The memory is new, has this size, is page-aligned and is never unmapped. All
        // fields are atomic integers, for which zero is a valid value.
        unsafe { &*memory }
    }

    /// A slot for the current thread. (If there are too many threads, some share the last slot.)
    pub fn slot(&self) -> &Slot {
        let at = self.used.fetch_add(1, Relaxed).min(SLOTS - 1);
        let slot = &self.slots[at];
        let tid = sys::call(libc::SYS_gettid, &[]).unwrap_or(0);
        slot.tid.store(tid as i32, Relaxed);
        slot
    }

    /// Clears the slots and the messages at the beginning of a round.
    pub fn clear(&self) {
        self.used.store(0, Relaxed);
        self.len.store(0, Relaxed);
        for slot in &self.slots {
            slot.tid.store(0, Relaxed);
        }
    }

    /// Adds to a count.
    pub fn count(&self, what: Count, by: u64) {
        self.counts[what as usize].fetch_add(by, Relaxed);
    }

    /// All counts as text.
    pub fn totals(&self) -> String {
        let mut text = String::new();
        for (name, count) in COUNTS.iter().zip(&self.counts) {
            let _ = write!(text, "{name} {} ", count.load(Relaxed));
        }
        text
    }

    /// Leaves a message for the watching process.
    pub fn say(&self, message: &str) {
        for byte in message.bytes().chain([b'\n']) {
            let at = self.len.fetch_add(1, Relaxed);
            if let Some(to) = self.text.get(at) {
                to.store(byte, Relaxed);
            }
        }
    }

    /// The messages.
    pub fn said(&self) -> String {
        let len = self.len.load(Relaxed).min(TEXT);
        let bytes: Vec<u8> = self.text[..len].iter().map(|b| b.load(Relaxed)).collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    /// The action that the thread with this id has recorded, if it has a slot.
    pub fn record_of(&self, tid: i32) -> Option<String> {
        let used = self.used.load(Relaxed).min(SLOTS);
        let mut record = self.slots[..used].iter().map(Slot::record);
        record.find(|record| record.0 == tid).map(|record| record.1)
    }
}
