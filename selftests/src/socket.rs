// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` on sockets.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
};

/// Returns both ends of a TCP connection over loopback.
pub fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// Waits until the `data` of an event is `bytes`, because bytes arrive some time after they are
/// sent.
#[track_caller]
pub fn until_data(kqueue: &Kqueue, bytes: i64) {
    loop {
        let event = one(kqueue);
        assert!(event.data <= bytes, "{event:?}");
        if event.data == bytes {
            return;
        }
    }
}

#[test]
fn tcp_read_reports_the_number_of_bytes() {
    let (mut client, server) = tcp();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&server, 0)]);
    assert!(pending(&kqueue).is_empty());
    client.write_all(&[0; 3000]).unwrap();
    until_data(&kqueue, 3000);
    read(&server, 1000);
    until_data(&kqueue, 2000);
    read(&server, 2000);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn tcp_eof_while_data_remains() {
    let (mut client, server) = tcp();
    let kqueue = kqueue();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    change(&kqueue, &[add_read(&server, 0)]);
    let event = loop {
        let event = one(&kqueue);
        if event.has(ev::EOF) {
            break event;
        }
    };
    assert_eq!(event.data, 10);
    assert!(!event.has(ev::NODATA) && !event.has(ev::HUP), "{event:?}");
    assert_eq!(event.fflags, 0);
    read(&server, 10);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF) && event.has(ev::NODATA), "{event:?}");
}

#[test]
fn tcp_hup_when_both_directions_are_down() {
    let (client, server) = tcp();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&server, 0)]);
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    loop {
        let event = one(&kqueue);
        assert!(event.has(ev::EOF), "{event:?}");
        if event.has(ev::HUP) {
            return;
        }
    }
}

#[test]
fn tcp_reset_reports_the_error() {
    let (client, server) = tcp();
    let kqueue = kqueue();
    // SAFETY: Plain data of the right size.
    unsafe {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let size = size_of::<libc::linger>() as u32;
        let pointer = (&raw const linger).cast();
        let fd = client.as_raw_fd();
        assert_eq!(
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, pointer, size),
            0
        );
    }
    change(&kqueue, &[add_read(&server, 0)]);
    drop(client);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF), "{event:?}");
    assert_eq!(event.fflags, libc::ECONNRESET as u32);
    // The report has not consumed the error.
    assert_eq!(one(&kqueue).fflags, libc::ECONNRESET as u32);
    assert_eq!(
        server.take_error().unwrap().unwrap().raw_os_error(),
        Some(libc::ECONNRESET)
    );
}

#[test]
fn a_listener_reports_the_number_of_connections() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&listener, 0)]);
    assert!(pending(&kqueue).is_empty());
    let clients: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    until_data(&kqueue, clients.len() as i64);
    listener.accept().unwrap();
    assert_eq!(one(&kqueue).data, 2);
    listener.accept().unwrap();
    listener.accept().unwrap();
    assert!(pending(&kqueue).is_empty());
}

/// Differs from DragonFly, FreeBSD: EVFILT_WRITE of a TCP socket is ready when a third of its send
/// buffer is free.
/// Because Linux wakes writers at that point.
#[test]
fn tcp_write_reports_the_room() {
    let (client, server) = tcp();
    client.set_nonblocking(true).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&client, 0)]);
    let empty = one(&kqueue).data;
    assert!(empty > 0);
    while (&client).write(&[0; 65536]).is_ok() {}
    assert!(pending(&kqueue).is_empty(), "a full buffer has no room");
    let reader = std::thread::spawn(move || {
        let mut server = server;
        std::io::copy(&mut server, &mut std::io::sink()).unwrap();
    });
    assert!(one(&kqueue).data > 0);
    drop((client, kqueue));
    reader.join().unwrap();
}

