// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` on pipes.
//!
//! The tests whose writers block move the read ends into the scope of the threads. If such a test
//! fails, its read ends are closed, and the blocked writers return with `EPIPE` instead of keeping
//! the scope waiting for them.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::OpenOptions,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    thread,
    time::Duration,
};

const PAGE: i64 = 4096;

#[test]
fn read_reports_the_number_of_bytes() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    assert!(pending(&kqueue).is_empty());
    write(&writer, &[0; 1000]);
    assert_eq!(one(&kqueue).data, 1000);
    write(&writer, &[0; 5000]);
    assert_eq!(one(&kqueue).data, 6000);
    read(&reader, 5999);
    assert_eq!(one(&kqueue).data, 1);
    read(&reader, 1);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn read_reports_bytes_written_before_ev_add() {
    let (reader, writer) = pipe();
    write(&writer, b"abc");
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    assert_eq!(one(&kqueue).data, 3);
}

#[test]
fn clear_reports_data_added_to_data() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, ev::CLEAR)]);
    for bytes in 1..5 {
        write(&writer, b"x");
        assert_eq!(one(&kqueue).data, bytes);
        assert!(pending(&kqueue).is_empty());
    }
}

/// Returns the number of bytes in a pipe.
fn waiting(reader: &impl AsRawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: A pointer to an int.
    let ret = unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &mut bytes) };
    assert_eq!(ret, 0);
    bytes as usize
}

/// Creates a pipe whose write end blocks when the pipe is full.
fn blocking_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe();
    // SAFETY: The arguments are integers.
    let ret = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, 0) };
    assert_eq!(ret, 0);
    (reader, writer)
}

/// A writer that has to wait in the middle of a write wakes readers only if the pipe was empty
/// before. All of its data must be reported nevertheless.
///
/// Differs from DragonFly, FreeBSD: Data that are added to a pipe which is not empty are reported,
/// with EV_CLEAR or below a low-water mark, when write(2) has finished. If the writer has to wait
/// for room, they are reported up to 10 ms later. If nothing was added for a longer time, the delay
/// is as long as that time.
/// Because a writer that waits does not wake readers, so the module has to check the pipe
/// repeatedly.
#[test]
fn clear_reports_data_of_a_blocked_writer() {
    const MUCH: usize = 300_000;
    // With one slot the byte count changes and the number of slots in use does not.
    for size in [16 * PAGE, PAGE] {
        let (reader, writer) = blocking_pipe();
        // SAFETY: The arguments are integers.
        let got = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size) };
        assert_eq!(i64::from(got), size);
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&reader, ev::CLEAR)]);
        write(&writer, &[0; 100]);
        let mut reported = one(&kqueue).data as usize;
        assert_eq!(reported, 100);
        let (kqueue, writer) = (&kqueue, &writer);
        let _reader = thread::scope(move |scope| {
            // The first 96 bytes are appended to the last buffer in use.
            scope.spawn(move || write(writer, &vec![0; MUCH + 96]));
            while waiting(&reader) as i64 <= (size - PAGE).max(100) {
                thread::yield_now();
            }
            let mut left = MUCH + 96 + 100;
            loop {
                read(&reader, reported);
                left -= reported;
                if left == 0 {
                    break reader;
                }
                reported = one(kqueue).data as usize;
                assert!(
                    reported > 0 && reported <= left,
                    "{reported} bytes were reported, {left} are left"
                );
            }
        });
        assert!(pending(kqueue).is_empty());
    }
}

