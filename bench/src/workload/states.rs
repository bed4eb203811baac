// SPDX-License-Identifier: GPL-2.0

//! The kinds of descriptors, and their states that stay ready.

use crate::{
    queue::{kqueue, Epoll, Kevents},
    sys::{owned, send, Kind},
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
};

/// A child process that has ended. It is waited for when the value is dropped.
struct Child(libc::pid_t);

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: The status is not stored.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

/// The objects that keep a descriptor ready.
pub struct Others {
    fds: Vec<OwnedFd>,
    _child: Option<Child>,
}

/// A ready descriptor, and the objects that keep it ready.
pub struct Ready {
    pub watched: OwnedFd,
    others: Others,
}

impl Ready {
    fn new(watched: impl Into<OwnedFd>, others: Vec<OwnedFd>) -> Self {
        Ready {
            watched: watched.into(),
            others: Others {
                fds: others,
                _child: None,
            },
        }
    }
}

impl Ready {
    /// Returns the descriptor and the objects that keep it ready.
    pub fn split(self) -> (OwnedFd, Others) {
        (self.watched, self.others)
    }
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum For {
    Read,
    Write,
}

impl For {
    pub fn filter(self) -> Filter {
        match self {
            For::Read => Filter::READ,
            For::Write => Filter::WRITE,
        }
    }

    /// The events of epoll and of poll(2).
    pub fn events(self) -> libc::c_int {
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
    // SAFETY: An address that is zero except for the family is valid. The kernel chooses the port.
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
    // SAFETY: The array has room for two descriptors.
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
    // SAFETY: The arguments are valid.
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
    // SAFETY: The arguments are valid.
    let inotify = unsafe {
        let inotify = owned(libc::inotify_init1(libc::IN_CLOEXEC).into());
        let path = c"/dev/shm".as_ptr();
        assert!(libc::inotify_add_watch(inotify.as_raw_fd(), path, libc::IN_OPEN) >= 0);
        inotify
    };
    // The event has the name of the file, as most events of folders have.
    std::fs::write("/dev/shm/kqueue-bench", b"").expect("/dev/shm");
    Ready::new(inotify, vec![])
}

fn pidfd() -> Ready {
    // SAFETY: The child exits at once. The arguments are integers.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "{}", io::Error::last_os_error());
        if pid == 0 {
            libc::_exit(0);
        }
        // The exit of the child is not measured.
        let mut info: libc::siginfo_t = zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        assert_eq!(
            libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, options),
            0
        );
        let pidfd = owned(libc::syscall(libc::SYS_pidfd_open, pid, 0));
        let mut ready = Ready::new(pidfd, vec![]);
        ready.others._child = Some(Child(pid));
        ready
    }
}

/// Both sides of a terminal.
fn open_terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let (name, none) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: Both variables have room for a descriptor.
    let ret = unsafe { libc::openpty(&mut master, &mut slave, name, none, none.cast()) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    (owned(master.into()), owned(slave.into()))
}

fn terminal(data: bool) -> Ready {
    let (master, slave) = open_terminal();
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
    // SAFETY: The arguments are integers.
    let socket = unsafe {
        owned(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0).into())
    };
    Ready::new(socket, vec![])
}

/// A connection that the other side has reset.
fn reset() -> Ready {
    let (reader, writer) = pair(Kind::Tcp, false);
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: The option and its value are valid.
    let ret = unsafe {
        let size = size_of::<libc::linger>() as libc::socklen_t;
        let option = (&raw const linger).cast();
        libc::setsockopt(
            writer.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            option,
            size,
        )
    };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    drop(writer);
    Ready::new(reader, vec![])
}

/// A datagram socket whose last datagram was refused.
fn refused() -> Ready {
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let address = nobody.local_addr().expect("address");
    drop(nobody);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    socket.connect(address).expect("connect");
    socket.send(&[1; 8]).expect("send");
    Ready::new(socket, vec![])
}