/// Differs from DragonFly, FreeBSD: EVFILT_WRITE of a UNIX socket is ready while at most a quarter
/// of its send buffer is in use. data is the memory that is left; fewer bytes fit, since each
/// message takes additional memory.
/// Because Linux wakes writers at that point, and counts memory.
#[test]
fn unix_write_reports_the_room() {
    let sockets = [
        UnixStream::pair().map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b))),
        UnixDatagram::pair().map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b))),
    ];
    for (at, pair) in sockets.into_iter().enumerate() {
        let (client, server) = pair.unwrap();
        let size = 64 << 10;
        // SAFETY: The option is of that size.
        let ret = unsafe {
            libc::setsockopt(
                client.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw const size).cast(),
                size_of_val(&size) as u32,
            )
        };
        assert_eq!(ret, 0);
        // The kernel doubles the value (socket(7)).
        let size = i64::from(size) * 2;
        let kqueue = kqueue();
        change(&kqueue, &[add_write(&client, 0)]);
        let empty = one(&kqueue).data;
        assert!(empty > size * 3 / 4 && empty <= size, "{empty}");
        let mut ready = 0;
        let send = || {
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: One byte.
            unsafe { libc::send(client.as_raw_fd(), [0u8].as_ptr().cast(), 1, flags) == 1 }
        };
        let mut sent = 0;
        while send() {
            sent += 1;
            let events = pending(&kqueue);
            for event in &events {
                assert!(
                    event.data >= size * 3 / 4 && event.data < empty,
                    "{event:?}"
                );
            }
            ready += events.len();
            // Datagrams are limited by their number as well.
            assert!(at > 0 || ready == sent || events.is_empty());
        }
        assert!((1..empty).contains(&(sent as i64)), "{sent}");
        assert!(pending(&kqueue).is_empty());
        drop(server);
    }
}

/// Starts to connect a non-blocking socket.
fn connect(socket: &TcpStream, to: SocketAddr) {
    let SocketAddr::V4(to) = to else {
        unreachable!()
    };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(to.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let size = size_of_val(&address) as u32;
    // SAFETY: The address is a valid `sockaddr_in`.
    unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) };
}

/// Starts a non-blocking connection attempt.
fn connecting(to: SocketAddr) -> TcpStream {
    // SAFETY: The descriptor is new and ours.
    let socket = unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
        TcpStream::from_raw_fd(libc::socket(libc::AF_INET, kind, 0))
    };
    connect(&socket, to);
    socket
}

#[test]
fn connect_that_succeeds() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = connecting(listener.local_addr().unwrap());
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&client, 0)]);
    let event = one(&kqueue);
    assert!(!event.has(ev::EOF) && event.data > 0, "{event:?}");
}

#[test]
fn connect_that_is_refused() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = connecting(address);
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&client, 0)]);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF), "{event:?}");
    assert_eq!(event.fflags, libc::ECONNREFUSED as u32);
}

#[test]
fn unix_stream() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0)]);
    a.write_all(&[0; 500]).unwrap();
    a.write_all(&[0; 500]).unwrap();
    assert_eq!(one(&kqueue).data, 1000);
    read(&b, 999);
    assert_eq!(one(&kqueue).data, 1);
    drop(a);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF), "{event:?}");
    assert_eq!(event.data, 1);
}

#[test]
fn a_unix_listener_reports_the_number_of_connections() {
    let path = std::env::temp_dir().join(format!("kqueue-unix-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&listener, 0)]);
    let _clients = [
        UnixStream::connect(&path).unwrap(),
        UnixStream::connect(&path).unwrap(),
    ];
    assert_eq!(one(&kqueue).data, 2);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn clear_reports_each_arrival_once() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, ev::CLEAR)]);
    for round in 1..=5 {
        a.write_all(b"x").unwrap();
        assert_eq!(one(&kqueue).data, round);
        assert!(pending(&kqueue).is_empty());
    }
}

#[test]
fn low_water_mark_leaves_the_socket_option_alone() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0).fflags(note::LOWAT).data(100)]);
    a.write_all(&[0; 99]).unwrap();
    assert!(pending(&kqueue).is_empty());
    a.write_all(&[0; 1]).unwrap();
    assert_eq!(one(&kqueue).data, 100);
}

#[test]
fn one_descriptor_in_two_kqueues() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let (first, second) = (kqueue(), kqueue());
    change(&first, &[add_read(&b, 0)]);
    change(&second, &[add_read(&b, ev::ONESHOT)]);
    a.write_all(b"x").unwrap();
    one(&first);
    one(&second);
    assert!(pending(&second).is_empty());
    one(&first);
}

#[test]
fn tcp_over_ipv6() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&listener, ev::ONESHOT)]);
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(one(&kqueue).data, 1);
    let (server, _) = listener.accept().unwrap();
    change(&kqueue, &[add_read(&server, 0)]);
    client.write_all(&[0; 77]).unwrap();
    until_data(&kqueue, 77);
    drop(client);
    while !one(&kqueue).has(ev::EOF) {}
}

