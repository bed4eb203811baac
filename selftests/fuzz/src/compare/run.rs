// SPDX-License-Identifier: GPL-2.0

//! Does the operations of a compared round, and queries all interfaces about each descriptor.

use super::{
    exchange::{self, readable, set_blocking},
    judge::Facts,
    kin,
    op::{Act, Op, SLOTS},
};
use crate::{
    board::{Board, Count},
    chaos::{
        self,
        kinds::{self, Place, BARE, KINDS},
    },
    drop_root,
    random::Random,
    sys::{self, address, address_mut, call, Fd},
};
use kqueue::{ev, note, Event, Filter};
use std::ffi::CString;

/// The first descriptor of a round. The kqueues and the epoll have lower numbers.
const FIRST: Fd = 100;
/// All other descriptors of the round are moved to high numbers.
const HIGH: Fd = 200;
/// The queued signal by which a kqueue reports pending events (F_SETSIG).
const F_SETSIG: usize = 10;
const NEWS: i32 = 42;
/// How often two answers may differ while the kernel works asynchronously, and the delay in
/// milliseconds before each further comparison.
const PATIENCE: [u64; 8] = [0, 1, 4, 20, 100, 300, 600, 1000];

/// The duration in nanoseconds after which a round ends on a slow machine, even if operations
/// remain.
const ROUND: i64 = 60_000_000_000;

/// The connection state of the socket behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    /// The socket never was connected.
    Never,
    /// The socket may be connected or not.
    Unknown,
    /// The socket is or was connected, or it is not connection-oriented.
    Some,
}

/// The known state of an open file.
#[derive(Clone, Copy, Debug)]
struct File {
    kind: &'static str,
    /// Files that were opened together have the same number, because they may be the ends of one
    /// connection.
    group: usize,
    connection: Connection,
    was_shut: bool,
}

/// A descriptor.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    file: Option<usize>,
    /// True if poll(2) and epoll(7) accept the descriptor, and it has knotes.
    is_polled: bool,
    /// True if the descriptor has a knote for writing.
    is_written: bool,
    /// True if the knote with EV_CLEAR has reported before the epoll did.
    ahead: bool,
}

struct Run<'a> {
    board: &'a Board,
    place: Place,
    slots: [Slot; SLOTS as usize],
    files: Vec<File>,
    /// The kqueue that has level-triggered knotes for all descriptors.
    level: Fd,
    /// The kqueue that has knotes for reading with EV_CLEAR for all descriptors.
    edge: Fd,
    /// Has one-shot knotes, which are added again after each operation on their descriptor.
    once: Fd,
    /// The epoll that has all descriptors with EPOLLET.
    epoll: Fd,
    /// The epolls that have all descriptors level-triggered, one for reading and one for writing.
    epolls: [Fd; 2],
    inotify: Fd,
    /// The number of pending events at the last call.
    pending: usize,
}

type Checked = Result<(), String>;

fn fd_of(slot: u8) -> Fd {
    FIRST + Fd::from(slot)
}

fn own_path(fd: Fd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}

fn move_up(fd: Fd) -> Fd {
    let args = [fd as usize, libc::F_DUPFD_CLOEXEC as usize, HIGH as usize];
    let high = call(libc::SYS_fcntl, &args).map_or(-1, |fd| fd as Fd);
    sys::close(fd);
    high
}

/// Takes the signals that have arrived.
fn take_news() -> usize {
    let set = 1u64 << (NEWS - 1);
    let mut none = [0i64; 2];
    let mut count = 0;
    let args = [address(&set), 0, address_mut(&mut none), 8];
    while call(libc::SYS_rt_sigtimedwait, &args) == Ok(NEWS as usize) {
        count += 1;
    }
    count
}

