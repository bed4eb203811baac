// SPDX-License-Identifier: GPL-2.0

//! Does the operations of a checked round, and compares the results with the [`Model`].

use super::{
    op::{Change, Closer, How, Memory, Op, Target, CHILDREN, QUEUES, SIGNALS, SLOTS},
    state::{Child, Model, Object, Tri},
};
use crate::{
    board::{Board, Count},
    sys::{self, Fd},
};
use io_uring::{opcode, types, IoUring};
use kqueue::{ev, note, Event, Filter};

/// The first descriptor of a round, those of the kqueues, and those of their duplicates.
const FIRST_FD: Fd = 100;
const FIRST_QUEUE: Fd = 90;
const COPY: Fd = 95;
/// The size of a page.
const PAGE: usize = 4096;
/// The maximum number of events that one call requests.
const ROOM: usize = 512;
/// A timeout in nanoseconds that is never reached unless something hangs.
const SOON: i64 = 60_000_000_000;
/// The byte that fills a list before the call.
const CANARY: u64 = 0xa5a5_5a5a_a5a5_5a5a;

type Checked = Result<(), String>;

struct Run<'a> {
    model: Model,
    board: &'a Board,
    holder: Option<i32>,
    /// The memory for the events of a call, followed by an unmapped page.
    good: usize,
    fresh: usize,
    read_only: usize,
    ring: Option<IoUring>,
    step: usize,
}

fn fd_of(slot: u8) -> Fd {
    FIRST_FD + Fd::from(slot)
}

fn queue_fd(queue: u8) -> Fd {
    FIRST_QUEUE + Fd::from(queue)
}

const LIST: usize = ROOM * size_of::<Event>() + PAGE;

impl<'a> Run<'a> {
    fn new(board: &'a Board) -> Self {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let good = sys::map(LIST + PAGE, both);
        let _ = sys::call(libc::SYS_mprotect, &[good + LIST, PAGE, 0]);
        Run {
            model: Model::new(FIRST_FD, FIRST_QUEUE),
            board,
            holder: None,
            good,
            fresh: sys::map(LIST + PAGE, both),
            read_only: sys::map(LIST, libc::PROT_READ),
            ring: IoUring::new(4).ok(),
            step: 0,
        }
    }

    /// Moves a new descriptor to a slot.
    fn place(&self, fd: Fd, slot: u8) {
        let _ = sys::call(
            libc::SYS_fcntl,
            &[fd as usize, libc::F_SETFL as usize, {
                let flags = sys::call(libc::SYS_fcntl, &[fd as usize, libc::F_GETFL as usize]);
                flags.unwrap_or(0) | libc::O_NONBLOCK as usize
            }],
        );
        let _ = sys::dup2(fd, fd_of(slot));
        sys::close(fd);
    }

    fn is_open(&self, queue: u8) -> bool {
        self.model.queues[usize::from(queue)].open
    }

