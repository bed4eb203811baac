// SPDX-License-Identifier: GPL-2.0

//! System calls, and the directory of the attacks.

use kqueue::{Event, Kqueue};
use std::{
    ffi::CStr,
    fs,
    io::{self, Error},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

/// The user and the group of the attacker: nobody.
const NOBODY: u32 = 65534;

/// The limit of descriptors of an ordinary user's process under systemd.
const DESCRIPTORS: u64 = 1 << 19;

/// Returns the result of a system call.
///
/// # Errors
///
/// Its errno.
pub fn checked(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(Error::last_os_error()),
        result => Ok(result),
    }
}

/// Takes ownership of a descriptor that a system call returned.
///
/// # Errors
///
/// Its errno.
pub fn owned(result: impl Into<i64>) -> io::Result<OwnedFd> {
    let fd = checked(result)? as RawFd;
    // SAFETY: The callers pass new descriptors.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Creates a pipe. Returns its read end and its write end.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: The array has room for two descriptors.
    checked(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })
        .expect("pipe");
    (
        owned(fds[0]).expect("a descriptor"),
        owned(fds[1]).expect("a descriptor"),
    )
}

/// Duplicates a descriptor.
pub fn dup(fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: The arguments are numbers.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64) }).expect("dup")
}

/// Creates a kqueue by opening the device, so that no other descriptor stays open.
///
/// # Errors
///
/// Those of open(2).
pub fn kqueue() -> io::Result<Kqueue> {
    let opened = kqueue::open(libc::O_CLOEXEC)?;
    Ok(OwnedFd::from(opened).into())
}

/// Applies one change, and returns the error if it is refused.
///
/// # Errors
///
/// Those of kevent(2).
pub fn change(kqueue: &Kqueue, change: Event) -> io::Result<()> {
    kqueue.kevent(&[change], &mut [], None).map(drop)
}

/// Creates an epoll.
///
/// # Errors
///
/// Those of epoll_create1(2).
pub fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: The argument is a number.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// Adds an edge-triggered descriptor to an epoll, or removes it.
///
/// # Errors
///
/// Those of epoll_ctl(2).
pub fn epoll_ctl(epoll: &OwnedFd, operation: i32, fd: RawFd, events: i32) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: 0,
    };
    // SAFETY: The event is valid.
    checked(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
}

/// A signal handler that does nothing.
extern "C" fn nothing(_signal: i32) {}

/// Installs a handler that does nothing, so that the signal is not ignored.
pub fn catch(signal: i32) {
    // SAFETY: The handler may be called at any time.
    unsafe { libc::signal(signal, nothing as *const () as libc::sighandler_t) };
}

/// Allows this process as many descriptors as an ordinary user may have.
pub fn raise_limits() {
    let most = libc::rlimit {
        rlim_cur: DESCRIPTORS,
        rlim_max: DESCRIPTORS,
    };
    // SAFETY: The limit is valid.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &most) }).expect("RLIMIT_NOFILE");
}

/// Becomes user nobody permanently.
pub fn drop_privileges() {
    // SAFETY: The process has one thread. The list of groups is empty.
    unsafe {
        checked(libc::setgroups(0, std::ptr::null())).expect("setgroups");
        checked(libc::setresgid(NOBODY, NOBODY, NOBODY)).expect("setresgid");
        checked(libc::setresuid(NOBODY, NOBODY, NOBODY)).expect("setresuid");
        // A login sets this, too.
        checked(libc::prctl(libc::PR_SET_DUMPABLE, 1)).expect("PR_SET_DUMPABLE");
    }
}

/// The directory of the attacks, which is in memory.
const FOLDER: &str = "/dev/shm/kqueue-hostile";

/// Creates an empty directory of root for one attack. User nobody may read it.
pub fn fresh_folder() -> PathBuf {
    let folder = PathBuf::from(FOLDER);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a folder in memory");
    folder
}

/// Creates a directory of user nobody in another directory.
pub fn folder_of_nobody(folder: &std::path::Path) -> PathBuf {
    let path = folder.join("nobody");
    fs::create_dir(&path).expect("a folder");
    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
    path
}

fn clock(clock: libc::clockid_t) -> f64 {
    // SAFETY: Zero is a valid value of `timespec`, for which there is room.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        checked(libc::clock_gettime(clock, &raw mut time)).expect("a clock");
        time
    };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The nanoseconds for which this thread has run, including interrupts. If the clock counts
/// instructions, the number of instructions.
pub fn own_time() -> f64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The nanoseconds that have passed.
pub fn time() -> f64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Mounts a file system of type `kind`, which needs no device.
pub fn mount(kind: &CStr, target: &CStr) {
    // SAFETY: The strings are C strings, and there is no data.
    checked(unsafe {
        libc::mount(
            c"none".as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    })
    .expect("mount");
}

/// Unmounts a file system.
pub fn unmount(target: &CStr) {
    // SAFETY: The argument is a C string.
    checked(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).expect("umount");
}

/// Creates a child that calls `child` and exits, and waits for it.
pub fn fork(child: impl FnOnce()) {
    // SAFETY: The process has one thread. The child calls the function and exits.
    unsafe {
        match libc::fork() {
            0 => {
                child();
                libc::_exit(0)
            }
            pid => {
                checked(pid).expect("fork");
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }
}
