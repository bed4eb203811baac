// SPDX-License-Identifier: GPL-2.0

//! The attacker, which is a process of user nobody.

use crate::sys;
use kqueue::{Event, Kqueue};
use std::{
    any::Any,
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    panic::{catch_unwind, AssertUnwindSafe},
    time::Duration,
};

/// A signal that attackers ignore.
pub const SIGNAL: i32 = libc::SIGUSR2;

/// The result of an assault.
pub struct Assault {
    /// The number of objects that the attacker has.
    made: usize,
    /// The operation that the attacker does when requested, which returns its cost.
    act: Box<dyn FnMut() -> f64>,
}

impl Assault {
    /// The attacker has that many objects and keeps them.
    pub fn of(made: usize, kept: impl Any) -> Self {
        Assault {
            made,
            act: Box::new(move || {
                let _ = &kept;
                0.0
            }),
        }
    }

    /// The attacker has that many objects, and does an operation when requested.
    pub fn acting(made: usize, act: impl FnMut() -> f64 + 'static) -> Self {
        Assault {
            made,
            act: Box::new(act),
        }
    }
}

impl Assault {
    /// The attacker has that many knotes in those kqueues. When requested it collects all events,
    /// so that the knotes report again. They are not level-triggered.
    pub fn collecting(made: usize, kqueues: Vec<Kqueue>, kept: impl Any) -> Self {
        let mut events = vec![Event::default(); 256];
        Assault::acting(made, move || {
            let _ = &kept;
            for kqueue in &kqueues {
                while kqueue
                    .kevent(&[], &mut events, Some(Duration::ZERO))
                    .expect("kevent")
                    == events.len()
                {}
            }
            0.0
        })
    }

    /// Like the above, with non-blocking descriptors from which events are read.
    pub fn reading(made: usize, descriptors: Vec<OwnedFd>) -> Self {
        let mut files: Vec<File> = descriptors.into_iter().map(File::from).collect();
        let mut bytes = vec![0; 1 << 16];
        Assault::acting(made, move || {
            for file in &mut files {
                while file.read(&mut bytes).is_ok_and(|read| read > 0) {}
            }
            0.0
        })
    }
}

/// Creates up to `most` objects until one is refused. Returns those that were created.
pub fn as_many<T>(most: usize, make: impl FnMut(usize) -> std::io::Result<T>) -> Vec<T> {
    (0..most).map(make).map_while(Result::ok).collect()
}

/// A running attacker.
pub struct Attacker {
    pub pid: libc::pid_t,
    /// The number of objects that the attacker has.
    pub made: usize,
    orders: File,
    answers: File,
}

fn pipe() -> (File, File) {
    let mut fds = [0; 2];
    // SAFETY: The array has room for two descriptors.
    sys::checked(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }).expect("pipe");
    let [reader, writer] = fds.map(|fd| sys::owned(fd).expect("a descriptor"));
    (reader.into(), writer.into())
}

/// The child makes its assault, and then acts once for each request until there are no more.
fn serve(mut orders: File, mut answers: File, prepare: impl FnOnce() -> Assault) {
    let mut assault = prepare();
    let mut answer = assault.made as f64;
    loop {
        answers.write_all(&answer.to_ne_bytes()).expect("a pipe");
        // Signals are part of some assaults; `read_exact` goes on after them.
        match orders.read_exact(&mut [0]) {
            Ok(()) => answer = (assault.act)(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                // The kernel releases all objects of the process when it exits.
                std::mem::forget(assault);
                return;
            }
        }
    }
}

impl Attacker {
    /// Starts an attacker, and waits until it has everything that it can have.
    pub fn start(prepare: impl FnOnce() -> Assault) -> Self {
        let (orders, give_orders) = pipe();
        let (get_answers, answers) = pipe();
        // SAFETY: The process has one thread. The child does its requests and exits.
        let pid = unsafe { libc::fork() };
        sys::checked(pid).expect("fork");
        if pid == 0 {
            drop((give_orders, get_answers));
            let served = catch_unwind(AssertUnwindSafe(|| {
                sys::drop_privileges();
                sys::catch(SIGNAL);
                serve(orders, answers, prepare);
            }));
            // SAFETY: The function does not return.
            unsafe { libc::_exit(served.is_err().into()) };
        }
        let mut attacker = Attacker {
            pid,
            made: 0,
            orders: give_orders,
            answers: get_answers,
        };
        attacker.made = attacker.answer() as usize;
        attacker
    }

    fn answer(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.answers
            .read_exact(&mut bytes)
            .expect("the attacker's answer");
        f64::from_ne_bytes(bytes)
    }

    /// Makes the attacker act, and returns the cost.
    pub fn act(&mut self) -> f64 {
        self.orders.write_all(&[0]).expect("the attacker");
        self.answer()
    }

    /// Ends the attacker. Returns the time until it and all of its objects are gone.
    pub fn end(self) -> f64 {
        let Attacker { pid, orders, .. } = self;
        let start = sys::time();
        drop(OwnedFd::from(orders));
        let mut status = 0;
        // SAFETY: The process is a child of this one, and there is room for its status.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        let took = sys::time() - start;
        assert_eq!((ended, status), (pid, 0), "the attacker has died");
        took
    }
}
