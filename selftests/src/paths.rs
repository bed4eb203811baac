// SPDX-License-Identifier: GPL-2.0

//! A scan can evaluate a knote on a descriptor in two ways: with the spin lock held, or by running
//! its filter, which may sleep. The second way is taken for a knote that the first one cannot
//! evaluate, and for the knotes right behind it in the ready list. Each test checks that both ways
//! report the same for a kind of descriptor in all of its states.

use crate::{
    common::*,
    datagram::{seqpacket, udp},
    kinds::pty,
    socket::tcp,
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    io::{Seek, SeekFrom, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    time::Duration,
};

/// Returns the parts of an event that do not depend on the flags of the registration.
fn told(events: &[Event]) -> Option<(u16, u32, i64)> {
    let mask = !(ev::ADD | ev::ONESHOT | ev::CLEAR | ev::DISPATCH | ev::ENABLE);
    match events {
        [] => None,
        [event] => Some((event.flags & mask, event.fflags, event.data)),
        events => panic!("{events:?}"),
    }
}

fn with(event: Event, flags: u16) -> Event {
    Event {
        flags: event.flags | flags,
        ..event
    }
}

/// Collects the event of `event`'s descriptor, which the scan evaluates by running the filter.
fn collect_by_filter(event: Event) -> Vec<Event> {
    // A device that is always readable. Its low-water mark cannot be evaluated with the spin lock
    // held.
    let before = std::fs::File::open("/dev/zero").unwrap();
    let queue = kqueue();
    change(
        &queue,
        &[add_read(&before, 0).fflags(note::LOWAT).data(1 << 40)],
    );
    let events = collect(&queue, event);
    assert_eq!(events[0].ident, before.as_raw_fd() as u64);
    events[1..].to_vec()
}

/// Compares the events of `event`'s descriptor in both ways.
#[track_caller]
fn compare(state: &str, event: Event) {
    let by_filter = told(&collect_by_filter(event));
    for flags in [0, ev::CLEAR, ev::DISPATCH, ev::ONESHOT] {
        let fast = kqueue();
        let event = with(event, flags);
        let first = told(&collect(&fast, event));
        assert_eq!(first, by_filter, "{state}, flags {flags:x}");
        // The knote is not evaluated when it is registered.
        let queue = kqueue();
        change(&queue, &[event]);
        assert_eq!(
            told(&pending(&queue)),
            by_filter,
            "{state}, flags {flags:x}, pending"
        );
        let again = if flags == 0 { by_filter } else { None };
        assert_eq!(
            told(&pending(&queue)),
            again,
            "{state}, flags {flags:x}, again"
        );
        // A change evaluates the knote in its own way.
        if flags == ev::DISPATCH {
            change(
                &queue,
                &[Event {
                    flags: ev::ENABLE,
                    ..event
                }],
            );
            assert_eq!(told(&pending(&queue)), by_filter, "{state}, enabled");
        }
        if flags == ev::ONESHOT && by_filter.is_some() {
            check_deleted(state, &queue, event, by_filter);
        }
        for is_first in [true, false] {
            compare_in_pair(state, event, is_first, by_filter);
        }
    }
}

/// Checks that a knote reports the same beside a knote of the other direction, which comes and
/// goes. The two share what belongs to the descriptor.
#[track_caller]
fn compare_in_pair(state: &str, event: Event, is_first: bool, report: Option<(u16, u32, i64)>) {
    let other = if event.filter == Filter::READ {
        Filter::WRITE
    } else {
        Filter::READ
    };
    let other = Event {
        filter: other,
        flags: ev::ADD,
        fflags: 0,
        data: 0,
        udata: 5,
        ..event
    };
    let deleted = |event| Event {
        flags: ev::DELETE,
        ..event
    };
    let queue = kqueue();
    let pair = if is_first {
        [event, other]
    } else {
        [other, event]
    };
    if queue.kevent(&pair, &mut [], None).is_err() {
        // The file does not support the other direction.
        return;
    }
    let check = |what: &str, expected| {
        let mut events = pending(&queue);
        events.retain(|other| other.filter == event.filter);
        let state = format!("{state}, flags {:x}, {what}, first {is_first}", event.flags);
        assert_eq!(told(&events), expected, "{state}");
    };
    check("in a pair", report);
    let is_level = event.flags & (ev::CLEAR | ev::DISPATCH | ev::ONESHOT) == 0;
    check("again", if is_level { report } else { None });
    change(&queue, &[deleted(other)]);
    check("alone", if is_level { report } else { None });
    change(&queue, &[event]);
    let ended = event.flags & ev::ONESHOT != 0 && report.is_some();
    // EV_ADD does not enable a knote that EV_DISPATCH has disabled.
    let is_disabled = event.flags & ev::DISPATCH != 0 && report.is_some();
    check("added again", if is_disabled { None } else { report });
    change(&queue, &[event, other]);
    if ended {
        check("beside a new one", report);
    } else {
        change(&queue, &[deleted(event)]);
        check("deleted", None);
    }
    assert_eq!(
        change_error(&queue, deleted(event)),
        libc::ENOENT,
        "{state}"
    );
    assert_eq!(knotes(&queue), 1, "{state}");
    change(&queue, &[event]);
    check("after a deletion", report);
    change(&queue, &[deleted(other)]);
    check("alone at the end", if is_level { report } else { None });
}

/// Checks that the one-shot knote of `event` does not exist any more, and that it can be added
/// again with other parameters.
#[track_caller]
fn check_deleted(state: &str, queue: &Kqueue, event: Event, report: Option<(u16, u32, i64)>) {
    assert_eq!(knotes(queue), 0, "{state}");
    for flags in [ev::ENABLE, ev::DISABLE, ev::DELETE, 0, ev::DELETE] {
        let error = change_error(queue, Event { flags, ..event });
        assert_eq!(error, libc::ENOENT, "{state}, flags {flags:x}");
        assert!(pending(queue).is_empty(), "{state}, flags {flags:x}");
        // It is deleted in the same way after it was added again.
        change(queue, &[event]);
        assert_eq!(knotes(queue), 1, "{state}, flags {flags:x}");
        assert_eq!(told(&pending(queue)), report, "{state}, flags {flags:x}");
    }
    let disabled = Event {
        flags: ev::ADD | ev::DISABLE,
        udata: 77,
        ..event
    };
    change(queue, &[disabled]);
    assert_eq!(knotes(queue), 1, "{state}, disabled");
    assert!(pending(queue).is_empty(), "{state}, disabled");
    let enable = Event {
        flags: ev::ENABLE | ev::KEEPUDATA,
        udata: 0,
        ..event
    };
    change(queue, &[enable]);
    for _ in 0..2 {
        let events = pending(queue);
        assert_eq!(told(&events), report, "{state}, level-triggered");
        assert_eq!((events[0].flags & ev::ONESHOT, events[0].udata), (0, 77));
    }
    change(
        queue,
        &[Event {
            flags: ev::DELETE,
            ..event
        }],
    );
    assert_eq!(knotes(queue), 0, "{state}, deleted");
}

/// Compares both directions, with low-water marks around the actual value.
#[track_caller]
fn both(state: &str, fd: &impl AsRawFd) {
    for (direction, add) in [("read", add_read(fd, 0)), ("write", add_write(fd, 0))] {
        compare(&format!("{state}, {direction}"), add);
        for mark in [1, 3, 4, 1 << 40] {
            // If the room does not reach the mark, only the filter can wait for it.
            if direction == "write" && mark > 1 {
                continue;
            }
            compare(
                &format!("{state}, {direction}, mark {mark}"),
                add.fflags(note::LOWAT).data(mark),
            );
        }
    }
}

/// Waits until everything that was sent has arrived. Loopback delivers data at once, but the
/// acknowledgement of a shutdown can come later, and the processor that sends it can be late too.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

fn set_nonblocking(fd: &impl AsRawFd) {
    // SAFETY: The arguments are integers.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        assert_eq!(
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK),
            0
        );
    }
}