/// A socket with a message that it has sent to itself.
fn netlink_message() -> Ready {
    // SAFETY: The addresses and the buffers are valid.
    unsafe {
        let protocol = libc::NETLINK_USERSOCK;
        let socket = owned(
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                protocol,
            )
            .into(),
        );
        let fd = socket.as_raw_fd();
        let mut address: libc::sockaddr_nl = zeroed();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let mut size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0);
        assert_eq!(
            libc::getsockname(fd, (&raw mut address).cast(), &mut size),
            0
        );
        let header = libc::nlmsghdr {
            nlmsg_len: size_of::<libc::nlmsghdr>() as u32,
            nlmsg_type: libc::NLMSG_DONE as u16,
            nlmsg_flags: 0,
            nlmsg_seq: 0,
            nlmsg_pid: address.nl_pid,
        };
        let length = size_of::<libc::nlmsghdr>();
        let (message, address) = ((&raw const header).cast(), (&raw const address).cast());
        let sent = libc::sendto(fd, message, length, 0, address, size);
        assert_eq!(sent, length as isize, "{}", io::Error::last_os_error());
        Ready::new(socket, vec![])
    }
}

/// Both ends of a FIFO.
fn fifo(data: bool) -> (OwnedFd, OwnedFd) {
    let path = format!("/dev/shm/kqueue-bench-{}", std::process::id());
    let name = std::ffi::CString::new(path.clone()).expect("a path");
    // SAFETY: The argument is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let both = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("fifo");
    let reader = File::open(&path).expect("fifo");
    let writer = File::options().write(true).open(&path).expect("fifo");
    drop(both);
    std::fs::remove_file(&path).expect("fifo");
    if data {
        send(&writer);
    }
    (reader.into(), writer.into())
}

fn fifo_with(what: For) -> Ready {
    let (reader, writer) = fifo(what == For::Read);
    match what {
        For::Read => Ready::new(reader, vec![writer]),
        For::Write => Ready::new(writer, vec![reader]),
    }
}

/// The writer of a pipe without a reader.
fn broken(kind: Kind) -> Ready {
    Ready::new(pair(kind, false).1, vec![])
}

/// A signalfd of a signal that is pending.
fn signalfd() -> Ready {
    // SAFETY: The sets are valid. The signal is blocked before it is sent.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR2);
        assert_eq!(
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()),
            0
        );
        assert_eq!(libc::kill(libc::getpid(), libc::SIGUSR2), 0);
        Ready::new(
            owned(libc::signalfd(-1, &set, libc::SFD_CLOEXEC).into()),
            vec![],
        )
    }
}

/// The side of a terminal that programs use.
fn slave(data: bool) -> Ready {
    let (master, slave) = open_terminal();
    if data {
        // SAFETY: The source has eight bytes.
        let sent = unsafe { libc::write(master.as_raw_fd(), c"abcdefg\n".as_ptr().cast(), 8) };
        assert_eq!(sent, 8);
    }
    Ready::new(slave, vec![master])
}

/// A file of its own, since a user may watch one file only so often.
fn regular() -> Ready {
    let path = format!("/dev/shm/kqueue-bench-file-{}", std::process::id());
    std::fs::write(&path, [1; 8]).expect("a file");
    let file = File::open(&path).expect("a file");
    std::fs::remove_file(&path).expect("a file");
    Ready::new(file, vec![])
}

fn regular_to_write() -> Ready {
    let path = format!("/dev/shm/kqueue-bench-file-{}", std::process::id());
    let file = File::create(&path).expect("a file");
    std::fs::remove_file(&path).expect("a file");
    Ready::new(file, vec![])
}

fn null(what: For) -> Ready {
    let mut options = File::options();
    let options = match what {
        For::Read => options.read(true),
        For::Write => options.write(true),
    };
    Ready::new(options.open("/dev/null").expect("/dev/null"), vec![])
}

