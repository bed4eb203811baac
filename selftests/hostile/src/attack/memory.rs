// SPDX-License-Identifier: GPL-2.0

//! Memory that nobody pays for, in bytes.

use crate::{
    report::{Cost, Report},
    siege::{as_many, Assault, Attacker},
    sys, Scale,
};
use kqueue::{ev, note, Event, Filter};
use std::{
    fs,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// A line of `/proc/meminfo`, in bytes.
fn system(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse::<f64>().ok())
        .expect("a line of meminfo")
        * 1024.0
}

/// A memory cgroup, for as long as this lives.
struct Group(PathBuf);

impl Group {
    fn new(folder: &Path) -> Self {
        let root = folder.join("cgroup");
        fs::create_dir(&root).expect("a folder");
        let path = std::ffi::CString::new(root.as_os_str().as_bytes()).expect("a path");
        sys::mount(c"cgroup2", &path);
        fs::write(root.join("cgroup.subtree_control"), "+memory").expect("the memory controller");
        let group = root.join("hostile");
        let _ = fs::create_dir(&group);
        Group(group)
    }

    /// Puts this process in, or back.
    fn enter(&self, inside: bool) {
        let group = if inside {
            Some(&*self.0)
        } else {
            self.0.parent()
        };
        let processes = group.expect("a group").join("cgroup.procs");
        fs::write(processes, std::process::id().to_string()).expect("cgroup.procs");
    }

    /// What the kernel's own objects are charged, in bytes.
    fn charged(&self) -> f64 {
        let text = fs::read_to_string(self.0.join("memory.stat")).expect("memory.stat");
        let line = text.lines().find_map(|line| line.strip_prefix("slab "));
        line.and_then(|number| number.trim().parse().ok())
            .expect("slab of memory.stat")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
        let root = self.0.parent().expect("a group");
        let path = std::ffi::CString::new(root.as_os_str().as_bytes()).expect("a path");
        sys::unmount(&path);
    }
}

fn bytes(all: f64, count: usize) -> Cost {
    let each = (all / count as f64).max(0.0);
    Cost {
        median: each,
        worst: each,
    }
}

/// Kqueues that have had many knotes, and have none.
pub fn tables(report: &mut Report, _: &Path, scale: Scale) {
    let (count, knotes) = (scale.of(100), scale.of(10_000));
    let kept = |assault: &dyn Fn() -> Assault| {
        let before = system("MemFree");
        let attacker = Attacker::start(assault);
        let kept = before - system("MemFree");
        let made = attacker.made;
        attacker.end();
        (made, bytes(kept, made.max(1)))
    };
    let (_, process) = kept(&|| Assault::of(count, ()));
    let kqueue = kept(&|| {
        let mut events: Vec<Event> = (0..knotes as u64)
            .map(|ident| Event::new(ident, Filter::USER, 0))
            .collect();
        let kqueues = as_many(count, |_| {
            let kqueue = sys::kqueue()?;
            for flags in [ev::ADD, ev::DELETE] {
                for event in &mut events {
                    event.flags = flags;
                }
                kqueue.kevent(&events, &mut [], None)?;
            }
            Ok(kqueue)
        });
        Assault::of(kqueues.len(), kqueues)
    });
    let epoll = kept(&|| {
        let (file, writer) = sys::pipe();
        let dups: Vec<_> = (0..knotes / 10).map(|_| sys::dup(&file)).collect();
        let epolls = as_many(count, |_| {
            let epoll = sys::epoll()?;
            for operation in [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_DEL] {
                for dup in &dups {
                    sys::epoll_ctl(&epoll, operation, dup.as_raw_fd(), libc::EPOLLIN)?;
                }
            }
            Ok(epoll)
        });
        Assault::of(epolls.len(), (epolls, dups, file, writer))
    });
    // A page or four each, which the descriptors' own limit bounds.
    let texts = (
        "kqueues that had many knotes; epolls",
        "lacks memory, bytes each",
    );
    report.add(texts, Some(process), kqueue, Some(epoll), 16384.0);
}

/// Children that were tracked, and have ended.
pub fn tracked(report: &mut Report, folder: &Path, _: Scale) {
    // So many that what is counted by the page does not matter.
    let count = 2000;
    let group = Group::new(folder);
    let uncharged = |notes: u32| {
        group.enter(true);
        let mut attacker = Attacker::start(|| {
            let kqueue = sys::kqueue().expect("kqueue");
            let event = Event::new(std::process::id().into(), Filter::PROC, ev::ADD);
            sys::change(&kqueue, event.fflags(notes)).expect("a knote");
            Assault::acting(count, move || {
                let _ = &kqueue;
                for _ in 0..count {
                    sys::fork(|| ());
                }
                0.0
            })
        });
        group.enter(false);
        let before = system("Slab") - group.charged();
        attacker.act();
        let uncharged = system("Slab") - group.charged() - before;
        attacker.end();
        (count, bytes(uncharged, count))
    };
    let (_, alone) = uncharged(note::EXIT);
    let kqueue = uncharged(note::FORK | note::EXIT | note::TRACK);
    let texts = (
        "`NOTE_TRACK` of children in a memory cgroup",
        "lacks memory that is not charged, bytes each",
    );
    report.add(texts, Some(alone), kqueue, None, 64.0);
}
