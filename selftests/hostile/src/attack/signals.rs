// SPDX-License-Identifier: GPL-2.0

//! Watched signals and processes, and the probes that all processes share.

use crate::{
    report::{Report, Siege},
    siege::{as_many, Assault, SIGNAL},
    sys, Scale,
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::{self, File},
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

/// As many kqueues as possible, each with these knotes.
fn kqueues(most: usize, events: &[Event]) -> (usize, Vec<Kqueue>) {
    let mut made = 0;
    let kqueues = as_many(most, |_| {
        let kqueue = sys::kqueue()?;
        for event in events {
            sys::change(&kqueue, *event)?;
            made += 1;
        }
        Ok(kqueue)
    });
    (made, kqueues)
}

fn of_signal(signal: i32) -> Event {
    Event::new(signal as u64, Filter::SIGNAL, ev::ADD | ev::CLEAR)
}

/// Descriptors that report the attacker's signals, polled by an epoll. Their number is that of the
/// permitted inotify instances.
fn signalfds() -> Assault {
    let epoll = sys::epoll().expect("epoll");
    let made = as_many(128, |_| {
        // SAFETY: Zero is a valid value of the set, for which there is room.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, SIGNAL);
            sys::owned(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC))?
        };
        sys::epoll_ctl(&epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), libc::EPOLLIN)?;
        Ok(fd)
    });
    Assault::of(made.len(), (epoll, made))
}

/// Knotes for the attacker's signals, which others send.
pub fn signals(report: &mut Report, _: &Path, scale: Scale) {
    let most = scale.of(2500);
    let siege = |attack, bystander, kqueue| Siege {
        attack,
        bystander,
        kqueue,
        native: Some(&signalfds),
        floor: 0.0,
    };
    let deed = "sends the attacker that signal";
    let watched = || {
        let (made, kept) = kqueues(most, &[of_signal(SIGNAL)]);
        Assault::collecting(made, kept, ())
    };
    let siege_of_it = siege("`EVFILT_SIGNAL`; signalfd", deed, &watched);
    report.besiege(&siege_of_it, |attacker| {
        // SAFETY: The arguments are integers.
        sys::checked(unsafe { libc::kill(attacker.pid, SIGNAL) }).expect("kill");
    });
    let others = || {
        let others = (1..=64).filter(|signal| *signal != SIGNAL).map(of_signal);
        let (made, kept) = kqueues(most.div_ceil(10), &others.collect::<Vec<_>>());
        Assault::of(made, kept)
    };
    let deed = "sends the attacker a signal that nobody watches";
    let siege_of_others = siege("`EVFILT_SIGNAL` of all others", deed, &others);
    report.besiege(&siege_of_others, |attacker| {
        // SAFETY: The arguments are integers.
        sys::checked(unsafe { libc::kill(attacker.pid, SIGNAL) }).expect("kill");
    });
}

/// Watches of the attacker's own objects by all probes. Measured is the cost for processes that are
/// not watched.
pub fn probes(report: &mut Report, folder: &Path, scale: Scale) {
    let path = folder.join("file");
    fs::write(&path, "text").expect("a file");
    let most = scale.of(1000);
    let watched = || {
        let of_itself = Event::new(std::process::id().into(), Filter::PROC, ev::ADD);
        let of_itself = of_itself.fflags(note::FORK | note::EXEC | note::EXIT);
        let file = File::open(&path).expect("a file");
        let dups: Vec<OwnedFd> = (0..8).map(|_| sys::dup(&file)).collect();
        let mut events: Vec<Event> = (1..=8).map(of_signal).collect();
        events.push(of_itself);
        let of_file = |fd: &OwnedFd| Event::fd(fd.as_raw_fd(), Filter::READ, ev::ADD);
        events.extend(dups.iter().map(of_file));
        // Each object has as many watches as permitted.
        let mut made = 0;
        let kept: Vec<_> = events
            .iter()
            .map(|event| {
                let (more, kept) = kqueues(most, &[*event]);
                made += more;
                kept
            })
            .collect();
        Assault::of(made, (kept, file, dups))
    };
    let siege = |bystander| Siege {
        attack: "signals, forks, offsets of one's own watched",
        bystander,
        kqueue: &watched,
        native: None,
        floor: 0.0,
    };
    sys::catch(SIGNAL);
    report.besiege(&siege("sends itself a signal"), |_| {
        // SAFETY: The arguments are integers.
        sys::checked(unsafe { libc::kill(libc::getpid(), SIGNAL) }).expect("kill");
    });
    report.besiege(&siege("forks"), |_| sys::fork(|| ()));
    let mut file = File::open(&path).expect("a file");
    file.read_to_end(&mut Vec::new()).expect("read");
    report.besiege(&siege("reads at the end of a file"), |_| {
        assert_eq!(file.read(&mut [0]).expect("read"), 0);
    });
}
