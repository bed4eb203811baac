// SPDX-License-Identifier: GPL-2.0

//! One thread of a wild round, or a child process of a thread.
//!
//! A child is a copy of one thread among several. So its operations must not take a lock of the C
//! library, and must not allocate memory.

use super::{
    kinds::KINDS,
    memory::{Own, SIZE},
    Shared, CHILD, CHILDREN, QUEUES, REMEMBERED,
};
use crate::{
    board::{Count, Slot},
    random::Random,
    sys::{self, address, address_mut, call, Fd},
};
use io_uring::{opcode, types, IoUring};
use kqueue::{abi, ev, note, Event, Filter};
use std::{os::fd::AsRawFd, sync::atomic::Ordering::Relaxed};

/// `F_SETSIG`: the signal that reports a descriptor.
const F_SETSIG: usize = 10;

/// The operations. A child does only the first ones.
const ACTS: [&str; 23] = [
    "kevent",
    "traffic",
    "use",
    "close",
    "dup",
    "close_range",
    "poll",
    "signal",
    "odd ioctl",
    "memory",
    "fcntl",
    "epoll",
    "reopen",
    "open",
    "fork",
    "share",
    "exec",
    "fdinfo",
    "ring",
    "names",
    "mounts",
    "pass",
    "look",
];
/// How often an operation is repeated that is meant to race with other threads.
const ROUNDS: u64 = 48;

/// The number of operations that a child may do.
const OF_CHILDREN: usize = 13;

/// The role of a thread, which determines the weights of its operations.
pub struct Profile([u32; ACTS.len()]);

impl Profile {
    /// The role of the thread with this number. One thread makes traffic, one calls kqueues, and
    /// the others do everything.
    pub fn of(number: u64, random: &mut Random) -> Self {
        let mut weights = [
            60, 12, 12, 4, 4, 1, 3, 2, 3, 2, 2, 2, 2, 6, 1, 1, 1, 2, 3, 4, 2, 2, 8,
        ];
        match number {
            0 => (weights[0], weights[1]) = (20, 120),
            1 => (weights[0], weights[1], weights[22]) = (100, 4, 120),
            2 => (weights[1], weights[22]) = (60, 30),
            _ => {
                let at = random.index(ACTS.len());
                weights[at] *= 4;
            }
        }
        Profile(weights)
    }

    /// The role of a child.
    fn of_child() -> Self {
        let mut weights = [0; ACTS.len()];
        weights[..OF_CHILDREN].copy_from_slice(&[30, 5, 5, 10, 5, 3, 2, 2, 2, 1, 1, 1, 2]);
        Profile(weights)
    }
}

/// A thread.
pub struct Actor<'a> {
    shared: &'a Shared<'a>,
    random: Random,
    profile: Profile,
    slot: &'a Slot,
    own: Own,
    /// Makes one of the next allocations of the thread fail.
    fail: Option<Fd>,
    ring: Option<IoUring>,
    wrong: bool,
}

/// Starts a timer that interrupts the thread repeatedly, so that no call blocks for long.
fn interrupt_often() {
    // SAFETY: Zero is a valid value of all fields of the event.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGALRM;
    event.sigev_notify_thread_id = call(libc::SYS_gettid, &[]).unwrap_or(0) as i32;
    let mut timer = 0i32;
    let args = [
        libc::CLOCK_MONOTONIC as usize,
        address(&event),
        address_mut(&mut timer),
    ];
    if call(libc::SYS_timer_create, &args).is_ok() {
        let often = [0i64, 30_000_000, 0, 30_000_000];
        let _ = call(
            libc::SYS_timer_settime,
            &[timer as usize, 0, address(&often), 0],
        );
    }
}

impl<'a> Actor<'a> {
    pub fn new(shared: &'a Shared<'a>, random: Random, profile: Profile) -> Self {
        let path = c"/proc/thread-self/fail-nth".as_ptr() as usize;
        let at = libc::AT_FDCWD as usize;
        let fail = call(libc::SYS_openat, &[at, path, libc::O_RDWR as usize, 0]);
        interrupt_often();
        Actor {
            shared,
            random,
            profile,
            slot: shared.board.slot(),
            own: Own::new(),
            fail: fail.ok().map(|fd| super::move_up(fd as Fd)),
            ring: IoUring::new(8).ok(),
            wrong: false,
        }
    }

