// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_READ`, `EVFILT_WRITE` and `EVFILT_EXCEPT`.
//!
//! # BSD says
//!
//! READ reports when there is something to read, `data` bytes of it; WRITE when there is room,
//! for `data` bytes. `EV_EOF` when the other side is gone, with the socket's error in `fflags`;
//! data may remain (else `EV_NODATA`). `NOTE_LOWAT` in `fflags` asks for at least `data` bytes.
//! EXCEPT with `NOTE_OOB` reports urgent data, with the bytes before it in `data`, 1 if there are
//! none; without, it is as READ.
//!
//! # Linux source
//!
//! `->poll`, and wake-ups from the wait queues that it names; for regular files, directories and
//! block devices an fsnotify mark and a probe of the offset. What each kind of file has to tell
//! is in [`super::file`].
//!
//! # Where we differ
//!
//! Whether a `EVFILT_WRITE` is ready is up to the file's own `->poll`, as for poll(2): a TCP
//! socket wants a third of its buffer free. EXCEPT takes any file that can be polled, and reports
//! `EPOLLPRI`; it reports `EV_EOF` too.

use super::{
    file::{self, FileState},
    timer::Retry,
    Attach,
    Report,
    ENTRIES, //
};
use crate::{
    device::Shared,
    hook::{
        chardev::object_of,
        close::Binding,
        contents,
        fsnotify::{fs, InodeState, Mark, Notify},
        pollwait::{self, Events, PollWait, Wake},
        probe::Watch,
        seek::{Seek, SeekProbe},
        usercopy::Scratch, //
    },
    knote::{Knote, Saved},
    kqueue::Kqueue,
    nesting::Edge,
    uapi::*, //
};
use kernel::{
    fs::File,
    new_spinlock_irq,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow, SpinLockIrq}, //
};

/// Which of the three filters it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
    Except,
}

impl Direction {
    /// The poll events that mean "ready".
    pub(super) fn ready(self) -> Events {
        match self {
            Direction::Read => Events::IN | Events::RDNORM | Events::RDBAND,
            Direction::Write => Events::OUT | Events::WRNORM | Events::WRBAND,
            Direction::Except => Events::PRI,
        }
    }

    /// The poll events that mean "the other side is gone".
    pub(super) fn gone(self) -> Events {
        match self {
            Direction::Read | Direction::Except => Events::RDHUP | Events::HUP | Events::ERR,
            Direction::Write => Events::HUP | Events::ERR,
        }
    }

    /// What to wake up for: whether EXCEPT is READ, depends on the program and may change.
    fn wakes(self) -> Events {
        match self {
            Direction::Except => self.ready() | Direction::Read.ready() | self.gone(),
            _ => self.ready() | self.gone(),
        }
    }
}

impl Wake for Knote {
    fn wake(this: ArcBorrow<'_, Self>) {
        Knote::activate(this);
    }
}

/// Someone who waits for there to be something between the offset and the end of a file.
#[pin_data]
pub(crate) struct ContentWatcher {
    knote: Arc<Knote>,
    file: ARef<File>,
    /// There was something at the last look.
    #[pin]
    something: SpinLockIrq<bool>,
}

impl ContentWatcher {
    /// Looks again. True if there is something, and was not before.
    fn look(&self) -> bool {
        let mut something = self.something.lock();
        let before = *something;
        *something = contents::distance(&self.file) != 0;
        *something && !before
    }
}

impl Notify for ContentWatcher {
    const MOUNTS: bool = false;

    /// Written or truncated: news, whatever was there before.
    fn notify(this: ArcBorrow<'_, Self>, _: u32, _: InodeState) {
        this.look();
        Knote::activate(this.knote.as_arc_borrow());
    }
}

impl Seek for ContentWatcher {
    /// Reading on is no news, going back from the end is.
    fn moved(this: ArcBorrow<'_, Self>) {
        if this.look() {
            Knote::activate(this.knote.as_arc_borrow());
        }
    }
}

/// What tells that a file's state may have changed.
enum Listening {
    Poll {
        wait: PollWait<Knote>,
    },
    Contents {
        watcher: Arc<ContentWatcher>,
        _mark: Mark<ContentWatcher>,
        _watch: Watch<SeekProbe<ContentWatcher>>,
    },
    /// It never does.
    Nothing,
}

impl Listening {
    fn to(
        file: &ARef<File>,
        direction: Direction,
        knote: &Arc<Knote>,
        shared: &Shared,
    ) -> Result<Self> {
        if contents::has(file) {
            return match direction {
                Direction::Read => Self::to_contents(file, knote, shared),
                Direction::Write if contents::is_directory(file) => Err(EINVAL),
                Direction::Write => Ok(Listening::Nothing),
                Direction::Except => Err(EOPNOTSUPP),
            };
        }
        if pollwait::is_pollable(file) {
            let wait = PollWait::new(file, knote, direction.wakes())?;
            return Ok(Listening::Poll { wait });
        }
        // `/dev/null` and its like are always ready.
        if contents::is_character_device(file) {
            return Ok(Listening::Nothing);
        }
        Err(EINVAL)
    }