    fn act(&mut self, op: &Op) -> Checked {
        match *op {
            Op::Pipe(a, b) if a != b => {
                let mut fds = [0i32; 2];
                if sys::call(libc::SYS_pipe2, &[sys::address_mut(&mut fds), 0]).is_ok() {
                    self.place(fds[0], a);
                    self.place(fds[1], b);
                    self.model.opened(Object::Pipe(Default::default()), &[a, b]);
                }
            }
            Op::Pair(a, b) if a != b => {
                let mut fds = [0i32; 2];
                let kind = [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0];
                let args = [kind[0], kind[1], kind[2], sys::address_mut(&mut fds)];
                if sys::call(libc::SYS_socketpair, &args).is_ok() {
                    self.place(fds[0], a);
                    self.place(fds[1], b);
                    self.model.opened(Object::Pair(Default::default()), &[a, b]);
                }
            }
            Op::Eventfd(at, count) => {
                if let Ok(fd) = sys::call(libc::SYS_eventfd2, &[count as usize, 0]) {
                    self.place(fd as Fd, at);
                    self.model.opened(Object::Eventfd(count.into()), &[at]);
                }
            }
            Op::File(at) => {
                let flags = libc::O_TMPFILE | libc::O_RDWR;
                let path = c"/dev/shm".as_ptr() as usize;
                let args = [libc::AT_FDCWD as usize, path, flags as usize, 0o600];
                if let Ok(fd) = sys::call(libc::SYS_openat, &args) {
                    self.place(fd as Fd, at);
                    self.model.opened(Object::File { size: 0 }, &[at]);
                }
            }
            Op::Dup(from, to) if from != to => {
                if let Some(file) = self.model.file(from) {
                    let _ = sys::dup2(fd_of(from), fd_of(to));
                    self.model.set(to, Some(file));
                }
            }
            Op::Close(at, closer) if self.model.file(at).is_some() => self.close(at, closer),
            Op::CloseRange(a, b) => {
                let args = [fd_of(a) as usize, fd_of(b) as usize, 0];
                let _ = sys::call(libc::SYS_close_range, &args);
                (a..=b).for_each(|slot| self.model.set(slot, None));
            }
            Op::Write(at, count) => self.write(at, count.into()),
            Op::Read(at, count) => self.read(at, count.into()),
            Op::Fill(at) => self.fill(at),
            Op::Seek(at, to) => {
                if let Some((Object::File { .. }, _)) = self.model.object(at) {
                    let args = [fd_of(at) as usize, to.into(), libc::SEEK_SET as usize];
                    let _ = sys::call(libc::SYS_lseek, &args);
                    self.model.seeked(at, to.into());
                }
            }
            Op::Chmod(at) => {
                if let Some((Object::File { .. }, _)) = self.model.object(at) {
                    if sys::call(libc::SYS_fchmod, &[fd_of(at) as usize, 0o644]).is_ok() {
                        self.model.chmodded(at);
                    }
                }
            }
            Op::Hold if self.holder.is_none() => self.hold(),
            Op::Release => self.release(),
            Op::ChildCloses => {
                if let Ok(pid) = sys::clone(0) {
                    if pid == 0 {
                        close_all();
                        sys::exit(0);
                    }
                    sys::reap(pid as i32);
                }
            }
            Op::ChildUses(queue) if self.is_open(queue) => return self.child_uses(queue),
            Op::Reopen(queue) => return self.reopen(queue),
            Op::Copy(queue) if self.is_open(queue) => {
                let _ = sys::dup2(queue_fd(queue), COPY);
                sys::close(COPY);
            }
            Op::Changes(queue, how, ref changes) if self.is_open(queue) => {
                return self.change(queue, how, changes);
            }
            Op::Burst(queue, count) if self.is_open(queue) => return self.burst(queue, count),
            Op::Oneshots(queue, at, times) if self.is_open(queue) => {
                return self.oneshots(queue, at, times);
            }
            Op::Collect(queue, room, memory) if self.is_open(queue) => {
                return self.collect(queue, room.into(), memory);
            }
            Op::CollectAll(queue, room) if self.is_open(queue) => {
                return self.collect_all(queue, room.into());
            }
            Op::Signal(at) => {
                let number = SIGNALS[usize::from(at)];
                let pid = std::process::id() as usize;
                let tid = sys::call(libc::SYS_gettid, &[]).unwrap_or(0);
                let sent = if self.step % 2 == 0 {
                    sys::call(libc::SYS_kill, &[pid, number as usize])
                } else {
                    sys::call(libc::SYS_tgkill, &[pid, tid, number as usize])
                };
                if sent.is_ok() {
                    self.model.signalled(number);
                }
            }
            Op::Spawn(at) if self.model.children[usize::from(at)] == Child::None => self.spawn(at),
            Op::End(at) => self.end(at)?,
            Op::Reap(at) => {
                if let Child::Ended(pid, status) = self.model.children[usize::from(at)] {
                    let reaped = sys::reap(pid);
                    if reaped != Some(status) {
                        return Err(format!("wait status {reaped:?}, not {status}"));
                    }
                    self.model.children[usize::from(at)] = Child::Reaped(pid, status);
                }
            }
            Op::Sleep(ms) => sys::sleep_ms(ms.into()),
            Op::Poll(queue) if self.is_open(queue) => return self.poll(queue),
            Op::Info(queue) if self.is_open(queue) => return self.info(queue),
            _ => {}
        }
        Ok(())
    }

    // Descriptors.