/// As above, with more pipes than the module checks in one batch. Some knotes are deleted before
/// their pipes are checked.
#[test]
fn clear_reports_data_of_many_blocked_writers() {
    const PIPES: usize = 150;
    let (readers, writers): (Vec<_>, Vec<_>) = (0..PIPES).map(|_| blocking_pipe()).unzip();
    let kqueue = kqueue();
    for (reader, writer) in readers.iter().zip(&writers) {
        // SAFETY: The arguments are integers.
        let got = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PAGE) };
        assert_eq!(i64::from(got), PAGE);
        write(writer, &[0; 100]);
        change(&kqueue, &[add_read(reader, ev::CLEAR)]);
        assert_eq!(one(&kqueue).data, 100);
    }
    let (kqueue, writers) = (&kqueue, &writers);
    thread::scope(move |scope| {
        for writer in writers {
            // The first 96 bytes are appended to the buffer in use.
            scope.spawn(move || write(writer, &[0; PAGE as usize + 96]));
        }
        // Every third knote is deleted, whether its event is pending or not.
        let mut left: Vec<&OwnedFd> = Vec::new();
        for (index, reader) in readers.iter().enumerate() {
            if index % 3 == 0 {
                let fd = reader.as_raw_fd();
                change(kqueue, &[Event::fd(fd, Filter::READ, ev::DELETE)]);
            } else {
                left.push(reader);
            }
        }
        while !left.is_empty() {
            for event in soon(kqueue) {
                assert_eq!(event.data, 196);
                left.retain(|reader| reader.as_raw_fd() as u64 != event.ident);
            }
        }
        for reader in &readers {
            read(reader, 196);
            while waiting(reader) < PAGE as usize {
                thread::yield_now();
            }
        }
    });
}

/// A low-water mark is reached by a writer that is still waiting for room.
#[test]
fn low_water_mark_is_reached_while_the_writer_is_blocked() {
    const MARK: i64 = 50_000;
    let (reader, writer) = blocking_pipe();
    let kqueue = kqueue();
    change(
        &kqueue,
        &[add_read(&reader, 0).fflags(note::LOWAT).data(MARK)],
    );
    write(&writer, &[0; 100]);
    assert!(pending(&kqueue).is_empty());
    let (kqueue, writer) = (&kqueue, &writer);
    thread::scope(move |scope| {
        scope.spawn(move || write(writer, &vec![0; 100_000]));
        assert!(one(kqueue).data >= MARK);
        let mut left = 100_100;
        while left > 0 {
            let some = waiting(&reader).min(4096);
            read(&reader, some);
            left -= some;
        }
    });
}

/// Bytes that a reader leaves in the pipe are not reported again, however often the module checks
/// the pipe.
#[test]
fn clear_does_not_report_bytes_left_by_the_reader() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, ev::CLEAR)]);
    write(&writer, &[0; 5000]);
    assert_eq!(one(&kqueue).data, 5000);
    for _ in 0..4 {
        read(&reader, 1000);
        thread::sleep(Duration::from_millis(30));
        assert!(pending(&kqueue).is_empty());
    }
    write(&writer, &[0; 1]);
    assert_eq!(one(&kqueue).data, 1001);
}

/// Two pipes of the same size. A kqueue watches the first one with `EV_CLEAR`, and an epoll watches
/// the second one with `EPOLLET`.
struct Twins {
    ends: [(OwnedFd, OwnedFd); 2],
    kqueue: Kqueue,
    epoll: OwnedFd,
}

impl Twins {
    fn new(pages: i64) -> Self {
        let ends = [pipe(), pipe()];
        for (_, writer) in &ends {
            // SAFETY: The arguments are integers.
            let got = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, pages * PAGE) };
            assert_eq!(i64::from(got), pages * PAGE);
        }
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&ends[0].0, ev::CLEAR)]);
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 0,
        };
        // SAFETY: The descriptor is new; the event is valid.
        let epoll = unsafe {
            let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
            let (add, reader) = (libc::EPOLL_CTL_ADD, ends[1].0.as_raw_fd());
            let ret = libc::epoll_ctl(epoll.as_raw_fd(), add, reader, &raw mut event);
            assert_eq!(ret, 0);
            epoll
        };
        Twins {
            ends,
            kqueue,
            epoll,
        }
    }

    /// Applies an operation to both pipes. Checks that both interfaces report it (or that neither
    /// does, if not `expected`), that they report it once, and that the kqueue reports all bytes.
    #[track_caller]
    fn both(&self, operation: impl Fn(&OwnedFd, &OwnedFd), expected: bool) {
        for (reader, writer) in &self.ends {
            operation(reader, writer);
        }
        for again in [false, true] {
            // SAFETY: Zero is a valid value of the event, for which there is room.
            let edges = unsafe {
                let mut event: libc::epoll_event = std::mem::zeroed();
                libc::epoll_wait(self.epoll.as_raw_fd(), &raw mut event, 1, 0)
            };
            assert_eq!(edges, i32::from(expected && !again), "epoll");
            let bytes: Vec<i64> = pending(&self.kqueue)
                .iter()
                .map(|event| event.data)
                .collect();
            let all = waiting(&self.ends[0].0) as i64;
            assert_eq!(bytes, vec![all; edges as usize], "kqueue");
        }
    }

    /// Checks that nothing more is reported after the module has checked the pipe again.
    #[track_caller]
    fn stays_silent(&self) {
        thread::sleep(Duration::from_millis(25));
        self.both(|_, _| (), false);
    }
}

