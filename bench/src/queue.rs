// SPDX-License-Identifier: GPL-2.0

//! The sides: the module's kqueue, its userspace emulation, and epoll.

use kqueue::{Event, Filter, Kqueue};
use libloading::{Library, Symbol};
use std::{
    io::{Error, ErrorKind},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::OnceLock,
    time::Duration,
};

/// An implementation of kevent(2).
pub trait Kevents {
    /// The number of events.
    fn kevent(&self, changes: &[Event], events: &mut [Event], timeout: Option<Duration>) -> usize;

    /// Applies changes.
    fn change(&self, changes: &[Event]) {
        self.kevent(changes, &mut [], None);
    }

    /// Waits for events and returns their number.
    fn wait(&self, events: &mut [Event]) -> usize {
        self.kevent(&[], events, None)
    }
}

impl Kevents for Kqueue {
    fn kevent(&self, changes: &[Event], events: &mut [Event], timeout: Option<Duration>) -> usize {
        match Kqueue::kevent(self, changes, events, timeout) {
            // Deferred work of a ring that has ended may interrupt the sleep. The changes are
            // applied.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                Kevents::kevent(self, &[], events, timeout)
            }
            count => count.expect("kevent"),
        }
    }
}

/// A kqueue of the module. Nothing else of the module stays open, since (k) unloads it.
pub fn kqueue() -> Kqueue {
    let opened = kqueue::open(libc::O_CLOEXEC).expect("/dev/kqueue");
    OwnedFd::from(opened).into()
}

type KqueueCall = unsafe extern "C" fn() -> libc::c_int;
type KeventCall = unsafe extern "C" fn(
    libc::c_int,
    *const Event,
    libc::c_int,
    *mut Event,
    libc::c_int,
    *const libc::timespec,
) -> libc::c_int;

static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();

/// Loads the emulation. Without it the sides of the emulation are left out.
pub fn load_emulation(path: Option<&std::path::Path>) -> anyhow::Result<()> {
    // SAFETY: The file is the library of the emulation, whose constructor may run at any time.
    let library = path.map(|path| unsafe { Library::new(path) }).transpose()?;
    let _ = LIBRARY.set(library);
    // The emulation starts a thread with its first kqueue and ends it with the last one. Two
    // threads that do this at the same time deadlock, so one kqueue always stays open.
    if has_emulation() {
        std::mem::forget(Emulation::new());
    }
    Ok(())
}

/// Returns true if the emulation is loaded.
pub fn has_emulation() -> bool {
    LIBRARY.get().is_some_and(Option::is_some)
}

/// The emulation's number of `EVFILT_USER`.
const EMULATED_USER: Filter = Filter(-11);

/// A kqueue of the emulation.
pub struct Emulation {
    fd: RawFd,
    call: Symbol<'static, KeventCall>,
}

impl Emulation {
    pub fn new() -> Self {
        let library = LIBRARY.get().and_then(Option::as_ref).expect("library");
        // SAFETY: The symbols have these types, and struct kevent has the same layout in both
        // libraries.
        unsafe {
            let kqueue: Symbol<'_, KqueueCall> = library.get(b"kqueue").expect("kqueue");
            let fd = kqueue();
            assert!(fd >= 0, "the emulation's kqueue()");
            Emulation {
                fd,
                call: library.get(b"kevent").expect("kevent"),
            }
        }
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        // SAFETY: This value owns the kqueue.
        unsafe { libc::close(self.fd) };
    }
}

impl Kevents for Emulation {
    fn kevent(&self, changes: &[Event], events: &mut [Event], timeout: Option<Duration>) -> usize {
        let mut changes = changes.to_vec();
        for change in &mut changes {
            if change.filter == Filter::USER {
                change.filter = EMULATED_USER;
            }
        }
        let time = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        // SAFETY: Both lists are valid for their lengths.
        let count = unsafe {
            (self.call)(
                self.fd,
                changes.as_ptr(),
                changes.len() as i32,
                events.as_mut_ptr(),
                events.len() as i32,
                time.as_ref().map_or(std::ptr::null(), |time| time),
            )
        };
        if count < 0 {
            let error = Error::last_os_error();
            // Deferred work of a ring that has ended may interrupt the sleep.
            assert_eq!(error.kind(), ErrorKind::Interrupted, "kevent(): {error}");
            return self.kevent(&[], events, timeout);
        }
        count as usize
    }
}

/// An epoll.
pub struct Epoll(OwnedFd);

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Epoll> for OwnedFd {
    fn from(epoll: Epoll) -> Self {
        epoll.0
    }
}

/// The layout of the C structure.
pub type EpollEvent = libc::epoll_event;

impl Epoll {
    pub fn new() -> Self {
        // SAFETY: The descriptor is new.
        Epoll(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
    }

    fn control(&self, what: libc::c_int, fd: RawFd, events: libc::c_int) {
        let mut event = EpollEvent {
            events: events as u32,
            u64: fd as u64,
        };
        // SAFETY: The event is valid.
        let ret = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &mut event) };
        assert_eq!(ret, 0, "epoll_ctl: {}", Error::last_os_error());
    }

    pub fn add(&self, fd: &impl AsRawFd, events: libc::c_int) {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), events);
    }

    pub fn modify(&self, fd: &impl AsRawFd, events: libc::c_int) {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), events);
    }

    pub fn delete(&self, fd: &impl AsRawFd) {
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0);
    }

    /// Returns the number of events. `timeout` is in milliseconds, or -1 for no limit.
    pub fn wait(&self, events: &mut [EpollEvent], timeout: libc::c_int) -> usize {
        // SAFETY: The array has room for that many events.
        let count = unsafe {
            let room = events.len() as libc::c_int;
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, timeout)
        };
        if count < 0 {
            let error = Error::last_os_error();
            // Deferred work of a ring that has ended may interrupt the sleep.
            assert_eq!(error.kind(), ErrorKind::Interrupted, "epoll_wait: {error}");
            return self.wait(events, timeout);
        }
        count as usize
    }
}
