// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` on kinds of descriptors that have no test file of their own.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// Takes ownership of a descriptor that a system call returned.
#[track_caller]
fn owned(fd: libc::c_long) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: The callers pass new descriptors.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

fn eventfd(count: u32, flags: libc::c_int) -> OwnedFd {
    // SAFETY: The arguments are integers.
    owned(unsafe { libc::eventfd(count, flags | libc::EFD_NONBLOCK) }.into())
}

fn add_to(eventfd: &OwnedFd, count: u64) {
    write(eventfd, &count.to_ne_bytes());
}

#[test]
fn eventfd_reports_its_counter() {
    let fd = eventfd(0, 0);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    assert!(pending(&kqueue).is_empty());
    add_to(&fd, 5);
    assert_eq!(one(&kqueue).data, 5);
    add_to(&fd, 1 << 40);
    assert_eq!(one(&kqueue).data, (1 << 40) + 5);
    read(&fd, 8);
    assert!(pending(&kqueue).is_empty());
}

/// The counter of the first eventfd is read as text. After that the counters are read directly.
#[test]
fn eventfd_counters_are_read() {
    // The id of one of them is not 0.
    let fds = [eventfd(0, 0), eventfd(0, 0)];
    let kqueue = kqueue();
    for count in 1..=3 {
        for fd in &fds {
            add_to(fd, 1);
        }
        for fd in &fds {
            change(&kqueue, &[add_read(fd, ev::ONESHOT)]);
            assert_eq!(one(&kqueue).data, count);
        }
    }
    let probes = std::fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap();
    assert!(probes.contains("eventfd counters: read\n"), "{probes}");
}

#[test]
fn eventfd_reports_the_room() {
    let fd = eventfd(0, 0);
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&fd, 0)]);
    // The value exceeds the range of the type.
    assert_eq!(one(&kqueue).data, i64::MAX);
    add_to(&fd, u64::MAX - 11);
    assert_eq!(one(&kqueue).data, 10);
    add_to(&fd, 10);
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[add_read(&fd, 0)]);
    assert_eq!(one(&kqueue).data, i64::MAX);
}

#[test]
fn eventfd_low_water_mark() {
    let fd = eventfd(0, libc::EFD_SEMAPHORE);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0).fflags(note::LOWAT).data(3)]);
    add_to(&fd, 2);
    assert!(pending(&kqueue).is_empty());
    add_to(&fd, 1);
    assert_eq!(one(&kqueue).data, 3);
    read(&fd, 8);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn timerfd_reports_the_expirations() {
    // SAFETY: The arguments are integers.
    let fd =
        owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK) }.into());
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    assert!(pending(&kqueue).is_empty());
    let short = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let times = libc::itimerspec {
        it_interval: short,
        it_value: short,
    };
    // SAFETY: The pointers are valid.
    unsafe {
        let old = std::ptr::null_mut();
        assert_eq!(libc::timerfd_settime(fd.as_raw_fd(), 0, &times, old), 0);
    }
    assert!(one(&kqueue).data >= 1);
    std::thread::sleep(Duration::from_millis(20));
    let told = one(&kqueue).data as u64;
    let mut count = [0u8; 8];
    // SAFETY: Eight bytes.
    let got = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
    assert_eq!(got, 8);
    assert!(told >= 1 && told <= u64::from_ne_bytes(count), "{told}");
}

