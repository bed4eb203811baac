// SPDX-License-Identifier: GPL-2.0

//! The model of what a program may rely on: which events must come, which may come, and which must
//! not.
//!
//! Where the kernel leaves the outcome open, the answer is [`Tri::Maybe`], for instance whether a
//! pipe with half-used buffers has room again. The model follows the manual, not the code of the
//! module.

use super::op::{Change, Target, QUEUES, SLOTS};
use kqueue::{ev, note, Event, Filter};

/// An answer: no, unknown, or yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tri {
    No,
    Maybe,
    Yes,
}

impl From<bool> for Tri {
    fn from(is: bool) -> Self {
        if is {
            Tri::Yes
        } else {
            Tri::No
        }
    }
}

/// The number of small writes that fit into an empty channel of any kind.
const FEW: usize = 12;

/// The flags of an event that come from the `EV_ADD` of its knote.
const PROPERTIES: u16 = ev::ONESHOT | ev::CLEAR | ev::DISPATCH;

/// One direction of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    pub bytes: usize,
    /// The number of writes since the channel was empty.
    writes: usize,
    /// True if the channel was filled and nothing was read since.
    full: bool,
}

impl Stream {
    fn has_room(&self) -> Tri {
        if self.full {
            Tri::No
        } else if self.writes <= FEW {
            Tri::Yes
        } else {
            Tri::Maybe
        }
    }
}

/// An object that several open files may refer to.
#[derive(Clone, Copy, Debug)]
pub enum Object {
    /// Side 0 reads.
    Pipe(Stream),
    /// The directions, by the side that reads.
    Pair([Stream; 2]),
    Eventfd(u64),
    File {
        size: i64,
    },
}

/// The maximum value of an eventfd.
const MOST: u64 = u64::MAX - 1;

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub object: usize,
    pub side: usize,
    offset: i64,
    open: bool,
}

/// A timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// The timer was set between these two times.
    armed: (i64, i64),
    period: i64,
    /// The number of expirations that were reported.
    reported: i64,
}

/// The object that a knote watches.
#[derive(Clone, Copy, Debug)]
enum Source {
    File { slot: usize, file: usize },
    Vnode { slot: usize, file: usize, bits: u32 },
    User { triggered: bool },
    Timer(Timer),
    Signal { count: i64 },
    Child(usize),
    Queue(usize),
}

/// A registered event.
#[derive(Clone, Debug)]
pub struct Knote {
    pub ident: u64,
    pub filter: Filter,
    flags: u16,
    fflags: u32,
    data: i64,
    udata: u64,
    disabled: bool,
    /// True if the source has fired since the knote was last evaluated.
    active: Tri,
    source: Source,
}

/// What a knote has to report now.
struct Look {
    ready: Tri,
    data: Option<i64>,
    fflags: Option<u32>,
    eof: Tri,
}

impl Look {
    fn ready(ready: impl Into<Tri>, data: i64) -> Self {
        Look {
            ready: ready.into(),
            data: Some(data),
            fflags: Some(0),
            eof: Tri::No,
        }
    }
}

/// A child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    None,
    Running(i32),
    Ended(i32, i32),
    Reaped(i32, i32),
}

/// A kqueue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub open: bool,
    pub knotes: Vec<Knote>,
}

/// The complete model.
#[derive(Clone, Debug)]
pub struct Model {
    slots: [Option<usize>; SLOTS],
    held: Vec<usize>,
    pub files: Vec<File>,
    pub objects: Vec<Object>,
    pub queues: [Queue; QUEUES],
    pub children: [Child; super::op::CHILDREN],
    /// The numbers of the first descriptor and of the first kqueue.
    first_fd: i32,
    first_queue: i32,
}

impl Model {
    pub fn new(first_fd: i32, first_queue: i32) -> Self {
        Model {
            slots: [None; SLOTS],
            held: Vec::new(),
            files: Vec::new(),
            objects: Vec::new(),
            queues: Default::default(),
            children: [Child::None; super::op::CHILDREN],
            first_fd,
            first_queue,
        }
    }

    // Descriptors.

    /// The open file at a slot.
    pub fn file(&self, slot: u8) -> Option<usize> {
        self.slots[usize::from(slot)]
    }

