// SPDX-License-Identifier: GPL-2.0

//! Closing one of many descriptors of an open file ends only the events of that descriptor,
//! whatever closes it, and allocates no memory.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::os::{
    fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    unix::{fs::OpenOptionsExt, process::CommandExt},
};

/// Returns the idents of the kqueue's knotes from `/proc`, in ascending order.
fn idents(kqueue: &Kqueue) -> Vec<u64> {
    let path = format!("/proc/self/fdinfo/{}", kqueue.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let knotes = text.lines().filter(|line| line.starts_with("knote "));
    let ident = |line: &str| {
        line.split("ident: ")
            .nth(1)?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    let mut idents: Vec<_> = knotes.map(|line| ident(line).expect("an ident")).collect();
    idents.sort_unstable();
    idents
}

/// Raises the limit of descriptors of the process.
fn allow_descriptors(count: u64) {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: The structure is valid. The tests run as root.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Duplicates a descriptor to the lowest free number that is not below `from`.
fn dup_above(fd: &impl AsRawFd, from: RawFd) -> RawFd {
    // SAFETY: The result is new.
    let fd = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, from) };
    assert!(fd >= from);
    fd
}

fn close(fd: RawFd) {
    // SAFETY: The callers own the number.
    assert_eq!(unsafe { libc::close(fd) }, 0);
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: The callers own the numbers.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    assert_eq!(ret, 0);
}

/// Returns a descriptor that was opened with `O_PATH`, and a function that makes a change for one
/// of its duplicates.
fn named() -> (OwnedFd, fn(RawFd) -> Event) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/dev/shm")
        .unwrap();
    let watch = |fd| Event::fd(fd, Filter::VNODE, ev::ADD).fflags(note::ATTRIB);
    (file.into(), watch)
}

/// Raises the limits that these tests exceed.
fn allow_watches() -> Parameter {
    Parameter::set("max_object_watches", 10_000)
}

/// Runs `ends_just_one` with a pipe and with an `O_PATH` descriptor, which the kernel closes in
/// different functions.
fn ends_just_its_own(mut close: impl FnMut(RawFd)) {
    let _watches = allow_watches();
    let (reader, _writer) = pipe();
    let watch = |fd| Event::fd(fd, Filter::READ, ev::ADD);
    ends_just_one(reader, watch, &mut close);
    let (file, watch) = named();
    ends_just_one(file, watch, &mut close);
}

/// Closes duplicates in an order that is neither ascending nor descending. After each close,
/// exactly the knotes of that duplicate must be gone from two kqueues.
fn ends_just_one(reader: OwnedFd, watch: fn(RawFd) -> Event, mut close: impl FnMut(RawFd)) {
    const COUNT: usize = 200;
    let kqueues = [kqueue(), kqueue()];
    let mut open: Vec<_> = (0..COUNT).map(|_| dup_above(&reader, 100)).collect();
    // One of the duplicates is not watched.
    let unwatched = dup_above(&reader, 100);
    for kqueue in &kqueues {
        for fd in &open {
            change(kqueue, &[watch(*fd)]);
        }
    }
    let check = |open: &[RawFd]| {
        let mut expected: Vec<_> = open.iter().map(|fd| *fd as u64).collect();
        expected.sort_unstable();
        for kqueue in &kqueues {
            assert_eq!(idents(kqueue), expected);
        }
    };
    let mut random = Random(0x5eed);
    // The last, the first, and some in between.
    let mut next = vec![COUNT - 1, 0];
    for _ in 0..40 {
        let at = next
            .pop()
            .unwrap_or(random.below(open.len() as u64) as usize);
        close(open.remove(at.min(open.len() - 1)));
        check(&open);
    }
    close(unwatched);
    check(&open);
    open.iter().for_each(|fd| close(*fd));
    check(&[]);
}

#[test]
fn close_2() {
    ends_just_its_own(close);
}

#[test]
fn dup2_and_dup3() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut flags = 0;
    ends_just_its_own(|fd| {
        // SAFETY: Both numbers are ours.
        unsafe {
            if flags == 0 {
                assert_eq!(libc::dup2(null.as_raw_fd(), fd), fd);
            } else {
                assert_eq!(libc::dup3(null.as_raw_fd(), fd, flags), fd);
            }
        }
        flags ^= libc::O_CLOEXEC;
    });
}

