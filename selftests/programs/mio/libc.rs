// SPDX-License-Identifier: GPL-2.0
//! What mio takes from the libc crate on a BSD, for Linux: all that this crate has there, and
//! kqueue from `include/uapi/linux/kqueue.h`. It becomes a module of mio's
//! `sys/unix/selector/kqueue.rs`.

pub use ::libc::*;

/// `struct kevent` of `<sys/event.h>`, for 64-bit programs.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct kevent {
    pub ident: uintptr_t,
    pub filter: c_short,
    pub flags: c_ushort,
    pub fflags: c_uint,
    pub data: i64,
    pub udata: *mut c_void,
}

#[link(name = "kqueue_c", kind = "static")]
extern "C" {
    pub fn kqueue() -> c_int;
    pub fn kevent(
        kq: c_int,
        changelist: *const kevent,
        nchanges: c_int,
        eventlist: *mut kevent,
        nevents: c_int,
        timeout: *const timespec,
    ) -> c_int;
}
