// SPDX-License-Identifier: GPL-2.0

//! (h) User triggers, signals, exits of processes, and changes of files.

use crate::{
    measure::{each, Case, Stopwatch},
    queue::{has_emulation, kqueue, Emulation, Epoll, EpollEvent, Kevents},
    sys::{owned, receive, send},
    Scale,
};
use kqueue::{ev, note, Event, Filter};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
};

const NOTHING: EpollEvent = EpollEvent { events: 0, u64: 0 };

fn user_by_kevent(queue: impl Kevents, times: usize) -> impl FnMut() -> f64 {
    queue.change(&[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
    let trigger = Event::new(1, Filter::USER, 0).fflags(note::TRIGGER);
    move || {
        each(times, || {
            for _ in 0..times {
                queue.kevent(&[trigger], &mut [Event::default(); 1], None);
            }
        })
    }
}

fn user_by_eventfd(times: usize) -> impl FnMut() -> f64 {
    // SAFETY: The arguments are integers.
    let fd = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }.into());
    let epoll = Epoll::new();
    epoll.add(&fd, libc::EPOLLIN);
    move || {
        each(times, || {
            for _ in 0..times {
                send(&fd);
                epoll.wait(&mut [NOTHING; 1], -1);
                receive(&fd);
            }
        })
    }
}

pub(super) fn kill() {
    // SAFETY: The process sends the signal to itself, and ignores or blocks it.
    unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
}

pub(super) fn block(how: libc::c_int) -> libc::sigset_t {
    // SAFETY: The set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        libc::sigprocmask(how, &set, std::ptr::null_mut());
        set
    }
}

fn signals_by_kevent(times: usize) -> impl FnMut() -> f64 {
    let signal = Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD);
    move || {
        // The other side does not pay for kqueue, because no kqueue watches anything while it runs.
        let queue = kqueue();
        queue.change(&[signal]);
        // SAFETY: Ignoring a signal has no preconditions. Programs that use kqueue do this.
        unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
        block(libc::SIG_UNBLOCK);
        each(times, || {
            for _ in 0..times {
                kill();
                Kevents::wait(&queue, &mut [Event::default(); 1]);
            }
        })
    }
}

fn signals_by_signalfd(times: usize) -> impl FnMut() -> f64 {
    let set = block(libc::SIG_BLOCK);
    // SAFETY: The set is valid.
    let fd = owned(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) }.into());
    let epoll = Epoll::new();
    epoll.add(&fd, libc::EPOLLIN);
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    move || {
        block(libc::SIG_BLOCK);
        // SAFETY: A pending signal that is ignored would be dropped.
        unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
        each(times, || {
            for _ in 0..times {
                kill();
                epoll.wait(&mut [NOTHING; 1], -1);
                // SAFETY: The buffer is valid for its length.
                unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            }
        })
    }
}

/// Processes that wait for a byte and then exit.
struct Children {
    pids: Vec<libc::pid_t>,
    gate: Option<OwnedFd>,
}

impl Children {
    fn fork(count: usize) -> Self {
        let mut fds = [0; 2];
        // SAFETY: The array has room for two descriptors. The children only wait and exit.
        unsafe {
            libc::pipe(fds.as_mut_ptr());
            let fork = |_| match libc::fork() {
                0 => {
                    let mut byte = 0u8;
                    libc::close(fds[1]);
                    libc::read(fds[0], (&raw mut byte).cast(), 1);
                    libc::_exit(0)
                }
                pid => pid,
            };
            let pids = (0..count).map(fork).collect();
            libc::close(fds[0]);
            Children {
                pids,
                gate: Some(owned(fds[1].into())),
            }
        }
    }