#[test]
fn close_range_of_one() {
    ends_just_its_own(|fd| close_range(fd, fd));
}

/// The arguments of the task's system call do not contain the number of the closed descriptor.
#[test]
fn io_uring() {
    let mut ring = io_uring::IoUring::new(2).unwrap();
    ends_just_its_own(|fd| {
        let close = io_uring::opcode::Close::new(io_uring::types::Fd(fd)).build();
        // SAFETY: The entry refers to no memory of this process.
        unsafe { ring.submission().push(&close).unwrap() };
        ring.submit_and_wait(1).unwrap();
        assert_eq!(ring.completion().next().unwrap().result(), 0);
    });
}

/// Some descriptors of the range are watched and some are not.
#[test]
fn close_range_of_many() {
    allow_descriptors(20_000);
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    let fds: Vec<_> = (0..2000).map(|_| dup_above(&reader, 1000)).collect();
    for fd in fds.iter().step_by(3) {
        change(
            &kqueue,
            &[Event::fd(*fd, kqueue::Filter::READ, kqueue::ev::ADD)],
        );
    }
    let (first, last) = (fds[100], fds[1899]);
    close_range(first, last);
    let outside = |fd: &&RawFd| !(first..=last).contains(*fd);
    let expected: Vec<_> = fds
        .iter()
        .step_by(3)
        .filter(outside)
        .map(|fd| *fd as u64)
        .collect();
    assert_eq!(idents(&kqueue), expected);
    close_range(fds[0], fds[1999]);
    assert_eq!(idents(&kqueue), []);
    // Only this process keeps the read end open.
    drop(reader);
    // SAFETY: One byte.
    let written = unsafe { libc::write(writer.as_raw_fd(), b"x".as_ptr().cast(), 1) };
    assert_eq!(written, -1, "a knote has the read end open");
}