    /// The object at a slot, and the side.
    pub fn object(&self, slot: u8) -> Option<(Object, usize)> {
        let file = self.files[self.file(slot)?];
        Some((self.objects[file.object], file.side))
    }

    /// Adds new open files of a new object at these slots.
    pub fn opened(&mut self, object: Object, at: &[u8]) {
        self.objects.push(object);
        for (side, &slot) in at.iter().enumerate() {
            self.files.push(File {
                object: self.objects.len() - 1,
                side,
                offset: 0,
                open: true,
            });
            self.slots[usize::from(slot)] = Some(self.files.len() - 1);
        }
        self.closes();
    }

    /// Empties a slot, or makes it a duplicate of another one.
    pub fn set(&mut self, slot: u8, file: Option<usize>) {
        self.slots[usize::from(slot)] = file;
        self.closes();
    }

    /// Records that a child has copies of all descriptors.
    pub fn hold(&mut self) {
        self.held = self.slots.iter().flatten().copied().collect();
    }

    /// Records that the child has closed its copies.
    pub fn release(&mut self) {
        self.held.clear();
        self.closes();
    }

    /// Removes the knotes whose number refers to another file or to none, and then the files
    /// without a descriptor.
    fn closes(&mut self) {
        let slots = self.slots;
        for queue in &mut self.queues {
            queue.knotes.retain(|knote| match knote.source {
                Source::File { slot, file } | Source::Vnode { slot, file, .. } => {
                    slots[slot] == Some(file)
                }
                _ => true,
            });
        }
        for file in 0..self.files.len() {
            let is_open = slots.contains(&Some(file)) || self.held.contains(&file);
            if self.files[file].open && !is_open {
                self.files[file].open = false;
                let File { object, side, .. } = self.files[file];
                match self.objects[object] {
                    Object::Pipe(_) | Object::Pair(_) => {
                        self.fire(object, Some(1 - side), None, Tri::Yes);
                    }
                    _ => {}
                }
            }
        }
    }

    fn peer_is_open(&self, file: usize) -> bool {
        let File { object, side, .. } = self.files[file];
        self.files
            .iter()
            .any(|other| other.object == object && other.side != side && other.open)
    }

    /// Records that the source of the knotes of an object has fired.
    fn fire(&mut self, object: usize, side: Option<usize>, filter: Option<Filter>, how: Tri) {
        let files = &self.files;
        for queue in &mut self.queues {
            for knote in &mut queue.knotes {
                let Source::File { file, .. } = knote.source else {
                    continue;
                };
                let File {
                    object: of,
                    side: at,
                    ..
                } = files[file];
                if of == object
                    && side.is_none_or(|side| side == at)
                    && filter.is_none_or(|filter| filter == knote.filter)
                {
                    knote.active = knote.active.max(how);
                }
            }
        }
    }

    /// Records an event of a file that EVFILT_VNODE reports.
    fn note(&mut self, object: usize, notes: u32) {
        let files = &self.files;
        for knote in self.queues.iter_mut().flat_map(|queue| &mut queue.knotes) {
            if let Source::Vnode { file, bits, .. } = &mut knote.source {
                if files[*file].object == object && notes & knote.fflags != 0 {
                    *bits |= notes & knote.fflags;
                    knote.active = Tri::Yes;
                }
            }
        }
    }

    /// Records that bytes were written to the descriptor. `full` is true if no more bytes fit.
    pub fn wrote(&mut self, slot: u8, count: usize, full: bool) {
        let Some(id) = self.file(slot) else { return };
        let File { object, side, .. } = self.files[id];
        match &mut self.objects[object] {
            Object::Pipe(stream) => {
                stream.bytes += count;
                stream.writes += if full { FEW + 1 } else { 1 };
                stream.full |= full;
                self.fire(object, Some(0), Some(Filter::READ), Tri::Yes);
                self.fire(object, Some(1), None, Tri::Maybe);
            }
            Object::Pair(streams) => {
                let stream = &mut streams[1 - side];
                stream.bytes += count;
                stream.writes += if full { FEW + 1 } else { 1 };
                self.fire(object, Some(1 - side), Some(Filter::READ), Tri::Yes);
                self.fire(object, None, None, Tri::Maybe);
            }
            // For an eventfd the count is the added value.
            Object::Eventfd(counter) => {
                *counter += count as u64;
                self.fire(object, None, Some(Filter::READ), Tri::Yes);
                self.fire(object, None, Some(Filter::WRITE), Tri::Maybe);
            }
            Object::File { size } => {
                let file = &mut self.files[id];
                file.offset += count as i64;
                let grown = file.offset > *size;
                *size = file.offset.max(*size);
                let notes = note::WRITE | if grown { note::EXTEND } else { 0 };
                self.fire(object, None, Some(Filter::READ), Tri::Yes);
                self.fire(object, None, None, Tri::Maybe);
                self.note(object, notes);
            }
        }
    }