    /// Does operations until the round is over. True if something was wrong.
    pub fn run(mut self) -> bool {
        let mut step = 0;
        while !self.shared.is_over(step) {
            self.step(step as u64);
            step += 1;
        }
        for child in &self.shared.children {
            let child = child.swap(-1, Relaxed);
            if child > 0 {
                let _ = call(libc::SYS_kill, &[child as usize, libc::SIGKILL as usize]);
                sys::reap(child);
            }
        }
        self.slot.at(step as u64, "over", [0; 3]);
        self.wrong
    }

    fn step(&mut self, step: u64) {
        let act = self.random.weighted(&self.profile.0);
        self.shared.board.count(Count::Steps, 1);
        self.slot.at(step, ACTS[act], [0; 3]);
        // Allocations fail only in operations that call the module.
        let fails = matches!(act, 0 | 3 | 4 | 12) && self.random.chance(8);
        let nth = self.random.below(12) + 1;
        if fails {
            self.fail_at(nth);
        }
        match act {
            0 => self.kevent(step),
            1 => self.traffic(),
            2 => self.use_it(step),
            3 => sys::close(self.close_what()),
            4 => self.dup(),
            5 => self.close_range(),
            6 => self.poll(),
            7 => self.signal(),
            8 => self.odd_ioctl(step),
            9 => self.shared.memory.disturb(&mut self.random),
            10 => self.fcntl(),
            11 => self.epoll(),
            12 => self.reopen(),
            13 => self.open(),
            14 => self.fork(0),
            15 => self.fork(libc::CLONE_FILES),
            16 => self.exec(),
            17 => self.fdinfo(),
            18 => self.use_ring(),
            19 => self.names(),
            20 if self.shared.mounts => self.mounts(),
            21 => self.pass(),
            22 => self.look(),
            _ => {}
        }
        if fails {
            self.fail_at(0);
        }
    }

    fn fail_at(&mut self, nth: u64) {
        if let Some(fail) = self.fail {
            let digits = [b'0' + (nth / 10) as u8, b'0' + (nth % 10) as u8];
            // A leading zero would select octal.
            let digits = &digits[usize::from(nth < 10)..];
            let args = [fail as usize, address(digits), digits.len(), 0];
            if call(libc::SYS_pwrite64, &args).is_ok() && nth > 0 {
                self.shared.board.count(Count::Faults, 1);
            }
        }
    }

    fn fd(&mut self) -> Fd {
        self.shared.fd(&mut self.random)
    }

    fn queue(&mut self) -> Fd {
        if self.random.chance(5) {
            return self.fd();
        }
        self.shared.queues[self.random.index(QUEUES)].load(Relaxed)
    }

    fn address(&mut self, len: usize) -> usize {
        self.shared.memory.address(&mut self.random, &self.own, len)
    }

    // The kqueues.

