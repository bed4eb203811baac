// SPDX-License-Identifier: GPL-2.0

//! What a socket holds and has room for.
//!
//! C header: [`include/net/sock.h`](srctree/include/net/sock.h)

use crate::generated;
use core::ptr::NonNull;
use kernel::{bindings, fs::File};

/// How the bytes of a socket are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
    Other,
}

/// The socket behind a file.
///
/// # Invariants
///
/// Valid for as long as its file, to which the owner keeps a reference.
pub(crate) struct Socket {
    sock: NonNull<bindings::sock>,
    kind: Kind,
}

// SAFETY: All that is done to the socket is lockless reading of single fields.
unsafe impl Send for Socket {}
// SAFETY: As above.
unsafe impl Sync for Socket {}

impl Socket {
    /// The socket of `file`, if it is one. The caller keeps the file longer than the value.
    pub(crate) fn of(file: &File) -> Option<Socket> {
        // SAFETY: The file is valid; the result is null for a file that is no socket.
        let socket = unsafe { bindings::sock_from_file(file.as_ptr()) };
        let socket = NonNull::new(socket)?;
        // SAFETY: A socket lives as long as its file, and has its `sk` until it is released.
        let sock = NonNull::new(unsafe { (*socket.as_ptr()).sk })?;
        // SAFETY: As above.
        let kind = unsafe {
            if generated::kq_sock_is_tcp(sock.as_ptr()) {
                Kind::Tcp
            } else if generated::kq_sock_is_unix(sock.as_ptr()) {
                Kind::Unix
            } else {
                Kind::Other
            }
        };
        Some(Socket { sock, kind })
    }

    /// Bytes to read, or for a listening socket the connections that wait. `None` if the kind of
    /// socket has no such count.
    pub(crate) fn readable(&self) -> Option<i64> {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant, and of the kind that each function takes.
        let count = unsafe {
            match (self.kind, generated::kq_sock_is_listening(sock)) {
                (Kind::Tcp, true) => generated::kq_sock_accept_backlog(sock).into(),
                (Kind::Tcp, false) => generated::kq_sock_tcp_inq(sock).into(),
                (Kind::Unix, true) => generated::kq_sock_receive_queue_len(sock).into(),
                (Kind::Unix, false) => generated::kq_sock_unix_inq(sock) as i64,
                (Kind::Other, _) => return None,
            }
        };
        Some(count.max(0))
    }

    /// Bytes of room in the send buffer.
    pub(crate) fn writable(&self) -> i64 {
        let sock = self.sock.as_ptr();
        // SAFETY: Valid by the type's invariant.
        let space: i64 = unsafe {
            if self.kind == Kind::Tcp {
                generated::kq_sock_stream_wspace(sock).into()
            } else {
                generated::kq_sock_wspace(sock) as i64
            }
        };
        space.max(0)
    }

    /// The error that the next call on the socket will report; it stays there.
    pub(crate) fn error(&self) -> u32 {
        // SAFETY: Valid by the type's invariant.
        unsafe { generated::kq_sock_error(self.sock.as_ptr()) }.unsigned_abs()
    }
}
