// SPDX-License-Identifier: GPL-2.0

//! Functions that several tests use.

use kqueue::{ev, Event, Filter, Kqueue};
use std::{
    fs,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// A timeout for events that must come. It is longer than any of them can take.
pub const SOON: Duration = Duration::from_secs(60);

/// Ends the process because this kernel lacks what the test needs. `selftests/run.sh` takes the
/// status for a skipped test, and the line for its reason.
pub fn skip(reason: &str) -> ! {
    // Standard output itself, because cargo's harness holds back what `println!` prints.
    let _ = writeln!(io::stdout(), "\nskip: {reason}");
    std::process::exit(77)
}

/// A directory of the host that is mounted by 9p. (statfs(2) returns the type that it has on the
/// host.)
pub fn folder_on_9p() -> PathBuf {
    let place = PathBuf::from(std::env::var_os("KQUEUE_SHARED_FOLDER").expect("run.sh sets it"));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let kind = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| place.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len())
        .map(|fields| fields[2]);
    if kind != Some("9p") {
        skip("the file system of the host is not mounted by 9p");
    }
    place
}

/// A new kqueue.
pub fn kqueue() -> Kqueue {
    Kqueue::new().expect("open /dev/kqueue")
}

/// Applies changes and collects no events.
#[track_caller]
pub fn change(kqueue: &Kqueue, changes: &[Event]) {
    let count = kqueue.kevent(changes, &mut [], None).expect("change");
    assert_eq!(count, 0);
}

/// Returns the errno with which a change fails.
#[track_caller]
pub fn change_error(kqueue: &Kqueue, change: Event) -> i32 {
    errno(kqueue.kevent(&[change], &mut [], None))
}

/// Returns the errno of a failed call.
#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result
        .expect_err("must fail")
        .raw_os_error()
        .expect("errno")
}

/// Returns at most 64 pending events, without waiting.
#[track_caller]
pub fn pending(kqueue: &Kqueue) -> Vec<Event> {
    wait(kqueue, Duration::ZERO)
}

/// Applies a change and returns the pending events, in one call.
#[track_caller]
pub fn collect(kqueue: &Kqueue, change: Event) -> Vec<Event> {
    let mut events = [Event::default(); 64];
    let count = kqueue.kevent(&[change], &mut events, Some(Duration::ZERO));
    events[..count.unwrap()].to_vec()
}

/// Waits for events and returns at most 64.
#[track_caller]
pub fn soon(kqueue: &Kqueue) -> Vec<Event> {
    let events = wait(kqueue, SOON);
    assert!(!events.is_empty(), "no event came");
    events
}

/// Waits for an event and checks that it is the only one.
#[track_caller]
pub fn one(kqueue: &Kqueue) -> Event {
    let events = soon(kqueue);
    assert_eq!(events.len(), 1, "{events:?}");
    events[0]
}

#[track_caller]
fn wait(kqueue: &Kqueue, timeout: Duration) -> Vec<Event> {
    let mut events = vec![Event::default(); 64];
    let count = kqueue
        .kevent(&[], &mut events, Some(timeout))
        .expect("collect");
    events.truncate(count);
    events
}

/// Creates a pipe. Both ends, the read end and the write end, are non-blocking.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: The array has room for two descriptors, which are new and ours.
    unsafe {
        assert_eq!(
            libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK),
            0
        );
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

/// Writes all bytes with one call.
#[track_caller]
pub fn write(fd: &impl AsRawFd, bytes: &[u8]) {
    // SAFETY: The buffer is valid for its length.
    let count = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(
        count,
        bytes.len() as isize,
        "{}",
        io::Error::last_os_error()
    );
}

/// Reads exactly that many bytes.
#[track_caller]
pub fn read(fd: &impl AsRawFd, count: usize) {
    let mut buffer = vec![0u8; count];
    // SAFETY: The buffer is valid for its length.
    let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), count) };
    assert_eq!(got, count as isize, "{}", io::Error::last_os_error());
}

