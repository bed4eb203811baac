// SPDX-License-Identifier: GPL-2.0

//! File operations of a kqueue.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

fn trigger(kqueue: &Kqueue) {
    change(
        kqueue,
        &[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)],
    );
}

fn poll(fd: &impl AsRawFd, timeout: i32) -> i16 {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One structure.
    assert!(unsafe { libc::poll(&mut poll, 1, timeout) } >= 0);
    poll.revents
}

fn last_errno(ret: isize) -> i32 {
    assert_eq!(ret, -1);
    errno::<()>(Err(std::io::Error::last_os_error()))
}

#[test]
fn read_write_seek() {
    let kqueue = kqueue();
    let fd = kqueue.as_raw_fd();
    let mut byte = 0u8;
    let pointer = (&raw mut byte).cast::<libc::c_void>();
    // SAFETY: One byte.
    unsafe {
        assert_eq!(last_errno(libc::read(fd, pointer, 1)), libc::ENXIO);
        assert_eq!(last_errno(libc::write(fd, pointer, 1)), libc::ENXIO);
        assert_eq!(
            last_errno(libc::lseek(fd, 0, libc::SEEK_SET) as isize),
            libc::ESPIPE
        );
    }
}

/// Differs from DragonFly, FreeBSD: fstat(2) of a kqueue reports no file type. For a kqueue that
/// was created by opening /dev/kqueue it reports the device, S_IFCHR.
/// Because this is what Linux reports for anonymous files. The specification reports S_IFIFO, and
/// the number of pending events as size; EVFILT_READ on the kqueue has that number as data.
#[test]
fn stat_and_proc_show_how_it_was_created() {
    let mode = |fd: &dyn AsRawFd| {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: The structure is initialised if the call succeeds.
        unsafe {
            assert_eq!(libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()), 0);
            stat.assume_init().st_mode & libc::S_IFMT
        }
    };
    let name = |fd: &dyn AsRawFd| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        std::fs::read_link(link).unwrap()
    };
    let made = kqueue();
    assert_eq!(mode(&made), 0);
    assert_eq!(name(&made).to_str(), Some("anon_inode:[kqueue]"));
    let opened = kqueue::open(libc::O_CLOEXEC).unwrap();
    assert_eq!(mode(&opened), libc::S_IFCHR);
    assert_eq!(name(&opened).to_str(), Some("/dev/kqueue"));
}

#[test]
fn poll_reports_pending_events() {
    let kqueue = kqueue();
    assert_eq!(poll(&kqueue, 0), 0);
    trigger(&kqueue);
    assert_eq!(poll(&kqueue, 0), libc::POLLIN);
    one(&kqueue);
    assert_eq!(poll(&kqueue, 0), 0);
}

/// A call that changes and collects evaluates its new knotes only when it collects.
#[test]
fn poll_does_not_report_unready_knotes() {
    let user = |flags| Event::new(1, Filter::USER, flags);
    let (reader, writer) = pipe();
    let read = |flags| Event::fd(reader.as_raw_fd(), Filter::READ, flags);
    let missing = Event::new(2, Filter::USER, ev::DELETE);
    for other in [user(ev::DISABLE), read(ev::DISABLE), missing] {
        let kqueue = kqueue();
        change(&kqueue, &[user(ev::ADD), add_read(&reader, 0)]);
        let mut events = [Event::default(); 4];
        let changes = [user(0), read(0), other];
        let count = kqueue
            .kevent(&changes, &mut events, Some(Duration::ZERO))
            .unwrap();
        assert!(
            events[..count].iter().all(|event| event.has(ev::ERROR)),
            "{events:?}"
        );
        change(&kqueue, &[user(ev::ENABLE), read(ev::ENABLE)]);
        assert_eq!(poll(&kqueue, 0), 0);
        // No event is lost.
        write(&writer, b"x");
        assert_eq!(poll(&kqueue, 0), libc::POLLIN);
        assert_eq!(one(&kqueue).filter, Filter::READ);
        crate::common::read(&reader, 1);
    }
}

#[test]
fn poll_is_woken() {
    let kqueue = kqueue();
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| poll(&kqueue, SOON.as_millis() as i32));
        std::thread::sleep(std::time::Duration::from_millis(200));
        trigger(&kqueue);
        assert_eq!(poller.join().unwrap(), libc::POLLIN);
    });
}

