// SPDX-License-Identifier: GPL-2.0

//! (n) Collect descriptors of every kind, in every state that stays ready.

use crate::{
    measure::{Case, Stopwatch},
    queue::{kqueue, Epoll, EpollEvent, Kevents},
    sys::{owned, send, Kind},
    Scale,
};
use kqueue::{ev, Event, Filter};
use std::{
    fs::File,
    io,
    mem::{size_of, zeroed},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    rc::Rc,
};

/// The number of collections in one round.
const TIMES: usize = 20;

/// A ready descriptor, and the objects that keep it ready.
struct Ready {
    watched: OwnedFd,
    _others: Vec<OwnedFd>,
}

impl Ready {
    fn new(watched: impl Into<OwnedFd>, others: Vec<OwnedFd>) -> Self {
        Ready {
            watched: watched.into(),
            _others: others,
        }
    }
}

#[derive(Clone, Copy)]
enum For {
    Read,
    Write,
}

impl For {
    fn filter(self) -> Filter {
        match self {
            For::Read => Filter::READ,
            For::Write => Filter::WRITE,
        }
    }

    fn events(self) -> libc::c_int {
        match self {
            For::Read => libc::EPOLLIN,
            For::Write => libc::EPOLLOUT,
        }
    }
}

/// Both ends of a channel, with data on the way to the first.
fn pair(kind: Kind, data: bool) -> (OwnedFd, OwnedFd) {
    let channel = kind.pair();
    if data {
        channel.send();
    }
    (channel.reader, channel.writer)
}

/// The first end of a channel whose other end is closed.
fn ended(kind: Kind, data: bool) -> Ready {
    Ready::new(pair(kind, data).0, vec![])
}

fn with_data(kind: Kind) -> Ready {
    let (reader, writer) = pair(kind, true);
    Ready::new(reader, vec![writer])
}

fn with_room(kind: Kind) -> Ready {
    let (reader, writer) = pair(kind, false);
    Ready::new(writer, vec![reader])
}

fn tcp_listener() -> Ready {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let address = listener.local_addr().expect("address");
    let client = TcpStream::connect(address).expect("connect");
    Ready::new(listener, vec![client.into()])
}

fn unix_listener() -> Ready {
    // SAFETY: An address of zeros but for the family is one that the kernel chooses.
    let listener: UnixListener = unsafe {
        let socket =
            owned(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0).into());
        let mut address: libc::sockaddr_un = zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let size = size_of::<libc::sa_family_t>() as libc::socklen_t;
        assert_eq!(
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size),
            0
        );
        assert_eq!(libc::listen(socket.as_raw_fd(), 8), 0);
        socket.into()
    };
    let address = listener.local_addr().expect("address");
    let client = UnixStream::connect_addr(&address).expect("connect");
    Ready::new(listener, vec![client.into()])
}

fn udp(data: bool) -> Ready {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    if data {
        let address = socket.local_addr().expect("address");
        socket.send_to(&[1; 8], address).expect("send");
    }
    Ready::new(socket, vec![])
}

fn unix_messages(kind: libc::c_int, data: bool) -> Ready {
    let mut fds = [0; 2];
    // SAFETY: Room for two descriptors.
    let ret = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            kind | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    let (a, b) = (owned(fds[0].into()), owned(fds[1].into()));
    if data {
        send(&UnixDatagram::from(b.try_clone().expect("dup")));
    }
    Ready::new(a, vec![b])
}

fn timerfd() -> Ready {
    // SAFETY: Valid arguments.
    let timer = unsafe {
        let timer = owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC).into());
        let mut time: libc::itimerspec = zeroed();
        time.it_value.tv_nsec = 1;
        assert_eq!(
            libc::timerfd_settime(timer.as_raw_fd(), 0, &time, std::ptr::null_mut()),
            0
        );
        timer
    };
    Ready::new(timer, vec![])
}

fn inotify() -> Ready {
    // SAFETY: Valid arguments.
    let inotify = unsafe {
        let inotify = owned(libc::inotify_init1(libc::IN_CLOEXEC).into());
        let path = c"/dev/shm".as_ptr();
        assert!(libc::inotify_add_watch(inotify.as_raw_fd(), path, libc::IN_OPEN) >= 0);
        inotify
    };
    drop(File::open("/dev/shm").expect("/dev/shm"));
    Ready::new(inotify, vec![])
}

fn pidfd() -> Ready {
    // SAFETY: The child does nothing; no pointers.
    let pidfd = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(0);
        }
        owned(libc::syscall(libc::SYS_pidfd_open, pid, 0))
    };
    Ready::new(pidfd, vec![])
}