    /// Records that a write has found no room. A writer of a pipe wakes the readers in any case, if
    /// they have requested a wake-up for each write. `EPOLLET` reports the same.
    pub fn refused(&mut self, slot: u8) {
        let Some(id) = self.file(slot) else { return };
        let File { object, .. } = self.files[id];
        if let Object::Pipe(_) = self.objects[object] {
            self.fire(object, Some(0), Some(Filter::READ), Tri::Maybe);
        }
    }

    /// Records that bytes were read from the descriptor.
    pub fn was_read(&mut self, slot: u8, count: usize) {
        let Some(id) = self.file(slot) else { return };
        let File { object, side, .. } = self.files[id];
        match &mut self.objects[object] {
            Object::Pipe(stream) => {
                stream.bytes = stream.bytes.saturating_sub(count);
                let was_full = stream.full;
                stream.full &= count == 0;
                let emptied = stream.bytes == 0;
                if emptied {
                    stream.writes = 0;
                }
                let how = Tri::from(emptied && was_full).max(Tri::Maybe);
                self.fire(object, Some(1), None, how);
            }
            Object::Pair(streams) => {
                let stream = &mut streams[side];
                stream.bytes = stream.bytes.saturating_sub(count);
                if stream.bytes == 0 {
                    stream.writes = 0;
                }
                self.fire(object, None, None, Tri::Maybe);
            }
            Object::Eventfd(counter) => {
                *counter = 0;
                self.fire(object, None, Some(Filter::WRITE), Tri::Yes);
                self.fire(object, None, Some(Filter::READ), Tri::Maybe);
            }
            Object::File { .. } => {
                self.files[id].offset += count as i64;
                self.fire(object, None, None, Tri::Maybe);
            }
        }
    }

    /// Records that the offset was set.
    pub fn seeked(&mut self, slot: u8, offset: i64) {
        let Some(id) = self.file(slot) else { return };
        let object = self.files[id].object;
        let Object::File { size } = self.objects[object] else {
            return;
        };
        let before = self.files[id].offset;
        self.files[id].offset = offset;
        let news = before == size && offset != size;
        for knote in self.queues.iter_mut().flat_map(|queue| &mut queue.knotes) {
            if matches!(knote.source, Source::File { file, .. } if file == id) {
                let how = Tri::from(news && knote.filter == Filter::READ).max(Tri::Maybe);
                knote.active = knote.active.max(how);
            }
        }
    }

    /// Records that the attributes of a file were changed.
    pub fn chmodded(&mut self, slot: u8) {
        if let Some(id) = self.file(slot) {
            self.note(self.files[id].object, note::ATTRIB);
        }
    }

    // Others.

    /// Records that a signal was sent.
    pub fn signalled(&mut self, number: i32) {
        for knote in self.queues.iter_mut().flat_map(|queue| &mut queue.knotes) {
            if let Source::Signal { count } = &mut knote.source {
                if knote.ident == number as u64 {
                    *count += 1;
                    knote.active = Tri::Yes;
                }
            }
        }
    }

    /// Records that a child has exited with this wait status.
    pub fn ended(&mut self, child: u8, pid: i32, status: i32) {
        self.children[usize::from(child)] = Child::Ended(pid, status);
        for knote in self.queues.iter_mut().flat_map(|queue| &mut queue.knotes) {
            if matches!(knote.source, Source::Child(of) if of == pid as usize) {
                knote.active = Tri::Yes;
            }
        }
    }