/// Differs from epoll: A stream socket that was never connected has no event.
/// Because the BSDs do the same; poll(2) reports POLLHUP.
#[test]
fn no_event_before_the_connection() {
    let sockets = [
        (libc::AF_INET, libc::SOCK_STREAM),
        (libc::AF_INET6, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET),
    ];
    for (family, kind) in sockets {
        // SAFETY: A new descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::socket(family, kind, 0)) };
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&fd, 0), add_write(&fd, 0)]);
        assert!(pending(&kqueue).is_empty(), "{family} {kind}");
    }
}

#[test]
fn connect_after_it_was_registered() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    for refused in [false, true] {
        if refused {
            // No socket listens there any more.
            // SAFETY: The arguments are integers.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
        // SAFETY: A new descriptor.
        let client = unsafe {
            let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
            TcpStream::from_raw_fd(libc::socket(libc::AF_INET, kind, 0))
        };
        let kqueue = kqueue();
        change(&kqueue, &[add_write(&client, 0)]);
        connect(&client, address);
        let event = one(&kqueue);
        assert_eq!(event.has(ev::EOF), refused, "{event:?}");
        let error = if refused { libc::ECONNREFUSED } else { 0 };
        assert_eq!(event.fflags, error as u32);
    }
}

/// The peer drops all packets, so the connection attempt times out.
#[test]
fn connect_that_times_out() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // SAFETY: The backlog shrinks to one; then it is full.
    unsafe { libc::listen(listener.as_raw_fd(), 0) };
    let _full = TcpStream::connect(address).unwrap();
    // SAFETY: A new descriptor; the option is an int.
    let client = unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
        let client = TcpStream::from_raw_fd(libc::socket(libc::AF_INET, kind, 0));
        let tries: libc::c_int = 1;
        let pointer = (&raw const tries).cast();
        let fd = client.as_raw_fd();
        let ret = libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_SYNCNT, pointer, 4);
        assert_eq!(ret, 0);
        client
    };
    connect(&client, address);
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&client, 0), add_read(&client, 0)]);
    assert!(pending(&kqueue).is_empty());
    for event in soon(&kqueue) {
        assert!(event.has(ev::EOF), "{event:?}");
        assert_eq!(event.fflags, libc::ETIMEDOUT as u32);
    }
}

/// Differs from DragonFly: EV_NODATA accompanies each EV_EOF of EVFILT_WRITE, and of EVFILT_READ
/// when nothing is left to read.
/// Because the flag means that no more data can be transferred.
#[test]
fn write_eof_after_our_own_shutdown() {
    let (tcp, _peer) = tcp();
    let (unix, _other) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&tcp, 0), add_write(&unix, 0)]);
    assert!(soon(&kqueue).iter().all(|event| !event.has(ev::EOF)));
    tcp.shutdown(Shutdown::Write).unwrap();
    unix.shutdown(Shutdown::Write).unwrap();
    for event in soon(&kqueue) {
        assert!(event.has(ev::EOF) && event.has(ev::NODATA), "{event:?}");
        assert!(!event.has(ev::HUP), "{event:?}");
    }
    // Data from the peer still arrive.
    change(&kqueue, &[add_read(&tcp, 0)]);
    assert!(soon(&kqueue)
        .iter()
        .all(|event| event.filter == Filter::WRITE));
}

#[test]
fn a_peer_s_shutdown_does_not_end_writing() {
    let (tcp, peer) = tcp();
    let kqueue = kqueue();
    peer.shutdown(Shutdown::Write).unwrap();
    change(&kqueue, &[add_read(&tcp, 0)]);
    while !one(&kqueue).has(ev::EOF) {}
    change(
        &kqueue,
        &[
            Event::fd(tcp.as_raw_fd(), Filter::READ, ev::DELETE),
            add_write(&tcp, 0),
        ],
    );
    assert!(!one(&kqueue).has(ev::EOF));
}

fn set_option(fd: &impl AsRawFd, level: i32, name: i32, value: i32) {
    let pointer = (&raw const value).cast();
    // SAFETY: The option is an int.
    let ret = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, 4) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