/// Writes whole pages until the pipe is full.
fn fill(writer: &OwnedFd) {
    let page = [0u8; PAGE as usize];
    // SAFETY: The buffer is valid for its length.
    while unsafe { libc::write(writer.as_raw_fd(), page.as_ptr().cast(), page.len()) } > 0 {}
    assert_eq!(
        std::io::Error::last_os_error().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

/// Every write is reported, also one that is appended to the last buffer in use, and a read is not.
/// A write that finds no room is reported too, because the kernel wakes the readers after every
/// write, whatever its result. This holds with one buffer in use and with many: an evaluation that
/// must not wait counts at most 32 buffers.
#[test]
fn clear_reports_as_edge_triggered_epoll_does() {
    const MOST: i64 = 64;
    for pages in [1, 2, 15, 16, 31, 32, 33, 34, 63, 64] {
        let twins = Twins::new(if pages <= 16 { 16 } else { MOST });
        // All buffers in use are full, except the last one.
        let start = (pages - 1) * PAGE + 100;
        twins.both(|_, writer| write(writer, &vec![0; start as usize]), true);
        twins.stays_silent();
        // The bytes are appended to the last buffer.
        twins.both(|_, writer| write(writer, &[0; 600]), true);
        twins.stays_silent();
        // Less than a buffer, up to a whole one, and several.
        for count in [50, PAGE - 50, 3 * PAGE + 1] {
            if count + PAGE < start {
                twins.both(|reader, _| read(reader, count as usize), false);
                twins.stays_silent();
            }
        }
        twins.both(|_, writer| write(writer, &[0; 1]), true);
        twins.both(|_, writer| fill(writer), true);
        twins.stays_silent();
        for _ in 0..2 {
            twins.both(|_, writer| fill(writer), true);
        }
        twins.stays_silent();
        // A buffer is freed and another one is filled. The number of buffers in use is the same as
        // at the last report.
        let both = |reader: &OwnedFd, writer: &OwnedFd| {
            read(reader, PAGE as usize);
            write(writer, &[0; PAGE as usize]);
        };
        if pages > 2 {
            twins.both(both, true);
            twins.stays_silent();
        }
        let rest = waiting(&twins.ends[0].0);
        twins.both(|reader, _| read(reader, rest), false);
        twins.stays_silent();
        twins.both(|_, writer| write(writer, &[0; 1]), true);
        twins.stays_silent();
    }
}

#[test]
fn eof_when_the_last_writer_closes() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    write(&writer, b"rest");
    drop(writer);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF) && !event.has(ev::NODATA), "{event:?}");
    assert_eq!(event.data, 4);
    read(&reader, 4);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF) && event.has(ev::NODATA), "{event:?}");
    assert_eq!(event.data, 0);
}

/// Differs from DragonFly, FreeBSD: The room in a pipe is counted in whole buffers (pages).
/// Because a write may not be able to use the rest of a buffer.
#[test]
fn write_reports_the_room() {
    let (_reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&writer, 0)]);
    let room = one(&kqueue).data;
    assert_eq!(room, 16 * PAGE);
    write(&writer, &vec![0; PAGE as usize]);
    assert_eq!(one(&kqueue).data, 15 * PAGE);
    write(&writer, &vec![0; 15 * PAGE as usize]);
    assert!(pending(&kqueue).is_empty());
    read(&_reader, PAGE as usize);
    assert_eq!(one(&kqueue).data, PAGE);
}

#[test]
fn write_eof_when_the_last_reader_closes() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&writer, 0)]);
    drop(reader);
    let event = one(&kqueue);
    assert!(event.has(ev::EOF), "{event:?}");
    assert_eq!(event.data, 0);
}