    fn to_contents(file: &ARef<File>, knote: &Arc<Knote>, shared: &Shared) -> Result<Self> {
        let watcher = Arc::pin_init(
            pin_init!(ContentWatcher {
                knote: knote.clone(),
                file: file.clone(),
                something <- new_spinlock_irq!(false, "kqueue_contents"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let seeks = if contents::has_locked_offset(file) {
            &shared.seeks
        } else {
            &shared.unlocked_seeks
        };
        Ok(Listening::Contents {
            _mark: Mark::new(&shared.contents, file, fs::MODIFY | ENTRIES, &watcher)?,
            _watch: seeks.watch(file.as_ptr().addr(), &watcher)?,
            watcher,
        })
    }
}

/// A descriptor that is watched.
pub(crate) struct Descriptor {
    // In this order: the wait queues and the inode are the file's, which the binding keeps.
    listening: Listening,
    state: &'static dyn FileState,
    /// For a kqueue: that it is watched by ours.
    _edge: Option<Edge>,
    /// For a low-water mark of a file that does not tell of all the room that it comes to have.
    retry: Option<Retry>,
    binding: Binding,
    direction: Direction,
}

impl Descriptor {
    /// # Errors
    ///
    /// `EINVAL` for a file that cannot be polled and is no regular one, and for writing to a
    /// directory; `EOPNOTSUPP` for all but reading of a kqueue, and for EXCEPT of a regular file;
    /// `ELOOP` for a circle or too long a chain of kqueues; `ENOMEM`; `EBADF` if there is no file.
    pub(super) fn attach(attach: Attach<'_>, direction: Direction) -> Result<Self> {
        let file = attach.file.clone().ok_or(EBADF)?;
        let edge = Self::connect(&file, direction, &attach)?;
        let binding = Binding::new(&attach.shared.closes, file, attach.knote)?;
        Ok(Descriptor {
            listening: Listening::to(binding.file(), direction, attach.knote, attach.shared)?,
            state: file::of(binding.file()),
            _edge: edge,
            retry: None,
            binding,
            direction,
        })
    }

    fn connect(file: &File, direction: Direction, attach: &Attach<'_>) -> Result<Option<Edge>> {
        let Some(kqueue) = object_of::<Kqueue>(file) else {
            return Ok(None);
        };
        if direction != Direction::Read {
            return Err(EOPNOTSUPP);
        }
        let watcher = attach.knote.kqueue().into();
        attach
            .shared
            .nesting
            .connect(watcher, kqueue.into())
            .map(Some)
    }

    /// Where its knote is bound to.
    pub(super) fn binding(&self) -> &Binding {
        &self.binding
    }

    /// There is that much `room`, which is not the `mark`. Gives it if it is by now; if not, it will be
    /// looked at again.
    fn await_room(&mut self, room: i64, mark: i64) -> Option<i64> {
        if let Some(room) = self.state.want_room(self.binding.file()) {
            return (room >= mark).then_some(room);
        }
        let Listening::Poll { wait } = &self.listening else {
            return None;
        };
        if self.retry.is_none() {
            self.retry = wait.target().and_then(|knote| Retry::new(knote).ok());
        }
        match &mut self.retry {
            Some(retry) => {
                retry.arm();
                None
            }
            // No memory: too early is better than never.
            None => Some(room),
        }
    }

    pub(super) fn event(&mut self, saved: &Saved, scratch: Scratch) -> Option<Report> {
        let file = self.binding.file();
        // What it sees now, later news are measured by.
        if let Listening::Contents { watcher, .. } = &self.listening {
            watcher.look();
        }
        let direction = match self.direction {
            Direction::Except if saved.fflags & NOTE_OOB == 0 => Direction::Read,
            direction => direction,
        };
        let look = self.state.look(file, direction, scratch)?;
        let mut report = Report {
            data: look.data,
            fflags: look.error,
            ..Report::default()
        };
        if look.eof {
            report.flags |= EV_EOF;
            if look.hup {
                report.flags |= EV_HUP;
            }
            if look.data == 0 || direction == Direction::Write {
                report.flags |= EV_NODATA;
            }
        } else if saved.fflags & NOTE_LOWAT != 0 && look.data < saved.data {
            match direction {
                Direction::Read => return None,
                Direction::Write => report.data = self.await_room(look.data, saved.data)?,
                Direction::Except => {}
            }
        }
        if direction == Direction::Except && look.ready && look.error == 0 {
            report.fflags = NOTE_OOB;
        }
        Some(report)
    }
}