    fn close(&mut self, at: u8, closer: Closer) {
        let fd = fd_of(at);
        match closer {
            Closer::Close => sys::close(fd),
            Closer::Range => {
                let _ = sys::call(libc::SYS_close_range, &[fd as usize, fd as usize, 0]);
            }
            Closer::Sharer => match sys::clone(libc::CLONE_FILES) {
                Ok(0) => {
                    sys::close(fd);
                    sys::exit(0);
                }
                Ok(pid) => {
                    sys::reap(pid as i32);
                }
                Err(_) => sys::close(fd),
            },
            Closer::Ring => {
                let closed = self.ring.as_mut().is_some_and(|ring| {
                    let entry = opcode::Close::new(types::Fd(fd)).build();
                    // SAFETY: The operation has no pointers.
                    let pushed = unsafe { ring.submission().push(&entry) };
                    let done = pushed.is_ok() && ring.submit_and_wait(1).is_ok();
                    let results: Vec<i32> = ring.completion().map(|entry| entry.result()).collect();
                    done && results == [0]
                });
                if !closed {
                    sys::close(fd);
                }
            }
            Closer::Dup => {
                // A file that is in no slot.
                if let Ok(other) = sys::call(libc::SYS_eventfd2, &[0, 0]) {
                    let _ = sys::dup2(other as Fd, fd);
                    sys::close(other as Fd);
                }
                sys::close(fd);
            }
        }
        self.model.set(at, None);
    }

    fn write(&mut self, at: u8, count: usize) {
        let fd = fd_of(at);
        match self.model.object(at) {
            Some((Object::Eventfd(counter), _)) => {
                if counter < u64::MAX - 10_000 {
                    let bytes = (count as u64).to_ne_bytes();
                    if sys::write(fd, &bytes).is_ok() {
                        self.model.wrote(at, count, false);
                    }
                }
            }
            Some((Object::Pipe(_), 0)) | None => {}
            Some(_) => match sys::write(fd, &[7; 600][..count]) {
                Ok(count @ 1..) => self.model.wrote(at, count, false),
                _ => self.model.refused(at),
            },
        }
    }

    fn fill(&mut self, at: u8) {
        let fd = fd_of(at);
        match self.model.object(at) {
            Some((Object::Eventfd(counter), _)) => {
                let room = u64::MAX - 1 - counter;
                if room > 0 && sys::write(fd, &room.to_ne_bytes()).is_ok() {
                    self.model.wrote(at, room as usize, true);
                }
            }
            Some((Object::Pipe(_), 1)) => {
                let mut all = 0;
                while let Ok(count @ 1..) = sys::write(fd, &[7; PAGE]) {
                    all += count;
                }
                // The last page may have some free bytes, which do not count as room.
                if all > 0 {
                    self.model.wrote(at, all, true);
                }
                self.model.refused(at);
            }
            _ => {}
        }
    }

    fn read(&mut self, at: u8, count: usize) {
        let mut buffer = [0; 1 << 16];
        match self.model.object(at) {
            Some((Object::Pipe(_), 1)) | None => {}
            Some(_) => {
                if let Ok(count @ 1..) = sys::read(fd_of(at), &mut buffer[..count.max(8)]) {
                    self.model.was_read(at, count);
                }
            }
        }
    }

    // Processes.

    fn hold(&mut self) {
        if let Ok(pid) = sys::clone(0) {
            if pid == 0 {
                loop {
                    sys::sleep_ms(1000);
                }
            }
            self.holder = Some(pid as i32);
            self.model.hold();
        }
    }

    fn release(&mut self) {
        if let Some(pid) = self.holder.take() {
            let _ = sys::call(libc::SYS_kill, &[pid as usize, libc::SIGKILL as usize]);
            sys::reap(pid);
            self.model.release();
        }
    }

    fn child_uses(&self, queue: u8) -> Checked {
        let Ok(pid) = sys::clone(0) else {
            return Ok(());
        };
        if pid == 0 {
            let add = Event::new(1, Filter::USER, ev::ADD);
            let used = sys::kevent(queue_fd(queue), &[add], 0, 0, 0);
            sys::exit(i32::from(used != Err(libc::EBADF)));
        }
        match sys::reap(pid as i32) {
            Some(0) => Ok(()),
            status => Err(format!(
                "a child could use queue {queue} (status {status:?})"
            )),
        }
    }

    /// Creates a child. When this function returns, the child has no copies of this process's
    /// descriptors.
    fn spawn(&mut self, at: u8) {
        let mut fds = [0i32; 2];
        if sys::call(libc::SYS_pipe2, &[sys::address_mut(&mut fds), 0]).is_err() {
            return;
        }
        let made = sys::clone(0);
        if made == Ok(0) {
            close_all();
            fds.into_iter().for_each(sys::close);
            loop {
                sys::sleep_ms(1000);
            }
        }
        sys::close(fds[1]);
        // The end of file means that the child has closed all of them.
        let _ = sys::read(fds[0], &mut [0]);
        sys::close(fds[0]);
        if let Ok(pid) = made {
            self.model.children[usize::from(at)] = Child::Running(pid as i32);
        }
    }

