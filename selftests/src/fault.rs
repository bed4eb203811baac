// SPDX-License-Identifier: GPL-2.0

//! Each allocation of a call is made to fail. The call must then return `ENOMEM` and leave no
//! incomplete knote.
//!
//! The tests use the kernel's fault injection: `/proc/thread-self/fail-nth` makes the n-th
//! allocation of the thread fail.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    path::Path,
};

const FAIL_NTH: &str = "/proc/thread-self/fail-nth";

fn prepare() {
    for fault in ["failslab", "fail_page_alloc"] {
        let set = |name, value| {
            fs::write(format!("/sys/kernel/debug/{fault}/{name}"), value)
                .unwrap_or_else(|error| panic!("{fault}/{name}: {error}"));
        };
        // Allocations that may sleep fail too, and no stack traces are printed.
        set("ignore-gfp-wait", "N");
        set("verbose", "0");
    }
    fs::write("/sys/kernel/debug/fail_page_alloc/min-order", "0").unwrap();
}

/// The thread's `fail-nth` file, which is opened while no allocation fails.
struct FailNth(fs::File);

impl FailNth {
    fn open() -> Self {
        if !Path::new(FAIL_NTH).exists() {
            skip("the kernel has no fault injection");
        }
        prepare();
        let mut options = fs::OpenOptions::new();
        FailNth(options.read(true).write(true).open(FAIL_NTH).unwrap())
    }

    /// Makes the `nth` allocation from now on fail, or none if `nth` is 0.
    fn set(&self, nth: u32) {
        self.0.write_all_at(nth.to_string().as_bytes(), 0).unwrap();
    }

    /// Stops the injection. Returns true if an allocation has failed.
    fn has_failed(&self) -> bool {
        let mut text = [0; 16];
        let count = self.0.read_at(&mut text, 0).unwrap();
        self.set(0);
        std::str::from_utf8(&text[..count]).unwrap().trim() == "0"
    }
}

/// Runs `call` with a failure of its first allocation, then of its second one, and so on, until no
/// allocation fails. Returns the number of failures.
fn each_failing(
    mut call: impl FnMut() -> std::io::Result<usize>,
    mut check: impl FnMut(bool),
) -> u32 {
    let fail = FailNth::open();
    for nth in 1.. {
        fail.set(nth);
        let result = call();
        if !fail.has_failed() {
            result.expect("nothing failed");
            return nth - 1;
        }
        match &result {
            // An allocation that is not needed, such as a larger table, may fail in silence.
            Ok(_) => check(true),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
                check(false);
            }
        }
    }
    unreachable!()
}

/// Adds `change` with each allocation failing in turn. The last call must succeed.
fn add(change: Event) {
    let kqueue = kqueue();
    let delete = Event {
        flags: ev::DELETE,
        ..change
    };
    let failed = each_failing(
        || kqueue.kevent(&[change], &mut [], None),
        |added| {
            assert_eq!(knotes(&kqueue), usize::from(added));
            if added {
                super::common::change(&kqueue, &[delete]);
            } else {
                assert_eq!(change_error(&kqueue, delete), libc::ENOENT);
            }
        },
    );
    assert!(failed > 0, "no allocation was made to fail");
    assert_eq!(knotes(&kqueue), 1);
    super::common::change(&kqueue, &[delete]);
}

#[test]
fn add_user() {
    add(Event::new(1, Filter::USER, ev::ADD));
}

#[test]
fn add_timer() {
    add(Event::new(1, Filter::TIMER, ev::ADD).data(1));
}

#[test]
fn add_read_and_write() {
    let (a, _b) = UnixStream::pair().unwrap();
    add(add_read(&a, 0));
    add(add_write(&a, 0));
}

#[test]
fn add_to_a_pipe_and_a_kqueue() {
    let (reader, _writer) = pipe();
    add(add_read(&reader, 0));
    add(add_read(&kqueue(), 0));
}

#[test]
fn add_processes_and_signals() {
    let own = u64::from(std::process::id());
    for notes in [note::EXIT, note::FORK | note::EXEC, note::TRACK] {
        add(Event::new(own, Filter::PROC, ev::ADD).fflags(notes));
    }
    add(Event::new(10, Filter::SIGNAL, ev::ADD));
}

#[test]
fn add_files_mounts_and_times() {
    let notes = note::WRITE | note::DELETE | note::REVOKE;
    for path in ["/proc/self/comm", "/dev/shm"] {
        let file = fs::File::open(path).unwrap();
        add(Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD).fflags(notes));
        add(add_read(&file, 0));
    }
    add(Event::new(0, Filter::FS, ev::ADD));
    let time = Event::new(1, Filter::TIMER, ev::ADD).data(i64::MAX);
    add(time.fflags(note::ABSTIME));
}