/// The first end of a channel after its own shutdown(2) of the direction to the other end.
fn shut_down(ends: (OwnedFd, OwnedFd)) -> Ready {
    // SAFETY: The arguments are integers.
    let ret = unsafe { libc::shutdown(ends.0.as_raw_fd(), libc::SHUT_WR) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    Ready::new(ends.0, vec![ends.1])
}

/// The first end of a UNIX channel whose other end was closed with data that it had not read.
fn unread(ends: (OwnedFd, OwnedFd)) -> Ready {
    send(&ends.0);
    drop(ends.1);
    Ready::new(ends.0, vec![])
}

/// A sequenced-packet socket and its peer, with data on the way to the first.
fn packets(data: bool) -> (OwnedFd, OwnedFd) {
    let Ready { watched, others } = unix_messages(libc::SOCK_SEQPACKET, data);
    let peer = others.fds.into_iter().next().expect("the peer");
    (watched, peer)
}

/// One side of a terminal whose other side is closed.
fn hung_up(side: Ready) -> Ready {
    Ready::new(side.watched, vec![])
}

/// The interface that a kqueue is compared with.
#[derive(Clone, Copy, PartialEq)]
pub enum Peer {
    Epoll,
    /// epoll refuses the descriptor.
    Poll,
}

/// A kind of descriptor in a state that stays ready.
pub struct State {
    pub kind: &'static str,
    pub state: &'static str,
    pub what: For,
    pub peer: Peer,
    /// True if the amount of data or room is counted, so that low-water marks apply.
    pub is_counted: bool,
    pub make: fn() -> Ready,
}

const fn read(kind: &'static str, state: &'static str, make: fn() -> Ready) -> State {
    State {
        kind,
        state,
        what: For::Read,
        peer: Peer::Epoll,
        is_counted: true,
        make,
    }
}

const fn write(kind: &'static str, make: fn() -> Ready) -> State {
    write_in(kind, "room", make)
}

const fn write_in(kind: &'static str, state: &'static str, make: fn() -> Ready) -> State {
    State {
        what: For::Write,
        ..read(kind, state, make)
    }
}

const fn uncounted(state: State) -> State {
    State {
        is_counted: false,
        ..state
    }
}

const fn polled(state: State) -> State {
    State {
        peer: Peer::Poll,
        ..state
    }
}

/// All kinds and states.
pub const STATES: &[State] = &[
    read("TCP", "data", || with_data(Kind::Tcp)),
    write("TCP", || with_room(Kind::Tcp)),
    read("TCP", "end and data", || ended(Kind::Tcp, true)),
    read("TCP", "end", || ended(Kind::Tcp, false)),
    read("TCP", "error", reset),
    write_in("TCP", "end", || shut_down(pair(Kind::Tcp, false))),
    write_in("TCP", "error", reset),
    read("TCP listener", "connection", tcp_listener),
    read("UDP", "data", || udp(true)),
    write("UDP", || udp(false)),
    read("UDP", "error", refused),
    write_in("UDP", "error", refused),
    read("UNIX stream", "data", || with_data(Kind::Unix)),
    write("UNIX stream", || with_room(Kind::Unix)),
    read("UNIX stream", "end and data", || ended(Kind::Unix, true)),
    read("UNIX stream", "end", || ended(Kind::Unix, false)),
    read("UNIX stream", "error", || unread(pair(Kind::Unix, false))),
    write_in("UNIX stream", "end", || shut_down(pair(Kind::Unix, false))),
    write_in("UNIX stream", "error", || unread(pair(Kind::Unix, false))),
    read("UNIX listener", "connection", unix_listener),
    read("UNIX seqpacket", "data", || {
        unix_messages(libc::SOCK_SEQPACKET, true)
    }),
    write("UNIX seqpacket", || {
        unix_messages(libc::SOCK_SEQPACKET, false)
    }),
    read("UNIX seqpacket", "end and data", || {
        Ready::new(packets(true).0, vec![])
    }),
    read("UNIX seqpacket", "end", || {
        Ready::new(packets(false).0, vec![])
    }),
    read("UNIX seqpacket", "error", || unread(packets(false))),
    write_in("UNIX seqpacket", "end", || shut_down(packets(false))),
    write_in("UNIX seqpacket", "error", || unread(packets(false))),
    read("UNIX datagram", "data", || {
        unix_messages(libc::SOCK_DGRAM, true)
    }),
    write("UNIX datagram", || unix_messages(libc::SOCK_DGRAM, false)),
    read("netlink", "data", netlink_message),
    write("netlink", netlink),
    read("pipe", "data", || with_data(Kind::Pipe)),
    write("pipe", || with_room(Kind::Pipe)),
    read("pipe", "end", || ended(Kind::Pipe, false)),
    read("pipe", "end and data", || ended(Kind::Pipe, true)),
    write_in("pipe", "error", || broken(Kind::Pipe)),
    read("FIFO", "data", || fifo_with(For::Read)),
    write("FIFO", || fifo_with(For::Write)),
    read("FIFO", "end and data", || Ready::new(fifo(true).0, vec![])),
    write_in("FIFO", "error", || Ready::new(fifo(false).1, vec![])),
    read("FIFO", "end", || Ready::new(fifo(false).0, vec![])),
    // The other end is a duplicate of the same eventfd, whose registration with epoll it would keep.
    read("eventfd", "data", || ended(Kind::Eventfd, true)),
    write("eventfd", || broken(Kind::Eventfd)),
    read("timerfd", "data", timerfd),
    uncounted(read("signalfd", "data", signalfd)),
    uncounted(read("pidfd", "end", pidfd)),
    read("inotify", "data", inotify),
    uncounted(read("epoll", "data", queue_of_epoll)),
    read("kqueue", "data", queue_of_kqueue),
    read("terminal", "data", || slave(true)),
    write("terminal", || slave(false)),
    read("terminal", "end", || hung_up(slave(false))),
    write_in("terminal", "end", || hung_up(slave(false))),
    read("terminal master", "end and data", || {
        hung_up(terminal(true))
    }),
    read("terminal master", "end", || hung_up(terminal(false))),
    read("terminal master", "data", || terminal(true)),
    write("terminal master", || terminal(false)),
    polled(read("regular file", "data", regular)),
    polled(uncounted(write("regular file", regular_to_write))),
    polled(uncounted(read("/dev/null", "data", || null(For::Read)))),
    polled(uncounted(write("/dev/null", || null(For::Write)))),
];

/// The first state of each kind.
pub fn kinds() -> impl Iterator<Item = &'static State> {
    let is_first = |index: &usize| {
        let before = &STATES[..*index];
        before.iter().all(|other| other.kind != STATES[*index].kind)
    };
    let indices = (0..STATES.len()).filter(is_first);
    indices.map(|index| &STATES[index])
}

