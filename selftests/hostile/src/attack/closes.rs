// SPDX-License-Identifier: GPL-2.0

//! Knotes on a file whose descriptors other users close, and on files of the attacker.

use crate::{
    report::{Report, Siege},
    siege::{as_many, Assault, Attacker},
    sys, Scale,
};
use kqueue::{ev, Event, Filter};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

/// Kqueues with a knote for each of some descriptors of a file.
fn knotes(file: &OwnedFd, kqueues: usize, descriptors: usize) -> Assault {
    let dups: Vec<OwnedFd> = (0..descriptors).map(|_| sys::dup(file)).collect();
    let mut made = 0;
    let kqueues = as_many(kqueues, |_| {
        let kqueue = sys::kqueue()?;
        for dup in &dups {
            sys::change(&kqueue, Event::fd(dup.as_raw_fd(), Filter::READ, ev::ADD))?;
            made += 1;
        }
        Ok(kqueue)
    });
    Assault::of(made, (dups, kqueues))
}

/// Epolls that watch the same descriptors.
fn items(file: &OwnedFd, epolls: usize, descriptors: usize) -> Assault {
    let dups: Vec<OwnedFd> = (0..descriptors).map(|_| sys::dup(file)).collect();
    let mut made = 0;
    let epolls = as_many(epolls, |_| {
        let epoll = sys::epoll()?;
        for dup in &dups {
            sys::epoll_ctl(&epoll, libc::EPOLL_CTL_ADD, dup.as_raw_fd(), libc::EPOLLIN)?;
            made += 1;
        }
        Ok(epoll)
    });
    Assault::of(made, (dups, epolls))
}

/// The bystander closes a descriptor of the attacker's file, which was passed to it.
pub fn passed(report: &mut Report, _: &Path, scale: Scale) {
    let (file, _writer) = sys::pipe();
    let (kqueues, descriptors) = (100, scale.of(200));
    let through_kqueue = || knotes(&file, kqueues, descriptors);
    let through_epoll = || items(&file, kqueues, descriptors);
    let siege = |bystander| Siege {
        attack: "knotes on an open file",
        bystander,
        kqueue: &through_kqueue,
        native: Some(&through_epoll),
        floor: 0.0,
    };
    report.besiege(&siege("closes a descriptor of it"), |_| {
        drop(sys::dup(&file));
    });
    let kqueue = sys::kqueue().expect("kqueue");
    let (other, _writer) = sys::pipe();
    sys::change(&kqueue, Event::fd(other.as_raw_fd(), Filter::READ, ev::ADD)).expect("a knote");
    let own = "closes a descriptor of it, and has a kqueue";
    report.besiege(&siege(own), |_| drop(sys::dup(&file)));
    let own = "closes a descriptor of another file, and has a kqueue";
    report.besiege(&siege(own), |_| drop(sys::dup(&other)));
}

/// Closes, in one call, as many descriptors of one file as there are knotes.
pub fn close_range(report: &mut Report, _: &Path, scale: Scale) {
    let texts = ("knotes on dups of a file", "close_range of all, each");
    report.growth(texts, scale.of(4000), |size| {
        let mut attacker = Attacker::start(|| {
            let (file, writer) = sys::pipe();
            let kqueue = sys::kqueue().expect("kqueue");
            let dups: Vec<OwnedFd> = (0..size).map(|_| sys::dup(&file)).collect();
            for dup in &dups {
                sys::change(&kqueue, Event::fd(dup.as_raw_fd(), Filter::READ, ev::ADD))
                    .expect("a knote");
            }
            let numbers = dups.iter().map(AsRawFd::as_raw_fd);
            let (first, last) = (numbers.clone().min(), numbers.max());
            let kept = (kqueue, file, writer);
            // The descriptors are closed by number.
            std::mem::forget(dups);
            Assault::acting(size, move || {
                let _ = &kept;
                let start = sys::time();
                let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
                // SAFETY: The arguments are integers. The descriptors are not used any more.
                let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
                sys::checked(ret).expect("close_range");
                sys::time() - start
            })
        });
        let took = attacker.act();
        attacker.end();
        took
    });
}

/// The attacker exits with as many descriptors of one file as there are knotes.
pub fn exit(report: &mut Report, _: &Path, scale: Scale) {
    let texts = ("knotes on dups of a file", "exit with all, each");
    report.growth(texts, scale.of(4000), |size| {
        let attacker = Attacker::start(|| {
            let (file, writer) = sys::pipe();
            let assault = knotes(&file, 1, size);
            std::mem::forget((file, writer));
            assault
        });
        assert_eq!(attacker.made, size, "knotes");
        attacker.end()
    });
}