    fn end(&mut self, at: u8) -> Checked {
        let Child::Running(pid) = self.model.children[usize::from(at)] else {
            return Ok(());
        };
        let _ = sys::call(libc::SYS_kill, &[pid as usize, libc::SIGKILL as usize]);
        // Wait until the child can be waited for, without reaping it.
        let mut info = [0u64; 16];
        let args = [
            libc::P_PID as usize,
            pid as usize,
            sys::address_mut(&mut info),
            (libc::WEXITED | libc::WNOWAIT) as usize,
            0,
        ];
        while sys::call(libc::SYS_waitid, &args) == Err(libc::EINTR) {}
        self.model.ended(at, pid, libc::SIGKILL);
        Ok(())
    }

    // The kqueues.

    fn reopen(&mut self, queue: u8) -> Checked {
        let fd = queue_fd(queue);
        sys::close(fd);
        let new = sys::kqueue().map_err(|errno| format!("opening /dev/kqueue: errno {errno}"))?;
        let _ = sys::dup2(new, fd);
        sys::close(new);
        self.model.reopened(queue);
        Ok(())
    }

    fn call(
        &self,
        queue: u8,
        changes: &[Event],
        list: usize,
        room: usize,
    ) -> (Result<usize, i32>, (i64, i64)) {
        let before = sys::now();
        let result = sys::kevent(queue_fd(queue), changes, list, room, 0);
        let after = sys::now();
        self.board.count(Count::Calls, 1);
        self.board.count(Count::Changes, changes.len() as u64);
        if let Ok(count) = result {
            self.board.count(Count::Events, count as u64);
        }
        (result, (before, after))
    }

    /// The list for `count` events.
    fn list(&mut self, at: usize, count: usize) -> &mut [Event] {
        // SAFETY: All lists are in memory of this process that is large enough. No other reference
        // to it exists. Any bits are valid events.
        unsafe { std::slice::from_raw_parts_mut(at as *mut Event, count) }
    }

    /// A list in mapped memory, followed by bytes that must not change.
    fn guarded(&mut self, room: usize) -> usize {
        let guard = Event::new(CANARY, Filter(0), 0);
        let at = self.good;
        self.list(at, room + 4).fill(guard);
        at
    }

    fn events(&mut self, at: usize, count: usize, room: usize) -> Result<Vec<Event>, String> {
        let all = self.list(at, room + 4);
        if count > room || all[room..].iter().any(|event| event.ident != CANARY) {
            return Err(format!(
                "written beyond the list: {count} events, room for {room}"
            ));
        }
        Ok(all[..count].to_vec())
    }

    fn change(&mut self, queue: u8, how: How, changes: &[Change]) -> Checked {
        let mut events = Vec::new();
        let mut applied = Vec::new();
        for (at, change) in changes.iter().enumerate() {
            let Some(ident) = self.model.ident(change) else {
                continue;
            };
            let receipt = if how == How::Receipts { ev::RECEIPT } else { 0 };
            let event = Event::new(ident, change.filter, change.flags | receipt)
                .fflags(change.fflags)
                .data(change.data)
                .udata((self.step << 8 | at) as u64);
            events.push(event);
            applied.push(*change);
        }
        if events.is_empty() {
            return Ok(());
        }
        let room = match how {
            How::Receipts => events.len(),
            How::Collect(room) => usize::from(room).max(events.len()),
            How::Silent => 0,
        };
        let list = self.guarded(room);
        let (result, times) = self.call(queue, &events, list, room);
        let mut answers = Vec::new();
        for (change, event) in applied.iter().zip(&events) {
            let errno = self.model.apply(queue, change, event, times);
            if errno != 0 || how == How::Receipts {
                answers.push((event, errno));
            }
            if errno != 0 && how == How::Silent {
                break;
            }
        }
        if how == How::Silent {
            let wanted = answers.first().map_or(Ok(0), |answer| Err(answer.1));
            if result != wanted {
                return Err(format!("the call gave {result:?}, not {wanted:?}"));
            }
            return Ok(());
        }
        let count = result.map_err(|errno| format!("the call failed: errno {errno}"))?;
        let got = self.events(list, count, room)?;
        if answers.is_empty() {
            self.model.reported(queue, &got, count < room, times)?;
            // A knote for which there was no room must not count as pending if it is not ready.
            return self.info(queue);
        }
        if got.len() != answers.len() {
            return Err(format!("answers: {got:?}\n  not {answers:?}"));
        }
        for (got, (event, errno)) in got.iter().zip(answers) {
            let same =
                (got.ident, got.filter, got.udata) == (event.ident, event.filter, event.udata);
            if !same || !got.has(ev::ERROR) || got.data != errno.into() {
                return Err(format!("answer {got:?}\n  to {event:?}, not errno {errno}"));
            }
        }
        Ok(())
    }

