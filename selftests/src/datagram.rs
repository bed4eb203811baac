// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` on sockets for datagrams.

use crate::common::*;
use kqueue::{ev, note, Event, Filter};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
};

pub fn udp(address: IpAddr) -> (UdpSocket, UdpSocket) {
    let a = UdpSocket::bind((address, 0)).unwrap();
    let b = UdpSocket::bind((address, 0)).unwrap();
    a.connect(b.local_addr().unwrap()).unwrap();
    (a, b)
}

/// Creates a pair of UNIX seqpacket sockets.
pub fn seqpacket() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: There is room for two descriptors. They are new, and this process owns them.
    unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK;
        let ret = libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr());
        assert_eq!(ret, 0);
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

/// Checks that `data` is the number of bytes that were sent and not received.
#[track_caller]
fn counts_all_that_is_queued(from: &impl AsRawFd, to: &impl AsRawFd) {
    let kqueue = kqueue();
    change(&kqueue, &[add_read(to, 0)]);
    assert!(pending(&kqueue).is_empty());
    let mut sum = 0;
    for size in [100, 1, 999, 40] {
        write(from, &vec![0; size]);
        sum += size as i64;
        while one(&kqueue).data != sum {}
    }
    for size in [100, 1, 999] {
        read(to, size);
        sum -= size as i64;
        assert_eq!(one(&kqueue).data, sum);
    }
    read(to, 40);
    assert!(pending(&kqueue).is_empty());
    // A low-water mark is compared with the sum too.
    change(&kqueue, &[add_read(to, 0).fflags(note::LOWAT).data(15)]);
    write(from, &[0; 10]);
    assert!(pending(&kqueue).is_empty());
    write(from, &[0; 5]);
    assert_eq!(one(&kqueue).data, 15);
}

#[test]
fn udp_reports_the_number_of_bytes() {
    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let (a, b) = udp(address);
        counts_all_that_is_queued(&a, &b);
    }
}

#[test]
fn unix_datagrams_report_the_number_of_bytes() {
    let (a, b) = UnixDatagram::pair().unwrap();
    counts_all_that_is_queued(&a, &b);
    let (a, b) = seqpacket();
    counts_all_that_is_queued(&a, &b);
}

/// Differs from DragonFly, FreeBSD: The payload of at most 32 datagrams is counted. If more than
/// that wait, every low-water mark is reached.
/// Because the sender chooses how many datagrams wait, and each evaluation would go through all of
/// them.
#[test]
fn at_most_32_datagrams_are_counted() {
    const COUNTED: usize = 32;
    let check = |from: &dyn AsRawFd, to: &dyn AsRawFd| {
        let (from, to) = (&from.as_raw_fd(), &to.as_raw_fd());
        let kqueue = kqueue();
        change(&kqueue, &[add_read(to, 0)]);
        for waiting in 1..=2 * COUNTED {
            write(from, &[0; 10]);
            let expected = 10 * waiting.min(COUNTED) as i64;
            while one(&kqueue).data != expected {}
        }
        change(&kqueue, &[add_read(to, 0).fflags(note::LOWAT).data(1000)]);
        assert_eq!(one(&kqueue).data, 10 * COUNTED as i64);
        for waiting in (COUNTED + 1..2 * COUNTED).rev() {
            read(to, 10);
            assert_eq!(one(&kqueue).data, 10 * COUNTED as i64, "{waiting}");
        }
        // All of them are counted now.
        read(to, 10);
        assert!(pending(&kqueue).is_empty());
        change(&kqueue, &[add_read(to, 0).fflags(note::LOWAT).data(320)]);
        assert_eq!(one(&kqueue).data, 320);
        read(to, 10);
        assert!(pending(&kqueue).is_empty());
    };
    let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
    check(&a, &b);
    let (a, b) = UnixDatagram::pair().unwrap();
    check(&a, &b);
    let (a, b) = seqpacket();
    check(&a, &b);
}

