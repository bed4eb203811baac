// SPDX-License-Identifier: GPL-2.0

//! Descriptors of all kinds, and single bytes through them.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// Takes ownership of a descriptor that a system call returned.
pub fn owned(fd: libc::c_long) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: The callers pass new descriptors.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// The kinds of channels for bytes.
#[derive(Clone, Copy)]
pub enum Kind {
    Tcp,
    Unix,
    Pipe,
    Eventfd,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Tcp, Kind::Unix, Kind::Pipe, Kind::Eventfd];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "TCP",
            Kind::Unix => "UNIX",
            Kind::Pipe => "pipe",
            Kind::Eventfd => "eventfd",
        }
    }

    /// The read end and the write end of a channel.
    pub fn pair(self) -> Channel {
        let (reader, writer): (OwnedFd, OwnedFd) = match self {
            Kind::Tcp => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
                let address = listener.local_addr().expect("address");
                let client = TcpStream::connect(address).expect("connect");
                let (server, _) = listener.accept().expect("accept");
                client.set_nodelay(true).expect("nodelay");
                (server.into(), client.into())
            }
            Kind::Unix => {
                let (a, b) = UnixStream::pair().expect("socketpair");
                (a.into(), b.into())
            }
            Kind::Pipe => {
                let mut fds = [0; 2];
                // SAFETY: The array has room for two descriptors.
                let ret = unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) };
                assert_eq!(ret, 0, "{}", io::Error::last_os_error());
                (owned(fds[0].into()), owned(fds[1].into()))
            }
            Kind::Eventfd => {
                // SAFETY: The arguments are integers.
                let fd = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }.into());
                let other = fd.try_clone().expect("dup");
                (fd, other)
            }
        };
        Channel { reader, writer }
    }
}

/// A channel for bytes in one direction.
pub struct Channel {
    pub reader: OwnedFd,
    pub writer: OwnedFd,
}

impl Channel {
    /// Makes the reader readable. It writes eight bytes, because an eventfd requires that.
    pub fn send(&self) {
        send(&self.writer);
    }

    /// Reads the bytes, so that the reader is not readable any more.
    pub fn receive(&self) {
        receive(&self.reader);
    }
}

/// Writes eight bytes.
pub fn send(fd: &impl AsRawFd) {
    let one = 1u64;
    // SAFETY: The buffer has eight bytes.
    let sent = unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
    assert_eq!(sent, 8, "{}", io::Error::last_os_error());
}

/// Reads eight bytes.
pub fn receive(fd: &impl AsRawFd) {
    let mut one = 0u64;
    // SAFETY: The buffer has eight bytes.
    let got = unsafe { libc::read(fd.as_raw_fd(), (&raw mut one).cast(), 8) };
    assert_eq!(got, 8, "{}", io::Error::last_os_error());
}

/// Raises the limit on descriptors to its maximum.
pub fn raise_limits() {
    let most = libc::rlimit {
        rlim_cur: 1 << 20,
        rlim_max: 1 << 20,
    };
    // SAFETY: The limit is valid. If it is not permitted, the larger workloads fail and print their
    // names.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &most) };
}

/// Sets a parameter of the module, as root.
pub fn parameter(name: &str, value: usize) {
    let path = format!("/sys/module/kqueue/parameters/{name}");
    std::fs::write(path, value.to_string()).expect("a parameter, as root");
}