#[test]
fn low_water_mark() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(
        &kqueue,
        &[add_read(&reader, 0).fflags(note::LOWAT).data(10)],
    );
    write(&writer, &[0; 9]);
    assert!(pending(&kqueue).is_empty());
    write(&writer, &[0; 1]);
    assert_eq!(one(&kqueue).data, 10);
    // EV_ADD replaces the mark of an existing knote.
    change(
        &kqueue,
        &[add_read(&reader, 0).fflags(note::LOWAT).data(11)],
    );
    assert!(pending(&kqueue).is_empty());
    // EV_EOF is reported below the mark too.
    drop(writer);
    assert!(one(&kqueue).has(ev::EOF));
}

/// A pipe wakes its writers when there is room after there was none, and not when there is more.
///
/// Differs from DragonFly, FreeBSD: While a program waits for NOTE_LOWAT of the room in a pipe,
/// terminal or eventfd, the module checks the room every 10 ms.
/// Because pipes and terminals wake writers when there is room after there was none, and not when
/// there is more. (An eventfd is checked in the same way.)
#[test]
fn low_water_mark_of_room() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    write(&writer, &[0; 65536]);
    let lowat = add_write(&writer, 0).fflags(note::LOWAT).data(5 * 4096);
    change(&kqueue, &[lowat]);
    assert!(pending(&kqueue).is_empty());
    thread::scope(|scope| {
        let reader = &reader;
        scope.spawn(move || {
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(30));
                read(reader, 4096);
            }
        });
        assert_eq!(one(&kqueue).data, 5 * 4096);
    });
}

#[test]
fn read_and_write_on_both_ends_at_once() {
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0), add_write(&writer, 0)]);
    write(&writer, b"x");
    assert_eq!(soon(&kqueue).len(), 2);
}

#[test]
fn fifo_reopened_by_a_new_writer() {
    let path = std::env::temp_dir().join(format!("kqueue-fifo-{}", std::process::id()));
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: The name is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let open = |write: bool| {
        let mut options = OpenOptions::new();
        options
            .custom_flags(libc::O_NONBLOCK)
            .read(!write)
            .write(write);
        options.open(&path).unwrap()
    };
    let reader = open(false);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, ev::CLEAR)]);
    let writer = open(true);
    write(&writer, b"one");
    assert_eq!(one(&kqueue).data, 3);
    read(&reader, 3);
    drop(writer);
    assert!(one(&kqueue).has(ev::EOF));
    let writer = open(true);
    write(&writer, b"three");
    let event = one(&kqueue);
    assert_eq!((event.data, event.has(ev::EOF)), (5, false));
    std::fs::remove_file(&path).unwrap();
}

/// The bytes are counted while `F_SETPIPE_SZ` replaces the buffers, and while another thread writes
/// and reads.
#[test]
fn counting_while_the_ring_is_replaced() {
    const ROUNDS: usize = 400;
    let (reader, writer) = pipe();
    write(&writer, &[0; 100]);
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    thread::scope(|scope| {
        let resizing = scope.spawn(|| {
            for round in 0..ROUNDS {
                let size = [4 * PAGE, 64 * PAGE, 16 * PAGE][round % 3] as libc::c_int;
                // SAFETY: No memory is passed.
                let got = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size) };
                assert!(got >= size, "{}", std::io::Error::last_os_error());
            }
        });
        let busy = scope.spawn(|| {
            for _ in 0..ROUNDS {
                write(&writer, &[0; 10]);
                read(&reader, 10);
            }
        });
        while !(resizing.is_finished() && busy.is_finished()) {
            let event = one(&kqueue);
            // Some buffers may be counted before the other thread writes or reads, and some after.
            assert!(
                event.data > 0 && event.data % 10 == 0 && !event.has(ev::EOF),
                "{event:?}"
            );
        }
    });
    assert_eq!(one(&kqueue).data, 100);
}

/// While another thread writes and reads one byte, each event has data and no `EV_EOF`.
#[test]
fn no_event_without_data() {
    const ROUNDS: usize = 2000;
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            for _ in 0..ROUNDS {
                write(&writer, b"x");
                read(&reader, 1);
            }
        });
        while !busy.is_finished() {
            for event in pending(&kqueue) {
                assert!(event.data > 0 && !event.has(ev::EOF), "{event:?}");
            }
        }
    });
    assert!(pending(&kqueue).is_empty());
    write(&writer, b"x");
    assert_eq!(one(&kqueue).data, 1);
}
