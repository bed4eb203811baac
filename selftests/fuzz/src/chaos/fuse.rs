// SPDX-License-Identifier: GPL-2.0

//! A FUSE file system with one file, whose pages are delivered slowly.

use super::kinds::Place;
use crate::{
    random::Random,
    sys::{self, address, call, Fd},
};
use std::fs;

/// The requests of the kernel, from linux/fuse.h.
mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const POLL: u32 = 40;
    pub const BATCH_FORGET: u32 = 42;
}

/// The size of the file.
const SIZE: u64 = super::memory::SIZE as u64;

/// The connection to the kernel.
pub struct Server(Fd);

/// Mounts the file system in the directory `fuse`, and the devices of binder. Only root can do
/// that.
pub fn mount(place: &Place) -> Option<Server> {
    let mount = |kind: &std::ffi::CStr, at: &str, data: &str| {
        let path = place.path(at);
        let _ = fs::create_dir(path.to_str().unwrap_or_default());
        let data = std::ffi::CString::new(data).unwrap_or_default();
        let kind = kind.as_ptr() as usize;
        let args = [
            kind,
            path.as_ptr() as usize,
            kind,
            0,
            data.as_ptr() as usize,
        ];
        call(libc::SYS_mount, &args).is_ok()
    };
    if mount(c"binder", "binder", "") {
        for name in ["binder", "hwbinder", "vndbinder"] {
            let path = place.path(&format!("binder/{name}"));
            sys::chmod(&path, 0o666);
        }
    }
    let flags = libc::O_RDWR as usize;
    let path = c"/dev/fuse".as_ptr() as usize;
    let at = libc::AT_FDCWD as usize;
    let fd = call(libc::SYS_openat, &[at, path, flags, 0]).ok()? as Fd;
    let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
    if mount(c"fuse", "fuse", &data) {
        Some(Server(fd))
    } else {
        sys::close(fd);
        None
    }
}

impl Server {
    fn answer(&self, unique: u64, error: i32, body: &[u8]) {
        let mut out = Vec::with_capacity(16 + body.len());
        out.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
        out.extend_from_slice(&(-error).to_ne_bytes());
        out.extend_from_slice(&unique.to_ne_bytes());
        out.extend_from_slice(body);
        let _ = call(
            libc::SYS_write,
            &[self.0 as usize, address(&out[..]), out.len()],
        );
    }

    /// Leaves the connection to another process.
    pub fn leave(self) {
        sys::close(self.0);
    }

    /// Answers requests until the file system is unmounted.
    pub fn serve(self, mut random: Random) {
        let mut request = vec![0u8; 1 << 17];
        loop {
            match sys::read(self.0, &mut request) {
                Ok(count @ 40..) => self.reply(&request[..count], &mut random),
                Err(libc::ENODEV | libc::EBADF) => break,
                _ => {}
            }
        }
    }

    fn reply(&self, request: &[u8], random: &mut Random) {
        let u32_at =
            |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap_or_default());
        let u64_at =
            |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap_or_default());
        let (code, unique, node) = (u32_at(4), u64_at(8), u64_at(16));
        let mut words: Vec<u64> = Vec::new();
        let attributes = |node: u64| {
            let mode = if node == 1 { 0o040_777 } else { 0o100_666 };
            // The fields are: ino, size, blocks, three times, three fractions and the mode, links
            // and uid, gid and rdev, block size.
            [node, SIZE, 1, 0, 0, 0, 0, mode << 32, 1, 0, 4096]
        };
        match code {
            // The fields are: version, readahead, maximum size of a write, granularity of times in
            // nanoseconds.
            opcode::INIT => words.extend([7 | 31 << 32, 1 << 16, 1 << 48, 1, 0, 0, 0, 0]),
            opcode::LOOKUP if request[40..].starts_with(b"file") => {
                // The fields are: node, generation, and validity times of zero.
                words.extend([2, 0, 0, 0, 0]);
                words.extend(attributes(2));
            }
            opcode::LOOKUP => return self.answer(unique, libc::ENOENT, &[]),
            opcode::GETATTR | opcode::SETATTR => {
                words.extend([0, 0]);
                words.extend(attributes(node));
            }
            opcode::OPEN => words.extend([1, 0]),
            opcode::READ if request.len() >= 64 => {
                // Deliver a page slowly, or not at all.
                sys::sleep_ms(random.below(8));
                if random.chance(10) {
                    return self.answer(unique, libc::EIO, &[]);
                }
                let len = u32_at(56).min(1 << 16) as usize;
                return self.answer(unique, 0, &vec![0; len]);
            }
            opcode::WRITE if request.len() >= 64 => words.push(u64::from(u32_at(56))),
            opcode::POLL => {
                sys::sleep_ms(random.below(4));
                words.push(random.below(5));
            }
            opcode::RELEASE | opcode::FLUSH => {}
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return,
            _ => return self.answer(unique, libc::ENOSYS, &[]),
        }
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.answer(unique, 0, &body);
    }
}