    fn status_of(&self, pid: i32) -> Option<i32> {
        self.children.iter().find_map(|child| match *child {
            Child::Ended(of, status) | Child::Reaped(of, status) if of == pid => Some(status),
            _ => None,
        })
    }

    /// Records that a kqueue was closed and another one was opened in its place.
    pub fn reopened(&mut self, queue: u8) {
        let at = usize::from(queue);
        self.queues[at] = Queue {
            open: true,
            knotes: Vec::new(),
        };
        for other in &mut self.queues {
            other
                .knotes
                .retain(|knote| !matches!(knote.source, Source::Queue(of) if of == at));
        }
    }

    // Changes.

    /// The ident of a target, and whether this model supports the target for the filter.
    pub fn ident(&self, change: &Change) -> Option<u64> {
        let first_queue = self.first_queue;
        match change.target {
            Target::Fd(slot) => {
                let suits = match (self.object(slot), change.filter) {
                    (None, _) => true,
                    (Some((Object::Pipe(_), 0)), Filter::READ) => true,
                    (Some((Object::Pipe(_), 1)), Filter::WRITE) => true,
                    (Some((Object::Pair(_) | Object::Eventfd(_), _)), filter) => {
                        filter != Filter::VNODE
                    }
                    (Some((Object::File { .. }, _)), _) => {
                        change.fflags & note::LOWAT == 0 || {
                            // Both constants have this bit.
                            change.filter == Filter::VNODE
                        }
                    }
                    _ => false,
                };
                suits.then_some((self.first_fd + i32::from(slot)) as u64)
            }
            Target::User(ident) => Some(ident.into()),
            Target::Timer(ident) => Some(ident.into()),
            Target::Signal(at) => Some(super::op::SIGNALS[usize::from(at)] as u64),
            Target::Child(at) => match self.children[usize::from(at)] {
                Child::Running(pid) | Child::Ended(pid, _) => Some(pid as u64),
                _ => None,
            },
            Target::Queue(at) => Some((first_queue + i32::from(at)) as u64),
            Target::Nothing => Some(7),
        }
    }

    /// Applies a change that was made between these times. Returns the errno that the change must
    /// fail with, or 0 if it must succeed.
    pub fn apply(&mut self, queue: u8, change: &Change, event: &Event, times: (i64, i64)) -> i32 {
        let at = usize::from(queue);
        let target_file = match change.target {
            Target::Nothing => return libc::EINVAL,
            Target::Fd(slot) => match self.file(slot) {
                None => return libc::EBADF,
                Some(file) => Some((usize::from(slot), file)),
            },
            _ => None,
        };
        let found = self.queues[at]
            .knotes
            .iter()
            .position(|knote| knote.ident == event.ident && knote.filter == event.filter);
        let has = |flag| event.flags & flag != 0;
        let Some(found) = found else {
            if !has(ev::ADD) {
                return libc::ENOENT;
            }
            let mut automatic = 0;
            let source = match (change.target, target_file) {
                (Target::Fd(_), Some((slot, file))) if event.filter == Filter::VNODE => {
                    Source::Vnode {
                        slot,
                        file,
                        bits: 0,
                    }
                }
                (Target::Fd(_), Some((slot, file))) => Source::File { slot, file },
                (Target::Queue(of), _) => Source::Queue(usize::from(of)),
                (Target::User(_), _) => Source::User { triggered: false },
                (Target::Timer(_), _) => {
                    automatic = ev::CLEAR;
                    Source::Timer(Timer {
                        armed: times,
                        period: event.data.max(1) * 1_000_000,
                        reported: 0,
                    })
                }
                (Target::Signal(_), _) => {
                    automatic = ev::CLEAR;
                    Source::Signal { count: 0 }
                }
                _ => {
                    automatic = ev::CLEAR;
                    Source::Child(event.ident as usize)
                }
            };
            let mut knote = Knote {
                ident: event.ident,
                filter: event.filter,
                flags: (event.flags & PROPERTIES) | automatic,
                fflags: event.fflags,
                data: event.data,
                udata: event.udata,
                disabled: false,
                active: Tri::No,
                source,
            };
            if event.filter == Filter::USER {
                knote.fflags = 0;
                knote.touch_user(event, true);
            }
            self.settle_change(&mut knote, event, times);
            self.queues[at].knotes.push(knote);
            return 0;
        };
        if has(ev::DELETE) {
            self.queues[at].knotes.remove(found);
            return 0;
        }
        let mut knote = self.queues[at].knotes[found].clone();
        if !has(ev::KEEPUDATA) {
            knote.udata = event.udata;
        }
        match &mut knote.source {
            Source::User { .. } => knote.touch_user(event, false),
            Source::Timer(timer) => {
                if has(ev::ADD) {
                    *timer = Timer {
                        armed: times,
                        period: event.data.max(1) * 1_000_000,
                        reported: 0,
                    };
                    knote.active = Tri::No;
                }
            }
            _ => {
                knote.fflags = event.fflags;
                knote.data = event.data;
            }
        }
        self.settle_change(&mut knote, event, times);
        self.queues[at].knotes[found] = knote;
        0
    }