fn terminal(data: bool) -> Ready {
    let (mut master, mut slave) = (0, 0);
    let (name, none) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: Room for two descriptors.
    let ret = unsafe { libc::openpty(&mut master, &mut slave, name, none, none.cast()) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    let (master, slave) = (owned(master.into()), owned(slave.into()));
    if data {
        send(&slave);
    }
    Ready::new(master, vec![slave])
}

fn queue_of_kqueue() -> Ready {
    let inner = kqueue();
    inner.change(&[Event::new(1, Filter::USER, ev::ADD).fflags(kqueue::note::TRIGGER)]);
    Ready::new(OwnedFd::from(inner), vec![])
}

fn queue_of_epoll() -> Ready {
    let inner = Epoll::new();
    let (reader, writer) = pair(Kind::Eventfd, true);
    inner.add(&reader, libc::EPOLLIN);
    Ready::new(OwnedFd::from(inner), vec![reader, writer])
}

fn netlink() -> Ready {
    // SAFETY: No pointers.
    let socket = unsafe {
        owned(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0).into())
    };
    Ready::new(socket, vec![])
}

type Make = fn() -> Ready;

const STATES: [(&str, For, Make); 29] = [
    ("TCP, data", For::Read, || with_data(Kind::Tcp)),
    ("TCP, the end and data", For::Read, || {
        ended(Kind::Tcp, true)
    }),
    ("TCP, the end", For::Read, || ended(Kind::Tcp, false)),
    ("TCP, room", For::Write, || with_room(Kind::Tcp)),
    ("TCP, a connection", For::Read, tcp_listener),
    ("UDP, data", For::Read, || udp(true)),
    ("UDP, room", For::Write, || udp(false)),
    ("UNIX stream, data", For::Read, || with_data(Kind::Unix)),
    ("UNIX stream, the end and data", For::Read, || {
        ended(Kind::Unix, true)
    }),
    ("UNIX stream, the end", For::Read, || {
        ended(Kind::Unix, false)
    }),
    ("UNIX stream, room", For::Write, || with_room(Kind::Unix)),
    ("UNIX stream, a connection", For::Read, unix_listener),
    ("UNIX datagram, data", For::Read, || {
        unix_messages(libc::SOCK_DGRAM, true)
    }),
    ("UNIX datagram, room", For::Write, || {
        unix_messages(libc::SOCK_DGRAM, false)
    }),
    ("UNIX seqpacket, data", For::Read, || {
        unix_messages(libc::SOCK_SEQPACKET, true)
    }),
    ("UNIX seqpacket, room", For::Write, || {
        unix_messages(libc::SOCK_SEQPACKET, false)
    }),
    ("netlink, room", For::Write, netlink),
    ("pipe, data", For::Read, || with_data(Kind::Pipe)),
    ("pipe, the end", For::Read, || ended(Kind::Pipe, false)),
    ("pipe, room", For::Write, || with_room(Kind::Pipe)),
    ("eventfd, data", For::Read, || with_data(Kind::Eventfd)),
    ("eventfd, room", For::Write, || with_room(Kind::Eventfd)),
    ("timerfd", For::Read, timerfd),
    ("inotify", For::Read, inotify),
    ("pidfd, the end", For::Read, pidfd),
    ("terminal, data", For::Read, || terminal(true)),
    ("terminal, room", For::Write, || terminal(false)),
    ("kqueue", For::Read, queue_of_kqueue),
    ("epoll", For::Read, queue_of_epoll),
];

/// Nanoseconds for each event.
fn collect(ready: usize, mut wait: impl FnMut() -> usize) -> f64 {
    let mut watch = Stopwatch::default();
    for _ in 0..TIMES {
        let mut left = ready;
        while left > 0 {
            left = left.saturating_sub(watch.time(&mut wait));
        }
    }
    watch.each(TIMES * ready)
}

fn by_kevent(all: Rc<Vec<Ready>>, what: For) -> impl FnMut() -> f64 {
    let queue = kqueue();
    let event = |ready: &Ready| Event::fd(ready.watched.as_raw_fd(), what.filter(), ev::ADD);
    let changes: Vec<Event> = all.iter().map(event).collect();
    queue.change(&changes);
    let mut got = vec![Event::default(); all.len()];
    move || collect(all.len(), || Kevents::wait(&queue, &mut got))
}

fn by_epoll(all: Rc<Vec<Ready>>, what: For) -> impl FnMut() -> f64 {
    let epoll = Epoll::new();
    for ready in all.iter() {
        epoll.add(&ready.watched, what.events());
    }
    let mut got = vec![EpollEvent { events: 0, u64: 0 }; all.len()];
    move || collect(all.len(), || epoll.wait(&mut got, -1))
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    for (state, what, make) in STATES {
        // Not the first eventfd of the system, whose counter the module still reads as text.
        let _first = Kind::Eventfd.pair();
        for ready in [1, 16, scale.pick(256, 64)] {
            let all: Rc<Vec<Ready>> = Rc::new((0..ready).map(|_| make()).collect());
            let title = format!("collect {ready} of {state}");
            run(Case::new('n', title, if ready == 1 { 1.0 } else { 0.9 })
                .side("kqueue", by_kevent(all.clone(), what))
                .side("epoll", by_epoll(all, what)));
        }
    }
}