fn blocked(signal: libc::c_int) -> libc::sigset_t {
    // SAFETY: The set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

fn signalfd(set: &libc::sigset_t) -> OwnedFd {
    // SAFETY: The set is valid.
    owned(unsafe { libc::signalfd(-1, set, libc::SFD_NONBLOCK) }.into())
}

#[test]
fn signalfd_is_ready_with_a_signal() {
    let set = blocked(libc::SIGUSR1);
    let fd = signalfd(&set);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    assert!(pending(&kqueue).is_empty());
    // SAFETY: To this thread, which has blocked it.
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(one(&kqueue).data, 1);
    read(&fd, size_of::<libc::signalfd_siginfo>());
    assert!(pending(&kqueue).is_empty());
}

/// The wait queue of a signalfd belongs to the process that polled it, and is freed with that
/// process (`POLLFREE`). The descriptors remain in another process, which shares the table.
#[test]
fn signalfd_outlives_the_process_that_polled_it() {
    extern "C" fn register(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: The caller passes these, and shares its memory.
        let (kqueue, fd) = unsafe { &*argument.cast::<(Kqueue, OwnedFd)>() };
        let event = Event::fd(fd.as_raw_fd(), Filter::READ, ev::ADD);
        match kqueue.kevent(&[event], &mut [], None) {
            Ok(0) => 0,
            _ => 1,
        }
    }
    let set = blocked(libc::SIGUSR1);
    for after in 0..3 {
        let mut both = (kqueue(), signalfd(&set));
        let mut stack = vec![0u128; 1 << 14];
        // SAFETY: The child has a stack of its own and only makes a system call.
        let pid = unsafe {
            libc::clone(
                register,
                stack.as_mut_ptr_range().end.cast(),
                libc::CLONE_FILES | libc::CLONE_VM | libc::SIGCHLD,
                (&raw mut both).cast(),
            )
        };
        assert!(pid > 0, "{}", io::Error::last_os_error());
        assert_eq!(reap(pid), 0);
        let (kqueue, fd) = both;
        match after {
            // The knote is not woken any more. It suffices that it can still be evaluated.
            0 => assert!(pending(&kqueue).is_empty()),
            1 => change(
                &kqueue,
                &[Event::fd(fd.as_raw_fd(), Filter::READ, ev::DELETE)],
            ),
            _ => drop(kqueue),
        }
    }
}

/// A one-shot knote that was reported stays attached. If it was attached by a process with other
/// signals, or its wait queue was freed, it has to be attached anew.
#[test]
fn signalfd_is_added_again_by_another_process() {
    extern "C" fn collect_once(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: The caller passes these, and shares its memory. The signal is blocked.
        let (kqueue, fd, ended) = unsafe { &*argument.cast::<(Kqueue, OwnedFd, Gate)>() };
        let add = Event::fd(fd.as_raw_fd(), Filter::READ, ev::ADD | ev::ONESHOT);
        // SAFETY: The arguments are integers.
        unsafe {
            let (process, thread) = (libc::SYS_getpid, libc::SYS_gettid);
            let (process, thread) = (libc::syscall(process), libc::syscall(thread));
            libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1);
        }
        let mut events = [Event::default()];
        let collected = kqueue.kevent(&[add], &mut events, Some(Duration::ZERO));
        if matches!(collected, Ok(1)) {
            ended.wait();
            0
        } else {
            1
        }
    }
    let set = blocked(libc::SIGUSR1);
    for freed in [false, true] {
        let mut all = (kqueue(), signalfd(&set), Gate::new());
        let mut stack = vec![0u128; 1 << 14];
        // SAFETY: The child has a stack of its own and only makes system calls.
        let pid = unsafe {
            libc::clone(
                collect_once,
                stack.as_mut_ptr_range().end.cast(),
                libc::CLONE_FILES | libc::CLONE_VM | libc::SIGCHLD,
                (&raw mut all).cast(),
            )
        };
        assert!(pid > 0, "{}", io::Error::last_os_error());
        let (kqueue, fd, gate) = &all;
        let end = || {
            gate.open();
            assert_eq!(reap(pid), 0);
        };
        if freed {
            end();
        } else {
            std::thread::sleep(Duration::from_millis(300));
        }
        change(kqueue, &[add_read(fd, ev::ONESHOT)]);
        assert!(pending(kqueue).is_empty());
        // SAFETY: To this thread, which has blocked it.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(one(kqueue).data, 1, "freed: {freed}");
        read(fd, size_of::<libc::signalfd_siginfo>());
        if !freed {
            end();
        }
    }
}

#[test]
fn pidfd_is_ready_when_the_process_has_ended() {
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        0
    });
    // SAFETY: The arguments are integers.
    let fd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    assert!(pending(&kqueue).is_empty());
    gate.open();
    assert_eq!(one(&kqueue).data, 1);
    reap(pid);
    assert!(one(&kqueue).has(ev::EOF), "reaped");
}

