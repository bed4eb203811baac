// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! The BSD kqueue event interface on Linux, over `/dev/kqueue`.
//!
//! ```no_run
//! use kqueue::{Change, Kqueue, ProcessNotes, Report};
//! use std::time::Duration;
//!
//! # fn main() -> std::io::Result<()> {
//! let kqueue = Kqueue::new()?;
//! let child = std::process::Command::new("make").spawn()?;
//! kqueue.apply(&[
//!     Change::readable(std::io::stdin()),
//!     Change::timer(1, Duration::from_secs(1)),
//!     Change::process(child.id(), ProcessNotes::EXIT),
//! ])?;
//! for event in kqueue.incoming() {
//!     match event?.report() {
//!         Report::Readable(input) => println!("{} bytes to read", input.bytes),
//!         Report::Timer { expirations, .. } => println!("tick ({expirations})"),
//!         Report::Process(process) => println!("{:?}", process.status()),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Change`] says what to watch, and [`Event::report`] what has happened. The lower level
//! consists of [`Event`], which is the `struct kevent` of C, and [`Kqueue::kevent`], which is
//! kevent(2). Closing a descriptor ends its events, so there are no lifetimes to observe.

#[allow(missing_docs, non_camel_case_types)]
pub mod abi;
mod change;
mod events;
mod notes;
mod report;

pub use change::{Change, Rejected};
pub use events::{Events, Incoming};
pub use notes::{FileNotes, MountNotes, ProcessNotes};
pub use report::{Descriptor, Process, Report};

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    sync::OnceLock,
    time::Duration,
};

/// The filter of an event, which determines the meaning of its ident (`EVFILT_*`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Filter(pub i16);

/// Actions and flags of an event (`EV_*`).
pub mod ev {
    use crate::abi;

    /// Add the event, or change it.
    pub const ADD: u16 = abi::EV_ADD as u16;
    /// Delete the event.
    pub const DELETE: u16 = abi::EV_DELETE as u16;
    /// Report it again.
    pub const ENABLE: u16 = abi::EV_ENABLE as u16;
    /// Keep the event and do not report it.
    pub const DISABLE: u16 = abi::EV_DISABLE as u16;
    /// Delete the event when it is reported.
    pub const ONESHOT: u16 = abi::EV_ONESHOT as u16;
    /// Reset the state of the event when it is reported.
    pub const CLEAR: u16 = abi::EV_CLEAR as u16;
    /// Do not change the `udata` of an existing event.
    pub const KEEPUDATA: u16 = abi::EV_KEEPUDATA as u16;
    /// Return a receipt for the change: `ERROR` with a `data` of 0.
    pub const RECEIPT: u16 = abi::EV_RECEIPT as u16;
    /// Disable the event when it is reported.
    pub const DISPATCH: u16 = abi::EV_DISPATCH as u16;
    /// Reported: both directions of a socket are shut down.
    pub const HUP: u16 = abi::EV_HUP as u16;
    /// Reported: end of file, and nothing is left to read.
    pub const NODATA: u16 = abi::EV_NODATA as u16;
    /// Reported: a change failed, `data` is the errno.
    pub const ERROR: u16 = abi::EV_ERROR as u16;
    /// Reported: end of file, or the peer is gone.
    pub const EOF: u16 = abi::EV_EOF as u16;
}

/// The filters' own flags (`NOTE_*`).
pub mod note {
    use crate::abi;

