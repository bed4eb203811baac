// SPDX-License-Identifier: GPL-2.0

//! Determines what a level-triggered knote must report, given the answers of other interfaces of
//! the kernel for the same descriptor.

use kqueue::{ev, Event};

/// The answers of the other interfaces for a descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The result of poll(2) for all events.
    pub poll: i16,
    /// The result of `FIONREAD`, for kinds for which it equals `data`.
    pub bytes: Option<i64>,
    /// True for a socket that never was connected.
    pub is_bare: bool,
    /// True after a shutdown(2). poll(2) does not report everything about that.
    pub was_shut: bool,
}

const IN: i16 = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND;
const OUT: i16 = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;
const RDHUP: i16 = 0x2000;

impl Facts {
    /// The events that are requested from poll(2).
    pub const ASKED: i16 = IN | OUT | RDHUP | libc::POLLPRI;

    fn has(self, events: i16) -> bool {
        self.poll & events != 0
    }

    /// Returns the fault of the event of `EVFILT_READ`, or of its absence.
    pub fn read(self, event: Option<&Event>) -> Result<(), &'static str> {
        let Some(event) = event else {
            if self.is_bare || !self.has(IN | RDHUP | libc::POLLHUP) {
                return Ok(());
            }
            return Err("no READ event, although poll reports data");
        };
        if self.is_bare && (event.has(ev::EOF) || self.has(libc::POLLHUP)) {
            return Err("a READ event of a socket that never was connected");
        }
        if !self.has(IN | RDHUP | libc::POLLHUP | libc::POLLERR) && !self.was_shut {
            return Err("a READ event, although poll reports no data");
        }
        if self.has(libc::POLLERR) {
            return Ok(());
        }
        let ends = self.has(RDHUP | libc::POLLHUP);
        if event.has(ev::EOF) != ends && !self.was_shut {
            return Err("EV_EOF of READ differs from that of poll");
        }
        if !event.has(ev::EOF) && event.data <= 0 {
            return Err("data can be read, but data is 0");
        }
        if self.bytes.is_some_and(|bytes| bytes != event.data) {
            return Err("data of READ differs from FIONREAD");
        }
        Ok(())
    }

    /// Returns the fault of the event of `EVFILT_WRITE`, or of its absence.
    pub fn write(self, event: Option<&Event>) -> Result<(), &'static str> {
        let Some(event) = event else {
            if self.is_bare || !self.has(OUT | libc::POLLHUP) {
                return Ok(());
            }
            return Err("no WRITE event, although poll reports room");
        };
        // Some families connect a socket when it sends.
        if self.is_bare && (event.has(ev::EOF) || self.has(libc::POLLHUP)) {
            return Err("a WRITE event of a socket that never was connected");
        }
        if !self.has(OUT | libc::POLLHUP | libc::POLLERR) && !self.was_shut {
            return Err("a WRITE event, although poll reports no room");
        }
        if self.has(libc::POLLERR) {
            return Ok(());
        }
        if event.has(ev::EOF) != self.has(libc::POLLHUP) && !self.was_shut {
            return Err("EV_EOF of WRITE differs from that of poll");
        }
        if !event.has(ev::EOF) && event.data <= 0 {
            return Err("there is room, but data is 0");
        }
        Ok(())
    }

    /// Returns the fault of the event of `EVFILT_EXCEPT` with `NOTE_OOB`, or of its absence.
    pub fn urgent(self, event: Option<&Event>) -> Result<(), &'static str> {
        let ends = self.has(RDHUP | libc::POLLHUP | libc::POLLERR) || self.was_shut;
        match event {
            None if self.has(libc::POLLPRI) && !self.is_bare => {
                Err("no EXCEPT event, although poll reports urgent data")
            }
            Some(_) if self.is_bare || !(self.has(libc::POLLPRI) || ends) => {
                Err("an EXCEPT event, although poll reports no urgent data")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kqueue::Filter;

    fn facts(poll: i16) -> Facts {
        Facts {
            poll,
            ..Facts::default()
        }
    }

    fn event(flags: u16, data: i64) -> Event {
        Event::new(1, Filter::READ, flags).data(data)
    }

    #[test]
    fn what_is_ready_is_reported_with_data() {
        let ready = facts(libc::POLLIN | libc::POLLRDNORM);
        assert!(ready.read(Some(&event(0, 1))).is_ok());
        assert!(ready.read(None).is_err());
        assert!(ready.read(Some(&event(0, 0))).is_err());
        assert!(ready.read(Some(&event(ev::EOF, 1))).is_err());
        let counted = Facts {
            bytes: Some(7),
            ..ready
        };
        assert!(counted.read(Some(&event(0, 7))).is_ok());
        assert!(counted.read(Some(&event(0, 6))).is_err());
        assert!(facts(0).read(None).is_ok());
        assert!(facts(0).read(Some(&event(0, 1))).is_err());
    }

    #[test]
    fn the_end_is_one() {
        let end = facts(libc::POLLIN | RDHUP | libc::POLLHUP);
        assert!(end.read(Some(&event(ev::EOF, 0))).is_ok());
        assert!(end.read(Some(&event(0, 1))).is_err());
        assert!(end.write(Some(&event(ev::EOF, 0))).is_ok());
        assert!(end.write(None).is_err());
    }

    #[test]
    fn nothing_before_a_connection() {
        let bare = Facts {
            is_bare: true,
            ..facts(libc::POLLOUT | libc::POLLHUP)
        };
        assert!(bare.read(None).is_ok() && bare.write(None).is_ok());
        assert!(bare.read(Some(&event(ev::EOF, 0))).is_err());
        assert!(bare.write(Some(&event(ev::EOF, 0))).is_err());
        assert!(bare.write(Some(&event(0, 1))).is_err());
        let connects_later = Facts {
            poll: libc::POLLOUT,
            ..bare
        };
        assert!(connects_later.write(Some(&event(0, 1))).is_ok());
    }

    #[test]
    fn urgent_is_what_poll_says() {
        assert!(facts(libc::POLLPRI).urgent(Some(&event(0, 1))).is_ok());
        assert!(facts(libc::POLLPRI).urgent(None).is_err());
        assert!(facts(libc::POLLIN).urgent(Some(&event(0, 1))).is_err());
    }
}