    fn burst(&mut self, queue: u8, count: u16) -> Checked {
        let changes: Vec<Change> = (0..count)
            .map(|at| Change {
                target: super::op::Target::User(1000 + at),
                filter: Filter::USER,
                flags: ev::ADD | ev::ONESHOT,
                fflags: note::TRIGGER,
                data: at.into(),
            })
            .collect();
        self.change(queue, How::Silent, &changes)
    }

    fn oneshots(&mut self, queue: u8, at: u8, times: u8) -> Checked {
        let change = |filter, flags| Change {
            target: Target::Fd(at),
            filter,
            flags,
            fflags: 0,
            data: 0,
        };
        let add = ev::ADD | ev::ONESHOT;
        for _ in 0..times {
            for flags in [add, ev::ENABLE] {
                let changes = [Filter::READ, Filter::WRITE].map(|filter| change(filter, flags));
                self.change(queue, How::Collect(16), &changes)?;
            }
        }
        Ok(())
    }

    fn collect(&mut self, queue: u8, room: usize, memory: Memory) -> Checked {
        let size = size_of::<Event>();
        let room = room.min(ROOM);
        // The address of the list, and the number of events that fit into mapped memory.
        let (list, fits) = match memory {
            Memory::Good => (self.guarded(room), room),
            Memory::Fresh(touched) => {
                let _ = sys::call(
                    libc::SYS_madvise,
                    &[self.fresh, LIST, libc::MADV_DONTNEED as usize],
                );
                let list = self.fresh + PAGE - usize::from(touched) * size;
                if touched > 0 {
                    self.list(list, 1).fill(Event::default());
                }
                (list, room)
            }
            Memory::Short(fits) => {
                let fits = usize::from(fits).min(room);
                (self.good + LIST - fits * size, fits)
            }
            Memory::ReadOnly => (self.read_only, 0),
        };
        let due = self.model.due(queue).len();
        let (result, times) = self.call(queue, &[], list, room);
        let most = self.model.bounds(usize::from(queue), times.1).1;
        let count = match result {
            Ok(count) => count,
            Err(libc::EFAULT) if fits == 0 && most > 0 => return Ok(()),
            Err(errno) => {
                return Err(format!(
                    "collecting failed: errno {errno}; memory for {fits}, {due} are due"
                ))
            }
        };
        if fits == 0 && room > 0 && due > 0 {
            return Err(format!("no EFAULT without memory, though {due} are due"));
        }
        if count > fits {
            return Err(format!("{count} events, with memory for {fits}"));
        }
        let got = match memory {
            Memory::Good => self.events(list, count, room)?,
            _ => self.list(list, count).to_vec(),
        };
        self.model.reported(queue, &got, count < fits, times)
    }

    fn collect_all(&mut self, queue: u8, room: usize) -> Checked {
        let mut due = self.model.due(queue);
        let calls = 2 * self.model.queues[usize::from(queue)].knotes.len() + 4;
        for _ in 0..calls {
            if due.is_empty() {
                return Ok(());
            }
            let list = self.guarded(room);
            let (result, times) = self.call(queue, &[], list, room);
            let count = result.map_err(|errno| format!("collecting failed: errno {errno}"))?;
            let got = self.events(list, count, room)?;
            self.model.reported(queue, &got, count < room, times)?;
            due.retain(|&name| !got.iter().any(|event| (event.ident, event.filter) == name));
        }
        Err(format!(
            "{calls} calls with room for {room} have not brought {due:?}"
        ))
    }

