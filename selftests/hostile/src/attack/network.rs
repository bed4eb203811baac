// SPDX-License-Identifier: GPL-2.0

//! Data that strangers send.

use crate::{
    report::{Cost, Report},
    sys, Scale,
};
use kqueue::{ev, Event, Filter};
use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    time::Duration,
};

/// Datagrams of one byte that fill a large buffer.
pub fn udp(report: &mut Report, _: &Path, scale: Scale) {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let bytes: libc::c_int = 64 << 20;
    // SAFETY: The option and its value are valid.
    sys::checked(unsafe {
        libc::setsockopt(
            receiver.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as u32,
        )
    })
    .expect("SO_RCVBUFFORCE");
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    sender
        .connect(receiver.local_addr().expect("an address"))
        .expect("connect");
    let kqueue = sys::kqueue().expect("kqueue");
    let read = Event::fd(receiver.as_raw_fd(), Filter::READ, ev::ADD);
    sys::change(&kqueue, read).expect("a knote");
    let epoll = sys::epoll().expect("epoll");
    let number = receiver.as_raw_fd();
    sys::epoll_ctl(&epoll, libc::EPOLL_CTL_ADD, number, libc::EPOLLIN).expect("an item");
    let look = || {
        let collected = kqueue.kevent(&[], &mut [Event::default()], Some(Duration::ZERO));
        assert_eq!(collected.expect("kevent"), 1);
    };
    let look_with_epoll = || {
        // SAFETY: Zero is a valid value of the event, for which there is room.
        unsafe {
            let mut event: libc::epoll_event = std::mem::zeroed();
            assert_eq!(libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 0), 1);
        }
    };
    sender.send(b"x").expect("send");
    let alone = Cost::of_deed(look);
    let sent = scale.of(50_000);
    for _ in 1..sent {
        sender.send(b"x").expect("send");
    }
    report.add(
        ("datagrams of one byte, from anywhere", "looks for events"),
        Some(alone),
        (sent, Cost::of_deed(look)),
        Some((sent, Cost::of_deed(look_with_epoll))),
        0.0,
    );
}
