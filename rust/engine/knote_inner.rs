// SPDX-License-Identifier: GPL-2.0

//! The fields of a knote that the mutex guards, and the evaluation of a knote.

use super::{
    close::BindingCount,
    filter_ops::{FileKind, Report},
    knote::Knote,
    locks::{HasLockToken, LockToken},
    sleepers::WakeFlags, //
};
use crate::{
    generated::kqueue_event,
    sys::{
        memory::{erased_box::ErasedBox, user_scratch::UserScratch},
        process::permission::WatcherRights,
    },
    uapi::{Kevent, EV_DELETE, EV_DISABLE, EV_ENABLE, EV_KEEPUDATA}, //
};

use kernel::sync::Arc;

/// The flags of a change that act once and are not kept in the knote.
const ACTIONS: u16 = EV_DELETE | EV_ENABLE | EV_DISABLE | EV_KEEPUDATA;

/// The part of a knote that the kqueue's mutex guards. One more bit would enlarge each knote by a
/// word.
pub(crate) struct KnoteInner {
    /// The parameters of the filter from the last change (`kn_sfflags`, `kn_sdata`).
    pub(crate) fflags: u32,
    pub(crate) data: i64,
    /// `kn_flags`: the flags of the change that added the knote, without [`ACTIONS`], together with
    /// the flags that the filter always sets.
    pub(crate) flags: u16,
    /// The kind of the descriptor's file, if the knote has a descriptor.
    pub(crate) kind: FileKind,
    /// `EVFILT_USER`: the program has triggered the knote.
    pub(crate) triggered: bool,
    /// The program's own data.
    pub(crate) udata: u64,
    /// The state that the filter keeps for the knote besides the descriptor and the fields above.
    pub(crate) attachment: Option<ErasedBox>,
}

/// What the mutex guards besides the table. A reference to it also gives access to the
/// [`KnoteInner`] of each knote of the kqueue.
pub(crate) struct UnderMutex {
    token: LockToken<UnderMutex>,
    /// The number of knotes that are bound to descriptors.
    pub(crate) binding_count: BindingCount,
    /// Scratch memory of the program whose task holds the mutex.
    pub(crate) scratch: UserScratch,
    /// The rights of the task that last began to watch a process.
    pub(crate) watcher: Option<Arc<WatcherRights>>,
}

impl HasLockToken for UnderMutex {
    #[inline]
    fn token(&self) -> &LockToken<Self> {
        &self.token
    }
}

impl UnderMutex {
    pub(crate) fn new(token: LockToken<UnderMutex>, binding_count: BindingCount) -> Self {
        UnderMutex {
            token,
            binding_count,
            scratch: UserScratch::NONE,
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
            attachment: None,
        }
    }

    /// The source, if it is of type `T`.
    #[inline]
    pub(crate) fn attachment_mut<T: Unpin + 'static>(&mut self) -> Option<&mut T> {
        Some(self.attachment.as_mut()?.as_mut::<T>()?.get_mut())
    }

    /// Stores the parameters of a change.
    #[inline(always)]
    pub(crate) fn set_params(&mut self, change: &Kevent) {
        self.fflags = change.fflags;
        self.data = change.data;
        self.set_udata(change);
    }

    /// Stores `udata` of a change, unless the change has `EV_KEEPUDATA`.
    #[inline(always)]
    pub(crate) fn set_udata(&mut self, change: &Kevent) {
        if !change.has(EV_KEEPUDATA) {
            self.udata = change.udata;
        }
    }
}

impl Knote {
    /// Runs the filter (`f_event`), and returns the event to report if the condition holds. May
    /// sleep.
    #[inline(always)]
    pub(crate) fn evaluate(&self, under_mutex: &mut UnderMutex) -> Option<Kevent> {
        let scratch = under_mutex.scratch;
        let mut locked = self.locked(under_mutex);
        let report = self.filter().event(&mut locked, scratch)?;
        Some(self.event(locked.inner, report))
    }

    /// Builds the event from the report of a filter.
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

    /// An event that has only the ident and the filter of the knote.
    pub(crate) fn ident_event(&self) -> Kevent {
        Kevent::new(kqueue_event {
            ident: self.ident(),
            filter: self.filter().raw(),
            ..Default::default()
        })
    }

    /// Runs the filter. True if the condition holds. May sleep.
    pub(crate) fn is_ready(&self, under_mutex: &mut UnderMutex) -> bool {
        self.evaluate(under_mutex).is_some()
    }

    /// Activates the knote, because its source fired (`KNOTE_ACTIVATE`). Any context but NMI.
    #[inline]
    pub(crate) fn activate(&self) {
        self.activate_with(WakeFlags::default());
    }

    /// [`Knote::activate`] for a wake-up with `flags`.
    #[inline]
    pub(crate) fn activate_with(&self, flags: WakeFlags) {
        self.kqueue().activate(self, flags);
    }
}