    /// READ, WRITE: `data` is the low-water mark in bytes.
    pub const LOWAT: u32 = abi::NOTE_LOWAT;
    /// USER: leave the flags as they are.
    pub const FFNOP: u32 = abi::NOTE_FFNOP;
    /// USER: keep only the given flags.
    pub const FFAND: u32 = abi::NOTE_FFAND;
    /// USER: add the given flags.
    pub const FFOR: u32 = abi::NOTE_FFOR;
    /// USER: set the flags to the given.
    pub const FFCOPY: u32 = abi::NOTE_FFCOPY;
    /// USER: the bits that are the program's own.
    pub const FFLAGSMASK: u32 = abi::NOTE_FFLAGSMASK;
    /// USER: make the event active.
    pub const TRIGGER: u32 = abi::NOTE_TRIGGER;
    /// EXCEPT: out-of-band data on a socket.
    pub const OOB: u32 = abi::NOTE_OOB;
    /// VNODE: the file's last name was removed.
    pub const DELETE: u32 = abi::NOTE_DELETE;
    /// VNODE: the file was written to, or the entries of the directory changed.
    pub const WRITE: u32 = abi::NOTE_WRITE;
    /// VNODE: the file grew.
    pub const EXTEND: u32 = abi::NOTE_EXTEND;
    /// VNODE: its attributes changed.
    pub const ATTRIB: u32 = abi::NOTE_ATTRIB;
    /// VNODE: its link count changed.
    pub const LINK: u32 = abi::NOTE_LINK;
    /// VNODE: it was renamed.
    pub const RENAME: u32 = abi::NOTE_RENAME;
    /// VNODE: access was revoked, or the file system unmounted.
    pub const REVOKE: u32 = abi::NOTE_REVOKE;
    /// VNODE: it was opened.
    pub const OPEN: u32 = abi::NOTE_OPEN;
    /// VNODE: a descriptor without write access was closed.
    pub const CLOSE: u32 = abi::NOTE_CLOSE;
    /// VNODE: a descriptor with write access was closed.
    pub const CLOSE_WRITE: u32 = abi::NOTE_CLOSE_WRITE;
    /// VNODE: it was read.
    pub const READ: u32 = abi::NOTE_READ;
    /// PROC: the process exited; `data` is the wait status.
    pub const EXIT: u32 = abi::NOTE_EXIT;
    /// PROC: it forked.
    pub const FORK: u32 = abi::NOTE_FORK;
    /// PROC: it executed a program.
    pub const EXEC: u32 = abi::NOTE_EXEC;
    /// PROC: its descendants are watched in the same way.
    pub const TRACK: u32 = abi::NOTE_TRACK;
    /// PROC, reported: a child could not be tracked.
    pub const TRACKERR: u32 = abi::NOTE_TRACKERR;
    /// PROC, reported for a child: `data` is the process ID of the parent.
    pub const CHILD: u32 = abi::NOTE_CHILD;
    /// TIMER: `data` is in seconds.
    pub const SECONDS: u32 = abi::NOTE_SECONDS;
    /// TIMER: `data` is in milliseconds, as without a unit.
    pub const MSECONDS: u32 = abi::NOTE_MSECONDS;
    /// TIMER: `data` is in microseconds.
    pub const USECONDS: u32 = abi::NOTE_USECONDS;
    /// TIMER: `data` is in nanoseconds.
    pub const NSECONDS: u32 = abi::NOTE_NSECONDS;
    /// TIMER: `data` is a time since the epoch, not a period.
    pub const ABSTIME: u32 = abi::NOTE_ABSTIME;
    /// TIMER: use the clock that continues while the machine is suspended; only on Linux.
    pub const BOOTTIME: u32 = abi::NOTE_BOOTTIME;
    /// FS: a file system was mounted.
    pub const VQ_MOUNT: u32 = abi::VQ_MOUNT;
    /// FS: a file system was unmounted.
    pub const VQ_UNMOUNT: u32 = abi::VQ_UNMOUNT;
}

impl Filter {
    /// A descriptor has data to read; `data` is how many bytes.
    pub const READ: Filter = Filter(abi::EVFILT_READ as i16);
    /// A descriptor has room to write; `data` is how many bytes.
    pub const WRITE: Filter = Filter(abi::EVFILT_WRITE as i16);
    /// Reserved; `ENXIO`, as in the specification.
    pub const AIO: Filter = Filter(abi::EVFILT_AIO as i16);
    /// The file of a descriptor changed.
    pub const VNODE: Filter = Filter(abi::EVFILT_VNODE as i16);
    /// A process forked, executed a program, exited.
    pub const PROC: Filter = Filter(abi::EVFILT_PROC as i16);
    /// A signal was sent to this process; `data` is how often.
    pub const SIGNAL: Filter = Filter(abi::EVFILT_SIGNAL as i16);
    /// A descriptor has an exceptional condition.
    pub const EXCEPT: Filter = Filter(abi::EVFILT_EXCEPT as i16);
    /// A file system was mounted or unmounted.
    pub const FS: Filter = Filter(abi::EVFILT_FS as i16);
    /// The process of a pidfd exited.
    pub const PROCDESC: Filter = Filter(abi::EVFILT_PROCDESC as i16);
    /// A period of `data` milliseconds; reported `data` is how often it has expired.
    pub const TIMER: Filter = Filter(abi::EVFILT_TIMER as i16);
    /// An event that the program triggers.
    pub const USER: Filter = Filter(abi::EVFILT_USER as i16);
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Filter::READ => f.write_str("READ"),
            Filter::WRITE => f.write_str("WRITE"),
            Filter::AIO => f.write_str("AIO"),
            Filter::VNODE => f.write_str("VNODE"),
            Filter::PROC => f.write_str("PROC"),
            Filter::SIGNAL => f.write_str("SIGNAL"),
            Filter::EXCEPT => f.write_str("EXCEPT"),
            Filter::FS => f.write_str("FS"),
            Filter::PROCDESC => f.write_str("PROCDESC"),
            Filter::TIMER => f.write_str("TIMER"),
            Filter::USER => f.write_str("USER"),
            Filter(raw) => write!(f, "Filter({raw})"),
        }
    }
}