impl<'a> Run<'a> {
    fn new(board: &'a Board, place: Place) -> Result<Self, i32> {
        let (level, edge) = (move_up(sys::kqueue()?), move_up(sys::kqueue()?));
        let set = 1u64 << (NEWS - 1);
        let args = [libc::SIG_BLOCK as usize, address(&set), 0, 8];
        call(libc::SYS_rt_sigprocmask, &args)?;
        let (fd, own) = (level as usize, std::process::id() as usize);
        let flags = (libc::O_ASYNC | libc::O_RDWR) as usize;
        for (command, value) in [
            (libc::F_SETOWN as usize, own),
            (F_SETSIG, NEWS as usize),
            (libc::F_SETFL as usize, flags),
        ] {
            call(libc::SYS_fcntl, &[fd, command, value])?;
        }
        Ok(Run {
            board,
            place,
            slots: [Slot::default(); SLOTS as usize],
            files: Vec::new(),
            level,
            edge,
            once: move_up(sys::kqueue()?),
            epoll: move_up(call(libc::SYS_epoll_create1, &[0])? as Fd),
            epolls: [
                move_up(call(libc::SYS_epoll_create1, &[0])? as Fd),
                move_up(call(libc::SYS_epoll_create1, &[0])? as Fd),
            ],
            inotify: move_up(call(libc::SYS_inotify_init1, &[libc::O_NONBLOCK as usize])? as Fd),
            pending: 0,
        })
    }

    fn slot(&mut self, at: u8) -> &mut Slot {
        &mut self.slots[usize::from(at)]
    }

    fn file(&self, at: u8) -> Option<File> {
        self.slots[usize::from(at)]
            .file
            .map(|file| self.files[file])
    }

    fn file_mut(&mut self, at: u8) -> Option<&mut File> {
        let file = self.slots[usize::from(at)].file?;
        Some(&mut self.files[file])
    }

    /// Closes the descriptor of a slot.
    fn empty(&mut self, at: u8) {
        if self.slot(at).file.is_some() {
            let (delete, fd) = (libc::EPOLL_CTL_DEL as usize, fd_of(at) as usize);
            for epoll in [self.epoll, self.epolls[0], self.epolls[1]] {
                let _ = call(libc::SYS_epoll_ctl, &[epoll as usize, delete, fd, 0]);
            }
            sys::close(fd_of(at));
            *self.slot(at) = Slot::default();
        }
    }

    /// Puts a new descriptor of a file into a slot.
    fn place(&mut self, at: u8, fd: Fd, file: usize) -> Checked {
        self.empty(at);
        set_blocking(fd, false);
        let _ = sys::dup2(fd, fd_of(at));
        sys::close(fd);
        self.slot(at).file = Some(file);
        self.watch(at)?;
        self.compare_rights(at)
    }

    fn add_file(&mut self, kind: &'static str, connection: Connection, group: usize) -> usize {
        self.files.push(File {
            kind,
            group,
            connection,
            was_shut: false,
        });
        self.files.len() - 1
    }

    /// Adds a descriptor to both kqueues and to the epolls.
    fn watch(&mut self, at: u8) -> Checked {
        let fd = fd_of(at);
        let reads = libc::EPOLLIN | libc::EPOLLRDHUP;
        for (epoll, events) in [
            (self.epoll, reads | libc::EPOLLET),
            (self.epolls[0], reads),
            (self.epolls[1], libc::EPOLLOUT),
        ] {
            let mut event = libc::epoll_event {
                events: events as u32,
                u64: at.into(),
            };
            let (add, event) = (libc::EPOLL_CTL_ADD as usize, address_mut(&mut event));
            if call(
                libc::SYS_epoll_ctl,
                &[epoll as usize, add, fd as usize, event],
            )
            .is_err()
            {
                return Ok(());
            }
        }
        let kind = self.file(at).map_or("", |file| file.kind);
        let read = Event::fd(fd, Filter::READ, ev::ADD);
        let write = Event::fd(fd, Filter::WRITE, ev::ADD);
        let clear = Event::fd(fd, Filter::READ, ev::ADD | ev::CLEAR);
        for (queue, change) in [(self.level, read), (self.edge, clear)] {
            if let Err(errno) = sys::kevent(queue, &[change], 0, 0, 0) {
                return Err(format!(
                    "an epoll accepts a descriptor and a kqueue does not: {kind}, errno {errno}"
                ));
            }
        }
        let slot = self.slot(at);
        slot.is_polled = true;
        // A kqueue refuses to watch some kinds for writing, for instance other kqueues.
        let is_written = sys::kevent(self.level, &[write], 0, 0, 0).is_ok();
        self.slot(at).is_written = is_written;
        Ok(())
    }

