// SPDX-License-Identifier: GPL-2.0

//! Registration of a knote that does not exist yet.
//!
//! All functions run under the mutex.

use super::Kqueue;
use crate::{
    engine::{
        filter_ops::{AttachArgs, Filter, Readiness},
        knote::{Knote, KnoteInner, Layout, LockedKnote},
        knote_table::Knotes,
        trace,
    },
    sys::{
        file::fdtable::{self, CurrentFdTable},
        memory::slab::AllocMode,
    },
    uapi::*, //
};
use kernel::{
    fs::File,
    prelude::*,
    sync::{aref::ARef, ArcBorrow},
};

impl Kqueue {
    /// [`Kqueue::register`] for a knote that does not exist yet. It becomes a part of a
    /// [pair](crate::engine::pairing) if it `may_share` and there is a primary for it.
    #[inline(never)]
    pub(super) fn register_new(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        fd_table: CurrentFdTable,
        collect_room: usize,
        may_share: bool,
    ) -> Result {
        if !change.has(EV_ADD) {
            if filter.is_descriptor() {
                drop(Self::descriptor_file(change, filter)?);
            }
            return Err(ENOENT);
        }
        let (knote, readiness) = Self::add(this, knotes, change, filter, fd_table, may_share)?;
        this.update(
            &mut knotes.under_mutex,
            &knote,
            change,
            readiness,
            collect_room,
        );
        knotes.table.insert(knote);
        Ok(())
    }

    /// The file of the descriptor that a change is for.
    #[inline(always)]
    pub(super) fn descriptor_file(change: &Kevent, filter: Filter) -> Result<ARef<File>> {
        fdtable::get(change.ident).or_else(|error| {
            if filter.accepts_o_path() {
                fdtable::get_o_path(change.ident)
            } else {
                Err(error)
            }
        })
    }

    /// Creates and attaches a knote, for which the table then has room. Returns the knote and
    /// whether it is ready already.
    #[inline(always)]
    fn add(
        this: ArcBorrow<'_, Self>,
        knotes: &mut Knotes,
        change: &Kevent,
        filter: Filter,
        fd_table: CurrentFdTable,
        may_share: bool,
    ) -> Result<(ARef<Knote>, Readiness)> {
        let reserved = knotes.table.reserve(&this.user);
        let Knotes { table, under_mutex } = knotes;
        let primary = match may_share {
            true => table.find_primary(change.ident, filter, under_mutex),
            false => None,
        };
        let file = if filter.is_descriptor() && primary.is_none() {
            Some(Self::descriptor_file(change, filter)?)
        } else {
            None
        };
        reserved?;
        let layout = match primary {
            Some(_) => Layout::Secondary,
            None => Layout::of(filter),
        };
        let inner = || KnoteInner::new(change);
        let mode = AllocMode::MaySleep;
        let knote = Self::new_knote(this, change.ident, filter, layout, inner, mode)?;
        let attach = AttachArgs {
            knote: &knote,
            change,
            file,
            primary,
            fd_table,
        };
        let attached = filter.attach(attach, under_mutex).map(|attached| {
            let LockedKnote {
                inner, fast_path, ..
            } = knote.locked(under_mutex);
            inner.attachment = attached.attachment;
            inner.flags |= attached.flags;
            *fast_path = filter.select_fast_path(inner);
            attached.readiness
        });
        match attached {
            Ok(readiness) => {
                trace::attach(&this, change);
                Ok((knote, readiness))
            }
            Err(error) => {
                // The source may have fired already.
                this.retire(&knote);
                knote.detach(under_mutex);
                Err(error)
            }
        }
    }
}