#[test]
fn tracking_a_child() {
    let kqueue = kqueue();
    let own = u64::from(std::process::id());
    let notes = note::TRACK | note::FORK | note::EXEC;
    change(
        &kqueue,
        &[Event::new(own, Filter::PROC, ev::ADD).fflags(notes)],
    );
    let fail = FailNth::open();
    let (mut tracked, mut untracked) = (0, 0);
    for nth in 1.. {
        fail.set(nth);
        // SAFETY: The child leaves at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: Ends the process.
            unsafe { libc::_exit(0) };
        }
        let failed = fail.has_failed();
        if pid == -1 {
            assert!(failed);
            continue;
        }
        reap(pid);
        // Either the child is reported until its exit, or the parent reports that it cannot be
        // tracked.
        let (mut seen, mut of_child, mut ended) = (0, 0, false);
        while seen & note::FORK == 0
            || (seen & note::TRACKERR == 0 && (of_child & note::CHILD == 0 || !ended))
        {
            for event in soon(&kqueue) {
                if event.ident == own {
                    seen |= event.fflags;
                } else {
                    assert_eq!(event.ident, pid as u64);
                    of_child |= event.fflags;
                    ended |= event.has(ev::EOF);
                }
            }
        }
        let lost = seen & note::TRACKERR != 0;
        assert_eq!(of_child & note::CHILD != 0, !lost, "{seen:x} {of_child:x}");
        if lost {
            untracked += 1;
        } else {
            tracked += 1;
        }
        assert_eq!(knotes(&kqueue), 1);
        if !failed {
            break;
        }
    }
    assert!(untracked > 0 && tracked > 0, "{untracked} {tracked}");
}

#[test]
fn growing() {
    let kqueue = kqueue();
    let mut ident = 0;
    // The number exceeds several sizes of the table.
    while ident < 200 {
        each_failing(
            || {
                let add = Event::new(ident, Filter::USER, ev::ADD).fflags(note::TRIGGER);
                kqueue.kevent(&[add], &mut [], None)
            },
            |_| {},
        );
        ident += 1;
    }
    assert_eq!(knotes(&kqueue), 200);
    let mut events = [Event::default(); 256];
    let count = kqueue.kevent(&[], &mut events, None).unwrap();
    assert_eq!(count, 200);
}

#[test]
fn collecting_and_deleting_need_no_memory() {
    let kqueue = kqueue();
    let add = Event::new(1, Filter::USER, ev::ADD).fflags(note::TRIGGER);
    change(&kqueue, &[add]);
    let mut events = [Event::default(); 4];
    let failed = each_failing(
        || kqueue.kevent(&[add], &mut events, None),
        |worked| assert!(worked),
    );
    assert_eq!(failed, 0);
}

/// Creates kqueues with each allocation failing in turn, until no allocation fails. Each kqueue
/// that was created must work.
fn each_made(make: impl Fn() -> io::Result<Kqueue>) {
    let mut made = Vec::new();
    let failed = each_failing(
        || {
            made.push(make()?);
            Ok(0)
        },
        |_| {},
    );
    assert!(failed > 0);
    for kqueue in made {
        change(
            &kqueue,
            &[Event::new(1, Filter::USER, ev::ADD).fflags(note::TRIGGER)],
        );
        one(&kqueue);
    }
}

#[test]
fn opening() {
    each_made(|| Ok(OwnedFd::from(kqueue::open(libc::O_CLOEXEC)?).into()));
}

#[test]
fn making_one_from_another() {
    // The first kqueue opens the device.
    let _first = kqueue();
    each_made(Kqueue::new);
}

#[test]
fn closing_a_watched_descriptor() {
    let kqueue = kqueue();
    let fail = FailNth::open();
    for nth in 1..5 {
        let (reader, writer) = pipe();
        change(&kqueue, &[add_write(&writer, 0)]);
        fail.set(nth);
        drop(writer);
        fail.set(0);
        assert!(pending(&kqueue).is_empty());
        // The reference may be dropped a moment later, but it must be dropped.
        let mut poll = libc::pollfd {
            fd: reader.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: One structure.
        let ready = unsafe { libc::poll(&mut poll, 1, SOON.as_millis() as i32) };
        assert_eq!((ready, poll.revents), (1, libc::POLLHUP));
        assert_eq!(knotes(&kqueue), 0);
    }
}

/// A close allocates no memory, so a lack of memory can neither make it fail nor delay it.
#[test]
fn close_allocates_nothing() {
    let kqueue = kqueue();
    let fail = FailNth::open();
    let (reader, _writer) = pipe();
    for ways in 0..3 {
        let duplicate = reader.try_clone().unwrap();
        let fd = duplicate.as_raw_fd();
        super::common::change(&kqueue, &[add_read(&duplicate, 0)]);
        std::mem::forget(duplicate);
        fail.set(1);
        // SAFETY: The number is ours.
        let result = unsafe {
            match ways {
                0 => libc::close(fd),
                1 => libc::dup2(kqueue.as_raw_fd(), fd) - fd,
                _ => libc::syscall(libc::SYS_close_range, fd, fd, 0) as i32,
            }
        };
        assert!(!fail.has_failed(), "something was allocated");
        assert_eq!(result, 0);
        assert_eq!(knotes(&kqueue), 0);
        if ways == 1 {
            // SAFETY: A copy of the kqueue is there now.
            unsafe { libc::close(fd) };
        }
    }
}