    /// Makes the processes exit, and waits until they have, without reaping them.
    fn end(&mut self) {
        self.gate = None;
        for pid in &self.pids {
            // SAFETY: Zeroes are a valid structure; our own children.
            unsafe {
                let mut info = std::mem::zeroed();
                let pid = *pid as libc::id_t;
                libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT);
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for pid in &self.pids {
            // SAFETY: The processes are children of this one that have exited.
            unsafe { libc::waitpid(*pid, std::ptr::null_mut(), 0) };
        }
    }
}

fn exits_by_kevent(queue: &impl Kevents, count: usize) -> f64 {
    let mut children = Children::fork(count);
    let mut watch = Stopwatch::default();
    let mut got = vec![Event::default(); count];
    watch.time(|| {
        let pids = children.pids.iter();
        let changes: Vec<_> = pids
            .map(|pid| Event::new(*pid as u64, Filter::PROC, ev::ADD).fflags(note::EXIT))
            .collect();
        queue.change(&changes);
    });
    children.end();
    watch.time(|| {
        let mut left = count;
        while left > 0 {
            // Each event contains the status too.
            left -= queue.wait(&mut got);
        }
    });
    watch.each(count)
}

fn exits_by_pidfd(count: usize) -> f64 {
    let mut children = Children::fork(count);
    let epoll = Epoll::new();
    let mut watch = Stopwatch::default();
    let mut got = vec![NOTHING; count];
    let mut fds: Vec<OwnedFd> = Vec::with_capacity(count);
    watch.time(|| {
        for pid in &children.pids {
            // SAFETY: The arguments are integers.
            let fd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, *pid, 0) });
            epoll.add(&fd, libc::EPOLLIN | libc::EPOLLONESHOT);
            fds.push(fd);
        }
    });
    children.end();
    watch.time(|| {
        let mut left = count;
        while left > 0 {
            let ready = epoll.wait(&mut got, -1);
            for event in &got[..ready] {
                // Read the status, which the events of the other side contain.
                // SAFETY: Zero is a valid value of the structure.
                unsafe {
                    let mut info = std::mem::zeroed();
                    let fd = event.u64 as libc::id_t;
                    libc::waitid(libc::P_PIDFD, fd, &mut info, libc::WEXITED | libc::WNOWAIT);
                }
            }
            left -= ready;
        }
        fds.clear();
    });
    watch.each(count)
}

/// Files in memory, open for appending.
pub(super) struct Files {
    pub(super) folder: String,
    pub(super) files: Vec<File>,
}

impl Files {
    pub(super) fn new(count: usize) -> Rc<Self> {
        let folder = format!("/dev/shm/kqueue-bench-{}-{count}", std::process::id());
        fs::create_dir(&folder).expect("a folder in memory");
        let open = |index| {
            let mut options = OpenOptions::new();
            let path = format!("{folder}/{index}");
            options
                .create(true)
                .append(true)
                .open(path)
                .expect("a file")
        };
        Rc::new(Files {
            files: (0..count).map(open).collect(),
            folder,
        })
    }

    pub(super) fn change(&self) {
        for file in &self.files {
            (&*file).write_all(b"x").expect("write");
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn files_by_kevent(queue: impl Kevents, files: Rc<Files>) -> impl FnMut() -> f64 {
    for file in &files.files {
        let event = Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR);
        queue.change(&[event.fflags(note::WRITE)]);
    }
    let mut got = vec![Event::default(); 256];
    move || {
        each(files.files.len(), || {
            files.change();
            let mut left = files.files.len();
            while left > 0 {
                left -= queue.wait(&mut got);
            }
        })
    }
}

fn files_by_inotify(files: Rc<Files>) -> impl FnMut() -> f64 {
    // SAFETY: The arguments are integers.
    let fd = owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) }.into());
    for index in 0..files.files.len() {
        let path = std::ffi::CString::new(format!("{}/{index}", files.folder)).expect("a path");
        // SAFETY: The argument is a C string.
        unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) };
    }
    let epoll = Epoll::new();
    epoll.add(&fd, libc::EPOLLIN);
    let mut buffer = vec![0u8; 256 * 16];
    move || {
        each(files.files.len(), || {
            files.change();
            let mut left = files.files.len() * 16;
            while left > 0 {
                epoll.wait(&mut [NOTHING; 1], -1);
                // SAFETY: The buffer is valid for its length.
                let got =
                    unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
                left -= got as usize;
            }
        })
    }
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let times = scale.pick(5000, 50);
    let mut case = Case::new('h', "a user's trigger, collected", 0.6)
        .side("kqueue", user_by_kevent(kqueue(), times))
        .side("eventfd", user_by_eventfd(times));
    if has_emulation() {
        case = case.side("emulation", user_by_kevent(Emulation::new(), times));
    }
    run(case);

    run(Case::new('h', "a signal to oneself, collected", 0.8)
        .side("kqueue", signals_by_kevent(times))
        .side("signalfd", signals_by_signalfd(times)));

    let children = scale.pick(200, 10);
    let title = format!("the ends of {children} processes, registered and collected");
    run(Case::new('h', title, 0.5)
        .side("kqueue", move || exits_by_kevent(&kqueue(), children))
        .side("pidfd", move || exits_by_pidfd(children)));

    // Each side has its own files, so that one does not pay for the other's watches.
    let count = scale.pick(1000, 20);
    run(Case::new(
        'h',
        format!("a write to one of {count} files, and its event"),
        1.0,
    )
    .side("kqueue", files_by_kevent(kqueue(), Files::new(count)))
    .side("inotify", files_by_inotify(Files::new(count + 1))));
}
