// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ` and `EVFILT_WRITE` on regular files, directories and devices.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// A file in memory, which is removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(bytes: usize) -> Self {
        Temporary::new_in(Path::new("/dev/shm"), bytes)
    }

    fn new_in(folder: &Path, bytes: usize) -> Self {
        let path = folder.join(format!("kqueue-regular-{}", std::process::id()));
        fs::write(&path, vec![b'x'; bytes]).unwrap();
        Temporary(path)
    }

    fn open(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(&self.0).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Checks `data` after each operation that moves the end or the offset of the file.
#[track_caller]
fn follows_the_end_and_the_offset(temporary: &Temporary) {
    let mut file = temporary.open();
    let other = temporary.open();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, 0)]);
    assert_eq!(one(&kqueue).data, 10);
    read(&file, 4);
    assert_eq!(one(&kqueue).data, 6);
    read(&file, 6);
    assert!(pending(&kqueue).is_empty(), "at the end");
    other.write_all_at(b"three", 10).unwrap();
    assert_eq!(one(&kqueue).data, 5);
    file.seek(SeekFrom::End(0)).unwrap();
    assert!(pending(&kqueue).is_empty(), "at the end");
    file.seek(SeekFrom::Start(1)).unwrap();
    assert_eq!(one(&kqueue).data, 14);
    file.seek(SeekFrom::Start(20)).unwrap();
    assert_eq!(one(&kqueue).data, -5);
    other.set_len(30).unwrap();
    assert_eq!(one(&kqueue).data, 10);
    other.set_len(20).unwrap();
    assert!(pending(&kqueue).is_empty(), "at the end");
    other.set_len(0).unwrap();
    let event = one(&kqueue);
    assert_eq!((event.data, event.flags & ev::EOF), (-20, 0));
}

/// Differs from epoll: EVFILT_READ accepts regular files, directories and block devices, and
/// reports the distance from the offset to the end.
/// Because the BSDs do the same; epoll returns EPERM.
#[test]
fn read_reports_the_distance_to_the_end() {
    follows_the_end_and_the_offset(&Temporary::new(10));
}

/// The file is on the host, mounted by 9p.
#[test]
fn on_9p() {
    follows_the_end_and_the_offset(&Temporary::new_in(&folder_on_9p(), 10));
}

#[test]
fn a_sleeper_is_woken_by_growth_and_by_a_seek() {
    let temporary = Temporary::new(0);
    let file = temporary.open();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, 0)]);
    for round in 1..=20 {
        thread::scope(|scope| {
            scope.spawn(|| temporary.open().set_len(round).unwrap());
            assert_eq!(one(&kqueue).data, 1);
        });
        (&file).seek(SeekFrom::End(0)).unwrap();
        assert!(pending(&kqueue).is_empty());
        thread::scope(|scope| {
            scope.spawn(|| (&file).seek(SeekFrom::Start(0)).unwrap());
            assert_eq!(one(&kqueue).data, round as i64);
        });
        (&file).seek(SeekFrom::End(0)).unwrap();
    }
}

#[test]
fn clear_reports_growth_and_going_back_once() {
    let temporary = Temporary::new(10);
    let mut file = temporary.open();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, ev::CLEAR)]);
    assert_eq!(one(&kqueue).data, 10);
    // Further reading is not reported.
    read(&file, 3);
    assert!(pending(&kqueue).is_empty());
    temporary.open().write_all_at(b"more", 10).unwrap();
    assert_eq!(one(&kqueue).data, 11);
    read(&file, 11);
    assert!(pending(&kqueue).is_empty());
    file.seek(SeekFrom::Start(13)).unwrap();
    assert_eq!(one(&kqueue).data, 1);
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn duplicates_share_the_offset() {
    let temporary = Temporary::new(10);
    let mut file = temporary.open();
    let mut dup = file.try_clone().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, 0)]);
    dup.seek(SeekFrom::End(0)).unwrap();
    assert!(pending(&kqueue).is_empty());
    assert!(in_child(|| dup.rewind().is_ok()));
    assert_eq!(one(&kqueue).data, 10);
    // Writing moves the offset too, so there is nothing behind the appended data.
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"yyy").unwrap();
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn low_water_mark() {
    let temporary = Temporary::new(9);
    let file = temporary.open();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, 0).fflags(note::LOWAT).data(10)]);
    assert!(pending(&kqueue).is_empty());
    file.set_len(10).unwrap();
    assert_eq!(one(&kqueue).data, 10);
}

