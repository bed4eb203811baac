// SPDX-License-Identifier: GPL-2.0

//! System calls.

use kqueue::{abi, Event};
use std::ffi::CStr;

/// The number of a descriptor, which need not be open.
pub type Fd = i32;

/// Makes a system call. Returns its result or its errno.
///
/// The arguments may be invalid. If the kernel writes to memory, the memory must belong to the
/// caller or be unused. The compiler cannot check that.
pub fn call(number: libc::c_long, args: &[usize]) -> Result<usize, i32> {
    let arg = |at: usize| args.get(at).copied().unwrap_or(0);
    // SAFETY: The caller passes only addresses of memory that it owns or that is unused.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    if result == -1 {
        Err(errno())
    } else {
        Ok(result as usize)
    }
}

/// The errno of the last call of this thread.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The address of a value.
pub fn address<T: ?Sized>(of: &T) -> usize {
    std::ptr::from_ref(of).cast::<u8>() as usize
}

/// The address of a value that the kernel may write to.
pub fn address_mut<T: ?Sized>(of: &mut T) -> usize {
    std::ptr::from_mut(of).cast::<u8>() as usize
}

/// Closes a descriptor, which need not be open.
pub fn close(fd: Fd) {
    let _ = call(libc::SYS_close, &[fd as usize]);
}

/// Makes `to` a duplicate of `from`.
pub fn dup2(from: Fd, to: Fd) -> Result<usize, i32> {
    // SAFETY: The call takes no addresses. (Not all architectures have it as a system call.)
    let result = unsafe { libc::dup2(from, to) };
    usize::try_from(result).map_err(|_| errno())
}

/// Polls descriptors for at most that many milliseconds. The result is in the list.
pub fn poll(list: &mut [libc::pollfd], ms: i32) {
    // SAFETY: The list is valid for its length.
    let _ = unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, ms) };
}

/// Changes the mode of a file.
pub fn chmod(path: &CStr, mode: usize) {
    let here = libc::AT_FDCWD as usize;
    let _ = call(libc::SYS_fchmodat, &[here, path.as_ptr() as usize, mode]);
}

/// Writes bytes.
pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize, i32> {
    call(libc::SYS_write, &[fd as usize, address(bytes), bytes.len()])
}

/// Reads at most as many bytes as there is room for.
pub fn read(fd: Fd, bytes: &mut [u8]) -> Result<usize, i32> {
    let len = bytes.len();
    call(libc::SYS_read, &[fd as usize, address_mut(bytes), len])
}

/// Creates a process like fork(2), with additional flags of clone(2). Returns 0 in the child.
pub fn clone(flags: i32) -> Result<usize, i32> {
    call(libc::SYS_clone, &[(flags | libc::SIGCHLD) as usize])
}

/// Ends the process without cleanup.
pub fn exit(code: i32) -> ! {
    // SAFETY: The function does not return.
    unsafe { libc::_exit(code) }
}

/// Waits for a child, and continues after signals. Returns its wait status.
pub fn reap(pid: i32) -> Option<i32> {
    let mut status = 0i32;
    loop {
        match call(
            libc::SYS_wait4,
            &[pid as usize, address_mut(&mut status), 0, 0],
        ) {
            Err(libc::EINTR) => {}
            Err(_) => return None,
            Ok(_) => return Some(status),
        }
    }
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The pointer refers to memory for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Sleeps for a number of milliseconds, or until a signal arrives.
pub fn sleep_ms(ms: u64) {
    let time = libc::timespec {
        tv_sec: (ms / 1000) as i64,
        tv_nsec: (ms % 1000 * 1_000_000) as i64,
    };
    let _ = call(libc::SYS_nanosleep, &[address(&time), 0]);
}

/// The ioctl number of kevent().
pub const IOC_KEVENT: usize = ioc_kevent(size_of::<abi::kqueue_kevent>());
/// The number of the ioctl that creates another kqueue.
pub const IOC_CREATE: usize = (abi::KQUEUE_IOC_MAGIC as usize) << 8 | 1;

/// The ioctl number of kevent() for a version whose arguments have this size.
pub const fn ioc_kevent(size: usize) -> usize {
    1 << 30 | (size & 0x3fff) << 16 | (abi::KQUEUE_IOC_MAGIC as usize) << 8
}

/// The ioctl numbers of the short forms of kevent(), for a list with this number of entries.
pub const fn ioc_wait(count: usize) -> usize {
    2 << 30 | (count & 0x3fff) << 16 | (abi::KQUEUE_IOC_MAGIC as usize) << 8 | 2
}

pub const fn ioc_poll(count: usize) -> usize {
    ioc_wait(count) + 1
}

pub const fn ioc_change(count: usize) -> usize {
    ioc_wait(count) - (1 << 30) + 2
}

/// Opens the device, which creates a kqueue.
pub fn kqueue() -> Result<Fd, i32> {
    let path = c"/dev/kqueue";
    call(
        libc::SYS_openat,
        &[
            libc::AT_FDCWD as usize,
            path.as_ptr() as usize,
            (libc::O_RDWR | libc::O_CLOEXEC) as usize,
        ],
    )
    .map(|fd| fd as Fd)
}

/// Makes one kevent() call with a timeout in nanoseconds.
pub fn kevent(
    queue: Fd,
    changes: &[Event],
    list: usize,
    room: usize,
    timeout: i64,
) -> Result<usize, i32> {
    const MOST: usize = abi::KQUEUE_IOC_MOST as usize;
    // Half of the calls that have a short form use it.
    let short = match (changes.len(), room) {
        (0, 2..=MOST) if timeout == 0 && room % 2 == 0 => Some((ioc_poll(room), list)),
        (1..=MOST, 0) if changes.len() % 2 == 0 => {
            Some((ioc_change(changes.len()), address(changes)))
        }
        _ => None,
    };
    if let Some((command, list)) = short {
        return call(libc::SYS_ioctl, &[queue as usize, command, list]);
    }
    let args = abi::kqueue_kevent {
        changelist: address(changes) as u64,
        nchanges: changes.len() as u32,
        eventlist: list as u64,
        nevents: room as u32,
        flags: abi::KQUEUE_TIMEOUT,
        tv_sec: timeout / 1_000_000_000,
        tv_nsec: timeout % 1_000_000_000,
        ..Default::default()
    };
    call(
        libc::SYS_ioctl,
        &[queue as usize, IOC_KEVENT, address(&args)],
    )
}

/// Maps new private memory, which is not faulted in yet. Returns 0 if that fails.
pub fn map(len: usize, protection: i32) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call(
        libc::SYS_mmap,
        &[0, len, protection as usize, flags as usize, usize::MAX, 0],
    )
    .unwrap_or(0)
}
