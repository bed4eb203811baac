// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Event lists, and iterators over events.

use crate::{Event, Kqueue};
use std::{io, slice};

/// An event list for [`Kqueue::wait`].
#[derive(Clone, Debug)]
pub struct Events {
    room: Vec<Event>,
    used: usize,
}

impl Events {
    /// Creates a list with room for that many events.
    pub fn with_capacity(capacity: usize) -> Self {
        Events {
            room: vec![Event::default(); capacity],
            used: 0,
        }
    }

    pub(crate) fn fill(
        &mut self,
        collect: impl FnOnce(&mut [Event]) -> io::Result<usize>,
    ) -> io::Result<&[Event]> {
        self.used = 0;
        self.used = collect(&mut self.room)?;
        Ok(self.as_slice())
    }

    /// The events of the last call.
    pub fn as_slice(&self) -> &[Event] {
        &self.room[..self.used]
    }

    /// Iterates over the events of the last call.
    pub fn iter(&self) -> slice::Iter<'_, Event> {
        self.as_slice().iter()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// An iterator that waits for events; see [`Kqueue::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    kqueue: &'a Kqueue,
    events: Events,
    next: usize,
}

impl<'a> Incoming<'a> {
    /// The number of events that one call collects.
    const CAPACITY: usize = 64;

    pub(crate) fn new(kqueue: &'a Kqueue) -> Self {
        Incoming {
            kqueue,
            events: Events::with_capacity(Self::CAPACITY),
            next: 0,
        }
    }
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next == self.events.used {
            self.next = 0;
            if let Err(error) = self.kqueue.wait(&mut self.events, None) {
                return Some(Err(error));
            }
        }
        self.next += 1;
        Some(Ok(self.events.as_slice()[self.next - 1]))
    }
}