#[test]
fn writing_is_always_possible() {
    let temporary = Temporary::new(10);
    let file = temporary.open();
    let kqueue = kqueue();
    change(&kqueue, &[add_write(&file, 0)]);
    for _ in 0..3 {
        let event = one(&kqueue);
        assert_eq!((event.data, event.flags & ev::EOF), (0, 0));
    }
}

#[test]
fn directories() {
    let path = PathBuf::from(format!("/dev/shm/kqueue-directory-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    let mut directory = File::open(&path).unwrap();
    let size = directory.metadata().unwrap().len();
    let kqueue = kqueue();
    assert_eq!(
        change_error(&kqueue, add_write(&directory, 0)),
        libc::EINVAL
    );
    directory.seek(SeekFrom::Start(size)).unwrap();
    change(&kqueue, &[add_read(&directory, 0)]);
    assert!(pending(&kqueue).is_empty());
    // Each entry adds to the size of a directory in memory.
    fs::write(path.join("entry"), b"").unwrap();
    let grown = directory.metadata().unwrap().len();
    assert!(grown > size);
    assert_eq!(one(&kqueue).data, (grown - size) as i64);
    directory.seek(SeekFrom::Start(grown)).unwrap();
    assert!(pending(&kqueue).is_empty());
    directory.rewind().unwrap();
    assert_eq!(one(&kqueue).data, grown as i64);
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn block_devices() {
    let temporary = Temporary::new(1 << 20);
    let output = Command::new("/sbin/losetup")
        .args(["--find", "--show"])
        .arg(&temporary.0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let device = String::from_utf8(output.stdout).unwrap();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device.trim())
        .unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, 0), add_write(&file, 0)]);
    let events = soon(&kqueue);
    assert_eq!(events.len(), 2);
    for event in events {
        let size = if event.filter == Filter::READ {
            1 << 20
        } else {
            0
        };
        assert_eq!(event.data, size);
    }
    change(
        &kqueue,
        &[Event::fd(file.as_raw_fd(), Filter::WRITE, ev::DELETE)],
    );
    read(&file, 4096);
    assert_eq!(one(&kqueue).data, (1 << 20) - 4096);
    file.seek(SeekFrom::End(0)).unwrap();
    assert!(pending(&kqueue).is_empty());
    thread::scope(|scope| {
        scope.spawn(|| (&file).seek(SeekFrom::Start(512)).unwrap());
        assert_eq!(one(&kqueue).data, (1 << 20) - 512);
    });
    drop((kqueue, file));
    let status = Command::new("/sbin/losetup")
        .args(["--detach", device.trim()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn memory_devices() {
    for name in ["null", "zero", "full", "urandom"] {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.open(format!("/dev/{name}")).unwrap();
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&file, 0)]);
        for _ in 0..2 {
            let event = one(&kqueue);
            assert_eq!((event.data, event.flags & ev::EOF), (1, 0), "{name}");
        }
        if name != "urandom" {
            change(&kqueue, &[add_write(&file, 0)]);
            assert_eq!(soon(&kqueue).len(), 2, "{name}");
        }
    }
}

#[test]
fn files_without_a_name() {
    let kqueue = kqueue();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE);
    let file = options.open("/dev/shm").unwrap();
    change(&kqueue, &[add_read(&file, ev::ONESHOT)]);
    file.set_len(7).unwrap();
    assert_eq!(soon(&kqueue).iter().filter(|e| e.data == 7).count(), 1);
}

