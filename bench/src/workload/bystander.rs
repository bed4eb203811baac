// SPDX-License-Identifier: GPL-2.0

//! (k) What those pay who have nothing to do with it: without the module, with it loaded, and with
//! somebody using all of its filters.

use crate::{
    measure::{Case, Stopwatch},
    queue::{kqueue, Kevents},
    sys::{Channel, Kind},
    Scale,
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

/// What a bystander does; called with a number of times.
type Deed = fn(usize);

fn close(times: usize) {
    for _ in 0..times {
        // SAFETY: A duplicate of our own, and its end.
        unsafe { libc::close(libc::dup(0)) };
    }
}

fn fork(times: usize) {
    for _ in 0..times.div_ceil(20) {
        // SAFETY: The child ends at once.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(0),
                pid => libc::waitpid(pid, std::ptr::null_mut(), 0),
            }
        };
    }
}

fn exec(times: usize) {
    for _ in 0..times.div_ceil(50) {
        let _ = Command::new("/bin/true").status();
    }
}

fn kill(times: usize) {
    for _ in 0..times {
        // SAFETY: It is ignored.
        unsafe { libc::kill(libc::getpid(), libc::SIGUSR2) };
    }
}

fn pipe(times: usize) {
    let channel = Kind::Pipe.pair();
    for _ in 0..times {
        channel.send();
        channel.receive();
    }
}

/// Somebody else's kqueue, with something of each filter.
struct Busy {
    _queue: Kqueue,
    _channel: Channel,
    _file: File,
}

impl Busy {
    fn new() -> Self {
        let queue = kqueue();
        let channel = Kind::Pipe.pair();
        let file = File::open("/dev/shm").expect("a folder in memory");
        // Of a process that does nothing: the first one.
        let process = Event::new(1, Filter::PROC, ev::ADD);
        queue.change(&[
            Event::fd(channel.reader.as_raw_fd(), Filter::READ, ev::ADD),
            Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD).fflags(note::WRITE),
            Event::fd(file.as_raw_fd(), Filter::READ, ev::ADD),
            process.fflags(note::FORK | note::EXEC | note::EXIT),
            Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD),
            Event::new(1, Filter::TIMER, ev::ADD).data(1_000_000),
            Event::new(0, Filter::FS, ev::ADD),
        ]);
        Busy {
            _queue: queue,
            _channel: channel,
            _file: file,
        }
    }
}

fn load(module: &Path) {
    let file = File::open(module).expect("the module");
    // SAFETY: A descriptor and a C string.
    let ret = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

fn unload() {
    // SAFETY: A C string.
    let ret = unsafe { libc::syscall(libc::SYS_delete_module, c"kqueue".as_ptr(), 0) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

/// Nanoseconds for each time.
fn cost(deed: Deed, times: usize) -> f64 {
    let mut watch = Stopwatch::default();
    watch.time(|| deed(times));
    watch.each(times)
}

pub fn cases(scale: Scale, module: &Path, run: &mut dyn FnMut(Case)) {
    let times = scale.pick(5000, 50);
    // SAFETY: Nothing is to be done about it.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let module: Rc<PathBuf> = Rc::new(module.to_owned());
    unload();
    let deeds: [(&str, Deed); 5] = [
        ("close", close),
        ("fork", fork),
        ("exec", exec),
        ("kill", kill),
        ("write to and read from a pipe", pipe),
    ];
    for (name, deed) in deeds {
        for (how, target) in [("idle", 1.01), ("busy", 1.05)] {
            let module = module.clone();
            let with = move || {
                load(&module);
                let busy = (how == "busy").then(Busy::new);
                let cost = cost(deed, times);
                drop(busy);
                unload();
                cost
            };
            run(
                Case::new('k', format!("{name}, with the module {how}"), target)
                    .side("kqueue", with)
                    .side("without", move || cost(deed, times)),
            );
        }
    }
    load(&module);
}