#[test]
fn tcp_connections() {
    let (mut one, other) = tcp();
    both("nothing", &other);
    one.write_all(b"abc").unwrap();
    settle();
    both("data", &other);
    one.shutdown(Shutdown::Write).unwrap();
    settle();
    both("data and the end", &other);
    both("own end", &one);
    read(&other, 3);
    both("the end", &other);
    other.shutdown(Shutdown::Write).unwrap();
    settle();
    both("both ends", &other);
    both("both ends, the other one", &one);
}

#[test]
fn files_without_poll() {
    for path in ["/dev/null", "/dev/zero", "/proc/self/status"] {
        let file = std::fs::File::open(path).unwrap();
        for add in [add_read(&file, 0), add_write(&file, 0)] {
            compare(path, add);
            compare(path, add.fflags(note::LOWAT).data(1 << 40));
            let events = collect_by_filter(add);
            assert_eq!(told(&events), Some((0, 0, 1)), "{path}");
        }
    }
}

#[test]
fn tcp_with_an_error() {
    let (one, mut other) = tcp();
    other.write_all(b"unread").unwrap();
    settle();
    // The unread data reset the connection.
    drop(one);
    settle();
    both("reset", &other);
}

#[test]
fn tcp_refused() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    // SAFETY: The arguments are integers.
    let client = unsafe {
        OwnedFd::from_raw_fd(libc::socket(
            libc::AF_INET,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK,
            0,
        ))
    };
    // SAFETY: An all-zero address is valid.
    let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    // SAFETY: The address is a local variable of this size.
    let result = unsafe {
        libc::connect(
            client.as_raw_fd(),
            (&raw const name).cast(),
            size_of_val(&name) as u32,
        )
    };
    assert_eq!(result, -1);
    settle();
    both("refused", &client);
    let events = collect_by_filter(add_write(&client, 0));
    assert_eq!(events[0].fflags, libc::ECONNREFUSED as u32);
}