    /// Evaluates a changed knote, and then disables or enables it.
    fn settle_change(&self, knote: &mut Knote, event: &Event, times: (i64, i64)) {
        knote.active = match self.look(knote, times).ready {
            Tri::Yes => Tri::Yes,
            Tri::No => knote.active.min(Tri::Maybe),
            Tri::Maybe => Tri::Maybe,
        };
        if event.has(ev::DISABLE) {
            knote.disabled = true;
        }
        if event.has(ev::ENABLE) {
            knote.disabled = false;
        }
    }

    // Events.

    /// What a knote has to report between these times.
    fn look(&self, knote: &Knote, times: (i64, i64)) -> Look {
        match knote.source {
            Source::File { file, .. } => self.look_at_file(knote, file),
            Source::Vnode { bits, .. } => Look {
                fflags: Some(bits),
                data: None,
                ..Look::ready(bits != 0, 0)
            },
            Source::User { triggered } => Look {
                fflags: Some(knote.fflags),
                ..Look::ready(triggered, knote.data)
            },
            Source::Timer(timer) => {
                let is_over = timer.most(knote, times.1) > 0;
                Look {
                    data: None,
                    ..Look::ready(if is_over { Tri::Maybe } else { Tri::No }, 0)
                }
            }
            Source::Signal { count } => Look::ready(count != 0, count),
            Source::Child(pid) => match self.status_of(pid as i32) {
                None => Look::ready(false, 0),
                Some(status) => Look {
                    fflags: Some(note::EXIT),
                    eof: Tri::Yes,
                    ..Look::ready(true, status.into())
                },
            },
            Source::Queue(of) => {
                let some = self.bounds(of, times.1).1 > 0;
                Look {
                    data: None,
                    ..Look::ready(if some { Tri::Maybe } else { Tri::No }, 0)
                }
            }
        }
    }

    fn look_at_file(&self, knote: &Knote, id: usize) -> Look {
        let file = self.files[id];
        let least = if knote.fflags & note::LOWAT != 0 {
            knote.data
        } else {
            1
        };
        let alone = !self.peer_is_open(id);
        // At the end of a channel, its error is reported as well.
        let at_end = |data| Look {
            ready: Tri::Yes,
            data,
            fflags: None,
            eof: Tri::Yes,
        };
        match (self.objects[file.object], knote.filter) {
            (Object::Pipe(stream), Filter::READ) => {
                let bytes = stream.bytes as i64;
                if alone {
                    return at_end(Some(bytes));
                }
                Look::ready(bytes > 0 && bytes >= least, bytes)
            }
            (Object::Pair(streams), Filter::READ) => {
                let bytes = streams[file.side].bytes as i64;
                if alone {
                    return at_end(Some(bytes));
                }
                Look::ready(bytes > 0 && bytes >= least, bytes)
            }
            (Object::Pipe(stream), _) => {
                if alone {
                    return at_end(None);
                }
                Look {
                    data: None,
                    ..Look::ready(stream.has_room(), 0)
                }
            }
            (Object::Pair(streams), _) => {
                if alone {
                    return at_end(None);
                }
                Look {
                    data: None,
                    ..Look::ready(streams[1 - file.side].has_room(), 0)
                }
            }
            (Object::Eventfd(counter), Filter::READ) => {
                let data = i64::try_from(counter).unwrap_or(i64::MAX);
                Look::ready(counter > 0 && data >= least, data)
            }
            (Object::Eventfd(counter), _) => {
                let room = MOST - counter;
                let data = i64::try_from(room).unwrap_or(i64::MAX);
                Look::ready(room > 0, data)
            }
            (Object::File { size }, Filter::READ) => {
                let distance = size - file.offset;
                Look::ready(distance != 0, distance)
            }
            (Object::File { .. }, _) => Look::ready(true, 0),
        }
    }