/// The states that a descriptor can have in a direction.
const DIRECTIONS: &[(For, &[&str])] = &[
    (
        For::Read,
        &["data", "connection", "end and data", "end", "error"],
    ),
    (For::Write, &["room", "end", "error"]),
];

/// All kinds in each direction and state, whether or not they can exist.
pub fn combinations() -> impl Iterator<Item = (&'static str, For, &'static str)> {
    kinds().flat_map(|State { kind, .. }| {
        let all = DIRECTIONS.iter();
        all.flat_map(move |(what, states)| states.iter().map(move |state| (*kind, *what, *state)))
    })
}

/// The reason why a kind is not measured in a direction and a state.
pub fn absent(kind: &str, what: For, state: &str) -> Option<&'static str> {
    let is = |kinds: &[&str]| kinds.contains(&kind);
    let is_listener = is(&["TCP listener", "UNIX listener"]);
    let is_message = is(&["UDP", "UNIX datagram", "netlink"]);
    let is_source = is(&["timerfd", "signalfd", "pidfd", "inotify", "epoll", "kqueue"]);
    let is_file = is(&["regular file", "/dev/null"]);
    let is_pipe = is(&["pipe", "FIFO"]);
    let is_tty = is(&["terminal", "terminal master"]);
    match (what, state) {
        (For::Write, "room") if is_source || is_listener => {
            Some("room: listeners and sources of events are not written to")
        }
        (For::Write, "room") => None,
        (For::Read, "connection") if is_listener => None,
        (For::Read, "connection") => Some("connection: only listeners have connections"),
        (For::Read, "data") if is_listener => Some("data: a listener has connections instead"),
        (For::Read, "data") if kind == "pidfd" => Some("data: a pidfd has only its end"),
        (For::Read, "data") => None,
        _ if is_listener => Some("end, error: a listener has no other side"),
        (For::Read, "end") if kind == "pidfd" => None,
        _ if is_source => Some("end, error: a source of events has no other side"),
        _ if is_file || kind == "eventfd" => {
            Some("end, error: regular files, /dev/null and eventfds have no other side")
        }
        (_, "end" | "end and data") if is_message => {
            Some("end: a datagram has no connection that could end")
        }
        (_, "error") if is(&["UNIX datagram", "netlink"]) => {
            Some("error: only a full receiver causes one")
        }
        (_, "error") if is_tty => Some("error: a terminal reports only that it was hung up"),
        (For::Read, "error") if is_pipe => Some("error: a reader of a pipe only has an end"),
        (For::Write, "end") if is_pipe => {
            Some("end: a writer of a pipe without readers has an error")
        }
        (For::Read, "end and data") if kind == "terminal" => {
            Some("end and data: a hang-up discards what a terminal has received")
        }
        (For::Write, "end") if kind == "terminal master" => {
            Some("end: a master can be written to without its terminal")
        }
        _ => None,
    }
}
