// SPDX-License-Identifier: GPL-2.0

//! io_uring with multishot polls. Each poll reports its descriptor, edge-triggered, until it is
//! cancelled.

use io_uring::{cqueue, opcode, types::Fd, IoUring};
use std::{io::ErrorKind, os::fd::AsRawFd};

/// Room for requests that are not submitted yet.
const REQUESTS: u32 = 256;

/// A ring for one thread, which does its work when the thread waits. This is the recommended mode
/// for such programs.
pub struct Ring(IoUring);

impl Ring {
    /// Creates a ring for that many descriptors, or returns `None` if io_uring is not available.
    pub fn new(descriptors: usize) -> Option<Self> {
        let events = descriptors.next_power_of_two() as u32;
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(events.max(2 * REQUESTS))
            .build(REQUESTS)
            .ok()
            .map(Ring)
    }

    /// Watches a descriptor for input.
    pub fn add(&mut self, fd: &impl AsRawFd) {
        let poll = opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        // SAFETY: The request has no pointers.
        while unsafe { self.0.submission().push(&poll) }.is_err() {
            self.0.submit().expect("io_uring_enter");
        }
    }

    /// Waits for events and returns their number.
    pub fn wait(&mut self) -> usize {
        while let Err(error) = self.0.submit_and_wait(1) {
            assert_eq!(
                error.kind(),
                ErrorKind::Interrupted,
                "io_uring_enter: {error}"
            );
        }
        let mut count = 0;
        for event in self.0.completion() {
            assert!(cqueue::more(event.flags()), "a multishot poll has ended");
            count += 1;
        }
        count
    }
}

/// Returns true if io_uring is available.
pub fn has_ring() -> bool {
    Ring::new(1).is_some()
}