    /// Whether a knote must be reported, may be reported, or must not be reported.
    fn expect(&self, knote: &Knote, times: (i64, i64)) -> (Tri, Look) {
        let look = self.look(knote, times);
        let due = if knote.disabled {
            Tri::No
        } else {
            knote.active.min(look.ready)
        };
        let due = match knote.source {
            // The time at which a timer fires is not exact.
            Source::Timer(_) | Source::Queue(_) if !knote.disabled => look.ready,
            _ => due,
        };
        (due, look)
    }

    /// The minimum and maximum number of pending knotes at this time.
    pub fn bounds(&self, queue: usize, now: i64) -> (usize, usize) {
        let mut bounds = (0, 0);
        for knote in &self.queues[queue].knotes {
            let (due, look) = self.expect(knote, (0, now));
            bounds.0 += usize::from(due == Tri::Yes);
            let may = match knote.source {
                _ if knote.disabled => false,
                Source::Timer(_) => look.ready != Tri::No,
                Source::Queue(_) => true,
                _ => knote.active != Tri::No,
            };
            bounds.1 += usize::from(may);
        }
        bounds
    }

    /// The knotes that must be reported at any time.
    pub fn due(&self, queue: u8) -> Vec<(u64, Filter)> {
        let knotes = &self.queues[usize::from(queue)].knotes;
        let due = |knote: &&Knote| self.expect(knote, (0, 0)).0 == Tri::Yes;
        let names = knotes.iter().filter(due);
        names.map(|knote| (knote.ident, knote.filter)).collect()
    }

    /// The timers that have expired at this time and must be reported.
    pub fn due_timers(&self, queue: u8, time: i64) -> Vec<(u64, Filter)> {
        let knotes = &self.queues[usize::from(queue)].knotes;
        let due = |knote: &&Knote| match knote.source {
            Source::Timer(timer) => !knote.disabled && timer.least(time) > 0,
            _ => false,
        };
        let names = knotes.iter().filter(due);
        names.map(|knote| (knote.ident, knote.filter)).collect()
    }