    /// Waits for all timers that have expired by now.
    fn collect_timers(&mut self, queue: u8) -> Checked {
        let start = sys::now();
        let mut due = self.model.due_timers(queue, start);
        while !due.is_empty() {
            if sys::now() - start > SOON {
                return Err(format!("expired timers never come: {due:?}"));
            }
            let list = self.guarded(64);
            let (result, times) = self.call(queue, &[], list, 64);
            let count = result.map_err(|errno| format!("collecting failed: errno {errno}"))?;
            let got = self.events(list, count, 64)?;
            self.model.reported(queue, &got, count < 64, times)?;
            due.retain(|&name| !got.iter().any(|event| (event.ident, event.filter) == name));
        }
        Ok(())
    }

    fn poll(&self, queue: u8) -> Checked {
        let mut poll = libc::pollfd {
            fd: queue_fd(queue),
            events: libc::POLLIN,
            revents: 0,
        };
        sys::poll(std::slice::from_mut(&mut poll), 0);
        let (least, most) = self.model.bounds(usize::from(queue), sys::now());
        let polled = Tri::from(poll.revents & libc::POLLIN != 0);
        if (polled == Tri::Yes && most == 0) || (polled == Tri::No && least > 0) {
            return Err(format!(
                "poll says {:#x}, with {least} to {most} events",
                poll.revents
            ));
        }
        Ok(())
    }

    fn info(&self, queue: u8) -> Checked {
        let path = format!("/proc/self/fdinfo/{}", queue_fd(queue));
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let number = |name: &str| {
            let after = text.split(name).nth(1)?;
            after.split_whitespace().next()?.parse::<usize>().ok()
        };
        let (knotes, pending) = (number("kqueue knotes:"), number("pending:"));
        let known = self.model.queues[usize::from(queue)].knotes.len();
        let (least, most) = self.model.bounds(usize::from(queue), sys::now());
        if knotes != Some(known) || !pending.is_some_and(|count| (least..=most).contains(&count)) {
            let shown: Vec<&str> = text.lines().take(24).collect();
            return Err(format!(
                "there must be {known} knotes, {least} to {most} of them pending; /proc says:\n{}",
                shown.join("\n")
            ));
        }
        Ok(())
    }

    /// At the end all due events must arrive. After that, only level-triggered events are left.
    fn finish(&mut self) -> Checked {
        sys::sleep_ms(10);
        for queue in 0..QUEUES as u8 {
            if self.is_open(queue) {
                self.info(queue)?;
                self.collect_all(queue, 16)?;
                self.collect_timers(queue)?;
                self.collect(queue, ROOM, Memory::Good)?;
                self.info(queue)?;
            }
        }
        for slot in 0..SLOTS as u8 {
            if self.model.file(slot).is_some() {
                self.close(slot, Closer::Close);
            }
        }
        for queue in 0..QUEUES as u8 {
            if self.is_open(queue) {
                self.info(queue)?;
                self.collect(queue, ROOM, Memory::Good)?;
            }
        }
        Ok(())
    }

    fn clean_up(&mut self) {
        self.release();
        for at in 0..CHILDREN as u8 {
            let _ = self.end(at);
            if let Child::Ended(pid, _) = self.model.children[usize::from(at)] {
                sys::reap(pid);
            }
        }
    }
}

fn close_all() {
    let _ = sys::call(
        libc::SYS_close_range,
        &[FIRST_QUEUE as usize, (FIRST_FD + 100) as usize, 0],
    );
}

/// Blocks the signals that a round sends itself.
fn block_signals() {
    let mut set = 0u64;
    for number in SIGNALS {
        set |= 1 << (number - 1);
    }
    let args = [libc::SIG_BLOCK as usize, sys::address(&set), 0, 8];
    let _ = sys::call(libc::SYS_rt_sigprocmask, &args);
}

/// Does all operations. Returns the fault and the number of its operation.
pub fn run(ops: &[Op], board: &Board) -> Result<(), (usize, String)> {
    block_signals();
    let slot = board.slot();
    let mut run = Run::new(board);
    for queue in 0..QUEUES as u8 {
        run.reopen(queue).map_err(|what| (0, what))?;
    }
    let mut result = Ok(());
    for (step, op) in ops.iter().enumerate() {
        run.step = step + 1;
        slot.at(step as u64, &format!("{op:?}"), [0; 3]);
        board.count(Count::Steps, 1);
        result = run.act(op).map_err(|what| (step, what));
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        slot.at(ops.len() as u64, "finish", [0; 3]);
        result = run.finish().map_err(|what| (ops.len(), what));
    }
    run.clean_up();
    result
}