/// Datagram sockets and seqpackets with an error, without and with something to read.
#[test]
fn messages_with_an_error() {
    let (one, other) = udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
    drop(other);
    one.send(b"abc").unwrap();
    settle();
    both("UDP, refused", &one);
    let events = collect_by_filter(add_read(&one, 0));
    assert_eq!(events[0].fflags, libc::ECONNREFUSED as u32);

    // The other socket has sent a message that is lost when its peer connects to a third one.
    let path = format!("/tmp/paths.{}.third", std::process::id());
    let _third = UnixDatagram::bind(&path).unwrap();
    for queued in [false, true] {
        let (one, other) = UnixDatagram::pair().unwrap();
        other.send(b"lost").unwrap();
        if queued {
            one.send(b"kept").unwrap();
        }
        one.connect(&path).unwrap();
        both(&format!("UNIX datagram, reset, queued: {queued}"), &other);
        let events = collect_by_filter(add_read(&other, 0));
        assert_eq!(events[0].fflags, libc::ECONNRESET as u32);
    }
    std::fs::remove_file(&path).unwrap();

    for queued in [false, true] {
        let (one, other) = seqpacket();
        write(&other, b"unread");
        if queued {
            write(&one, b"abc");
        }
        drop(one);
        both(&format!("seqpacket, reset, queued: {queued}"), &other);
        let events = collect_by_filter(add_read(&other, 0));
        assert_eq!(events[0].fflags, libc::ECONNRESET as u32);
    }
}

#[test]
fn tcp_out_of_room() {
    let (mut one, other) = tcp();
    one.set_nonblocking(true).unwrap();
    while one.write(&[0; 65536]).is_ok() {}
    settle();
    while one.write(&[0; 1]).is_ok() {}
    both("full", &one);
    both("much", &other);
}

#[test]
fn tcp_before_and_while_listening() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    both("nobody", &listener);
    let clients: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap())
        .collect();
    settle();
    both("three", &listener);
    drop(clients);
    // SAFETY: The arguments are integers.
    let fresh = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)) };
    both("unconnected", &fresh);
}

