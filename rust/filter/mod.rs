// SPDX-License-Identifier: GPL-2.0

//! The filters: what each kind of event source means by "ready" and by `data`.
//!
//! Filters are policy; the mechanisms they hook into are in [`crate::hook`]. All
//! their operations run under the kqueue's mutex, in process context.

mod descriptor;
mod file;
mod mounts;
mod process;
mod signal;
mod timer;
mod user;
mod vnode;

use crate::{
    device::Shared,
    hook::{close::Binding, fsnotify::fs, usercopy::Scratch},
    knote::{Knote, Saved},
    uapi::*, //
};
pub(crate) use descriptor::ContentWatcher;
use descriptor::{Descriptor, Direction};
use kernel::{
    fs::File,
    prelude::*,
    sync::{aref::ARef, Arc}, //
};
pub(crate) use mounts::MountWatcher;
use mounts::Mounts;
use process::Process;
pub(crate) use process::ProcessWatcher;
use signal::Signal;
pub(crate) use signal::SignalWatcher;
use timer::Timer;
use user::User;
pub(crate) use vnode::FileWatcher;
use vnode::Vnode;

/// What fsnotify tells of a directory whose entries change.
const ENTRIES: u32 = fs::CREATE | fs::DELETE | fs::MOVED_FROM | fs::MOVED_TO;

/// A filter of the ABI (`EVFILT_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    Read,
    Write,
    Except,
    Aio,
    Proc,
    Signal,
    Timer,
    User,
    Vnode,
    Fs,
}

impl Filter {
    /// The filter of that number, if there is one.
    pub(crate) fn from_raw(raw: i16) -> Option<Self> {
        match raw {
            EVFILT_READ => Some(Filter::Read),
            EVFILT_WRITE => Some(Filter::Write),
            EVFILT_EXCEPT => Some(Filter::Except),
            EVFILT_AIO => Some(Filter::Aio),
            EVFILT_PROC => Some(Filter::Proc),
            EVFILT_SIGNAL => Some(Filter::Signal),
            EVFILT_TIMER => Some(Filter::Timer),
            EVFILT_USER => Some(Filter::User),
            EVFILT_VNODE => Some(Filter::Vnode),
            EVFILT_FS => Some(Filter::Fs),
            _ => None,
        }
    }

    /// The filter's number.
    pub(crate) fn raw(self) -> i16 {
        match self {
            Filter::Read => EVFILT_READ,
            Filter::Write => EVFILT_WRITE,
            Filter::Except => EVFILT_EXCEPT,
            Filter::Aio => EVFILT_AIO,
            Filter::Proc => EVFILT_PROC,
            Filter::Signal => EVFILT_SIGNAL,
            Filter::Timer => EVFILT_TIMER,
            Filter::User => EVFILT_USER,
            Filter::Vnode => EVFILT_VNODE,
            Filter::Fs => EVFILT_FS,
        }
    }

    /// True when its ident is a descriptor (`FILTEROP_ISFD`).
    pub(crate) fn is_descriptor(self) -> bool {
        matches!(
            self,
            Filter::Read | Filter::Write | Filter::Except | Filter::Vnode
        )
    }
}

/// What a filter has to tell when its condition holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Report {
    /// Besides the knote's own: `EV_EOF` and its like.
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    pub(crate) data: i64,
}

/// What a filter gets to attach with.
pub(crate) struct Attach<'a> {
    pub(crate) knote: &'a Arc<Knote>,
    pub(crate) change: &'a Kevent,
    /// The descriptor's file, for a filter that is on descriptors.
    pub(crate) file: Option<ARef<File>>,
    pub(crate) shared: &'a Shared,
}

/// An attached event source; dropping it detaches (`f_detach`).
pub(crate) enum Source {
    Descriptor(Descriptor),
    Mounts(Mounts),
    Process(Process),
    Signal(Signal),
    Timer(Timer),
    User(User),
    Vnode(Vnode),
}