/// Differs from DragonFly, FreeBSD: NOTE_LOWAT of a TCP socket cannot be below the socket's
/// SO_RCVLOWAT.
/// Because TCP does not wake readers for less.
#[test]
fn receive_low_water_of_the_socket() {
    let (mut client, server) = tcp();
    let (mut a, b) = UnixStream::pair().unwrap();
    set_option(&server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 100);
    set_option(&b, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 100);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&server, 0), add_read(&b, 0)]);
    client.write_all(&[0; 99]).unwrap();
    a.write_all(&[0; 99]).unwrap();
    assert!(pending(&kqueue).is_empty());
    a.write_all(&[0]).unwrap();
    assert_eq!(one(&kqueue).data, 100);
    read(&b, 1);
    assert!(pending(&kqueue).is_empty());
    client.write_all(&[0]).unwrap();
    assert_eq!(one(&kqueue).data, 100);
    // The end is reported with any amount of data.
    drop(a);
    let ended = |kqueue: &Kqueue| {
        soon(kqueue)
            .iter()
            .any(|event| event.has(ev::EOF) && event.data == 99)
    };
    while !ended(&kqueue) {}
}

/// TCP wakes a writer only if the writer has found no room before. A writer with a higher low-water
/// mark must be woken too.
#[test]
fn write_low_water_mark() {
    let (client, server) = tcp();
    client.set_nonblocking(true).unwrap();
    set_option(&client, libc::SOL_SOCKET, libc::SO_SNDBUF, 200_000);
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&client, ev::ONESHOT)]);
    let empty = one(&kqueue).data;
    // The receiver's window first, then our buffer, but not all of it.
    let mark = empty * 9 / 10;
    let room = |kqueue: &Kqueue| {
        change(kqueue, &[add_write(&client, ev::ONESHOT)]);
        pending(kqueue).first().map_or(0, |event| event.data)
    };
    while room(&kqueue) >= mark {
        (&client).write_all(&[0; 1000]).unwrap();
    }
    change(
        &kqueue,
        &[add_write(&client, 0).fflags(note::LOWAT).data(mark)],
    );
    assert!(pending(&kqueue).is_empty());
    let reader = std::thread::spawn(move || {
        let mut server = server;
        std::io::copy(&mut server, &mut std::io::sink()).unwrap();
    });
    assert!(one(&kqueue).data >= mark);
    drop((client, kqueue));
    reader.join().unwrap();
}

/// Differs from epoll: A message in the error queue of a socket (MSG_ERRQUEUE) is not an event of
/// EVFILT_READ or EVFILT_WRITE. With SO_SELECT_ERR_QUEUE it is an event of EVFILT_EXCEPT.
/// Because the message does not end the connection; poll(2) reports POLLERR.
#[test]
fn the_error_queue_is_not_eof() {
    let (mut client, _server) = tcp();
    let software = libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    set_option(
        &client,
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        software as i32,
    );
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&client, 0), add_write(&client, 0)]);
    client.write_all(b"x").unwrap();
    let mut poll = libc::pollfd {
        fd: client.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: One structure.
    assert_eq!(unsafe { libc::poll(&mut poll, 1, 60_000) }, 1);
    assert_eq!(poll.revents, libc::POLLERR);
    let event = one(&kqueue);
    assert_eq!(event.filter, Filter::WRITE);
    assert!(!event.has(ev::EOF), "{event:?}");
}

#[test]
fn ev_add_replaces_values_of_an_existing_knote() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0).udata(1)]);
    a.write_all(&[0; 10]).unwrap();
    assert_eq!(one(&kqueue).udata, 1);
    let lowat = add_read(&b, 0).fflags(note::LOWAT);
    // The change is made in a separate call, and in the call that collects.
    let apart = |event| {
        change(&kqueue, &[event]);
        pending(&kqueue)
    };
    let at_once = |event| collect(&kqueue, event);
    for look in [&apart as &dyn Fn(Event) -> Vec<Event>, &at_once] {
        assert!(look(lowat.data(11).udata(2)).is_empty());
        for (event, udata) in [
            (lowat.data(10).udata(3), 3),
            (add_read(&b, 0).data(1000).udata(4), 4),
        ] {
            let events = look(event);
            assert_eq!(events.len(), 1, "{events:?}");
            assert_eq!((events[0].udata, events[0].data), (udata, 10));
        }
    }
}

/// read(2) skips an urgent byte that was not received, but the kernel still counts it as queued.
#[test]
fn a_skipped_urgent_byte_of_a_unix_socket_is_not_counted() {
    let (reader, writer) = UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    write(&writer, b"a");
    // SAFETY: The buffer is valid.
    let sent = unsafe { libc::send(writer.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    read(&reader, 1);
    let error = (&reader).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert!(pending(&kqueue).is_empty());
    write(&writer, b"b");
    one(&kqueue);
    read(&reader, 1);
    assert!(pending(&kqueue).is_empty());
}