#[test]
fn unix_streams() {
    let (mut one, other) = UnixStream::pair().unwrap();
    both("nothing", &other);
    one.write_all(b"abc").unwrap();
    both("data", &other);
    one.shutdown(Shutdown::Write).unwrap();
    both("data and the end", &other);
    both("own end", &one);
    read(&other, 3);
    both("the end", &other);
    one.shutdown(Shutdown::Read).unwrap();
    both("shut", &one);
    both("shut by the other", &other);
    drop(one);
    both("gone", &other);

    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"unread").unwrap();
    drop(one);
    both("reset", &other);

    let (mut one, _other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    while one.write(&[0; 4096]).is_ok() {}
    both("full", &one);
}

#[test]
fn unix_listeners() {
    let path = format!("/tmp/paths.{}", std::process::id());
    let listener = UnixListener::bind(&path).unwrap();
    both("nobody", &listener);
    let _clients: Vec<_> = (0..3)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    both("three", &listener);
    std::fs::remove_file(&path).unwrap();
}

/// There are as many datagrams as are counted with the spin lock held, and more.
#[test]
fn datagrams() {
    const COUNTS: [usize; 5] = [1, 2, 4, 5, 40];
    let (one, other) = UnixDatagram::pair().unwrap();
    both("UNIX datagram, nothing", &other);
    both("UNIX datagram, the sender", &one);
    let (first, second) = seqpacket();
    both("seqpacket, nothing", &second);
    both("seqpacket, the sender", &first);
    // A UNIX socket accepts only few messages.
    let mut sent = 0;
    for count in COUNTS.map(|count| count.min(8)) {
        while sent < count {
            one.send(b"abc").unwrap();
            write(&first, b"abc");
            sent += 1;
        }
        both(&format!("UNIX datagram, {count}"), &other);
        both(&format!("seqpacket, {count}"), &second);
    }
    both("seqpacket, the sender of many", &first);
    drop(first);
    both("seqpacket, the end", &second);

    for blocks in [true, false] {
        let (one, other) = udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if !blocks {
            set_nonblocking(&other);
        }
        both("UDP, nothing", &other);
        both("UDP, the sender", &one);
        for count in COUNTS {
            for _ in 0..count {
                one.send(b"abc").unwrap();
            }
            settle();
            both(&format!("UDP, {count}"), &other);
            read(&other, 3);
            // The remaining messages were moved to the reader queue.
            if count > 1 {
                both(&format!("UDP, {count} less one"), &other);
            }
            (1..count).for_each(|_| read(&other, 3));
        }
    }
    let (one, other) = udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
    one.send(b"").unwrap();
    settle();
    both("UDP, an empty one", &other);
}

#[test]
fn netlink() {
    // SAFETY: The arguments are integers.
    let fd = unsafe {
        OwnedFd::from_raw_fd(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_ROUTE,
        ))
    };
    both("nothing", &fd);
    // The kernel answers a request that it refuses.
    let request: [u32; 5] = [20, 18 | (1 << 16), 7, 0, 0];
    let bytes: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
    write(&fd, &bytes);
    both("an answer", &fd);
}

#[test]
fn pipes() {
    let (reader, writer) = pipe();
    both("empty", &reader);
    both("writer of an empty one", &writer);
    write(&writer, b"abc");
    both("data", &reader);
    let second = writer.try_clone().unwrap();
    drop(writer);
    both("data, a dup", &reader);
    drop(second);
    both("data and the end", &reader);
    read(&reader, 3);
    both("the end", &reader);

    let (reader, writer) = pipe();
    drop(reader);
    both("nobody reads", &writer);

    let (reader, writer) = pipe();
    set_nonblocking(&writer);
    // SAFETY: The memory is valid.
    while unsafe { libc::write(writer.as_raw_fd(), [0u8; 4096].as_ptr().cast(), 4096) } > 0 {}
    both("full", &writer);
    both("full, the reader", &reader);
    drop(writer);
    both("full and the end", &reader);
}