#[test]
fn except_is_refused() {
    let file = Temporary::new(1).open();
    let event = Event::fd(file.as_raw_fd(), Filter::EXCEPT, ev::ADD).fflags(note::OOB);
    assert_eq!(change_error(&kqueue(), event), libc::EOPNOTSUPP);
}

/// Reads a file to its end as a program that uses a kqueue does.
fn read_all(path: &str) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, 0)]);
    let mut got = Vec::new();
    loop {
        let event = one(&kqueue);
        assert!(event.data > 0, "{path}: {event:?}");
        let mut buffer = [0; 512];
        match file.read(&mut buffer).unwrap() {
            0 => return got,
            count => got.extend(&buffer[..count]),
        }
    }
}

/// Differs from DragonFly, FreeBSD: A file whose contents are generated when it is read, as in
/// procfs, sysfs and debugfs, is always ready with a data of 1, at its end too.
/// Because its size is 0 and tells nothing. poll(2) reports it as ready too, and a program reads
/// until read(2) returns 0.
#[test]
fn generated_files() {
    for path in [
        // These files have no `->poll`. They are sequence files and single strings.
        "/proc/self/maps",
        "/proc/self/status",
        "/proc/self/cmdline",
        "/proc/self/mountstats",
        "/sys/kernel/debug/kqueue/probes",
        "/sys/kernel/tracing/available_events",
        // These files have a `->poll`.
        "/proc/meminfo",
        "/proc/self/mounts",
        "/proc/sys/kernel/ostype",
        "/sys/module/kqueue/parameters/calloutmax",
        "/sys/kernel/notes",
    ] {
        let Ok(expected) = fs::read(path) else {
            // Some kernels do not have this file.
            assert!(!path.starts_with("/proc/self/"), "{path}");
            continue;
        };
        let got = read_all(path);
        assert!(!got.is_empty() || expected.is_empty(), "{path}");
    }
    // This tests EV_CLEAR, low-water marks, EVFILT_WRITE and EVFILT_EXCEPT.
    let file = File::open("/proc/self/status").unwrap();
    let fd = file.as_raw_fd();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&file, ev::CLEAR)]);
    assert_eq!(one(&kqueue).data, 1);
    assert!(pending(&kqueue).is_empty());
    let lowat = add_read(&file, 0).fflags(note::LOWAT).data(1 << 20);
    change(&kqueue, &[Event::fd(fd, Filter::READ, ev::DELETE), lowat]);
    assert_eq!(one(&kqueue).data, 1);
    change(&kqueue, &[Event::fd(fd, Filter::READ, ev::DELETE)]);
    for filter in [Filter::WRITE, Filter::EXCEPT] {
        change(&kqueue, &[Event::fd(fd, filter, ev::ADD | ev::ONESHOT)]);
        let event = one(&kqueue);
        assert_eq!((event.filter, event.data), (filter, 1));
    }
}

/// An empty file that is not generated is not ready, on any file system.
#[test]
fn empty_files() {
    for place in ["/dev/shm", "/tmp", "/var/tmp"] {
        let path = format!("{place}/kqueue-empty-{}", std::process::id());
        let Ok(file) = File::create_new(&path) else {
            assert_ne!(place, "/dev/shm");
            continue;
        };
        fs::remove_file(&path).unwrap();
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&file, 0)]);
        assert!(pending(&kqueue).is_empty(), "{place}");
        file.set_len(3).unwrap();
        assert_eq!(one(&kqueue).data, 3, "{place}");
    }
}