/// One event (`struct kevent`). It is a change on input and a report on output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// What is watched.
    pub ident: u64,
    /// What kind of thing `ident` names.
    pub filter: Filter,
    /// [`ev`].
    pub flags: u16,
    /// [`note`].
    pub fflags: u32,
    /// A value whose meaning depends on the filter.
    pub data: i64,
    /// A value of the program, which is returned unchanged.
    pub udata: u64,
}

const _: () = assert!(size_of::<Event>() == size_of::<abi::kqueue_event>());

impl Event {
    /// Creates a change that has only flags.
    pub const fn new(ident: u64, filter: Filter, flags: u16) -> Self {
        Event {
            ident,
            filter,
            flags,
            fflags: 0,
            data: 0,
            udata: 0,
        }
    }

    /// Creates a change for a descriptor. The kernel refuses a negative number.
    pub const fn fd(fd: RawFd, filter: Filter, flags: u16) -> Self {
        Event::new(fd as u64, filter, flags)
    }

    /// Sets `fflags`.
    pub const fn fflags(mut self, fflags: u32) -> Self {
        self.fflags = fflags;
        self
    }

    /// Sets `data`.
    pub const fn data(mut self, data: i64) -> Self {
        self.data = data;
        self
    }

    /// Sets `udata`.
    pub const fn udata(mut self, udata: u64) -> Self {
        self.udata = udata;
        self
    }

