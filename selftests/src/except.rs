// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_EXCEPT`: urgent data.

use crate::{common::*, socket::tcp};
use kqueue::{ev, note, Event, Filter};
use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    os::{fd::AsRawFd, unix::net::UnixStream},
};

fn except(fd: &impl AsRawFd, flags: u16, fflags: u32) -> Event {
    Event::fd(fd.as_raw_fd(), Filter::EXCEPT, ev::ADD | flags).fflags(fflags)
}

fn send_urgent(fd: &impl AsRawFd) {
    // SAFETY: One byte.
    let sent = unsafe { libc::send(fd.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
}

fn receive_urgent(fd: &impl AsRawFd) {
    let mut byte = 0u8;
    // SAFETY: One byte.
    let got = unsafe { libc::recv(fd.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_OOB) };
    assert_eq!((got, byte), (1, b'!'));
}

#[test]
fn urgent_data_of_tcp() {
    let (mut client, server) = tcp();
    let kqueue = kqueue();
    change(&kqueue, &[except(&server, 0, note::OOB)]);
    client.write_all(b"12345").unwrap();
    assert!(pending(&kqueue).is_empty(), "that is not urgent");
    send_urgent(&client);
    // Five bytes come before it.
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.data), (note::OOB, 5));
    assert!(!event.has(ev::EOF), "{event:?}");
    read(&server, 5);
    assert_eq!(one(&kqueue).data, 1, "at the mark");
    receive_urgent(&server);
    assert!(pending(&kqueue).is_empty());
}

/// read(2) skips an urgent byte that is next, so `EVFILT_READ` counts the bytes after it.
#[test]
fn bytes_after_the_urgent_byte_of_tcp_are_counted() {
    let (mut client, server) = tcp();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&server, 0)]);
    send_urgent(&client);
    assert!(pending(&kqueue).is_empty());
    client.write_all(b"ab").unwrap();
    assert_eq!(one(&kqueue).data, 2);
    receive_urgent(&server);
    assert_eq!(one(&kqueue).data, 2);
    read(&server, 2);
    assert!(pending(&kqueue).is_empty());
    // The end does not count.
    send_urgent(&client);
    client.write_all(b"c").unwrap();
    drop(client);
    let mut event = one(&kqueue);
    while !event.has(ev::EOF) {
        event = one(&kqueue);
    }
    assert_eq!((event.data, event.has(ev::NODATA)), (1, false), "{event:?}");
    read(&server, 1);
    let event = one(&kqueue);
    assert_eq!((event.data, event.has(ev::NODATA)), (0, true), "{event:?}");
}

#[test]
fn urgent_data_of_a_unix_socket() {
    let (a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[except(&b, ev::CLEAR, note::OOB)]);
    send_urgent(&a);
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.data), (note::OOB, 1));
    assert!(pending(&kqueue).is_empty());
    receive_urgent(&b);
    send_urgent(&a);
    one(&kqueue);
}

#[test]
fn with_read_on_the_same_socket() {
    let (mut client, server) = tcp();
    let kqueue = kqueue();
    change(
        &kqueue,
        &[except(&server, 0, note::OOB), add_read(&server, 0)],
    );
    client.write_all(b"x").unwrap();
    let event = one(&kqueue);
    assert_eq!((event.filter, event.data), (Filter::READ, 1));
    send_urgent(&client);
    while soon(&kqueue).len() != 2 {}
}

/// Differs from DragonFly: EVFILT_EXCEPT reports EV_EOF too, and accepts every file that can be
/// polled.
/// Because macOS does the same.
#[test]
fn eof_is_reported() {
    let (client, server) = tcp();
    let kqueue = kqueue();
    change(&kqueue, &[except(&server, 0, note::OOB)]);
    client.shutdown(Shutdown::Write).unwrap();
    let event = one(&kqueue);
    assert!(event.has(ev::EOF) && event.fflags == 0, "{event:?}");
}

/// In the specification the filter is that of `EVFILT_READ`, apart from `NOTE_OOB`.
#[test]
fn without_note_oob_it_reports_what_read_reports() {
    let (mut client, server): (TcpStream, TcpStream) = tcp();
    let kqueue = kqueue();
    change(&kqueue, &[except(&server, 0, 0)]);
    assert!(pending(&kqueue).is_empty());
    client.write_all(b"1234").unwrap();
    let event = one(&kqueue);
    assert_eq!((event.filter, event.data), (Filter::EXCEPT, 4));
    // Another change makes the knote report only urgent data.
    change(&kqueue, &[except(&server, 0, note::OOB)]);
    assert!(pending(&kqueue).is_empty());
    send_urgent(&client);
    assert_eq!(one(&kqueue).fflags, note::OOB);
}

#[test]
fn a_kqueue_is_refused() {
    let (a, b) = (kqueue(), kqueue());
    assert_eq!(change_error(&a, except(&b, 0, note::OOB)), libc::EOPNOTSUPP);
}