/// Compares `EVFILT_WRITE` with poll(2), for a new knote, for one that EV_ENABLE enables, and for
/// one that is added again.
#[track_caller]
fn write_agrees_with_poll(state: &str, fd: &OwnedFd) {
    let mut polled = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: One entry.
    assert!(unsafe { libc::poll(&mut polled, 1, 0) } >= 0);
    let ended = polled.revents & (libc::POLLHUP | libc::POLLERR) != 0;
    let expected = usize::from(polled.revents != 0);
    let check = |what: &str, events: Vec<Event>| {
        assert_eq!(events.len(), expected, "{state}, {what}: {events:?}");
        for event in events {
            assert_eq!(event.filter, Filter::WRITE);
            assert_eq!(event.has(ev::EOF), ended, "{state}, {what}");
        }
    };
    for flags in [0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH] {
        let kqueue = kqueue();
        check("added", collect(&kqueue, add_write(fd, flags)));
        change(&kqueue, &[add_write(fd, flags | ev::DISABLE)]);
        assert!(pending(&kqueue).is_empty(), "{state}");
        let enable = Event::fd(fd.as_raw_fd(), Filter::WRITE, ev::ENABLE);
        // A call of its own, and a change of a call that collects.
        change(&kqueue, &[enable]);
        check("enabled", pending(&kqueue));
        change(&kqueue, &[add_write(fd, flags | ev::DISABLE)]);
        check("enabled and collected", collect(&kqueue, enable));
        check("again", collect(&kqueue, add_write(fd, flags | ev::ENABLE)));
    }
}

/// Files that can be read only are never writable. Some of them hang up.
#[test]
fn writing_to_what_can_only_be_read() {
    let (reader, writer) = pipe();
    write_agrees_with_poll("an empty pipe", &reader);
    write(&writer, b"abc");
    write_agrees_with_poll("a pipe", &reader);
    drop(writer);
    write_agrees_with_poll("a pipe without a writer", &reader);

    // SAFETY: The arguments are integers, and the time is valid.
    let timer = unsafe {
        let timer = owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0).into());
        write_agrees_with_poll("a timerfd", &timer);
        let mut time: libc::itimerspec = std::mem::zeroed();
        time.it_value.tv_nsec = 1;
        let old = std::ptr::null_mut();
        assert_eq!(libc::timerfd_settime(timer.as_raw_fd(), 0, &time, old), 0);
        timer
    };
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&timer, 0)]);
    one(&kqueue);
    write_agrees_with_poll("an expired timerfd", &timer);

    // SAFETY: The argument is an integer.
    let inotify = owned(unsafe { libc::inotify_init1(0) }.into());
    write_agrees_with_poll("inotify", &inotify);
    // SAFETY: The string ends in 0.
    let watch = unsafe {
        let path = c"/dev/shm".as_ptr();
        libc::inotify_add_watch(inotify.as_raw_fd(), path, libc::IN_CREATE)
    };
    assert!(watch > 0);
    let path = format!("/dev/shm/kqueue-write-{}", std::process::id());
    fs::write(&path, b"").unwrap();
    write_agrees_with_poll("inotify with an event", &inotify);
    fs::remove_file(path).unwrap();

    let set = blocked(libc::SIGUSR1);
    let signals = signalfd(&set);
    write_agrees_with_poll("a signalfd", &signals);
    // SAFETY: To this thread, which has blocked it.
    unsafe { libc::raise(libc::SIGUSR1) };
    write_agrees_with_poll("a signalfd with a signal", &signals);
    read(&signals, size_of::<libc::signalfd_siginfo>());

    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        0
    });
    // SAFETY: The arguments are integers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    write_agrees_with_poll("a running process", &process);
    gate.open();
    change(
        &kqueue,
        &[Event::fd(timer.as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&kqueue, &[add_read(&process, 0)]);
    one(&kqueue);
    write_agrees_with_poll("a process that has ended", &process);
    reap(pid);
    write_agrees_with_poll("a process that was waited for", &process);
}

fn readable(fd: &OwnedFd) -> i64 {
    let mut bytes: libc::c_int = -1;
    // SAFETY: There is room for an int.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut bytes) };
    assert_eq!(ret, 0);
    bytes.into()
}

#[test]
fn inotify_reports_the_number_of_bytes() {
    // SAFETY: The arguments are integers.
    let fd = owned(unsafe { libc::inotify_init1(libc::IN_NONBLOCK) }.into());
    let folder = format!("/dev/shm/kqueue-inotify-{}", std::process::id());
    fs::create_dir(&folder).unwrap();
    let name = std::ffi::CString::new(folder.as_str()).unwrap();
    // SAFETY: A C string.
    unsafe {
        assert!(libc::inotify_add_watch(fd.as_raw_fd(), name.as_ptr(), libc::IN_CREATE) > 0);
    }
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    assert!(pending(&kqueue).is_empty());
    for name in ["a", "a name that is longer than sixteen bytes"] {
        fs::write(format!("{folder}/{name}"), b"").unwrap();
        let event = one(&kqueue);
        assert!(event.data > 1);
        assert_eq!(event.data, readable(&fd));
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// Creates a pty in raw mode. Returns the master and the slave.
pub fn pty() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: There is room for both descriptors. The name and the settings are null.
    unsafe {
        let null = std::ptr::null_mut();
        let ret = libc::openpty(
            &mut master,
            &mut slave,
            null,
            std::ptr::null(),
            std::ptr::null(),
        );
        assert_eq!(ret, 0, "{}", io::Error::last_os_error());
        let mut settings = std::mem::zeroed();
        libc::tcgetattr(slave, &mut settings);
        libc::cfmakeraw(&mut settings);
        assert_eq!(libc::tcsetattr(slave, libc::TCSANOW, &settings), 0);
    }
    (owned(master.into()), owned(slave.into()))
}

#[test]
fn pty_reports_the_number_of_bytes_in_both_directions() {
    let (master, slave) = pty();
    let kqueue = kqueue();
    for (from, to) in [(&master, &slave), (&slave, &master)] {
        change(&kqueue, &[add_read(to, 0)]);
        assert!(pending(&kqueue).is_empty());
        write(from, &[b'x'; 100]);
        while one(&kqueue).data != 100 {}
        read(to, 60);
        assert_eq!(one(&kqueue).data, 40);
        read(to, 40);
        assert!(pending(&kqueue).is_empty());
        change(
            &kqueue,
            &[Event::fd(to.as_raw_fd(), Filter::READ, ev::DELETE)],
        );
    }
}

#[test]
fn pty_reports_the_room() {
    let (master, slave) = pty();
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&slave, 0)]);
    assert!(one(&kqueue).data > 1);
    for fd in [&slave, &master] {
        // SAFETY: The arguments are integers.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    }
    let mut buffer = [b'x'; 512];
    let pointer = buffer.as_mut_ptr().cast();
    // A kernel thread moves the bytes to the other side, which may make room again.
    let mut refused = 0;
    while refused < 3 {
        // SAFETY: The buffer is valid for its length.
        if unsafe { libc::write(slave.as_raw_fd(), pointer, 512) } > 0 {
            refused = 0;
        } else {
            refused += 1;
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert!(pending(&kqueue).is_empty());
    // Room comes when the other side reads.
    // SAFETY: The buffer is valid for its length.
    while unsafe { libc::read(master.as_raw_fd(), pointer, 512) } > 0 {}
    assert!(one(&kqueue).data > 1);
    drop(master);
    assert!(one(&kqueue).has(ev::EOF));
}

#[test]
fn terminal_reports_whole_lines() {
    let (master, slave) = pty();
    // SAFETY: The settings are valid.
    unsafe {
        let mut settings = std::mem::zeroed();
        libc::tcgetattr(slave.as_raw_fd(), &mut settings);
        settings.c_lflag |= libc::ICANON;
        libc::tcsetattr(slave.as_raw_fd(), libc::TCSANOW, &settings);
    }
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&slave, 0)]);
    write(&master, b"half a ");
    assert!(pending(&kqueue).is_empty());
    write(&master, b"line\nand");
    while one(&kqueue).data != 12 {}
}