    fn event(&mut self) -> Event {
        let random = &mut self.random;
        let own = std::process::id() as u64;
        let filters = [
            Filter::READ,
            Filter::WRITE,
            Filter::EXCEPT,
            Filter::VNODE,
            Filter::PROC,
            Filter::SIGNAL,
            Filter::TIMER,
            Filter::USER,
            Filter::FS,
            Filter::AIO,
            Filter::PROCDESC,
        ];
        let filter = match random.weighted(&[30, 12, 5, 10, 6, 5, 10, 12, 3, 1, 2, 1]) {
            at @ 0..11 => filters[at],
            _ => Filter(random.next() as i16),
        };
        let child = self.shared.children[random.index(CHILDREN)].load(Relaxed) as u64;
        let mut ident = match filter {
            Filter::READ | Filter::WRITE | Filter::EXCEPT | Filter::VNODE | Filter::PROCDESC => {
                self.shared.fd(random) as u64
            }
            Filter::PROC => random.pick(&[own, child, child, 1, 2, own + 1 + child]),
            Filter::SIGNAL => random.pick(&[10, 12, 14, 40, 41, 17, 64, 0, 65]),
            _ => random.below(16),
        };
        if random.chance(1) {
            ident = random.next();
        }
        let mut flags = match random.weighted(&[60, 10, 12, 9, 9]) {
            0 => ev::ADD | random.pick(&[0, 0, ev::CLEAR, ev::ONESHOT, ev::DISPATCH, ev::DISABLE]),
            1 => 0,
            2 => ev::DELETE,
            3 => ev::ENABLE,
            _ => ev::DISABLE,
        };
        match random.below(40) {
            0 => flags ^= 1 << random.below(16),
            1 => flags = random.next() as u16,
            2..6 => flags |= ev::RECEIPT,
            6 => flags |= ev::KEEPUDATA,
            _ => {}
        }
        let mut fflags = match filter {
            Filter::READ | Filter::WRITE => random.pick(&[0, 0, 0, note::LOWAT]),
            Filter::EXCEPT => random.pick(&[0, note::OOB]),
            Filter::VNODE => {
                let single = 1 << random.below(11);
                random.pick(&[0x7f, 0x7ff, note::WRITE, single])
            }
            Filter::PROC => {
                random.pick(&[note::EXIT, note::FORK, note::EXEC, note::TRACK, 0xe000_0000])
                    | random.pick(&[0, note::TRACK])
            }
            Filter::PROCDESC => note::EXIT,
            Filter::TIMER => random.pick(&[
                0,
                0,
                note::USECONDS,
                note::NSECONDS,
                note::SECONDS,
                note::ABSTIME,
            ]),
            Filter::USER => random.pick(&[note::TRIGGER, 0, note::FFCOPY]) | random.below(8) as u32,
            Filter::FS => note::VQ_MOUNT | note::VQ_UNMOUNT,
            _ => 0,
        };
        if random.chance(2) {
            fflags = random.next() as u32;
        }
        let data = random.pick(&[0, 0, 1, 1, 2, 5, 100, 4000, -1, i64::MAX, i64::MIN]);
        let udata = random.next();
        Event::new(ident, filter, flags)
            .fflags(fflags)
            .data(data)
            .udata(udata)
    }

    fn kevent(&mut self, step: u64) {
        const MOST: usize = 20;
        let mut changes = [Event::default(); MOST];
        let queue = self.queue();
        let mut count = self.random.pick(&[0, 0, 1, 1, 1, 2, 4, 17, MOST]);
        for change in &mut changes[..count] {
            *change = self.event();
        }
        let mut changelist = address(&changes);
        if self.random.chance(6) {
            changelist = self.address(count * size_of::<Event>());
        } else if self.random.chance(1) {
            count = self.random.pick(&[usize::MAX, 1 << 31, (1 << 31) - 1]);
            changelist = self.random.pick(&[0, self.shared.memory.zeros()]);
        }
        let room = self.random.pick(&[0, 1, 1, 2, 8, 16, 40, 130, 400]);
        let list = self.address(room * size_of::<Event>());
        let (flags, nsec) = match self.random.below(40) {
            0 => (0, 0),
            1 => (self.random.next() as u32, 0),
            2 => (abi::KQUEUE_TIMEOUT, self.random.next() as i64),
            3..8 => (abi::KQUEUE_TIMEOUT, self.random.below(2_000_000) as i64),
            _ => (abi::KQUEUE_TIMEOUT, 0),
        };
        let args = abi::kqueue_kevent {
            changelist: changelist as u64,
            eventlist: list as u64,
            nchanges: count as u32,
            nevents: room as u32,
            flags,
            tv_nsec: nsec,
            ..Default::default()
        };
        let (mut command, mut at) = (sys::IOC_KEVENT, address(&args));
        let waits = flags == 0 && room > 0;
        if self.random.chance(1) {
            at = self.address(size_of_val(&args));
        } else if count == 0 && self.random.chance(50) {
            command = if waits {
                sys::ioc_wait(room)
            } else {
                sys::ioc_poll(room)
            };
            at = list;
        } else if room == 0 && self.random.chance(50) {
            command = sys::ioc_change(count);
            at = changelist;
        }
        self.slot
            .at(step, "kevent", [queue as u64, count as u64, list as u64]);
        let result = call(libc::SYS_ioctl, &[queue as usize, command, at]);
        self.shared.board.count(Count::Calls, 1);
        if result.is_ok() {
            self.shared.board.count(Count::Changes, count as u64);
        }
        let ours = command != sys::IOC_KEVENT || at == address(&args);
        self.judge(queue, result, room, ours);
        if result == Err(libc::EBADF) && self.random.chance(30) {
            self.reopen();
        }
    }

