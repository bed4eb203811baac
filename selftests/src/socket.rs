// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` on sockets.

use crate::common::*;
use kqueue::{ev, note, Kqueue};
use std::{
    io::Write,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::net::{UnixListener, UnixStream},
    },
};

/// Both ends of a TCP connection over loopback.
fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// Waits until an event's `data` is `bytes`: what is sent arrives in its own time.
#[track_caller]
fn until_data(kqueue: &Kqueue, bytes: i64) {
    loop {
        let event = one(kqueue);
        assert!(event.data <= bytes, "{event:?}");
        if event.data == bytes {
            return;
        }
    }
}

#[test]
fn tcp_read_tells_the_bytes() {
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
fn tcp_reset_tells_the_error() {
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
    // Telling did not take it away.
    assert_eq!(one(&kqueue).fflags, libc::ECONNRESET as u32);
    assert_eq!(
        server.take_error().unwrap().unwrap().raw_os_error(),
        Some(libc::ECONNRESET)
    );
}

#[test]
fn listening_tells_the_backlog() {
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

#[test]
fn tcp_write_tells_the_room() {
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

/// A non-blocking connection attempt.
fn connecting(to: SocketAddr) -> TcpStream {
    let SocketAddr::V4(to) = to else {
        unreachable!()
    };
    // SAFETY: The address is a valid `sockaddr_in`; the descriptor is new and ours.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        assert!(fd >= 0);
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: to.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(to.ip().octets()),
            },
            sin_zero: [0; 8],
        };
        libc::connect(
            fd,
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        );
        TcpStream::from_raw_fd(fd)
    }
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
fn unix_listening_tells_the_backlog() {
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
fn udp_is_ready_with_a_datagram() {
    let a = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let b = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&b, 0), add_write(&a, 0)]);
    assert_eq!(one(&kqueue).ident, a.as_raw_fd() as u64);
    change(
        &kqueue,
        &[kqueue::Event::fd(
            a.as_raw_fd(),
            kqueue::Filter::WRITE,
            ev::DELETE,
        )],
    );
    a.send_to(b"datagram", b.local_addr().unwrap()).unwrap();
    assert!(one(&kqueue).data > 0);
    b.recv(&mut [0; 16]).unwrap();
    assert!(pending(&kqueue).is_empty());
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
