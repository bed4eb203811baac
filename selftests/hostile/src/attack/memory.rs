// SPDX-License-Identifier: GPL-2.0

//! Memory that is charged to no user, in bytes.

use crate::{
    report::{Cost, Report},
    siege::{Assault, Attacker},
    sys, Scale,
};
use kqueue::{ev, note, Event, Filter};
use std::{
    fs,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A line of `/proc/meminfo`, in bytes.
fn system(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
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

    /// The kernel memory that is charged to the cgroup, in bytes.
    fn charged(&self) -> f64 {
        // The kernel updates the sum every two seconds.
        thread::sleep(Duration::from_millis(2500));
        let text = fs::read_to_string(self.0.join("memory.stat")).expect("memory.stat");
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|number| number.parse::<f64>().ok())
                .expect("a line of memory.stat")
        };
        number("slab ") + number("vmalloc ")
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

/// The memory of the kernel's objects in bytes, after it has freed what it can.
fn objects() -> f64 {
    let caches = || fs::read_dir("/sys/kernel/slab").expect("the slabs' folder");
    let mut least = f64::INFINITY;
    loop {
        // Wait until RCU has freed its objects.
        thread::sleep(Duration::from_millis(100));
        fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        for cache in caches().flatten() {
            fs::write(cache.path().join("shrink"), "1").expect("shrink");
        }
        // Large objects are mapped by pages.
        let taken = system("Slab:") + system("VmallocUsed:");
        if taken >= least {
            return least;
        }
        least = taken;
    }
}

/// Kqueues that had many knotes and have none now.
pub fn tables(report: &mut Report, _: &Path, scale: Scale) {
    let (count, knotes) = (scale.of(100), scale.of(10_000));
    // The attacker exists already before the measurement, so its other memory does not change.
    let kept = |assault: &dyn Fn() -> Assault| {
        let mut attacker = Attacker::start(assault);
        let before = objects();
        attacker.act();
        let kept = objects() - before;
        let made = attacker.made;
        attacker.end();
        (made, bytes(kept, made))
    };
    let kqueue = kept(&|| {
        let mut events: Vec<Event> = (0..knotes as u64)
            .map(|ident| Event::new(ident, Filter::USER, 0))
            .collect();
        let mut all = Vec::new();
        Assault::acting(count, move || {
            all.extend((0..count).map(|_| {
                let kqueue = sys::kqueue().expect("a kqueue");
                for flags in [ev::ADD, ev::DELETE] {
                    for event in &mut events {
                        event.flags = flags;
                    }
                    kqueue.kevent(&events, &mut [], None).expect("kevent");
                }
                kqueue
            }));
            0.0
        })
    });
    let epoll = kept(&|| {
        let (file, writer) = sys::pipe();
        let dups: Vec<_> = (0..knotes).map(|_| sys::dup(&file)).collect();
        let mut all = Vec::new();
        Assault::acting(count, move || {
            let _ = &writer;
            all.extend((0..count).map(|_| {
                let epoll = sys::epoll().expect("an epoll");
                for operation in [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_DEL] {
                    for dup in &dups {
                        sys::epoll_ctl(&epoll, operation, dup.as_raw_fd(), libc::EPOLLIN)
                            .expect("epoll_ctl");
                    }
                }
                epoll
            }));
            0.0
        })
    });
    let texts = (
        "kqueues that had many knotes; epolls",
        "lacks memory, bytes each",
    );
    // One page for each. The limit on descriptors bounds their number.
    report.add(texts, None, kqueue, Some(epoll), 4096.0);
}

/// Tracked children that have exited.
pub fn tracked(report: &mut Report, folder: &Path, _: Scale) {
    // The number is so large that counting by pages makes no difference.
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
        let before = objects() - group.charged();
        attacker.act();
        let uncharged = objects() - group.charged() - before;
        attacker.end();
        (count, bytes(uncharged, count))
    };
    let (_, alone) = uncharged(note::EXIT);
    let kqueue = uncharged(note::FORK | note::EXIT | note::TRACK);
    let texts = (
        "`NOTE_TRACK` of children in a memory cgroup",
        "lacks memory that is not charged, bytes each",
    );
    // A child itself takes much more memory.
    report.add(texts, Some(alone), kqueue, None, 32.0);
}