    /// Checks the result of a call with room for `room` events. The events themselves are checked
    /// if `ours`.
    fn judge(&mut self, queue: Fd, result: Result<usize, i32>, room: usize, ours: bool) {
        /// All errors of a call and of a change. `ENOTTY` is included because the number may have
        /// referred to another file for a moment.
        const ERRORS: [i32; 20] = [
            libc::EACCES,
            libc::EBADF,
            libc::EBUSY,
            libc::EFAULT,
            libc::EINTR,
            libc::EINVAL,
            libc::ELOOP,
            libc::ENOENT,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::ENXIO,
            libc::EOPNOTSUPP,
            libc::ESRCH,
            libc::E2BIG,
            libc::EPERM,
            libc::EMFILE,
            libc::ENFILE,
            libc::EOVERFLOW,
            libc::ENODEV,
            libc::ENOTTY,
        ];
        let is_queue = self
            .shared
            .queues
            .iter()
            .any(|of| of.load(Relaxed) == queue);
        if !is_queue || !ours {
            return;
        }
        match result {
            Ok(count) => {
                self.shared.board.count(Count::Events, count as u64);
                if count > room {
                    // The number may refer to another file by now.
                    let again = sys::kevent(queue, &[], 0, 0, 0);
                    if again == Ok(0) {
                        self.complain("kevent: more events than there was room for", count);
                    }
                }
            }
            Err(errno) if !ERRORS.contains(&errno) => {
                let again = sys::kevent(queue, &[], 0, 0, 0);
                if again == Ok(0) {
                    self.complain("kevent: an errno that it does not have", errno as usize);
                }
            }
            Err(_) => {}
        }
    }

