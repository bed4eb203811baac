// SPDX-License-Identifier: GPL-2.0

//! Asynchronous I/O: there is no `EVFILT_AIO`, but completions can be waited for.

use crate::common::*;
use kqueue::{ev, Event, Filter};
use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Differs from FreeBSD, macOS: EVFILT_AIO fails with ENXIO.
/// Because the specification does not implement AIO either. EVFILT_READ on an eventfd or on the
/// ring's descriptor reports completions of Linux AIO and io_uring.
#[test]
fn evfilt_aio_is_refused() {
    let kqueue = kqueue();
    let event = Event::new(1, Filter::AIO, ev::ADD);
    assert_eq!(change_error(&kqueue, event), libc::ENXIO);
}

#[test]
fn a_completion_of_io_uring_makes_its_descriptor_readable() {
    let kqueue = kqueue();
    let mut ring = io_uring::IoUring::new(2).unwrap();
    change(&kqueue, &[add_read(&ring, 0)]);
    assert!(pending(&kqueue).is_empty());
    let nop = io_uring::opcode::Nop::new().build().user_data(5);
    // SAFETY: The entry refers to no memory.
    unsafe { ring.submission().push(&nop).unwrap() };
    ring.submit().unwrap();
    assert_eq!(one(&kqueue).ident, ring.as_raw_fd() as u64);
    assert_eq!(ring.completion().next().unwrap().user_data(), 5);
    assert!(pending(&kqueue).is_empty());
}

/// `struct iocb` of `linux/aio_abi.h`, little endian.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_fd: u32,
}

#[test]
fn a_completion_of_linux_aio_reaches_an_eventfd() {
    /// `IOCB_FLAG_RESFD`: the completion is reported to `result_fd`.
    const RESULT_FD: u32 = 1;
    let kqueue = kqueue();
    let file = File::open("/proc/self/exe").unwrap();
    let mut buffer = [0u8; 4];
    // SAFETY: A new descriptor, which is ours.
    let counter = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    change(&kqueue, &[add_read(&counter, 0)]);
    assert!(pending(&kqueue).is_empty());
    let read = Iocb {
        fd: file.as_raw_fd() as u32,
        buffer: buffer.as_mut_ptr() as u64,
        bytes: 4,
        flags: RESULT_FD,
        result_fd: counter.as_raw_fd() as u32,
        ..Default::default()
    };
    let mut context = 0u64;
    // SAFETY: The request, its buffer and the context outlive it, as io_destroy waits for it.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_io_setup, 1, &mut context), 0);
        let requests = [&read as *const Iocb];
        assert_eq!(
            libc::syscall(libc::SYS_io_submit, context, 1, requests.as_ptr()),
            1
        );
        one(&kqueue);
        assert_eq!(libc::syscall(libc::SYS_io_destroy, context), 0);
    }
    assert_eq!(&buffer, b"\x7fELF");
}