#[test]
fn fifos() {
    let path = format!("/tmp/paths.{}.fifo", std::process::id());
    let name = std::ffi::CString::new(path.clone()).unwrap();
    // SAFETY: The name is valid.
    let reader = unsafe {
        assert_eq!(libc::mkfifo(name.as_ptr(), 0o600), 0);
        OwnedFd::from_raw_fd(libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK))
    };
    both("no writer yet", &reader);
    let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    both("a writer", &reader);
    write(&writer, b"abc");
    both("data", &reader);
    drop(writer);
    both("data and the end", &reader);
    read(&reader, 3);
    both("the end", &reader);
    // SAFETY: The name is valid.
    let late = unsafe {
        OwnedFd::from_raw_fd(libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK))
    };
    both("a reader that came after the writer", &late);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn counters() {
    // SAFETY: The arguments are integers.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK)) };
    both("eventfd, nothing", &fd);
    write(&fd, &3u64.to_ne_bytes());
    both("eventfd, three", &fd);
    write(&fd, &(u64::MAX - 4).to_ne_bytes());
    both("eventfd, full", &fd);

    // SAFETY: The arguments are integers.
    let fd = unsafe {
        OwnedFd::from_raw_fd(libc::timerfd_create(
            libc::CLOCK_MONOTONIC,
            libc::TFD_NONBLOCK,
        ))
    };
    compare("timerfd, nothing", add_read(&fd, 0));
    let once = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: 0,
            tv_nsec: 1,
        },
    };
    // SAFETY: The pointers are valid.
    unsafe {
        assert_eq!(
            libc::timerfd_settime(fd.as_raw_fd(), 0, &once, std::ptr::null_mut()),
            0
        );
    }
    settle();
    compare("timerfd, expired", add_read(&fd, 0));
    compare(
        "timerfd, a mark",
        add_read(&fd, 0).fflags(note::LOWAT).data(1),
    );
    compare(
        "timerfd, a higher mark",
        add_read(&fd, 0).fflags(note::LOWAT).data(2),
    );
    let probes = std::fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap();
    assert!(probes.contains("timerfd counts: read\n"), "{probes}");
}

#[test]
fn signalfds() {
    // SAFETY: The set is initialised before it is used.
    let fd = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        libc::sigaddset(&mut set, libc::SIGRTMAX());
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        OwnedFd::from_raw_fd(libc::signalfd(-1, &set, libc::SFD_NONBLOCK))
    };
    both("signalfd, nothing", &fd);
    for number in [libc::SIGUSR1, libc::SIGRTMAX()] {
        // SAFETY: To this thread, which has blocked it.
        unsafe { libc::raise(number) };
        both("signalfd, a signal", &fd);
        // Signals are not counted, so they reach every mark.
        let mark = add_read(&fd, 0).fflags(note::LOWAT).data(2);
        assert_eq!(collect(&kqueue(), mark).len(), 1);
        read(&fd, size_of::<libc::signalfd_siginfo>());
        compare("signalfd, read", add_read(&fd, 0));
    }
    let probes = std::fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap();
    assert!(probes.contains("signalfd sets: read\n"), "{probes}");
}

#[test]
fn inotify() {
    // SAFETY: The arguments are integers.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_NONBLOCK)) };
    let folder = format!("/dev/shm/kqueue-paths-{}", std::process::id());
    std::fs::create_dir(&folder).unwrap();
    let path = std::ffi::CString::new(folder.as_str()).unwrap();
    let mask = libc::IN_CREATE | libc::IN_DELETE_SELF;
    // SAFETY: A C string.
    let watch = unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), mask) };
    assert!(watch > 0);
    both("inotify, nothing", &fd);
    let names = [
        "a",
        "15 characters..",
        "16 characters...",
        "four",
        "five",
        "six",
    ];
    for name in names {
        std::fs::write(format!("{folder}/{name}"), b"").unwrap();
        both(name, &fd);
    }
    // All that waits is counted.
    let size = |name: &str| 16 + (name.len() as i64 + 1 + 15) / 16 * 16;
    let all = names.iter().map(|name| size(name)).sum();
    let queue = kqueue();
    assert_eq!(collect(&queue, add_read(&fd, 0))[0].data, all);
    read(&fd, all as usize);
    compare("inotify, read", add_read(&fd, 0));
    // These events have no names.
    std::fs::remove_dir_all(&folder).unwrap();
    both("inotify, removed", &fd);
    let probes = std::fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap();
    assert!(probes.contains("inotify sizes: read\n"), "{probes}");
}