    /// Checks the events that a call has reported between these times, and returns the fault, if
    /// any. `complete` is true if there was room for more events.
    pub fn reported(
        &mut self,
        queue: u8,
        events: &[Event],
        complete: bool,
        times: (i64, i64),
    ) -> Result<(), String> {
        let at = usize::from(queue);
        let mut seen = vec![false; self.queues[at].knotes.len()];
        let mut gone = Vec::new();
        for event in events {
            let found = self.queues[at]
                .knotes
                .iter()
                .position(|knote| knote.ident == event.ident && knote.filter == event.filter);
            let Some(found) = found else {
                return Err(format!("an event of what is not registered: {event:?}"));
            };
            if std::mem::replace(&mut seen[found], true) {
                return Err(format!("twice in one call: {event:?}"));
            }
            let knote = &self.queues[at].knotes[found];
            let (due, look) = self.expect(knote, times);
            let wrong = |what: String| Err(format!("{what}: {event:?}\n  of {knote:?}"));
            if due == Tri::No {
                return wrong("an event that must not come".into());
            }
            if look.data.is_some_and(|data| data != event.data) {
                return wrong(format!("data must be {:?}", look.data));
            }
            if look.fflags.is_some_and(|fflags| fflags != event.fflags) {
                return wrong(format!("fflags must be {:x?}", look.fflags));
            }
            if event.udata != knote.udata {
                return wrong(format!("udata must be {:#x}", knote.udata));
            }
            if look.eof != Tri::Maybe && event.has(ev::EOF) != (look.eof == Tri::Yes) {
                return wrong(format!("EV_EOF: {:?}", look.eof));
            }
            let once = if matches!(knote.source, Source::Child(_)) {
                ev::ONESHOT
            } else {
                0
            };
            let changes = ev::ENABLE | ev::DISABLE | ev::DELETE | ev::KEEPUDATA | ev::ERROR;
            if event.flags & PROPERTIES != knote.flags | once || event.has(changes) {
                return wrong(format!("flags must be {:#x}", knote.flags | once));
            }
            if let Source::Timer(timer) = knote.source {
                let most = timer.most(knote, times.1);
                if !(1..=most).contains(&event.data) {
                    return wrong(format!("data must be 1 to {most}"));
                }
            }
            if let Source::Queue(of) = knote.source {
                let most = self.bounds(of, times.1).1 as i64;
                if !(1..=most).contains(&event.data) {
                    return wrong(format!("data must be 1 to {most}"));
                }
            }
            let knote = &mut self.queues[at].knotes[found];
            if event.flags & ev::ONESHOT != 0 {
                gone.push((event.ident, event.filter));
            } else {
                knote.collected(event);
            }
        }
        for (found, &was_seen) in seen.iter().enumerate() {
            if was_seen {
                continue;
            }
            let knote = &self.queues[at].knotes[found];
            let (due, look) = self.expect(knote, (times.0, times.0));
            if complete && due == Tri::Yes {
                return Err(format!("no event, though one is due, of {knote:?}"));
            }
            let knote = &mut self.queues[at].knotes[found];
            if !knote.disabled {
                if complete {
                    knote.active = Tri::No;
                } else if look.ready != Tri::Yes {
                    knote.active = knote.active.min(Tri::Maybe);
                }
            }
        }
        let knotes = &mut self.queues[at].knotes;
        knotes.retain(|knote| !gone.contains(&(knote.ident, knote.filter)));
        Ok(())
    }
}

impl Timer {
    /// The maximum number of unreported expirations at this time.
    fn most(&self, knote: &Knote, time: i64) -> i64 {
        let all = (time - self.armed.0) / self.period;
        let all = if knote.flags & ev::ONESHOT != 0 {
            all.min(1)
        } else {
            all
        };
        all - self.reported
    }

    /// The minimum number of unreported expirations at this time.
    fn least(&self, time: i64) -> i64 {
        (time - self.armed.1) / self.period - self.reported
    }
}

impl Knote {
    fn touch_user(&mut self, event: &Event, is_new: bool) {
        let Source::User { triggered } = &mut self.source else {
            return;
        };
        if event.fflags & note::TRIGGER != 0 {
            *triggered = true;
        }
        let given = event.fflags & note::FFLAGSMASK;
        match event.fflags & note::FFCOPY {
            note::FFAND => self.fflags &= given,
            note::FFOR => self.fflags |= given,
            note::FFCOPY => self.fflags = given,
            _ => {}
        }
        self.data = event.data;
        if !is_new && event.has(ev::CLEAR) {
            *triggered = false;
            self.data = 0;
        }
    }

