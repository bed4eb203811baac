// SPDX-License-Identifier: GPL-2.0

//! One registered event: a (ident, filter) of a kqueue.

use crate::{
    filter::{Filter, Source},
    generated::kqueue_event,
    hook::{taskwork, workqueue},
    kqueue::{Kqueue, Ready},
    limit::Place,
    state::State,
    table::Table,
    uapi::Kevent, //
};
use kernel::{
    alloc::Flags,
    list::{impl_list_arc_safe, impl_list_item, AtomicTracker, ListLinks, TryNewListArc},
    prelude::*,
    sync::{Arc, ArcBorrow, LockedBy}, //
};

/// What the kqueue's spin lock guards of a knote.
pub(crate) struct Queueing {
    pub(crate) state: State,
    /// The last scan that has looked at the knote: no scan looks twice.
    pub(crate) scan: u64,
}

/// What the kqueue's mutex guards of a knote.
pub(crate) struct Body {
    /// `kn_flags`: the flags it was added with, and those that its filter always sets.
    pub(crate) flags: u16,
    /// What the program asked for (`kn_sfflags`, `kn_sdata`).
    pub(crate) saved: Saved,
    /// The program's own.
    pub(crate) udata: u64,
    /// The event source. `None` before it is attached and when it was taken away.
    pub(crate) source: Option<Source>,
    /// The next knote in the same bucket of the table.
    pub(crate) next: Option<Arc<Knote>>,
}

impl Body {
    /// That of a knote that is not attached yet.
    pub(crate) fn new(flags: u16, saved: Saved, udata: u64) -> Self {
        Body {
            flags,
            saved,
            udata,
            source: None,
            next: None,
        }
    }
}

/// The filter's parameters, as the program last gave them.
#[derive(Clone, Copy)]
pub(crate) struct Saved {
    pub(crate) fflags: u32,
    pub(crate) data: i64,
}

/// A registered event.
///
/// Referenced by its kqueue's table, by the list of pending knotes while it is in there, and by
/// what it has hooked into its source. It references its kqueue. The circle is opened by
/// [`Kqueue::remove`], which every knote ends with.
#[pin_data]
pub(crate) struct Knote {
    ident: u64,
    filter: Filter,
    kqueue: Arc<Kqueue>,
    _place: Place,
    #[pin]
    links: ListLinks,
    #[pin]
    tracker: AtomicTracker,
    pub(crate) queueing: LockedBy<Queueing, Ready>,
    pub(crate) body: LockedBy<Body, Table>,
}

impl_list_arc_safe! {
    impl ListArcSafe<0> for Knote { tracked_by tracker: AtomicTracker; }
}
impl_list_item! {
    impl ListItem<0> for Knote { using ListLinks { self.links }; }
}

impl Knote {
    /// A knote of `kqueue` that is not in its table yet, and has no source.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOSPC` if the user has as many knotes as they may.
    pub(crate) fn new(
        kqueue: ArcBorrow<'_, Kqueue>,
        ident: u64,
        filter: Filter,
        body: Body,
        alloc: Flags,
    ) -> Result<Arc<Self>> {
        let place = kqueue.take_place()?;
        let queueing = Queueing {
            state: State::default(),
            scan: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                ident,
                filter,
                _place: place,
                links <- ListLinks::new(),
                tracker <- AtomicTracker::new(),
                queueing: LockedBy::new(&kqueue.ready, queueing),
                body: LockedBy::new(&kqueue.table, body),
                kqueue: kqueue.into(),
            }),
            alloc,
        )
    }

    /// What is watched: for a descriptor's filter, its number.
    pub(crate) fn ident(&self) -> u64 {
        self.ident
    }

    /// The kind of event.
    pub(crate) fn filter(&self) -> Filter {
        self.filter
    }

    /// The kqueue that it belongs to.
    pub(crate) fn kqueue(&self) -> ArcBorrow<'_, Kqueue> {
        self.kqueue.as_arc_borrow()
    }

    /// False when the descriptor that it watches was closed, or stands for another file now.
    pub(crate) fn is_bound(&self, table: &Table) -> bool {
        match &self.body.access(table).source {
            Some(source) => source.is_bound(self.ident),
            None => false,
        }
    }

    /// Runs the filter (`f_event`): the event to report if the condition holds. May sleep.
    pub(crate) fn evaluate(&self, table: &mut Table) -> Option<Kevent> {
        let scratch = table.scratch;
        let body = self.body.access_mut(table);
        let report = body.source.as_mut()?.event(&body.saved, scratch)?;
        Some(Kevent::new(kqueue_event {
            ident: self.ident,
            filter: self.filter.raw(),
            flags: body.flags | report.flags,
            fflags: report.fflags,
            data: report.data,
            udata: body.udata,
        }))
    }

    /// Its source fired (`KNOTE_ACTIVATE`). From any context but NMI.
    pub(crate) fn activate(this: ArcBorrow<'_, Self>) {
        this.kqueue.activate(this);
    }

    /// Its descriptor was closed. Called by the close hook, which holds spin locks.
    ///
    /// From here on it is not reported. What may sleep, is done before close(2) returns.
    pub(crate) fn descriptor_closed(this: ArcBorrow<'_, Self>) {
        // Not the last reference: the close hook has one.
        drop(this.kqueue.retire(&this));
        // A kqueue that is being released removes all its knotes anyway.
        let Some(file) = this.kqueue.file() else {
            return;
        };
        let knote: Arc<Self> = this.into();
        let removal = move || knote.kqueue.remove_closed(&knote);
        if taskwork::run_on_return(removal, file).is_err() {
            // No memory: a little later, then. Already queued is as good.
            if let Some(queue) = workqueue::queue() {
                let _ = queue.enqueue(this.kqueue.clone());
            }
        }
    }
}