#[test]
fn regular_files() {
    let path = format!("/dev/shm/kqueue-paths-file-{}", std::process::id());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    both("empty", &file);
    file.write_all(b"abc").unwrap();
    both("at the end", &file);
    let queues: Vec<_> = [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH]
        .map(|flags| (flags, kqueue()))
        .into_iter()
        .collect();
    for (flags, queue) in &queues {
        assert!(collect(queue, add_read(&file, *flags)).is_empty());
    }
    for round in 0..3 {
        file.seek(SeekFrom::Start(0)).unwrap();
        both("all", &file);
        for (flags, queue) in &queues {
            assert_eq!(one(queue).data, 3, "round {round}, flags {flags:x}");
            let again = pending(queue);
            assert_eq!(again.len(), usize::from(*flags == 0), "flags {flags:x}");
        }
        file.seek(SeekFrom::Start(9)).unwrap();
        both("beyond the end", &file);
        file.seek(SeekFrom::End(0)).unwrap();
        both("at the end again", &file);
        for (flags, queue) in &queues {
            assert!(
                pending(queue).iter().all(|event| event.data < 0),
                "{flags:x}"
            );
            assert!(pending(queue).is_empty(), "flags {flags:x}");
            match *flags {
                ev::ONESHOT => change(queue, &[add_read(&file, *flags)]),
                ev::DISPATCH => change(
                    queue,
                    &[Event::fd(file.as_raw_fd(), Filter::READ, ev::ENABLE)],
                ),
                _ => {}
            }
            assert!(pending(queue).is_empty(), "flags {flags:x}");
        }
    }
    std::fs::remove_file(&path).unwrap();
    compare(
        "a directory",
        add_read(&std::fs::File::open("/dev/shm").unwrap(), 0),
    );
}

#[test]
fn terminals() {
    let (master, slave) = pty();
    both("master, nothing", &master);
    both("slave, nothing", &slave);
    write(&master, b"abc");
    settle();
    both("slave, data", &slave);
    write(&slave, b"abcd");
    settle();
    both("master, data", &master);
    drop(slave);
    both("master, end and data", &master);
    let (master, slave) = pty();
    drop(master);
    both("slave, end", &slave);
}

#[test]
fn epolls() {
    // SAFETY: The arguments are integers.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(0)) };
    let (reader, writer) = pipe();
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    // SAFETY: The event is valid.
    let ret = unsafe {
        libc::epoll_ctl(
            fd.as_raw_fd(),
            libc::EPOLL_CTL_ADD,
            reader.as_raw_fd(),
            &mut event,
        )
    };
    assert_eq!(ret, 0);
    both("nothing", &fd);
    write(&writer, b"a");
    both("ready", &fd);
}

#[test]
fn pidfds() {
    let gate = Gate::new();
    let child = fork(|| {
        gate.wait();
        0
    });
    // SAFETY: The arguments are integers.
    let fd = unsafe {
        OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, child, 0) as libc::c_int)
    };
    compare("running", add_read(&fd, 0));
    gate.open();
    let queue = kqueue();
    change(&queue, &[add_read(&fd, 0)]);
    one(&queue);
    compare("exited", add_read(&fd, 0));
    // Bytes that are not counted reach every mark.
    let mark = add_read(&fd, 0).fflags(note::LOWAT).data(2);
    compare("exited, a mark", mark);
    assert_eq!(collect(&kqueue(), mark).len(), 1);
    reap(child);
    compare("waited for", add_read(&fd, 0));
}

#[test]
fn kqueues() {
    let inner = kqueue();
    compare("nothing", add_read(&inner, 0));
    let (reader, writer) = pipe();
    let (second, _writer) = pipe();
    change(&inner, &[add_read(&reader, 0), add_read(&second, 0)]);
    write(&writer, b"abc");
    compare("one of two", add_read(&inner, 0));
    compare("a mark", add_read(&inner, 0).fflags(note::LOWAT).data(1));
    compare(
        "a higher mark",
        add_read(&inner, 0).fflags(note::LOWAT).data(2),
    );
}