#[test]
fn pty_hangs_up() {
    for closed in 0..2 {
        let (master, slave) = pty();
        let kqueue = kqueue();
        let stays = if closed == 0 {
            change(&kqueue, &[add_read(&slave, 0)]);
            drop(master);
            slave
        } else {
            change(&kqueue, &[add_read(&master, 0)]);
            drop(slave);
            master
        };
        let event = one(&kqueue);
        assert!(event.has(ev::EOF) && event.has(ev::HUP), "{event:?}");
        assert!(event.has(ev::NODATA) && event.data == 0, "{event:?}");
        drop(stays);
        assert!(pending(&kqueue).is_empty());
    }
}

#[test]
fn packet_mode_of_a_pty_is_an_exception() {
    let (master, slave) = pty();
    let on: libc::c_int = 1;
    // SAFETY: A pointer to an int.
    let ret = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCPKT, &on) };
    assert_eq!(ret, 0);
    let kqueue = kqueue();
    let event = Event::fd(master.as_raw_fd(), Filter::EXCEPT, ev::ADD).fflags(note::OOB);
    change(&kqueue, &[event]);
    assert!(pending(&kqueue).is_empty());
    // SAFETY: The arguments are integers.
    let ret = unsafe { libc::tcflush(slave.as_raw_fd(), libc::TCIFLUSH) };
    assert_eq!(ret, 0);
    assert_eq!(one(&kqueue).fflags, note::OOB);
}