/// Differs from the BSDs: A file of procfs or sysfs that can be polled reports a change by
/// EVFILT_EXCEPT.
/// Because poll(2) reports the change as POLLPRI.
#[test]
fn pollable_files_of_procfs_and_sysfs() {
    let mut mounts = File::open("/proc/self/mounts").unwrap();
    let kqueue = kqueue();
    let except = Event::fd(mounts.as_raw_fd(), Filter::EXCEPT, ev::ADD | ev::CLEAR);
    change(&kqueue, &[except.fflags(note::OOB)]);
    mounts.read_to_end(&mut Vec::new()).unwrap();
    assert!(pending(&kqueue).is_empty());
    let path = format!("/dev/shm/kqueue-mount-{}", std::process::id());
    fs::create_dir(&path).unwrap();
    let run = |command: &str, arguments: &[&str]| {
        assert!(Command::new(command)
            .args(arguments)
            .status()
            .unwrap()
            .success());
    };
    run("/bin/mount", &["-t", "tmpfs", "none", &path]);
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.data), (note::OOB, 1));
    assert!(!event.has(ev::EOF), "{event:?}");
    run("/bin/umount", &[&path]);
    fs::remove_dir(&path).unwrap();
}

/// One thread appends, and the other one reads to the end at each event. No byte may remain unread.
#[test]
fn clear_loses_no_growth() {
    const ROUNDS: usize = 3000;
    let temporary = Temporary::new(0);
    let mut file = temporary.open();
    let kqueue: Kqueue = kqueue();
    change(&kqueue, &[add_read(&file, ev::CLEAR)]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut options = OpenOptions::new();
            let mut writer = options.append(true).open(&temporary.0).unwrap();
            for _ in 0..ROUNDS {
                writer.write_all(b"x").unwrap();
            }
        });
        let mut got = Vec::new();
        while got.len() < ROUNDS {
            one(&kqueue);
            file.read_to_end(&mut got).unwrap();
        }
    });
}

/// A process that reads pays for each watcher.
#[test]
fn watches_of_one_offset_are_limited() {
    let _limit = Parameter::set("max_object_watches", 2);
    let temporary = Temporary::new(5);
    let file = temporary.open();
    let kqueues = [kqueue(), kqueue(), kqueue()];
    for kqueue in &kqueues[..2] {
        change(kqueue, &[add_read(&file, 0)]);
    }
    assert_eq!(change_error(&kqueues[2], add_read(&file, 0)), libc::ENOSPC);
    change(
        &kqueues[0],
        &[Event::fd(file.as_raw_fd(), Filter::READ, ev::DELETE)],
    );
    change(&kqueues[2], &[add_read(&file, 0)]);
    assert_eq!(one(&kqueues[2]).data, 5);
}

/// The probe of offsets runs with preemption disabled, where no lock may sleep.
#[test]
fn threads_move_the_offsets_of_watched_files() {
    const FILES: usize = 64;
    const MOVES: usize = 3000;
    let temporary = Temporary::new(100);
    let files: Vec<File> = (0..FILES).map(|_| temporary.open()).collect();
    let kqueue = kqueue();
    for file in &files {
        change(&kqueue, &[add_read(file, ev::CLEAR)]);
    }
    let moving = AtomicUsize::new(4);
    thread::scope(|scope| {
        for mover in 0..4 {
            let (files, moving) = (&files, &moving);
            scope.spawn(move || {
                for step in 0..MOVES {
                    let mut file = &files[(step * 7 + mover * 13) % FILES];
                    file.seek(SeekFrom::End(0)).unwrap();
                    file.seek(SeekFrom::Start((step % 100) as u64)).unwrap();
                }
                moving.fetch_sub(1, Ordering::Release);
            });
        }
        while moving.load(Ordering::Acquire) > 0 {
            for event in pending(&kqueue) {
                assert!((1..=100).contains(&event.data), "{event:?}");
            }
        }
    });
    for mut file in &files {
        file.seek(SeekFrom::End(0)).unwrap();
    }
    assert!(pending(&kqueue).is_empty());
    for mut file in &files {
        file.seek(SeekFrom::Start(1)).unwrap();
    }
    let mut reported = Vec::new();
    loop {
        let events = pending(&kqueue);
        if events.is_empty() {
            break;
        }
        reported.extend(events.iter().map(|event| (event.ident, event.data)));
    }
    reported.sort_unstable();
    let mut expected: Vec<_> = (files.iter())
        .map(|file| (file.as_raw_fd() as u64, 99))
        .collect();
    expected.sort_unstable();
    assert_eq!(reported, expected);
}