/// Closing a range of `O_PATH` descriptors releases their file, so its file system can be
/// unmounted.
#[test]
fn close_range_of_many_names() {
    let _watches = allow_watches();
    allow_descriptors(20_000);
    let place = format!("/dev/shm/kqueue-names-{}", std::process::id());
    std::fs::create_dir(&place).unwrap();
    let path = std::ffi::CString::new(place.clone()).unwrap();
    // SAFETY: Strings that end.
    let mounted = unsafe {
        let none = std::ptr::null();
        libc::mount(c"none".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, none)
    };
    assert_eq!(mounted, 0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(&place)
        .unwrap();
    let kqueue = kqueue();
    let (_, watch) = named();
    let fds: Vec<_> = (0..300).map(|_| dup_above(&file, 1000)).collect();
    for fd in fds.iter().step_by(3) {
        change(&kqueue, &[watch(*fd)]);
    }
    close_range(fds[0], fds[149]);
    assert_eq!(idents(&kqueue).len(), 50);
    close_range(fds[150], fds[299]);
    assert_eq!(idents(&kqueue), []);
    drop(file);
    // SAFETY: Strings that end.
    assert_eq!(unsafe { libc::umount(path.as_ptr()) }, 0);
    std::fs::remove_dir(&place).unwrap();
}

#[test]
fn exec_ends_those_that_it_closes() {
    if let Ok(fd) = std::env::var("KQUEUE_FD") {
        // SAFETY: The program that called exec has left it to us.
        let kqueue = Kqueue::from(unsafe { OwnedFd::from_raw_fd(fd.parse().unwrap()) });
        let expected: Vec<_> = (1000..1300).filter(|fd| fd % 3 != 0).collect();
        assert_eq!(idents(&kqueue), expected);
        return;
    }
    allow_descriptors(20_000);
    let _watches = allow_watches();
    assert!(in_child(|| {
        let fd = kqueue::open(0).unwrap().into_raw_fd();
        // SAFETY: The number is ours.
        let kqueue = Kqueue::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let (reader, _writer) = pipe();
        let (file, watch) = named();
        for number in 1000..1300 {
            let flags = if number % 3 == 0 { libc::O_CLOEXEC } else { 0 };
            let (from, event) = if number % 2 == 0 {
                (reader.as_raw_fd(), add_read(&reader, 0))
            } else {
                (file.as_raw_fd(), watch(number))
            };
            // SAFETY: No descriptor has this number.
            let fd = unsafe { libc::dup3(from, number, flags) };
            assert_eq!(fd, number);
            let ident = number as u64;
            change(&kqueue, &[Event { ident, ..event }]);
        }
        let error = again("dups::exec_ends_those_that_it_closes", fd).exec();
        panic!("{error}");
    }));
}

/// Thousands of duplicates in several kqueues are closed by exit and by close_range(2). If the
/// memory grew with the square of their number, it would be exhausted.
#[test]
fn thousands_of_dups_closed_at_once() {
    const COUNT: usize = 8000;
    allow_descriptors(20_000);
    for exits in [true, false] {
        assert!(in_child(|| {
            let (reader, _writer) = pipe();
            // Its number is above those of the duplicates, so it is closed last.
            let kqueues: Vec<_> = (0..3)
                .map(|_| {
                    let low = kqueue();
                    // SAFETY: The number is new.
                    Kqueue::from(unsafe { OwnedFd::from_raw_fd(dup_above(&low, 15_000)) })
                })
                .collect();
            let fds: Vec<_> = (0..COUNT).map(|_| dup_above(&reader, 1000)).collect();
            for kqueue in &kqueues {
                for fd in &fds {
                    let flags = kqueue::ev::ADD | kqueue::ev::CLEAR;
                    change(kqueue, &[Event::fd(*fd, kqueue::Filter::READ, flags)]);
                }
            }
            if exits {
                std::mem::forget(kqueues);
                return true;
            }
            close_range(fds[0], fds[COUNT - 1]);
            kqueues.iter().all(|kqueue| idents(kqueue).is_empty())
        }));
    }
}

/// One call closes thousands of duplicates of two files. Each close of a duplicate without a knote
/// searches the others, and may leave the rest of its search to the end of the call. If each of
/// these searches began anew, the call would take much longer than a test may.
#[test]
fn thousands_of_dups_of_two_files_closed_at_once() {
    const COUNT: usize = 16_000;
    allow_descriptors(50_000);
    let kqueue = kqueue();
    let (first, first_writer) = pipe();
    let (second, second_writer) = pipe();
    // One descriptor and then 99 with a knote, so that the close of the first one is not finished.
    let low = dup_above(&first, 1000);
    let add = |fd: RawFd| Event::fd(fd, kqueue::Filter::READ, ev::ADD);
    for _ in 0..99 {
        change(&kqueue, &[add(dup_above(&first, 1000))]);
    }
    let mut last = low;
    for _ in 0..COUNT {
        last = dup_above(&second, last);
    }
    for _ in 0..COUNT {
        last = dup_above(&second, last);
        change(&kqueue, &[add(last)]);
    }
    drop((first, second));
    close_range(low, last);
    assert_eq!(idents(&kqueue), []);
    assert_broken(&first_writer);
    assert_broken(&second_writer);
}

/// A kqueue that io_uring opened without a descriptor belongs to the table in which it was opened.
/// It does not belong to a later table at the same address.
#[test]
fn a_kqueue_without_a_number() {
    let mut ring = io_uring::IoUring::new(4).unwrap();
    ring.submitter().register_files(&[-1, -1]).unwrap();
    let mut run = |entry: io_uring::squeue::Entry| {
        // SAFETY: What the entries refer to is static.
        unsafe { ring.submission().push(&entry).unwrap() };
        ring.submit_and_wait(1).unwrap();
        ring.completion().next().unwrap().result()
    };
    let open = |slot| {
        let path = c"/dev/kqueue";
        let here = io_uring::types::Fd(libc::AT_FDCWD);
        let slot = io_uring::types::DestinationSlot::try_from_slot_target(slot).unwrap();
        io_uring::opcode::OpenAt::new(here, path.as_ptr())
            .flags(libc::O_RDWR)
            .file_index(Some(slot))
            .build()
    };
    let install =
        |slot| io_uring::opcode::FixedFdInstall::new(io_uring::types::Fixed(slot), 0).build();
    let user = Event::new(1, kqueue::Filter::USER, kqueue::ev::ADD);
    let installed = |slot: u32, run: &mut dyn FnMut(io_uring::squeue::Entry) -> i32| {
        let fd = run(install(slot));
        assert!(fd >= 0, "{fd}");
        // SAFETY: The number is new.
        Kqueue::from(unsafe { OwnedFd::from_raw_fd(fd) })
    };

    assert_eq!(run(open(0)), 0);
    assert!(in_child(|| {
        let kqueue = installed(0, &mut run);
        change_error(&kqueue, user) == libc::EBADF
    }));
    let ours = installed(0, &mut run);
    change(&ours, &[user]);
    // Closing its last descriptor closes the kqueue, although the ring holds a reference to the
    // file.
    drop(ours);
    let ours = installed(0, &mut run);
    assert_eq!(change_error(&ours, user), libc::EBADF);

    // The table that this kqueue belongs to disappears at once.
    assert!(in_child(|| run(open(1)) == 0));
    for _ in 0..300 {
        assert!(in_child(|| {
            let kqueue = installed(1, &mut run);
            change_error(&kqueue, user) == libc::EBADF
        }));
    }
}

/// Submits entries that contain no pointers.
fn submit(ring: &mut io_uring::IoUring, entries: &[io_uring::squeue::Entry], wait: usize) {
    // SAFETY: The entries refer to no memory of this process.
    unsafe { ring.submission().push_multiple(entries).unwrap() };
    assert_eq!(ring.submit_and_wait(wait).unwrap(), entries.len());
}

fn close_entry(fd: RawFd) -> io_uring::squeue::Entry {
    io_uring::opcode::Close::new(io_uring::types::Fd(fd)).build()
}

/// Duplicates `fd` to numbers from `from` on, and watches each duplicate.
fn watched_dups(kqueue: &Kqueue, fd: &impl AsRawFd, from: RawFd) -> Vec<RawFd> {
    let dups: Vec<_> = (0..200).map(|_| dup_above(fd, from)).collect();
    for fd in &dups {
        change(
            kqueue,
            &[Event::fd(*fd, kqueue::Filter::READ, kqueue::ev::ADD)],
        );
    }
    dups
}

/// Checks that neither the program nor a knote keeps the other end of the pipe open.
#[track_caller]
fn assert_broken(writer: &impl AsRawFd) {
    // SAFETY: One byte. The standard library ignores SIGPIPE.
    let written = unsafe { libc::write(writer.as_raw_fd(), b"x".as_ptr().cast(), 1) };
    assert_eq!(written, -1, "a knote has the read end open");
}

/// io_uring can close a descriptor at the end of a close(2) call. The argument of the call is then
/// not the number of that descriptor.
#[test]
fn io_uring_at_the_end_of_another_close() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    let dups = watched_dups(&kqueue, &reader, 100);
    drop(reader);
    let (wait, go) = pipe();
    let mut ring = io_uring::IoUring::new(4).unwrap();
    let last = *dups.last().unwrap();
    let poll = io_uring::opcode::PollAdd::new(
        io_uring::types::Fd(wait.as_raw_fd()),
        (libc::POLLIN | libc::POLLHUP) as u32,
    );
    let first = poll.build().flags(io_uring::squeue::Flags::IO_LINK);
    submit(&mut ring, &[first, close_entry(last)], 0);
    // The end of the child completes the poll, and then the ring closes the descriptor.
    drop(go);
    // SAFETY: Asks about a number only.
    while unsafe { libc::fcntl(last, libc::F_GETFD) } != -1 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(idents(&kqueue).len(), dups.len() - 1);
    dups.iter().rev().skip(1).for_each(|fd| close(*fd));
    assert_eq!(idents(&kqueue), []);
    assert_broken(&writer);
}

/// One call closes descriptors of two files, each of which has many more open descriptors.
#[test]
fn io_uring_of_two_files_at_once() {
    let kqueue = kqueue();
    allow_descriptors(4000);
    let (first, first_writer) = pipe();
    let (second, second_writer) = pipe();
    let firsts = watched_dups(&kqueue, &first, 1000);
    let seconds = watched_dups(&kqueue, &second, 2000);
    drop((first, second));
    let mut ring = io_uring::IoUring::new(4).unwrap();
    let closes = [firsts[199], seconds[199]].map(close_entry);
    submit(&mut ring, &closes, 2);
    let rest = [&firsts[..199], &seconds[..199]].concat();
    let expected: Vec<_> = rest.iter().map(|fd| *fd as u64).collect();
    assert_eq!(idents(&kqueue), expected);
    rest.iter().for_each(|fd| close(*fd));
    assert_eq!(idents(&kqueue), []);
    assert_broken(&first_writer);
    assert_broken(&second_writer);
}