#[test]
fn epoll_is_ready_when_a_descriptor_in_it_is() {
    // SAFETY: The arguments are integers.
    let epoll = owned(unsafe { libc::epoll_create1(0) }.into());
    let (reader, writer) = pipe();
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    // SAFETY: The event is valid.
    unsafe {
        let fd = reader.as_raw_fd();
        assert_eq!(
            libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event),
            0
        );
    }
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&epoll, 0)]);
    assert!(pending(&kqueue).is_empty());
    write(&writer, b"x");
    assert_eq!(one(&kqueue).data, 1);
    read(&reader, 1);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn io_uring_is_ready_with_a_completion() {
    let mut ring = io_uring::IoUring::new(4).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&ring, 0)]);
    assert!(pending(&kqueue).is_empty());
    let nop = io_uring::opcode::Nop::new().build();
    // SAFETY: It uses no memory.
    unsafe { ring.submission().push(&nop).unwrap() };
    ring.submit_and_wait(1).unwrap();
    assert_eq!(one(&kqueue).data, 1);
    assert!(ring.completion().next().is_some());
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn userfaultfd_is_accepted() {
    const UFFD_USER_MODE_ONLY: libc::c_int = 1;
    let flags = libc::O_NONBLOCK | UFFD_USER_MODE_ONLY;
    // SAFETY: The arguments are integers.
    let fd = owned(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) });
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    // Without the handshake the descriptor is in an error state, for poll(2) as well.
    assert!(one(&kqueue).has(ev::EOF));
}

#[test]
fn perf_events_are_accepted() {
    // `struct perf_event_attr`, version 0: type 1 (software), size 64, config 1 (task clock).
    let mut attr = [0u32; 16];
    attr[0] = 1;
    attr[1] = 64;
    attr[2] = 1;
    // SAFETY: The structure is as long as it says.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), 0, -1, -1, 0) };
    let fd = owned(fd);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, ev::ONESHOT)]);
    // The ring buffer is not mapped, so poll(2) reports a hang-up.
    assert!(one(&kqueue).has(ev::EOF));
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> OwnedFd {
    // SAFETY: The arguments are integers.
    owned(unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK, protocol) }.into())
}

/// The kernel answers with the list of its interfaces.
#[test]
fn netlink_reports_the_number_of_bytes() {
    let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&fd, 0)]);
    assert!(pending(&kqueue).is_empty());
    // A `struct nlmsghdr` and a `struct ifinfomsg`, empty.
    let mut message = [0u8; 32];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    message[..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    write(&fd, &message);
    let data = one(&kqueue).data;
    assert!(data > 16, "{data}");
    let mut buffer = vec![0u8; 1 << 16];
    // SAFETY: The buffer is valid for its length.
    let got = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    // The number is that of all queued messages, of which this is the first.
    assert!(got as i64 <= data, "{got} of {data}");
}

#[test]
fn raw_and_packet_sockets_report_the_number_of_bytes() {
    let loopback = {
        // SAFETY: Zeroes are a valid address; port and address are set.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as u16;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        address
    };
    let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    let packet = socket(
        libc::AF_PACKET,
        libc::SOCK_DGRAM,
        i32::from((libc::ETH_P_IP as u16).to_be()),
    );
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&raw, 0), add_read(&packet, 0)]);
    // An echo request; the kernel answers on loopback.
    let echo = [8u8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    // SAFETY: The buffers are valid for their lengths.
    let sent = unsafe {
        libc::sendto(
            raw.as_raw_fd(),
            echo.as_ptr().cast(),
            echo.len(),
            0,
            (&raw const loopback).cast(),
            size_of_val(&loopback) as u32,
        )
    };
    assert_eq!(sent, 8);
    // Each socket receives the request and the answer with their headers, which are twice 28 bytes.
    let mut done = Vec::new();
    while done.len() < 2 {
        for event in soon(&kqueue) {
            assert!(event.data % 28 == 0, "{event:?}");
            if event.data == 56 && !done.contains(&event.ident) {
                done.push(event.ident);
            }
        }
    }
}

#[test]
fn files_that_cannot_be_polled() {
    // The descriptor of a file system that is being set up has no contents and cannot be polled.
    // SAFETY: A C string.
    let fd = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) });
    let kqueue = kqueue();
    assert_eq!(change_error(&kqueue, add_read(&fd, 0)), libc::EINVAL);
    assert_eq!(change_error(&kqueue, add_write(&fd, 0)), libc::EINVAL);
}