impl Source {
    /// `f_attach`. Also gives the flags that the filter always sets. The knote may be activated
    /// before this returns.
    ///
    /// # Errors
    ///
    /// As each filter says.
    pub(crate) fn attach(filter: Filter, attach: Attach<'_>) -> Result<(Self, u16)> {
        Ok(match filter {
            Filter::Read => (Self::descriptor(attach, Direction::Read)?, 0),
            Filter::Write => (Self::descriptor(attach, Direction::Write)?, 0),
            Filter::Except => (Self::descriptor(attach, Direction::Except)?, 0),
            // The specification's has no AIO either.
            Filter::Aio => return Err(ENXIO),
            Filter::Proc => (Source::Process(Process::attach(attach)?), EV_CLEAR),
            Filter::Signal => (Source::Signal(Signal::attach(attach)?), EV_CLEAR),
            Filter::Timer => (Source::Timer(Timer::attach(attach)?), EV_CLEAR),
            Filter::User => (Source::User(User::attach(attach.change)), 0),
            Filter::Vnode => (Source::Vnode(Vnode::attach(attach)?), 0),
            Filter::Fs => (Source::Mounts(Mounts::attach(attach)?), EV_CLEAR),
        })
    }

    fn descriptor(attach: Attach<'_>, direction: Direction) -> Result<Self> {
        Descriptor::attach(attach, direction).map(Source::Descriptor)
    }

    /// `f_touch`: the program changes the parameters of a live knote.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that the filter does not take; nothing is changed then.
    pub(crate) fn touch(&mut self, change: &Kevent, saved: &mut Saved, udata: &mut u64) -> Result {
        match self {
            // It keeps its udata, as the specification's does.
            Source::User(user) => {
                user.touch(change);
                return Ok(());
            }
            Source::Mounts(mounts) => mounts.touch(change),
            Source::Process(process) => process.touch(change)?,
            Source::Timer(timer) => timer.touch(change)?,
            Source::Vnode(vnode) => vnode.touch(change)?,
            Source::Descriptor(_) | Source::Signal(_) => {}
        }
        *saved = Saved {
            fflags: change.fflags,
            data: change.data,
        };
        *udata = change.udata;
        Ok(())
    }

    /// `f_event`: does the condition hold?
    pub(crate) fn event(&mut self, saved: &Saved, scratch: Scratch) -> Option<Report> {
        match self {
            Source::Descriptor(descriptor) => descriptor.event(saved, scratch),
            Source::Mounts(mounts) => mounts.event(),
            Source::Process(process) => process.event(),
            Source::Signal(signal) => signal.event(),
            Source::Timer(timer) => timer.event(),
            Source::User(user) => user.event(),
            Source::Vnode(vnode) => vnode.event(),
        }
    }

    /// `event` has reached the program. True if there is another one to report already.
    pub(crate) fn reported(&mut self, event: &Kevent) -> bool {
        match self {
            Source::Descriptor(_) => {}
            Source::Mounts(mounts) => mounts.reported(),
            Source::Process(process) => return process.reported(),
            Source::Signal(signal) => signal.reported(),
            Source::Timer(timer) => timer.reported(event),
            Source::User(user) => {
                if event.has(EV_CLEAR) {
                    user.clear();
                }
            }
            Source::Vnode(vnode) => vnode.reported(event.has(EV_CLEAR)),
        }
        false
    }

    /// True when `ident` names the source still, and not something else by now; `file` is what
    /// it names if it is a descriptor.
    pub(crate) fn is_named(&self, ident: u64, file: Option<&File>) -> bool {
        match (self.binding(), self) {
            (Some(binding), _) => file.is_some_and(|file| binding.is_to(file)),
            (None, Source::Process(process)) => process.has_number(ident),
            (None, _) => true,
        }
    }

    /// True when what the source has to report outlives its name: an exit.
    pub(crate) fn outlives_name(&self) -> bool {
        matches!(self, Source::Process(_))
    }

    /// False when the source is a file that number `ident` of the current task's descriptor table
    /// does not refer to any more.
    pub(crate) fn is_bound(&self, ident: u64) -> bool {
        self.binding()
            .is_none_or(|binding| binding.is_current(ident))
    }

    /// That of a source that is a file.
    fn binding(&self) -> Option<&Binding> {
        match self {
            Source::Descriptor(descriptor) => Some(descriptor.binding()),
            Source::Vnode(vnode) => Some(vnode.binding()),
            _ => None,
        }
    }
}
