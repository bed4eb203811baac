// SPDX-License-Identifier: GPL-2.0

//! System calls.

use kqueue::{abi, Event};

/// A descriptor's number, open or not.
pub type Fd = i32;

/// Makes a system call; gives its result or the errno.
///
/// A fuzzer passes what comes. What the kernel is to write to must be memory that is the caller's
/// own, or nobody's; that is not for the compiler to check.
pub fn call(number: libc::c_long, args: &[usize]) -> Result<usize, i32> {
    let arg = |at: usize| args.get(at).copied().unwrap_or(0);
    // SAFETY: As said above.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    if result == -1 {
        Err(errno())
    } else {
        Ok(result as usize)
    }
}

/// What the last call of this thread failed with.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The address of something.
pub fn address<T: ?Sized>(of: &T) -> usize {
    std::ptr::from_ref(of).cast::<u8>() as usize
}

/// The address of something that the kernel may write to.
pub fn address_mut<T: ?Sized>(of: &mut T) -> usize {
    std::ptr::from_mut(of).cast::<u8>() as usize
}

/// Closes a descriptor, which may be none.
pub fn close(fd: Fd) {
    let _ = call(libc::SYS_close, &[fd as usize]);
}

/// Makes `to` a copy of `from`.
pub fn dup2(from: Fd, to: Fd) -> Result<usize, i32> {
    call(libc::SYS_dup2, &[from as usize, to as usize])
}

/// Writes so many bytes.
pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize, i32> {
    call(libc::SYS_write, &[fd as usize, address(bytes), bytes.len()])
}

/// Reads at most as many bytes as there is room for.
pub fn read(fd: Fd, bytes: &mut [u8]) -> Result<usize, i32> {
    let len = bytes.len();
    call(libc::SYS_read, &[fd as usize, address_mut(bytes), len])
}

/// A process as fork(2) makes it, with those flags of clone(2) besides: 0 in the child.
pub fn clone(flags: i32) -> Result<usize, i32> {
    call(libc::SYS_clone, &[(flags | libc::SIGCHLD) as usize])
}

/// Ends the process without more ado.
pub fn exit(code: i32) -> ! {
    // SAFETY: Ends the process.
    unsafe { libc::_exit(code) }
}

/// Waits for a child, however often a signal comes; its wait status.
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
    // SAFETY: Room for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Sleeps so many milliseconds, less if a signal comes.
pub fn sleep_ms(ms: u64) {
    let time = libc::timespec {
        tv_sec: (ms / 1000) as i64,
        tv_nsec: (ms % 1000 * 1_000_000) as i64,
    };
    let _ = call(libc::SYS_nanosleep, &[address(&time), 0]);
}

/// The number of the call of a kqueue.
pub const IOC_KEVENT: usize = ioc_kevent(size_of::<abi::kqueue_kevent>());
/// The number of the ioctl that makes another kqueue.
pub const IOC_CREATE: usize = (abi::KQUEUE_IOC_MAGIC as usize) << 8 | 1;

/// The number of the call, of a version whose arguments have that size.
pub const fn ioc_kevent(size: usize) -> usize {
    1 << 30 | (size & 0x3fff) << 16 | (abi::KQUEUE_IOC_MAGIC as usize) << 8
}

/// The numbers of the calls without arguments in memory: their list has so many entries.
pub const fn ioc_wait(count: usize) -> usize {
    2 << 30 | (count & 0x3fff) << 16 | (abi::KQUEUE_IOC_MAGIC as usize) << 8 | 2
}

pub const fn ioc_poll(count: usize) -> usize {
    ioc_wait(count) + 1
}

pub const fn ioc_change(count: usize) -> usize {
    ioc_wait(count) - (1 << 30) + 2
}

/// Opens the device: a new kqueue.
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

/// One kevent() call; waits for so many nanoseconds.
pub fn kevent(
    queue: Fd,
    changes: &[Event],
    list: usize,
    room: usize,
    timeout: i64,
) -> Result<usize, i32> {
    const MOST: usize = abi::KQUEUE_IOC_MOST as usize;
    // Half of those that can be short are.
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

/// New memory of the process's own, not touched yet; 0 if there is none.
pub fn map(len: usize, protection: i32) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call(
        libc::SYS_mmap,
        &[0, len, protection as usize, flags as usize, usize::MAX, 0],
    )
    .unwrap_or(0)
}