#[test]
fn select_reports_pending_events() {
    let kqueue = kqueue();
    let select = || {
        let fd = kqueue.as_raw_fd();
        // SAFETY: The set is initialised before it is used; the number is below its size.
        unsafe {
            let mut set: libc::fd_set = std::mem::zeroed();
            libc::FD_SET(fd, &mut set);
            let mut zero: libc::timeval = std::mem::zeroed();
            let null = std::ptr::null_mut();
            libc::select(fd + 1, &mut set, null, null, &mut zero)
        }
    };
    assert_eq!(select(), 0);
    trigger(&kqueue);
    assert_eq!(select(), 1);
}

#[test]
fn epoll_of_a_kqueue() {
    let kqueue = kqueue();
    // SAFETY: The descriptor is new and ours; one event in, one out.
    unsafe {
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 5,
        };
        let fd = epoll.as_raw_fd();
        assert_eq!(
            libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, kqueue.as_raw_fd(), &mut event),
            0
        );
        assert_eq!(libc::epoll_wait(fd, &mut event, 1, 0), 0);
        trigger(&kqueue);
        assert_eq!(
            libc::epoll_wait(fd, &mut event, 1, SOON.as_millis() as i32),
            1
        );
        one(&kqueue);
        assert_eq!(libc::epoll_wait(fd, &mut event, 1, 0), 0);
    }
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn sigio_when_something_becomes_pending() {
    let kqueue = kqueue();
    // SAFETY: The handler only counts; the descriptor is ours.
    unsafe {
        libc::signal(libc::SIGIO, count as extern "C" fn(libc::c_int) as usize);
        let fd = kqueue.as_raw_fd();
        assert_eq!(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()), 0);
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC), 0);
    }
    assert_eq!(SIGNALS.load(Ordering::SeqCst), 0);
    trigger(&kqueue);
    let end = std::time::Instant::now() + SOON;
    while SIGNALS.load(Ordering::SeqCst) == 0 && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(SIGNALS.load(Ordering::SeqCst), 1);
    one(&kqueue);
}

static LAST: AtomicUsize = AtomicUsize::new(0);

extern "C" fn remember(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel gives a valid structure; `si_fd` follows `si_band`, a long, in it.
    let fd = unsafe { *info.cast::<u8>().add(16 + 8).cast::<i32>() };
    LAST.store((number as usize) << 32 | fd as usize, Ordering::SeqCst);
}

#[test]
fn f_setsig_replaces_sigio() {
    let kqueue = kqueue();
    let fd = kqueue.as_raw_fd();
    let number = libc::SIGRTMIN() + 2;
    let on: libc::c_int = 1;
    /// Defined in `asm-generic/fcntl.h`; the libc crate lacks it.
    const F_SETSIG: libc::c_int = 10;
    // F_SETSIG and FIOASYNC, as a BSD program would say it.
    // SAFETY: The handler only stores; the descriptor is ours.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = remember as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(number, &action, std::ptr::null_mut());
        assert_eq!(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()), 0);
        assert_eq!(libc::fcntl(fd, F_SETSIG, number), 0);
        assert_eq!(libc::ioctl(fd, libc::FIOASYNC, &on), 0);
    }
    trigger(&kqueue);
    let end = std::time::Instant::now() + SOON;
    while LAST.load(Ordering::SeqCst) == 0 && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    let expected = (number as usize) << 32 | fd as usize;
    assert_eq!(LAST.load(Ordering::SeqCst), expected);
    let off: libc::c_int = 0;
    // SAFETY: The handler only stores; the descriptor is ours.
    assert_eq!(unsafe { libc::ioctl(fd, libc::FIOASYNC, &off) }, 0);
    LAST.store(0, Ordering::SeqCst);
    one(&kqueue);
    let event = Event::new(2, Filter::USER, ev::ADD).fflags(note::TRIGGER);
    change(&kqueue, &[event]);
    assert_eq!(one(&kqueue).ident, 2);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(LAST.load(Ordering::SeqCst), 0);
}

#[test]
fn fdinfo_lists_the_knotes() {
    let kqueue = kqueue();
    change(
        &kqueue,
        &[
            Event::new(77, Filter::USER, ev::ADD)
                .fflags(note::TRIGGER)
                .udata(0xabc),
            Event::new(78, Filter::TIMER, ev::ADD | ev::DISABLE).data(1000),
        ],
    );
    let path = format!("/proc/self/fdinfo/{}", kqueue.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let has = |words: &str| {
        text.lines()
            .any(|l| words.split(' ').all(|w| l.contains(w)))
    };
    assert!(has("knotes: 2 pending: 1"), "{text}");
    assert!(
        has("filter: -9 ident: 77 udata: abc state: queued"),
        "{text}"
    );
    assert!(
        has("filter: -7 ident: 78 data: 1000 state: disabled"),
        "{text}"
    );
}