/// Returns the number of the kqueue's knotes. `/proc` has it in two ways.
#[track_caller]
pub fn knotes(kqueue: &Kqueue) -> usize {
    let path = format!("/proc/self/fdinfo/{}", kqueue.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("knote "));
    let count = lines.count();
    assert!(text.contains(&format!("knotes: {count} ")), "{text}");
    count
}

/// `EV_ADD` and other flags for reading from `fd`.
pub fn add_read(fd: &impl AsRawFd, flags: u16) -> Event {
    Event::fd(fd.as_raw_fd(), Filter::READ, ev::ADD | flags)
}

/// `EV_ADD` and other flags for writing to `fd`.
pub fn add_write(fd: &impl AsRawFd, flags: u16) -> Event {
    Event::fd(fd.as_raw_fd(), Filter::WRITE, ev::ADD | flags)
}

/// Runs `child` in a forked process and waits for it. Returns true if `child` returned true.
pub fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: The tests run one a process; the child leaves with `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: Ends the process.
            unsafe { libc::_exit(if passed.unwrap_or(false) { 0 } else { 1 }) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: The process is a child of this one.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            status == 0
        }
    }
}

/// A forked process that has copies of the caller's descriptors until this is dropped.
pub struct Holder {
    pid: libc::pid_t,
    stop: Option<OwnedFd>,
}

impl Holder {
    /// Forks a child, which calls `before` and then waits. Returns when the child has called it.
    pub fn fork(before: impl FnOnce()) -> Self {
        let (wait, stop) = pipe();
        let called = Gate::new();
        // SAFETY: The child only closes, waits and exits.
        let pid = unsafe { libc::fork() };
        assert_ne!(pid, -1);
        if pid == 0 {
            drop(stop);
            before();
            called.open();
            let mut poll = libc::pollfd {
                fd: wait.as_raw_fd(),
                events: 0,
                revents: 0,
            };
            // SAFETY: One structure; then the process ends.
            unsafe {
                libc::poll(&mut poll, 1, -1);
                libc::_exit(0);
            }
        }
        called.wait();
        Holder {
            pid,
            stop: Some(stop),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop = None;
        // SAFETY: The process is a child of this one, and it exits now.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

/// Returns a command that runs only the given test of this program, with `KQUEUE_FD` in its
/// environment.
pub fn again(test: &str, fd: i32) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["--exact", test, "--test-threads", "1"])
        .env("KQUEUE_FD", fd.to_string());
    command
}

/// A generator of pseudo-random numbers, which is initialised with a seed.
pub struct Random(pub u64);

impl Random {
    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Changes a parameter of the module. The old value is restored when this is dropped.
pub struct Parameter {
    path: String,
    old: String,
}

impl Parameter {
    pub fn set(name: &str, value: u32) -> Self {
        let path = format!("/sys/module/kqueue/parameters/{name}");
        let old = fs::read_to_string(&path).unwrap();
        fs::write(&path, value.to_string()).unwrap();
        Parameter { path, old }
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        fs::write(&self.path, self.old.trim()).unwrap();
    }
}

/// Forks a process that runs `child` and exits with its result. The caller has to wait for it.
pub fn fork(child: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: The tests run one a process; the child leaves with `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: Ends the process.
            unsafe { libc::_exit(code.unwrap_or(99)) }
        }
        pid => pid,
    }
}

/// Waits for a child and returns its wait status.
#[track_caller]
pub fn reap(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: The process is a child of this one.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

/// A gate that one process opens and another process waits for.
pub struct Gate(OwnedFd, OwnedFd);

impl Gate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        let (wait, open) = pipe();
        Gate(wait, open)
    }

    /// Opens the gate once.
    pub fn open(&self) {
        write(&self.1, b"x");
    }

    /// Waits until the gate is opened. Each opening ends one wait.
    pub fn wait(&self) {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut byte = 0u8;
        // SAFETY: One structure, and room for one byte.
        while unsafe {
            libc::poll(&mut poll, 1, -1);
            libc::read(self.0.as_raw_fd(), (&raw mut byte).cast(), 1) != 1
        } {}
    }
}