/// A reader that reads single messages until it has read `data` bytes is notified of all messages.
#[test]
fn many_datagrams_are_all_reported() {
    const MANY: usize = 150;
    let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0)]);
    for _ in 0..MANY {
        a.send(&[0; 7]).unwrap();
    }
    let mut taken = 0;
    while taken < MANY {
        let event = one(&kqueue);
        assert!(event.data > 0 && event.data % 7 == 0, "{event:?}");
        for _ in 0..event.data / 7 {
            assert_eq!(b.recv(&mut [0; 100]).unwrap(), 7);
            taken += 1;
        }
    }
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn an_empty_datagram_is_an_event() {
    let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0)]);
    a.send(&[]).unwrap();
    let event = one(&kqueue);
    assert_eq!((event.data, event.has(ev::EOF)), (0, false));
    b.recv(&mut [0]).unwrap();
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn write_reports_the_room() {
    let (a, b) = UnixDatagram::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let (c, _d) = udp(Ipv4Addr::LOCALHOST.into());
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&a, 0), add_write(&c, 0)]);
    let events = soon(&kqueue);
    assert_eq!(events.len(), 2);
    assert!(events
        .iter()
        .all(|event| event.data > 0 && !event.has(ev::EOF)));
    while a.send(&[0; 1000]).is_ok() {}
    assert_eq!(one(&kqueue).ident, c.as_raw_fd() as u64);
    change(
        &kqueue,
        &[Event::fd(c.as_raw_fd(), Filter::WRITE, ev::DELETE)],
    );
    // Room comes when the other side reads.
    b.set_nonblocking(true).unwrap();
    while b.recv(&mut [0; 1000]).is_ok() {}
    assert!(one(&kqueue).data > 0);
}

/// Differs from DragonFly: An error of a datagram socket is an event that has the error in fflags
/// and does not have EV_EOF.
/// Because the next datagram may succeed. (The specification does not set fflags.)
#[test]
fn a_refused_datagram_is_an_error_without_eof() {
    let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&a, 0)]);
    drop(b);
    a.send(b"anybody there?").unwrap();
    let event = one(&kqueue);
    assert_eq!(event.fflags, libc::ECONNREFUSED as u32);
    assert!(!event.has(ev::EOF), "{event:?}");
    // The report has not consumed the error; the query does.
    one(&kqueue);
    let error = a
        .take_error()
        .unwrap()
        .map(|error: io::Error| error.raw_os_error());
    assert_eq!(error, Some(Some(libc::ECONNREFUSED)));
    assert!(pending(&kqueue).is_empty());
}

/// An error is reported whatever the low-water mark is.
#[test]
fn a_refused_datagram_with_low_water_marks() {
    for mark in [1, 1 << 40] {
        for by_filter in [false, true] {
            let (a, b) = udp(Ipv4Addr::LOCALHOST.into());
            let always = std::fs::File::open("/dev/zero").unwrap();
            let kqueue = kqueue();
            if by_filter {
                // Low-water marks of devices are not evaluated with the spin lock held.
                change(
                    &kqueue,
                    &[add_read(&always, ev::CLEAR).fflags(note::LOWAT).data(1)],
                );
            }
            let add = |event: Event| event.fflags(note::LOWAT).data(mark);
            drop(b);
            a.send(b"anybody there?").unwrap();
            change(&kqueue, &[add(add_read(&a, 0)), add(add_write(&a, 0))]);
            let mut events = soon(&kqueue);
            events.retain(|event| event.ident == a.as_raw_fd() as u64);
            assert_eq!(events.len(), 2, "{mark} {events:?}");
            assert!(events
                .iter()
                .all(|event| event.fflags == libc::ECONNREFUSED as u32 && !event.has(ev::EOF)));
        }
    }
}

#[test]
fn shutdown_of_udp_is_eof() {
    let (a, _b) = udp(Ipv4Addr::LOCALHOST.into());
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&a, 0), add_write(&a, ev::DISABLE)]);
    // SAFETY: The arguments are integers.
    assert_eq!(unsafe { libc::shutdown(a.as_raw_fd(), libc::SHUT_RD) }, 0);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF) && event.has(ev::NODATA), "{event:?}");
    assert!(!event.has(ev::HUP), "{event:?}");
    // SAFETY: The arguments are integers.
    assert_eq!(unsafe { libc::shutdown(a.as_raw_fd(), libc::SHUT_WR) }, 0);
    change(
        &kqueue,
        &[Event::fd(a.as_raw_fd(), Filter::WRITE, ev::ENABLE)],
    );
    let events = soon(&kqueue);
    assert_eq!(events.len(), 2);
    assert!(events
        .iter()
        .all(|event| event.has(ev::EOF) && event.has(ev::HUP)));
}

#[test]
fn seqpacket_eof() {
    let (a, b) = seqpacket();
    write(&a, &[0; 10]);
    drop(a);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0)]);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF) && event.has(ev::HUP), "{event:?}");
    assert!(!event.has(ev::NODATA) && event.data == 10, "{event:?}");
    read(&b, 10);
    let event = one(&kqueue);
    assert!(event.has(ev::NODATA) && event.data == 0, "{event:?}");
}