    /// A kqueue must not report what inotify does not report.
    fn compare_rights(&mut self, at: u8) -> Checked {
        let kind = self.file(at).map_or("", |file| file.kind);
        let path = own_path(fd_of(at));
        let asked = libc::IN_OPEN | libc::IN_CLOSE | libc::IN_ACCESS;
        let (inotify, path) = (self.inotify as usize, path.as_ptr() as usize);
        let args = [inotify, path, asked as usize];
        let added = call(libc::SYS_inotify_add_watch, &args);
        if let Ok(watch) = added {
            let _ = call(libc::SYS_inotify_rm_watch, &[inotify, watch]);
            // The removal of the watch is reported, too.
            let _ = sys::read(self.inotify, &mut [0; 4096]);
        }
        let Ok(queue) = sys::kqueue() else {
            return Ok(());
        };
        let change = Event::fd(fd_of(at), Filter::VNODE, ev::ADD)
            .fflags(note::OPEN | note::CLOSE | note::READ);
        let watched = sys::kevent(queue, &[change], 0, 0, 0);
        sys::close(queue);
        let refused = Err(libc::EACCES);
        match (added, watched) {
            (Err(libc::EACCES), Ok(_)) => Err(format!(
                "a kqueue reports accesses of others to a file, and inotify does not: {kind}"
            )),
            (Ok(_), watched) if watched == refused => Err(format!(
                "a kqueue does not report accesses of others to a file, and inotify does: {kind}"
            )),
            _ => Ok(()),
        }
    }

