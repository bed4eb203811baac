// SPDX-License-Identifier: GPL-2.0

//! One registered event: a (ident, filter) of a kqueue.

pub(crate) use super::knote_memory::Knote;
use super::{
    close::BindingCount,
    locks::{Key, Keyed},
    ops::{FileKind, Report},
    sleepers::WakeFlags, //
};
use crate::{
    generated::kqueue_event,
    sys::{
        memory::{erased::Erased, scratch::Scratch},
        process::observer::WatcherRights,
    },
    uapi::{Kevent, EV_DELETE, EV_DISABLE, EV_ENABLE, EV_KEEPUDATA}, //
};

use kernel::sync::Arc;

/// The flags of a change that act once, and are no property of the knote.
const ACTIONS: u16 = EV_DELETE | EV_ENABLE | EV_DISABLE | EV_KEEPUDATA;

/// What the kqueue's mutex guards of a knote. One more bit in here would take a word in each knote.
pub(crate) struct KnoteInner {
    /// The filter's parameters, as the program last gave them (`kn_sfflags`, `kn_sdata`).
    pub(crate) fflags: u32,
    pub(crate) data: i64,
    /// `kn_flags`: the flags of the change that added the knote, without [`ACTIONS`], and the flags
    /// that its filter always sets.
    pub(crate) flags: u16,
    /// The kind of its descriptor's file, if it has one.
    pub(crate) kind: FileKind,
    /// `EVFILT_USER`: the program has triggered it.
    pub(crate) triggered: bool,
    /// The program's own data.
    pub(crate) udata: u64,
    /// The source: what its filter keeps for it, if that is more than the descriptor and the fields
    /// here.
    pub(crate) source: Option<Erased>,
}

/// Gives access to the [`KnoteInner`] of each knote of a kqueue. Guarded by the mutex.
pub(crate) struct KnoteAccess {
    key: Key<KnoteAccess>,
    /// The knotes that are bound to descriptors.
    pub(crate) binding_count: BindingCount,
    /// Memory of the task that has the mutex.
    pub(crate) scratch: Scratch,
    /// The task that last began to watch a process.
    pub(crate) watcher: Option<Arc<WatcherRights>>,
}

impl Keyed for KnoteAccess {
    #[inline]
    fn key(&self) -> &Key<Self> {
        &self.key
    }
}

impl KnoteAccess {
    pub(crate) fn new(key: Key<KnoteAccess>, binding_count: BindingCount) -> Self {
        KnoteAccess {
            key,
            binding_count,
            scratch: Scratch::NONE,
            watcher: None,
        }
    }
}

impl KnoteInner {
    /// The inner state of a knote that is not attached yet.
    pub(crate) fn new(change: &kqueue_event) -> Self {
        KnoteInner {
            fflags: change.fflags,
            data: change.data,
            flags: change.flags & !ACTIONS,
            kind: FileKind::Other,
            triggered: false,
            udata: change.udata,
            source: None,
        }
    }

    /// The source, if it is of that type.
    #[inline]
    pub(crate) fn source_mut<T: Unpin + 'static>(&mut self) -> Option<&mut T> {
        Some(self.source.as_mut()?.as_mut::<T>()?.get_mut())
    }

    /// Takes over the parameters of a change.
    #[inline(always)]
    pub(crate) fn set_params(&mut self, change: &Kevent) {
        self.fflags = change.fflags;
        self.data = change.data;
        self.set_udata(change);
    }

    /// Takes over the program's own data, unless the change says that it stays.
    #[inline(always)]
    pub(crate) fn set_udata(&mut self, change: &Kevent) {
        if !change.has(EV_KEEPUDATA) {
            self.udata = change.udata;
        }
    }
}

impl Knote {
    /// Runs the filter (`f_event`): the event to report if the condition holds. May sleep.
    #[inline(always)]
    pub(crate) fn evaluate(&self, access: &mut KnoteAccess) -> Option<Kevent> {
        let scratch = access.scratch;
        let mut locked = self.locked(access);
        let report = self.filter().event(&mut locked, scratch)?;
        Some(self.event(locked.inner, report))
    }

    /// The event for the report of a filter.
    #[inline(always)]
    pub(crate) fn event(&self, inner: &KnoteInner, report: Report) -> Kevent {
        Kevent::new(kqueue_event {
            ident: self.ident(),
            filter: self.filter().raw(),
            flags: inner.flags | report.flags,
            fflags: report.fflags,
            data: report.data,
            udata: inner.udata,
        })
    }

    /// An event with the names of the knote, and no more.
    pub(crate) fn ident_event(&self) -> Kevent {
        Kevent::new(kqueue_event {
            ident: self.ident(),
            filter: self.filter().raw(),
            ..Default::default()
        })
    }

    /// Runs the filter: does the condition hold? May sleep.
    pub(crate) fn is_ready(&self, access: &mut KnoteAccess) -> bool {
        self.evaluate(access).is_some()
    }

    /// The source of the knote fired (`KNOTE_ACTIVATE`). From any context but NMI.
    #[inline]
    pub(crate) fn activate(&self) {
        self.activate_with(WakeFlags::default());
    }

    /// [`Knote::activate`] for a wake-up with those flags.
    #[inline]
    pub(crate) fn activate_with(&self, flags: WakeFlags) {
        self.kqueue().activate(self, flags);
    }
}