    /// Updates a knote whose event was delivered.
    fn collected(&mut self, event: &Event) {
        let clear = self.flags & ev::CLEAR != 0;
        match &mut self.source {
            Source::User { triggered } if clear => {
                *triggered = false;
                self.fflags = 0;
                self.data = 0;
            }
            Source::Vnode { bits, .. } if clear => *bits = 0,
            Source::Signal { count } => *count = 0,
            Source::Timer(timer) => timer.reported += event.data,
            _ => {}
        }
        if self.flags & ev::DISPATCH != 0 {
            self.disabled = true;
            self.active = Tri::No;
        } else if clear {
            self.active = Tri::No;
        } else {
            self.active = Tri::Yes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: (i64, i64) = (1000, 2000);

    fn with_a_pipe(flags: u16) -> (Model, Event) {
        let mut model = Model::new(100, 90);
        model.reopened(0);
        model.opened(Object::Pipe(Stream::default()), &[0, 1]);
        let event = Event::new(100, Filter::READ, ev::ADD | flags);
        let change = Change {
            target: Target::Fd(0),
            filter: Filter::READ,
            flags: event.flags,
            fflags: 0,
            data: 0,
        };
        assert_eq!(model.apply(0, &change, &event, TIMES), 0);
        (model, event)
    }

    fn event_of_slot(flags: u16, data: i64) -> Event {
        Event::new(100, Filter::READ, flags).data(data)
    }

    #[test]
    fn level_triggered_comes_until_it_is_read() {
        let (mut model, _) = with_a_pipe(0);
        assert!(model.reported(0, &[], true, TIMES).is_ok());
        model.wrote(1, 5, false);
        assert!(model.clone().reported(0, &[], true, TIMES).is_err());
        for _ in 0..2 {
            assert!(model
                .reported(0, &[event_of_slot(0, 5)], true, TIMES)
                .is_ok());
        }
        assert!(model
            .clone()
            .reported(0, &[event_of_slot(0, 4)], true, TIMES)
            .is_err());
        model.was_read(0, 5);
        assert!(model
            .clone()
            .reported(0, &[event_of_slot(0, 0)], true, TIMES)
            .is_err());
        assert!(model.reported(0, &[], true, TIMES).is_ok());
    }

    #[test]
    fn what_is_cleared_comes_once() {
        let (mut model, _) = with_a_pipe(ev::CLEAR);
        model.wrote(1, 5, false);
        let event = event_of_slot(ev::CLEAR, 5);
        assert!(model.reported(0, &[event], true, TIMES).is_ok());
        assert!(model.clone().reported(0, &[event], true, TIMES).is_err());
        model.wrote(1, 5, false);
        assert_eq!(model.due(0), [(100, Filter::READ)]);
    }

    #[test]
    fn what_is_cleared_may_come_again_after_a_write_without_room() {
        let (mut model, _) = with_a_pipe(ev::CLEAR);
        model.wrote(1, 5, true);
        let event = event_of_slot(ev::CLEAR, 5);
        assert!(model.reported(0, &[event], true, TIMES).is_ok());
        model.refused(1);
        assert_eq!(model.due(0), []);
        assert!(model.clone().reported(0, &[], true, TIMES).is_ok());
        // The event has the same data and is reported once.
        let more = event_of_slot(ev::CLEAR, 6);
        assert!(model.clone().reported(0, &[more], true, TIMES).is_err());
        assert!(model.reported(0, &[event], true, TIMES).is_ok());
        assert!(model.reported(0, &[event], true, TIMES).is_err());
    }

    #[test]
    fn one_shot_and_dispatch() {
        let (mut model, _) = with_a_pipe(ev::ONESHOT);
        model.wrote(1, 1, false);
        let event = event_of_slot(ev::ONESHOT, 1);
        assert!(model.reported(0, &[event], true, TIMES).is_ok());
        assert!(model.queues[0].knotes.is_empty());

        let (mut model, _) = with_a_pipe(ev::DISPATCH);
        model.wrote(1, 1, false);
        let event = event_of_slot(ev::DISPATCH, 1);
        assert!(model.reported(0, &[event], true, TIMES).is_ok());
        assert!(model.reported(0, &[event], true, TIMES).is_err());
        assert_eq!(model.queues[0].knotes.len(), 1);
    }

    #[test]
    fn a_closed_descriptor_ends_its_knote_and_is_reported_to_the_other_side() {
        let (mut model, _) = with_a_pipe(0);
        model.set(2, model.file(0));
        model.set(1, None);
        let end = event_of_slot(ev::EOF, 0);
        assert!(model.reported(0, &[end], true, TIMES).is_ok());
        model.set(0, None);
        assert!(model.queues[0].knotes.is_empty());
        assert!(model.reported(0, &[end], true, TIMES).is_err());
    }

    #[test]
    fn a_copy_of_the_same_file_does_not() {
        let (mut model, _) = with_a_pipe(0);
        model.set(0, model.file(0));
        assert_eq!(model.queues[0].knotes.len(), 1);
        model.hold();
        model.set(1, None);
        assert_eq!(model.due(0), []);
        model.release();
        assert_eq!(model.due(0), [(100, Filter::READ)]);
    }
}
