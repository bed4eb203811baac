// SPDX-License-Identifier: GPL-2.0

//! (k) The cost for processes that do not use kqueues: without the module, with the module loaded,
//! and while another process uses all of its filters.

use crate::{
    measure::{Case, Stopwatch},
    queue::{kqueue, Kevents},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::{self, File, Permissions},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

/// An operation of a bystander. It is called with the number of repetitions.
type Deed = fn(usize);

fn close(times: usize) {
    for _ in 0..times {
        // SAFETY: The arguments are integers. The closed descriptor is the duplicate.
        unsafe { libc::close(libc::dup(0)) };
    }
}

fn fork(times: usize) {
    for _ in 0..times.div_ceil(20) {
        // SAFETY: The child exits at once.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(0),
                pid => libc::waitpid(pid, std::ptr::null_mut(), 0),
            }
        };
    }
}

/// Creates a program in memory that only exits. It consists of an ELF header, one segment that
/// covers the file, and code.
const PROGRAM: &str = "/dev/shm/kqueue-bench-exit";

#[cfg(target_arch = "x86_64")]
fn write_program() {
    const BASE: u64 = 0x40_0000;
    // mov $60, %eax; xor %edi, %edi; syscall
    const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + CODE.len() as u64;
    let mut program = Vec::new();
    // The file is a 64-bit little-endian executable for x86-64.
    program.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    program.extend([2u16, 62].map(u16::to_le_bytes).concat());
    program.extend(1u32.to_le_bytes());
    program.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    program.extend(0u32.to_le_bytes());
    program.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    // The segment is loaded, readable and executable.
    program.extend([1u32, 5].map(u32::to_le_bytes).concat());
    let segment = [0, BASE, BASE, size, size, 0x1000];
    program.extend(segment.map(u64::to_le_bytes).concat());
    program.extend(CODE);
    fs::write(PROGRAM, program).expect("a program in memory");
    fs::set_permissions(PROGRAM, Permissions::from_mode(0o755)).expect("permissions");
}

#[cfg(not(target_arch = "x86_64"))]
fn write_program() {
    fs::copy("/bin/true", PROGRAM).expect("a program in memory");
}

fn exec(times: usize) {
    for _ in 0..times.div_ceil(50) {
        let status = Command::new(PROGRAM).status().expect("exec");
        assert!(status.success());
    }
}

fn kill(times: usize) {
    for _ in 0..times {
        // SAFETY: The signal is ignored.
        unsafe { libc::kill(libc::getpid(), libc::SIGUSR2) };
    }
}

fn pipe(times: usize) {
    let channel = Kind::Pipe.pair();
    for _ in 0..times {
        channel.send();
        channel.receive();
    }
}

/// A process that has a kqueue with a knote of each filter, until this is dropped.
struct Busy {
    pid: libc::pid_t,
    gate: Option<OwnedFd>,
}

/// Creates the kqueue and its knotes.
pub(super) fn everything() -> (Kqueue, Channel, File) {
    let queue = kqueue();
    let channel = Kind::Pipe.pair();
    let file = File::open("/dev/shm").expect("a folder in memory");
    // Process 1 is watched, because it does nothing.
    let process = Event::new(1, Filter::PROC, ev::ADD);
    queue.change(&[
        Event::fd(channel.reader.as_raw_fd(), Filter::READ, ev::ADD),
        Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD).fflags(note::WRITE),
        Event::fd(file.as_raw_fd(), Filter::READ, ev::ADD),
        process.fflags(note::FORK | note::EXEC | note::EXIT),
        Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD),
        Event::new(1, Filter::TIMER, ev::ADD).data(1_000_000),
        Event::new(0, Filter::FS, ev::ADD),
    ]);
    (queue, channel, file)
}

impl Busy {
    fn new() -> Self {
        let (ready, gate) = (Kind::Pipe.pair(), Kind::Pipe.pair());
        // SAFETY: The process has one thread. The child waits until the parent closes the pipe, and
        // exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let _kept = everything();
            ready.send();
            drop(gate.writer);
            let mut byte = 0u8;
            // SAFETY: There is room for a byte. The read ends when the parent closes the pipe. Then
            // the child exits.
            unsafe {
                libc::read(gate.reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(0)
            }
        }
        assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
        ready.receive();
        Busy {
            pid,
            gate: Some(gate.writer),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.gate = None;
        // SAFETY: The process is a child of this one.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

fn load(module: &Path) {
    let file = File::open(module).expect("the module");
    // SAFETY: The arguments are a descriptor and a C string.
    let ret = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

fn unload() {
    // SAFETY: The argument is a C string.
    let ret = unsafe { libc::syscall(libc::SYS_delete_module, c"kqueue".as_ptr(), 0) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

/// The nanoseconds of each repetition.
fn cost(deed: Deed, times: usize) -> f64 {
    let mut watch = Stopwatch::default();
    watch.time(|| deed(times));
    watch.each(times)
}

pub fn cases(scale: Scale, module: &Path, run: &mut dyn FnMut(Case)) {
    let times = scale.pick(5000, 50);
    // SAFETY: Ignoring a signal has no preconditions.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    write_program();
    let module: Rc<PathBuf> = Rc::new(module.to_owned());
    unload();
    let deeds: [(&str, Deed); 5] = [
        ("close", close),
        ("fork", fork),
        ("exec", exec),
        ("kill", kill),
        ("write to and read from a pipe", pipe),
    ];
    for (name, deed) in deeds {
        for (how, target) in [("idle", 1.01), ("busy", 1.05)] {
            let module = module.clone();
            let with = move || {
                load(&module);
                let busy = (how == "busy").then(Busy::new);
                let cost = cost(deed, times);
                drop(busy);
                unload();
                cost
            };
            run(
                Case::new('k', format!("{name}, with the module {how}"), target)
                    .side("kqueue", with)
                    .side("without", move || cost(deed, times)),
            );
        }
    }
    load(&module);
    let _ = fs::remove_file(PROGRAM);
}