    fn act(&mut self, op: &Op) -> Checked {
        match *op {
            Op::Open { kind, seed, at } => {
                let name = KINDS[kind].0;
                let fds = (KINDS[kind].1)(&mut Random::new(seed), &self.place);
                self.board.count(Count::Opened, fds.len() as u64);
                self.board
                    .kinds
                    .fetch_or(1 << kind, std::sync::atomic::Ordering::Relaxed);
                // If not all descriptors could be opened, the others may not be connected.
                let connection = match (kinds::is_connected(name), fds.len()) {
                    (true, 0..3) => Connection::Unknown,
                    _ => Connection::Some,
                };
                let group = self.files.len();
                for (index, fd) in fds.into_iter().enumerate() {
                    let place = at[index.min(2)];
                    // The last descriptors of the list have no slot of their own, or share one. So
                    // some are closed again.
                    if index > 2 {
                        sys::close(fd);
                        continue;
                    }
                    let file = self.add_file(name, connection, group);
                    self.place(place, fd, file)?;
                }
            }
            Op::Bare(which, at) => {
                let (name, family, kind, protocol) = BARE[usize::from(which) % BARE.len()];
                let args = [family as usize, kind as usize, protocol as usize];
                if let Ok(fd) = call(libc::SYS_socket, &args) {
                    let file = self.add_file(name, Connection::Never, self.files.len());
                    self.place(at, fd as Fd, file)?;
                }
            }
            Op::Reopen(from, to, flags) => {
                let Some(file) = self.file(from) else {
                    return Ok(());
                };
                let path = own_path(fd_of(from));
                let flags = (flags | libc::O_NONBLOCK) as usize;
                let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0];
                if let Ok(fd) = call(libc::SYS_openat, &args) {
                    let file = self.add_file(file.kind, file.connection, file.group);
                    self.place(to, fd as Fd, file)?;
                }
            }
            Op::Dup(from, to) if from != to => {
                if let Some(file) = self.slot(from).file {
                    if let Ok(fd) = call(libc::SYS_dup, &[fd_of(from) as usize]) {
                        self.place(to, fd as Fd, file)?;
                    }
                }
            }
            Op::Close(at) => self.empty(at),
            Op::Act(at, act, amount) if self.slot(at).file.is_some() => {
                return self.act_on(at, act, amount);
            }
            Op::Sleep(ms) => sys::sleep_ms(ms.into()),
            Op::Exchange(exchange) => return exchange.run(&self.place),
            Op::Crowd(crowd) => return crowd.run(),
            Op::Wait(ms) => return exchange::wait(ms),
            Op::Kin(kin) => return kin.run(&self.place),
            _ => {}
        }
        Ok(())
    }

    fn act_on(&mut self, at: u8, act: Act, amount: usize) -> Checked {
        let fd = fd_of(at);
        let number = fd as usize;
        let bytes = [7u8; 20_000];
        let mut buffer = [0u8; 20_000];
        let bytes = &bytes[..amount.min(20_000)];
        let quiet = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
        match act {
            Act::Write => {
                let _ = sys::write(fd, bytes);
            }
            Act::Send | Act::Urgent => {
                let more = if act == Act::Urgent {
                    libc::MSG_OOB as usize
                } else {
                    0
                };
                let args = [number, address(bytes), bytes.len(), quiet | more, 0, 0];
                let _ = call(libc::SYS_sendto, &args);
            }
            Act::Read => {
                let _ = sys::read(fd, &mut buffer[..bytes.len()]);
            }
            Act::Receive => {
                let args = [number, address_mut(&mut buffer), bytes.len(), quiet, 0, 0];
                let _ = call(libc::SYS_recvfrom, &args);
            }
            Act::Shutdown => {
                // Some kinds of sockets store the state although the call fails.
                let _ = call(libc::SYS_shutdown, &[number, amount % 3]);
                self.forget_connection(at);
                let group = self.file(at).map(|file| file.group);
                let same = |file: &&mut File| Some(file.group) == group;
                // The other end of a pair is shut down as well.
                for file in self.files.iter_mut().filter(same) {
                    file.was_shut = true;
                }
            }
            Act::Accept => {
                let args = [number, 0, 0, libc::SOCK_NONBLOCK as usize];
                if let (Ok(new), Some(file)) = (call(libc::SYS_accept4, &args), self.file(at)) {
                    let file = self.add_file(file.kind, Connection::Some, file.group);
                    self.place((at + 1) % SLOTS, new as Fd, file)?;
                }
            }
            Act::Listen => {
                if call(libc::SYS_listen, &[number, 4]).is_ok() {
                    if let Some(file) = self.file_mut(at) {
                        file.connection = Connection::Some;
                    }
                }
            }
            Act::Disconnect => {
                let nowhere = [0u16; 8];
                let _ = call(libc::SYS_connect, &[number, address(&nowhere), 16]);
                self.forget_connection(at);
            }
            Act::Mode => {
                let mode = [0o600, 0o200, 0o400, 0][amount % 4];
                if call(libc::SYS_fchmod, &[number, mode]).is_ok() {
                    return self.compare_rights(at);
                }
            }
            Act::Seek => {
                let _ = call(libc::SYS_lseek, &[number, amount, libc::SEEK_SET as usize]);
            }
            Act::Truncate => {
                let _ = call(libc::SYS_ftruncate, &[number, amount]);
            }
            Act::Fill => {
                for _ in 0..200 {
                    if sys::write(fd, bytes).is_err() {
                        break;
                    }
                }
            }
            Act::Drain => {
                for _ in 0..200 {
                    if !matches!(sys::read(fd, &mut buffer), Ok(1..)) {
                        break;
                    }
                }
            }
            Act::Timer => {
                let time = [0i64, 0, 0, amount as i64 * 1000];
                let _ = call(libc::SYS_timerfd_settime, &[number, 0, address(&time), 0]);
            }
            Act::Flush => {
                let args = [number, libc::TCFLSH as usize, libc::TCIOFLUSH as usize];
                let _ = call(libc::SYS_ioctl, &args);
            }
        }
        Ok(())
    }

    /// Records that only the socket knows whether it is connected from here on.
    fn forget_connection(&mut self, at: u8) {
        if let Some(file) = self.file_mut(at) {
            if kinds::is_connected(file.kind) {
                file.connection = Connection::Unknown;
            }
        }
    }

    // Returns the answers of the other interfaces.

    fn poll_all(&self) -> [i16; SLOTS as usize] {
        let mut polls = [libc::pollfd {
            fd: -1,
            events: Facts::ASKED,
            revents: 0,
        }; SLOTS as usize];
        for (at, slot) in self.slots.iter().enumerate() {
            if slot.is_polled {
                polls[at].fd = fd_of(at as u8);
            }
        }
        sys::poll(&mut polls, 0);
        polls.map(|poll| poll.revents)
    }

    fn facts(&self, at: u8, poll: i16) -> Facts {
        let file = self.file(at);
        let kind = file.map_or("", |file| file.kind);
        let counts = matches!(kind, "pipe" | "fifo" | "unix_stream" | "tcp" | "tcp6");
        Facts {
            poll,
            bytes: readable(fd_of(at)).filter(|_| counts && poll & libc::POLLPRI == 0),
            is_bare: file.is_some_and(|file| file.connection == Connection::Never),
            was_shut: file.is_some_and(|file| file.was_shut),
        }
    }

    fn is_judged(&self, at: u8) -> bool {
        let file = self.file(at);
        self.slots[usize::from(at)].is_polled
            && file.is_some_and(|file| file.connection != Connection::Unknown)
    }

    /// Collects all events of the level-triggered knotes.
    fn collect(&mut self, queue: Fd) -> Result<Vec<Event>, String> {
        let mut events = [Event::default(); 64];
        let list = address_mut(&mut events);
        let count = sys::kevent(queue, &[], list, events.len(), 0)
            .map_err(|errno| format!("collecting failed: errno {errno}"))?;
        self.board.count(Count::Calls, 1);
        self.board.count(Count::Events, count as u64);
        Ok(events[..count].to_vec())
    }

    /// Compares the answers of all interfaces after an operation. `is_same` is true if the
    /// operation did not change the set of descriptors.
    fn compare(&mut self, is_same: bool) -> Checked {
        let news = take_news();
        if is_same && self.pending > 0 && news > 0 {
            return Err(format!(
                "signals of a kqueue in which an event was already pending: {news} of them, {} events",
                self.pending
            ));
        }
        let mut wrong = Ok(());
        for ms in PATIENCE {
            if ms > 0 {
                sys::sleep_ms(ms);
            }
            wrong = self.compare_once(is_same && ms == 0, news)?;
            if wrong.is_ok() {
                break;
            }
        }
        wrong?;
        self.compare_edges()
    }

    /// Returns a difference if it persists.
    fn compare_once(&mut self, is_same: bool, news: usize) -> Result<Checked, String> {
        let before = self.poll_all();
        let facts: Vec<Facts> = (0..SLOTS)
            .map(|at| self.facts(at, before[usize::from(at)]))
            .collect();
        let had_pending = self.pending > 0;
        let was_pending = self.is_pending();
        let events = self.collect(self.level)?;
        let after = self.poll_all();
        self.pending = events.len();
        let more_news = take_news();
        if before != after {
            // An epoll evaluates a descriptor only when it is called. It is called now, as the
            // kqueue was, so that it does not report later a condition that has become true without
            // a wake-up, such as the room of a terminal.
            for at in 0..SLOTS {
                let _ = (self.epoll_reports(0, at), self.epoll_reports(1, at));
            }
            return Ok(Err("two polls report different states".into()));
        }
        if !was_pending && !events.is_empty() {
            return Ok(Err(format!(
                "events that poll has not reported: {events:?}"
            )));
        }
        if events.is_empty() && self.is_pending() {
            return Ok(Err("poll reports events that do not exist".into()));
        }
        if is_same && !had_pending && !events.is_empty() && news + more_news == 0 {
            return Err(format!("no signal that there are events: {events:?}"));
        }
        for at in (0..SLOTS).filter(|&at| self.is_judged(at)) {
            let facts = facts[usize::from(at)];
            let of = |filter| {
                let mut all = events.iter();
                all.find(|event| event.ident == fd_of(at) as u64 && event.filter == filter)
            };
            let (read, write) = (of(Filter::READ), of(Filter::WRITE));
            let mut judged = facts.read(read);
            // If a file does not wake its pollers, as at a flush of the other side of a terminal,
            // an epoll does not report the change either.
            if read.is_none() && !self.epoll_reports(0, at) {
                judged = Ok(());
            }
            let is_reported = write.is_some() || self.epoll_reports(1, at);
            if self.slots[usize::from(at)].is_written && is_reported {
                judged = judged.and(facts.write(write));
            }
            if let Err(what) = judged {
                return Ok(Err(format!(
                    "{what}: {:?}\n  {facts:x?}\n  {read:?}\n  {write:?}",
                    self.file(at)
                )));
            }
        }
        Ok(Ok(()))
    }

    fn epoll_reports(&self, direction: usize, at: u8) -> bool {
        let mut list = [libc::epoll_event { events: 0, u64: 0 }; SLOTS as usize];
        let epoll = self.epolls[direction] as usize;
        let args = [epoll, address_mut(&mut list), list.len(), 0];
        let count = call(libc::SYS_epoll_pwait, &args).unwrap_or(0);
        list[..count].iter().any(|event| event.u64 == at.into())
    }

    fn is_pending(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.level,
            events: libc::POLLIN,
            revents: 0,
        };
        sys::poll(std::slice::from_mut(&mut poll), 0);
        poll.revents & libc::POLLIN != 0
    }

    /// EV_CLEAR must report whatever EPOLLET reports.
    fn compare_edges(&mut self) -> Checked {
        let mut list = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let args = [self.epoll as usize, address_mut(&mut list), list.len(), 0];
        let count = call(libc::SYS_epoll_pwait, &args).unwrap_or(0);
        let polled = self.poll_all();
        let events = self.collect(self.edge)?;
        for at in 0..SLOTS {
            if !self.is_judged(at) {
                continue;
            }
            let found = list[..count].iter().find(|event| event.u64 == at.into());
            let reported = events.iter().any(|event| event.ident == fd_of(at) as u64);
            let facts = self.facts(at, polled[usize::from(at)]);
            let ready = facts.read(None).is_err();
            let slot = self.slot(at);
            match (found.map(|event| event.events), reported) {
                (Some(_), false) if ready && !slot.ahead => {
                    let (kind, slot) = (self.file(at), self.slots[usize::from(at)]);
                    return Err(format!(
                        "EPOLLET reports an event and EV_CLEAR does not: {kind:?} \
                         {slot:?}\n  {facts:x?}"
                    ));
                }
                (Some(_), false) => slot.ahead = false,
                (None, true) => slot.ahead = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// A kqueue to which a descriptor was just added must report the same. So must a kqueue to which
    /// the descriptor is added with `EV_ONESHOT` after each operation.
    fn compare_added(&mut self, at: u8) -> Checked {
        if !self.is_judged(at) {
            return Ok(());
        }
        let mut wrong = Ok(());
        for ms in PATIENCE {
            if ms > 0 {
                sys::sleep_ms(ms);
            }
            let Ok(fresh) = sys::kqueue() else {
                return Ok(());
            };
            let before = self.poll_all();
            let facts = self.facts(at, before[usize::from(at)]);
            let told = self.add(at, fresh, 0);
            sys::close(fresh);
            let told_once = self.add(at, self.once, ev::ONESHOT);
            let after = self.poll_all();
            let (told, told_once) = (told?, told_once?);
            self.check_deleted(at, &told_once)?;
            if before != after {
                continue;
            }
            wrong = self
                .judge(at, facts, &told, "fresh")
                .and_then(|()| self.judge(at, facts, &told_once, "one-shot"));
            if wrong.is_ok() {
                break;
            }
        }
        wrong
    }

    /// The filters of a descriptor in the kqueues to which it is added.
    fn filters(&self, at: u8) -> &'static [Filter] {
        if self.slots[usize::from(at)].is_written {
            &[Filter::READ, Filter::WRITE, Filter::EXCEPT]
        } else {
            &[Filter::READ]
        }
    }

    /// Adds a descriptor to a kqueue. Returns what the same call collects of it.
    fn add(&self, at: u8, queue: Fd, flags: u16) -> Result<Vec<Event>, String> {
        let changes: Vec<Event> = (self.filters(at).iter())
            .map(|&filter| {
                let is_urgent = filter == Filter::EXCEPT;
                Event::fd(fd_of(at), filter, ev::ADD | flags).fflags(if is_urgent {
                    note::OOB
                } else {
                    0
                })
            })
            .collect();
        let mut events = [Event::default(); 64];
        let list = address_mut(&mut events);
        let count = sys::kevent(queue, &changes, list, events.len(), 0).unwrap_or(0);
        let told: Vec<Event> = (events[..count].iter())
            .filter(|event| event.ident == fd_of(at) as u64)
            .copied()
            .collect();
        if told.iter().any(|event| event.has(ev::ERROR)) {
            return Err(format!(
                "a second kqueue does not accept a descriptor: {:?}\n  {told:?}",
                self.file(at)
            ));
        }
        Ok(told)
    }

    /// Checks the one-shot knotes of a descriptor that was just added: a knote exists if and only if
    /// its event is not among those that were `told`.
    fn check_deleted(&self, at: u8, told: &[Event]) -> Checked {
        let changes: Vec<Event> = (self.filters(at).iter())
            .map(|&filter| Event::fd(fd_of(at), filter, ev::ENABLE | ev::RECEIPT))
            .collect();
        let mut answers = [Event::default(); 3];
        let list = address_mut(&mut answers);
        let count = sys::kevent(self.once, &changes, list, changes.len(), 0)
            .map_err(|errno| format!("enabling failed: errno {errno}"))?;
        for answer in &answers[..count] {
            let was_told = told.iter().any(|event| event.filter == answer.filter);
            let wanted = if was_told { libc::ENOENT } else { 0 };
            if answer.data != wanted.into() {
                return Err(format!(
                    "a one-shot knote is enabled: {:?}\n  {answer:?}, after {told:?}",
                    self.file(at)
                ));
            }
        }
        if count != changes.len() {
            return Err(format!("{count} answers to {changes:?}"));
        }
        Ok(())
    }

    fn judge(&self, at: u8, facts: Facts, events: &[Event], how: &str) -> Checked {
        let of = |filter| events.iter().find(|event| event.filter == filter);
        let mut judged = facts.read(of(Filter::READ));
        if self.slots[usize::from(at)].is_written {
            judged = judged
                .and(facts.write(of(Filter::WRITE)))
                .and(facts.urgent(of(Filter::EXCEPT)));
        }
        judged.map_err(|what| {
            format!(
                "{what}, {how}: {:?}\n  {facts:x?}\n  {events:?}",
                self.file(at)
            )
        })
    }
}

/// The descriptor of an operation, and whether all descriptors stay open.
fn about(op: &Op) -> (Option<u8>, bool) {
    match *op {
        Op::Open { at, .. } => (Some(at[0]), false),
        Op::Bare(_, at) => (Some(at), false),
        Op::Reopen(_, to, _) | Op::Dup(_, to) => (Some(to), false),
        Op::Act(at, act, _) => (Some(at), act != Act::Accept),
        Op::Close(_) => (None, false),
        Op::Sleep(_) | Op::Exchange(_) | Op::Crowd(_) | Op::Wait(_) | Op::Kin(_) => (None, true),
    }
}

/// Does all operations. Returns the fault and the number of its operation.
pub fn run(ops: &[Op], seed: u64, root: bool, board: &Board) -> Result<(), (usize, String)> {
    let place = Place {
        folder: chaos::folder(),
        queue: sys::kqueue().map_or(-1, move_up),
    };
    kin::prepare(&place);
    if !root {
        drop_root();
    }
    chaos::handle_signals();
    // Some sockets require rights that the process has in a network namespace of its own.
    if seed & 1 == 0 {
        chaos::own_namespaces();
    }
    let slot = board.slot();
    let failed = |errno| (0, format!("preparing failed: errno {errno}"));
    let mut run = Run::new(board, place).map_err(failed)?;
    let end = sys::now() + ROUND;
    for (step, op) in ops.iter().enumerate() {
        if sys::now() > end {
            break;
        }
        slot.at(step as u64, &format!("{op:?}"), [0; 3]);
        board.count(Count::Steps, 1);
        let (at, is_same) = about(op);
        let mut result = run.act(op).and_then(|()| run.compare(is_same));
        if let Some(at) = at {
            result = result.and_then(|()| run.compare_added(at));
        }
        result.map_err(|what| (step, what))?;
    }
    Ok(())
}
