// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! `kqueue()`, `kqueue1()`, `kqueuex()` and `kevent()` for C programs; see `include/sys/event.h`.

use kqueue::{abi, kevent_raw, Event};
use libc::{c_int, c_uint, timespec};
use std::{io, os::fd::IntoRawFd};

fn result(result: io::Result<usize>) -> c_int {
    match result {
        Ok(value) => value as c_int,
        Err(error) => {
            // SAFETY: The calling thread's errno.
            unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EINVAL) };
            -1
        }
    }
}

/// A new kqueue, closed on exec. -1 and errno if there is none.
#[no_mangle]
pub extern "C" fn kqueue() -> c_int {
    kqueue1(libc::O_CLOEXEC)
}

/// A new kqueue; `flags` may be `O_CLOEXEC` and `O_NONBLOCK`.
#[no_mangle]
pub extern "C" fn kqueue1(flags: c_int) -> c_int {
    if flags & !(libc::O_CLOEXEC | libc::O_NONBLOCK) != 0 {
        return result(Err(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    result(kqueue::open(flags).map(|file| file.into_raw_fd() as usize))
}

/// A new kqueue, closed on exec; `flags` may be `KQUEUE_CLOEXEC`, as FreeBSD has it.
#[no_mangle]
pub extern "C" fn kqueuex(flags: c_uint) -> c_int {
    const KQUEUE_CLOEXEC: c_uint = 1;
    if flags & !KQUEUE_CLOEXEC != 0 {
        return result(Err(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    kqueue()
}

/// Applies changes, then collects events.
///
/// # Safety
///
/// The lists are valid for their counts, `timeout` is null or valid.
#[no_mangle]
pub unsafe extern "C" fn kevent(
    fd: c_int,
    changelist: *const Event,
    nchanges: c_int,
    eventlist: *mut Event,
    nevents: c_int,
    timeout: *const timespec,
) -> c_int {
    let mut args = abi::kqueue_kevent {
        changelist: changelist as u64,
        eventlist: eventlist as u64,
        // A negative count is above INT_MAX as the kernel sees it: EINVAL.
        nchanges: nchanges as u32,
        nevents: nevents as u32,
        ..Default::default()
    };
    // SAFETY: Null or valid, by this function's contract.
    if let Some(timeout) = unsafe { timeout.as_ref() } {
        args.flags = abi::KQUEUE_TIMEOUT;
        args.tv_sec = timeout.tv_sec;
        args.tv_nsec = timeout.tv_nsec;
    }
    // SAFETY: By this function's contract.
    result(unsafe { kevent_raw(fd, &mut args) })
}