    /// True when `flag` is set.
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A kqueue.
#[derive(Debug)]
pub struct Kqueue(OwnedFd);

impl Kqueue {
    /// Creates a kqueue. Its descriptor is closed on exec.
    ///
    /// The first call in a process opens the device. Later calls, also those in a forked child, do
    /// not need `/dev`.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ENXIO` if the module is not loaded; `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        static CONTROL: OnceLock<File> = OnceLock::new();
        let control = match CONTROL.get() {
            Some(control) => control,
            None => match open(libc::O_CLOEXEC) {
                Ok(opened) => CONTROL.get_or_init(|| opened),
                // Another thread may have opened it before the process lost the right to do so.
                Err(error) => CONTROL.get().ok_or(error)?,
            },
        };
        // SAFETY: The argument is an integer.
        let fd =
            unsafe { libc::ioctl(control.as_raw_fd(), KQUEUE_IOC_CREATE as _, libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The descriptor is new, and this function owns it.
        Ok(Kqueue(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Applies all changes, in one call.
    ///
    /// # Errors
    ///
    /// [`Rejected`] has the first change that was refused, and the error. All other changes are
    /// applied.
    pub fn apply(&self, changes: &[Change]) -> Result<(), Rejected> {
        let rejected = |(index, error)| Rejected { index, error };
        let mut events: Vec<Event> = changes.iter().map(Change::event).collect();
        // Each change gets a receipt in its slot.
        for event in &mut events {
            event.flags |= ev::RECEIPT;
        }
        let mut answers = vec![Event::default(); events.len()];
        let count = self
            .kevent(&events, &mut answers, Some(Duration::ZERO))
            .map_err(|error| rejected((0, error)))?;
        let refused = answers[..count].iter().position(|answer| answer.data != 0);
        match refused {
            Some(index) => {
                let error = io::Error::from_raw_os_error(answers[index].data as i32);
                Err(rejected((index, error)))
            }
            None => Ok(()),
        }
    }

    /// Waits until an event is pending or `timeout` is over, or without a limit if that is `None`.
    /// The new events replace those in `events`.
    ///
    /// # Errors
    ///
    /// Those of `kevent(2)`.
    pub fn wait<'a>(
        &self,
        events: &'a mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<&'a [Event]> {
        events.fill(|room| self.kevent(&[], room, timeout))
    }

    /// Returns an iterator that waits for events. It never ends by itself.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self)
    }

    /// Applies `changes`, waits until an event is pending or `timeout` is over, and stores the
    /// events in `events`. Returns their number.
    ///
    /// # Errors
    ///
    /// Those of `kevent(2)`. A failed change is reported as an event with [`ev::ERROR`] while there
    /// is room.
    pub fn kevent(
        &self,
        changes: &[Event],
        events: &mut [Event],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let fd = self.0.as_raw_fd();
        let is_poll = timeout == Some(Duration::ZERO);
        let request = match (changes.len(), events.len()) {
            (0, 1..=IOC_MOST) if is_poll => Some(kqueue_ioc_poll(events.len())),
            (0, 1..=IOC_MOST) if timeout.is_none() => Some(kqueue_ioc_wait(events.len())),
            (1..=IOC_MOST, 0) if timeout.is_none() || is_poll => {
                Some(kqueue_ioc_change(changes.len()))
            }
            _ => None,
        };
        if let Some(request) = request {
            let list = if changes.is_empty() {
                events.as_mut_ptr()
            } else {
                changes.as_ptr().cast_mut()
            };
            // SAFETY: The list has as many entries as the request says. Changes are not written.
            return result(unsafe { libc::ioctl(fd, request as _, list) });
        }
        let count = |len: usize| u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput);
        let mut args = abi::kqueue_kevent {
            changelist: changes.as_ptr() as u64,
            nchanges: count(changes.len())?,
            eventlist: events.as_mut_ptr() as u64,
            nevents: count(events.len())?,
            ..Default::default()
        };
        if let Some(timeout) = timeout {
            args.flags = abi::KQUEUE_TIMEOUT;
            args.tv_sec = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
            args.tv_nsec = timeout.subsec_nanos().into();
        }
        // SAFETY: Both lists are valid for their lengths, the second for writing.
        unsafe { kevent_raw(fd, &mut args) }
    }
}

impl AsFd for Kqueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Kqueue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Kqueue {
    fn from(fd: OwnedFd) -> Self {
        Kqueue(fd)
    }
}

impl From<Kqueue> for OwnedFd {
    fn from(kqueue: Kqueue) -> Self {
        kqueue.0
    }
}

/// Creates a kqueue by opening the device with the given `O_*` flags.
///
/// # Errors
///
/// The errors of [`Kqueue::new`].
pub fn open(flags: i32) -> io::Result<File> {
    // The standard library adds `O_CLOEXEC` by itself; C callers may not want it.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/kqueue")?;
    if flags & libc::O_CLOEXEC == 0 {
        // SAFETY: The descriptor is new, and this function owns it.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(file)
}

/// The number of the ioctl that creates a kqueue: `_IO(KQUEUE_IOC_MAGIC, 1)`.
pub const KQUEUE_IOC_CREATE: u64 = (abi::KQUEUE_IOC_MAGIC as u64) << 8 | 1;

/// The number of the ioctl that is `kevent()`: `_IOW(KQUEUE_IOC_MAGIC, 0, struct kqueue_kevent)`.
pub const KQUEUE_IOC_KEVENT: u64 = {
    const WRITE: u64 = 1;
    WRITE << 30
        | (size_of::<abi::kqueue_kevent>() as u64) << 16
        | (abi::KQUEUE_IOC_MAGIC as u64) << 8
};

/// Calls the ioctl.
///
/// # Errors
///
/// Those of `kevent(2)`.
///
/// # Safety
///
/// The addresses in `args` are of memory that the kernel may read (changes) and write (events).
pub unsafe fn kevent_raw(fd: RawFd, args: &mut abi::kqueue_kevent) -> io::Result<usize> {
    // SAFETY: By this function's contract, the addresses are valid.
    result(unsafe { libc::ioctl(fd, KQUEUE_IOC_KEVENT as _, &raw mut *args) })
}

fn result(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The largest number of entries of a list for the ioctls without arguments in memory.
pub const IOC_MOST: usize = abi::KQUEUE_IOC_MOST as usize;

const fn short_form(direction: u64, number: u64, count: usize) -> u64 {
    direction << 30 | (count as u64) << 16 | (abi::KQUEUE_IOC_MAGIC as u64) << 8 | number
}

/// The number of the ioctl that waits for `count` events, `KQUEUE_IOC_WAIT`. Its argument is the
/// address of the list.
pub const fn kqueue_ioc_wait(count: usize) -> u64 {
    short_form(2, 2, count)
}

/// The number of the ioctl that collects `count` events and does not wait, `KQUEUE_IOC_POLL`.
pub const fn kqueue_ioc_poll(count: usize) -> u64 {
    short_form(2, 3, count)
}

/// The number of the ioctl that applies `count` changes, `KQUEUE_IOC_CHANGE`.
pub const fn kqueue_ioc_change(count: usize) -> u64 {
    short_form(1, 4, count)
}