    fn complain(&mut self, what: &str, number: usize) {
        self.wrong = true;
        self.shared.board.say(what);
        let mut digits = *b"  00000000";
        let mut rest = number;
        for digit in digits.iter_mut().rev().take(8) {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.shared
            .board
            .say(std::str::from_utf8(&digits).unwrap_or_default());
    }

    fn odd_ioctl(&mut self, step: u64) {
        let queue = self.queue();
        let size = self.random.pick(&[0, 8, 63, 64, 65, 72, 128, 4096, 16383]);
        let number = match self.random.below(4) {
            0 => sys::ioc_kevent(size),
            1 => sys::ioc_kevent(size) ^ 1 << self.random.below(32),
            2 => sys::IOC_CREATE,
            _ => self.random.next() as u32 as usize,
        };
        let arg = if number == sys::IOC_CREATE {
            self.random.pick(&[
                0,
                libc::O_CLOEXEC as usize,
                libc::O_NONBLOCK as usize,
                1,
                usize::MAX,
            ])
        } else {
            self.address(size)
        };
        self.slot
            .at(step, "odd ioctl", [queue as u64, number as u64, arg as u64]);
        let result = call(libc::SYS_ioctl, &[queue as usize, number, arg]);
        if let (sys::IOC_CREATE, Ok(fd)) = (number, result) {
            self.shared.remember(fd as Fd, false, &mut self.random);
        }
    }

    fn reopen(&mut self) {
        let at = &self.shared.queues[self.random.index(QUEUES)];
        let new = if self.random.chance(50) {
            sys::kqueue().unwrap_or(-1)
        } else {
            let args = [self.shared.place.queue as usize, sys::IOC_CREATE, 0];
            call(libc::SYS_ioctl, &args).map_or(-1, |fd| fd as Fd)
        };
        let old = at.swap(new, Relaxed);
        if old > 2 && self.random.chance(80) {
            sys::close(old);
        }
    }

    // Descriptors.

    fn open(&mut self) {
        let hot = &self.shared.hot;
        let kind = if self.random.chance(60) {
            self.random.pick(hot)
        } else {
            self.random.index(KINDS.len())
        };
        self.slot.at(0, KINDS[kind].0, [0; 3]);
        self.shared.open(kind, &mut self.random);
    }

    /// Opens descriptors, mostly of a kind that is not hot.
    fn close_what(&mut self) -> Fd {
        if self.random.chance(75) {
            let at = self.random.index(REMEMBERED);
            return self.shared.fds[at].load(Relaxed);
        }
        self.fd()
    }

    fn dup(&mut self) {
        let (from, to) = (self.fd(), self.close_what());
        let new = match self.random.below(4) {
            0 => call(libc::SYS_dup, &[from as usize]),
            1 => call(
                libc::SYS_fcntl,
                &[
                    from as usize,
                    libc::F_DUPFD as usize,
                    self.random.index(200),
                ],
            ),
            2 => sys::dup2(from, to),
            _ => call(
                libc::SYS_dup3,
                &[from as usize, to as usize, libc::O_CLOEXEC as usize],
            ),
        };
        if let Ok(new) = new {
            self.shared.remember(new as Fd, false, &mut self.random);
        }
    }

    fn close_range(&mut self) {
        let first = self.random.below(super::LOW / 4);
        let last = first + self.random.pick(&[0, 1, 3, 8, 30]);
        let flags = self.random.pick(&[0, 0, libc::CLOSE_RANGE_CLOEXEC]);
        let args = [first as usize, last as usize, flags as usize];
        let _ = call(libc::SYS_close_range, &args);
    }

    /// Writes to and reads from a hot descriptor for a while.
    fn traffic(&mut self) {
        let fd = self.shared.fds[self.random.index(super::HOT)].load(Relaxed) as usize;
        let len = self.random.pick(&[1, 8, 64, 600, 4096, 20_000]);
        let (at, quiet) = (self.own.start(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let quiet = quiet as usize;
        let inclined = self.random.below(4);
        for _ in 0..ROUNDS {
            let way = match inclined {
                0 => 0,
                1 => 1,
                _ => self.random.below(4),
            };
            let done = match way {
                0 => call(libc::SYS_sendto, &[fd, at, len, quiet, 0, 0]),
                1 => call(libc::SYS_recvfrom, &[fd, at, len, quiet, 0, 0]),
                2 => call(libc::SYS_write, &[fd, at, len]),
                _ => call(libc::SYS_read, &[fd, at, len]),
            };
            // The descriptor does not support that, or the call would block.
            if matches!(done, Err(libc::EBADF | libc::EINTR)) {
                break;
            }
        }
    }

    /// Polls a hot descriptor for a while.
    fn look(&mut self) {
        let fd = self.shared.fds[self.random.index(super::HOT)].load(Relaxed);
        let queue = self.shared.queues[self.random.index(QUEUES)].load(Relaxed);
        let filter = self
            .random
            .pick(&[Filter::READ, Filter::READ, Filter::WRITE, Filter::EXCEPT]);
        let mut change = Event::fd(fd, filter, ev::ADD);
        let at = self.own.start();
        for _ in 0..ROUNDS {
            if sys::kevent(queue, std::slice::from_ref(&change), at, 8, 0).is_err() {
                break;
            }
            change.flags = ev::ENABLE;
        }
        self.shared.board.count(Count::Calls, ROUNDS);
    }

    fn use_it(&mut self, step: u64) {
        let fd = self.fd();
        let len = self.random.pick(&[0, 1, 8, 64, 4096, SIZE]);
        let address_of = self.address(len);
        let random = &mut self.random;
        let act = random.below(22);
        self.slot
            .at(step, "use", [fd as u64, act, address_of as u64]);
        let fd = fd as usize;
        let quiet = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
        let one = 1u32;
        let _ = match act {
            0 => call(libc::SYS_read, &[fd, address_of, len]),
            1 => call(libc::SYS_write, &[fd, address_of, len]),
            2 => {
                let more = random.pick(&[libc::MSG_OOB, libc::MSG_MORE, libc::MSG_EOR]) as usize;
                call(libc::SYS_sendto, &[fd, address_of, len, quiet | more, 0, 0])
            }
            3 => {
                let flags = [
                    libc::MSG_PEEK,
                    libc::MSG_TRUNC,
                    libc::MSG_OOB,
                    libc::MSG_ERRQUEUE,
                ];
                let more = random.pick(&flags) as usize;
                call(
                    libc::SYS_recvfrom,
                    &[fd, address_of, len, quiet | more, 0, 0],
                )
            }
            4 => {
                let to = random.pick(&[0, 1, 100, 1 << 16]);
                call(libc::SYS_lseek, &[fd, to, random.index(5)])
            }
            5 => call(libc::SYS_shutdown, &[fd, random.index(3)]),
            6 => {
                let new = call(libc::SYS_accept4, &[fd, 0, 0, libc::SOCK_NONBLOCK as usize]);
                if let Ok(new) = new {
                    self.shared.remember(new as Fd, true, random);
                }
                new
            }
            7 => call(libc::SYS_ioctl, &[fd, libc::FIONREAD as usize, address_of]),
            8 => {
                let option = random.pick(&[
                    libc::SO_RCVLOWAT,
                    libc::SO_SNDBUF,
                    libc::SO_RCVBUF,
                    libc::SO_SELECT_ERR_QUEUE,
                    libc::SO_OOBINLINE,
                    libc::SO_KEEPALIVE,
                ]) as usize;
                let value = random.pick(&[0u32, 1, 100, 5000]);
                let at = address(&value);
                call(
                    libc::SYS_setsockopt,
                    &[fd, libc::SOL_SOCKET as usize, option, at, 4],
                )
            }
            9 => {
                let mut len = 4u32;
                let error = libc::SO_ERROR as usize;
                let args = [
                    fd,
                    libc::SOL_SOCKET as usize,
                    error,
                    address_of,
                    address_mut(&mut len),
                ];
                call(libc::SYS_getsockopt, &args)
            }
            10 => call(
                libc::SYS_ftruncate,
                &[fd, random.pick(&[0, 1, 4096, 1 << 16])],
            ),
            11 => call(libc::SYS_fchmod, &[fd, random.pick(&[0o600, 0o666, 0o777])]),
            12 => {
                let times = [
                    0i64,
                    random.pick(&[0, 1_000_000]),
                    0,
                    random.pick(&[0, 1, 1_000_000]),
                ];
                call(libc::SYS_timerfd_settime, &[fd, 0, address(&times), 0])
            }
            13 => {
                // Disconnects the socket.
                let nowhere = [0u16; 8];
                call(libc::SYS_connect, &[fd, address(&nowhere), 16])
            }
            14 => {
                let other = self.shared.fd(random) as usize;
                call(libc::SYS_splice, &[fd, 0, other, 0, 4096, 2])
            }
            15 => {
                let other = self.shared.fd(random) as usize;
                call(libc::SYS_sendfile, &[fd, other, 0, 4096])
            }
            16 => call(
                libc::SYS_ioctl,
                &[fd, libc::FIONBIO as usize, address(&one)],
            ),
            17 => call(libc::SYS_fallocate, &[fd, 0, 0, random.index(1 << 16)]),
            18 => call(libc::SYS_fsync, &[fd]),
            19 => {
                let cut = random.pick(&[libc::TCIOFLUSH, libc::TCIFLUSH]) as usize;
                call(libc::SYS_ioctl, &[fd, libc::TCFLSH as usize, cut])
            }
            20 => call(libc::SYS_listen, &[fd, random.index(4)]),
            _ => {
                // Sets the size of a pipe, or seals a memfd.
                let command = random.pick(&[libc::F_SETPIPE_SZ, libc::F_ADD_SEALS]);
                call(
                    libc::SYS_fcntl,
                    &[fd, command as usize, random.pick(&[4096, 65536, 4])],
                )
            }
        };
    }

    fn poll(&mut self) {
        let mut polls = [libc::pollfd {
            fd: 0,
            events: 0,
            revents: 0,
        }; 4];
        for poll in &mut polls {
            poll.fd = if self.random.chance(50) {
                self.queue()
            } else {
                self.fd()
            };
            poll.events = self.random.next() as i16;
        }
        let ms = self.random.pick(&[0, 0, 1, 5]);
        sys::poll(&mut polls, ms);
    }

    fn epoll(&mut self) {
        let (epoll, mut other) = (self.fd(), self.fd());
        if self.random.chance(50) {
            other = self.queue();
        }
        let command = 1 + self.random.index(3);
        let event = [self.random.next(), self.random.next()];
        let args = [epoll as usize, command, other as usize, address(&event)];
        let _ = call(libc::SYS_epoll_ctl, &args);
        let at = self.own.start();
        let _ = call(libc::SYS_epoll_pwait, &[epoll as usize, at, 8, 0]);
    }

    fn fcntl(&mut self) {
        let fd = if self.random.chance(60) {
            self.queue()
        } else {
            self.fd()
        } as usize;
        let pid = std::process::id() as usize;
        let flags = (libc::O_ASYNC | libc::O_NONBLOCK) as usize;
        let _ = match self.random.below(5) {
            0 => call(libc::SYS_fcntl, &[fd, libc::F_SETOWN as usize, pid]),
            1 => call(libc::SYS_fcntl, &[fd, F_SETSIG, 40]),
            2 => call(libc::SYS_fcntl, &[fd, libc::F_SETFL as usize, flags]),
            3 => {
                let nonblock = libc::O_NONBLOCK as usize;
                call(libc::SYS_fcntl, &[fd, libc::F_SETFL as usize, nonblock])
            }
            _ => call(
                libc::SYS_fcntl,
                &[fd, libc::F_SETFD as usize, self.random.index(2)],
            ),
        };
    }

    fn fdinfo(&mut self) {
        let queue = self.queue();
        let path = format!("/proc/self/fdinfo/{queue}\0");
        let at = libc::AT_FDCWD as usize;
        if let Ok(file) = call(libc::SYS_openat, &[at, path.as_ptr() as usize, 0, 0]) {
            let buffer = self.own.start();
            let _ = call(libc::SYS_read, &[file, buffer, self.random.index(SIZE)]);
            sys::close(file as Fd);
        }
    }

    // Signals and processes.

    fn signal(&mut self) {
        let number = self
            .random
            .pick(&[libc::SIGUSR1, libc::SIGUSR2, 40, 41, libc::SIGURG]);
        let pid = std::process::id() as usize;
        let child = self.shared.children[self.random.index(CHILDREN)].load(Relaxed);
        let target = if child > 0 && self.random.chance(30) {
            child as usize
        } else {
            pid
        };
        let _ = call(libc::SYS_kill, &[target, number as usize]);
    }

    /// Creates a child that does a few operations. `flags` of clone(2) select what it shares with
    /// this process.
    fn fork(&mut self, flags: i32) {
        let random = Random::new(self.random.next());
        let steps = 1 + self.random.below(20);
        match sys::clone(flags) {
            Ok(0) => {
                self.random = random;
                self.be_child(steps);
                sys::exit(self.random.index(8) as i32);
            }
            Ok(pid) => self.keep_child(pid as i32),
            Err(_) => {}
        }
    }

    fn be_child(&mut self, steps: u64) {
        // Blocking calls are interrupted in the child, too.
        let often = [0i64, 50_000, 0, 50_000];
        let _ = call(
            libc::SYS_setitimer,
            &[libc::ITIMER_REAL as usize, address(&often), 0],
        );
        self.profile = Profile::of_child();
        self.fail = None;
        self.slot = self.shared.board.slot();
        for step in 0..steps {
            self.step(step);
        }
    }

    /// The child is waited for now, or when its slot is needed.
    fn keep_child(&mut self, pid: i32) {
        let place = &self.shared.children[self.random.index(CHILDREN)];
        let old = place.swap(pid, Relaxed);
        if old > 0 {
            if self.random.chance(50) {
                let _ = call(libc::SYS_kill, &[old as usize, libc::SIGKILL as usize]);
            }
            sys::reap(old);
        }
    }

    fn exec(&mut self) {
        let path = c"/proc/self/exe".as_ptr() as usize;
        let mut argument = [0u8; 16];
        argument[..CHILD.len()].copy_from_slice(CHILD.as_bytes());
        let arguments = [path, argument.as_ptr() as usize, 0];
        let steps = self.random.below(6);
        let random = Random::new(self.random.next());
        match sys::clone(self.random.pick(&[0, libc::CLONE_FILES])) {
            Ok(0) => {
                self.random = random;
                self.be_child(steps);
                let _ = call(libc::SYS_execve, &[path, address(&arguments), 0]);
                sys::exit(9);
            }
            Ok(pid) => self.keep_child(pid as i32),
            Err(_) => {}
        }
    }

    // Others.

    fn use_ring(&mut self) {
        let (fd, queue) = (self.fd(), self.queue());
        let at = self.own.start() as *mut u8;
        let random = &mut self.random;
        let Some(ring) = self.ring.as_mut() else {
            return;
        };
        for _ in 0..1 + random.index(3) {
            let entry = match random.below(6) {
                0 => opcode::Close::new(types::Fd(fd)).build(),
                1 => opcode::PollAdd::new(types::Fd(queue), libc::POLLIN as u32).build(),
                2 => opcode::PollAdd::new(types::Fd(fd), random.below(64) as u32)
                    .multi(true)
                    .build(),
                3 => opcode::Read::new(types::Fd(fd), at, 600).build(),
                4 => opcode::Write::new(types::Fd(fd), at, 600).build(),
                _ => opcode::PollRemove::new(0).build(),
            };
            // SAFETY: The memory is never unmapped, and only the kernel accesses it.
            let _ = unsafe { ring.submission().push(&entry) };
        }
        // Other operations may close descriptors with low numbers.
        if ring.as_raw_fd() >= 0 {
            let _ = ring.submit();
        }
        ring.completion().for_each(drop);
    }

    /// Creates, renames and removes files.
    fn names(&mut self) {
        let names = ["a", "b", "c", "d", "e/x", "e"];
        let (a, b) = (self.random.pick(&names), self.random.pick(&names));
        let (a, b) = (self.shared.place.path(a), self.shared.place.path(b));
        let (a, b) = (a.as_ptr() as usize, b.as_ptr() as usize);
        let here = libc::AT_FDCWD as usize;
        let _ = match self.random.below(8) {
            0 => call(libc::SYS_renameat2, &[here, a, here, b, 0]),
            1 => call(libc::SYS_linkat, &[here, a, here, b, 0]),
            2 => call(libc::SYS_unlinkat, &[here, a, 0]),
            3 => call(libc::SYS_mkdirat, &[here, a, 0o777]),
            4 => call(libc::SYS_unlinkat, &[here, a, libc::AT_REMOVEDIR as usize]),
            5 => call(libc::SYS_truncate, &[a, self.random.index(5000)]),
            6 => call(libc::SYS_fchmodat, &[here, a, 0o666]),
            _ => call(libc::SYS_utimensat, &[here, a, 0, 0]),
        };
    }

    fn mounts(&mut self) {
        let (at, folder) = (self.shared.place.path("mnt"), self.shared.place.path("."));
        let (at, folder) = (at.as_ptr() as usize, folder.as_ptr() as usize);
        let _ = call(libc::SYS_mkdirat, &[libc::AT_FDCWD as usize, at, 0o777]);
        let kind = c"tmpfs".as_ptr() as usize;
        let bind = (libc::MS_BIND | libc::MS_REC) as usize;
        let _ = match self.random.below(5) {
            0 => call(libc::SYS_mount, &[kind, at, kind, 0, 0]),
            1 => call(libc::SYS_mount, &[folder, at, 0, bind, 0]),
            2 => {
                let path = self.shared.place.path("mnt/f");
                let flags = (libc::O_CREAT | libc::O_RDWR) as usize;
                let directory = libc::AT_FDCWD as usize;
                let args = [directory, path.as_ptr() as usize, flags, 0o666];
                let opened = call(libc::SYS_openat, &args);
                if let Ok(fd) = opened {
                    self.shared.remember(fd as Fd, true, &mut self.random);
                }
                opened
            }
            3 => call(libc::SYS_umount2, &[at, 0]),
            _ => call(libc::SYS_umount2, &[at, libc::MNT_DETACH as usize]),
        };
    }

    /// Passes a descriptor through a socket.
    fn pass(&mut self) {
        let [send, receive] = self.shared.passing;
        let mut byte = 0u8;
        let part = [address_mut(&mut byte), 1];
        // The fields are the length, the level, the type and the descriptor.
        let mut control = [20u64, 1 | 1 << 32, 0];
        if self.random.chance(50) {
            let fd = if self.random.chance(30) {
                self.queue()
            } else {
                self.fd()
            };
            control[2] = fd as u32 as u64;
            let message = [0, 0, address(&part), 1, address(&control), 24, 0];
            let _ = call(
                libc::SYS_sendmsg,
                &[
                    send as usize,
                    address(&message),
                    libc::MSG_DONTWAIT as usize,
                ],
            );
        } else {
            control = [0; 3];
            let mut message = [0, 0, address(&part), 1, address_mut(&mut control), 24, 0];
            let flags = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) as usize;
            let args = [receive as usize, address_mut(&mut message), flags];
            if call(libc::SYS_recvmsg, &args).is_ok() && control[0] == 20 {
                self.shared
                    .remember(control[2] as Fd, false, &mut self.random);
            }
        }
    }
}
