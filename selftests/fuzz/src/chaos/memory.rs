// SPDX-License-Identifier: GPL-2.0

//! Addresses of memory of all kinds, which are passed to the kernel.

use crate::{
    random::Random,
    sys::{self, address, address_mut, call, Fd},
};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const PAGE: usize = 4096;
/// The size of the longest lists. An unmapped page follows.
pub const SIZE: usize = 16 * PAGE;

/// The memory of one process.
pub struct Memory {
    read_only: usize,
    /// Memory whose protection changes all the time.
    unsteady: usize,
    fresh: usize,
    /// The part of a mapped file that is beyond its end.
    beyond: usize,
    /// Pages that a thread provides by userfaultfd after a delay.
    lazy: usize,
    uffd: Fd,
    /// A mapping of the file of the FUSE server.
    served: usize,
}

/// Memory of one thread that only the kernel accesses.
pub struct Own(usize);

impl Own {
    pub fn new() -> Self {
        let own = sys::map(SIZE + PAGE, libc::PROT_READ | libc::PROT_WRITE);
        let _ = call(libc::SYS_mprotect, &[own + SIZE, PAGE, 0]);
        Own(own)
    }

    /// The address of the beginning.
    pub fn start(&self) -> usize {
        self.0
    }
}

const UFFDIO_API: usize = 0xc018_aa3f;
const UFFDIO_REGISTER: usize = 0xc020_aa00;
const UFFDIO_ZEROPAGE: usize = 0xc020_aa04;
const UFFDIO_WAKE: usize = 0x8010_aa02;

impl Memory {
    /// Creates the memory, while the process still has all rights.
    pub fn new(served: Option<Fd>) -> Self {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let mut beyond = 0;
        if let Ok(file) = call(libc::SYS_memfd_create, &[c"beyond".as_ptr() as usize, 0]) {
            let shared = libc::MAP_SHARED as usize;
            let args = [0, SIZE, both as usize, shared, file, 0];
            beyond = call(libc::SYS_mmap, &args).unwrap_or(0);
            sys::close(file as Fd);
        }
        let lazy = sys::map(SIZE, both);
        let mut uffd = -1;
        if let Ok(fd) = call(libc::SYS_userfaultfd, &[libc::O_NONBLOCK as usize]) {
            let mut api = [0xaau64, 0, 0];
            let mut range = [lazy as u64, SIZE as u64, 1, 0];
            let api = call(libc::SYS_ioctl, &[fd, UFFDIO_API, address_mut(&mut api)]);
            let range = address_mut(&mut range);
            if api.is_ok() && call(libc::SYS_ioctl, &[fd, UFFDIO_REGISTER, range]).is_ok() {
                uffd = super::move_up(fd as Fd);
            }
        }
        let served = served.map_or(0, |fd| {
            let shared = libc::MAP_SHARED as usize;
            let args = [0, SIZE, both as usize, shared, fd as usize, 0];
            call(libc::SYS_mmap, &args).unwrap_or(0)
        });
        Memory {
            read_only: sys::map(SIZE, libc::PROT_READ),
            unsteady: sys::map(SIZE, both),
            fresh: sys::map(SIZE, both),
            beyond,
            lazy,
            uffd,
            served,
        }
    }

    /// Chooses an address for `len` bytes, mostly in `own`.
    pub fn address(&self, random: &mut Random, own: &Own, len: usize) -> usize {
        let within = |start: usize, random: &mut Random| start + random.index(SIZE / 8) * 8;
        match random.weighted(&[80, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]) {
            0 => own.0,
            // The accessible memory ends within the list or exactly at its end.
            1 => own.0 + SIZE - random.index(len + 2).min(SIZE),
            2 => self.read_only,
            3 => within(self.unsteady, random),
            4 => {
                self.forget(self.fresh);
                within(self.fresh, random)
            }
            5 => self.beyond,
            6 => {
                self.forget(self.lazy);
                within(self.lazy, random)
            }
            7 => {
                if self.served != 0 {
                    self.forget(self.served);
                }
                self.served
            }
            8 => 0,
            // Addresses of the kernel, and values that are no addresses.
            9 => 0xffff_8880_0000_0000,
            10 => 0x7fff_ffff_f000,
            _ => own.0 + 1 + random.index(7),
        }
    }

    /// Memory that contains only zeros.
    pub fn zeros(&self) -> usize {
        self.read_only
    }

    fn forget(&self, at: usize) {
        let _ = call(libc::SYS_madvise, &[at, SIZE, libc::MADV_DONTNEED as usize]);
    }

    /// Changes the protection of a part of the memory.
    pub fn disturb(&self, random: &mut Random) {
        let at = self.unsteady + random.index(16) * PAGE;
        let allowed = [0, libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE];
        let allowed = random.pick(&allowed) as usize;
        let _ = call(libc::SYS_mprotect, &[at, PAGE, allowed]);
    }

    /// Provides the lazy pages until the end of the round.
    pub fn serve(&self, stop: &AtomicBool, mut random: Random) {
        if self.uffd < 0 {
            return;
        }
        let uffd = self.uffd as usize;
        while !stop.load(Relaxed) {
            let mut poll = libc::pollfd {
                fd: self.uffd,
                events: libc::POLLIN,
                revents: 0,
            };
            sys::poll(std::slice::from_mut(&mut poll), 20);
            let mut message = [0u64; 4];
            let len = size_of_val(&message);
            if call(libc::SYS_read, &[uffd, address_mut(&mut message), len]).is_err() {
                continue;
            }
            sys::sleep_ms(random.below(8));
            let page = message[2] as usize & !(PAGE - 1);
            let zero = [page as u64, PAGE as u64, 0, 0];
            if call(libc::SYS_ioctl, &[uffd, UFFDIO_ZEROPAGE, address(&zero)]).is_err() {
                // The page is already present, or was unmapped.
                let _ = call(libc::SYS_ioctl, &[uffd, UFFDIO_WAKE, address(&zero)]);
            }
        }
        // Unregister, so that waiting threads get pages from the kernel.
        sys::close(self.uffd);
    }
}
