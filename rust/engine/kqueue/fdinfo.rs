// SPDX-License-Identifier: GPL-2.0

//! The text about a kqueue in `/proc/PID/fdinfo`.

use super::Kqueue;
use crate::{
    engine::{knote::Knote, knotes_guard::KnotesGuard},
    sys::{file::seqfile, lock::killable}, //
};
use kernel::{prelude::*, seq_file::SeqFile, seq_print};

/// The minimum length of a line for a knote.
const LINE_LEN_MIN: usize =
    "knote filter: -1 ident: 0 flags: 0 fflags: 0 data: 0 udata: 0 state: idle\n".len();

impl Kqueue {
    /// Prints one line for the kqueue and one for each knote. The lines are sorted by filter and
    /// ident, so that their order does not reveal the secret multiplier of the table.
    pub(crate) fn show(&self, m: &SeqFile) {
        let Ok(guard) = killable::lock(&self.locks.knotes) else {
            return;
        };
        let mut knotes = KnotesGuard::new(self, guard);
        // A deferred knote that cannot be inserted into the table is not shown.
        let _ = self.insert_deferred_and_lock_ready(&mut knotes);
        let (pending, spent) = {
            let ready = self.locks.ready.lock();
            (ready.pending(), ready.spent)
        };
        let len = knotes.table.len() - spent;
        seq_print!(m, "kqueue knotes: {} pending: {}\n", len, pending);
        if !seqfile::has_room(m, len.saturating_mul(LINE_LEN_MIN)) {
            return;
        }
        // A close may retire spent knotes now, which are not spent after that.
        let Ok(mut sorted) = KVVec::with_capacity(knotes.table.len(), GFP_KERNEL_ACCOUNT) else {
            return;
        };
        knotes.table.for_each(|knote| {
            if !knote.is_spent() {
                // There is room.
                let _ = sorted.push_within_capacity(&**knote);
            }
        });
        sorted.sort_unstable_by_key(|knote: &&Knote| (-knote.filter().raw(), knote.ident()));
        for knote in sorted {
            if seqfile::has_overflowed(m) {
                return;
            }
            let state = knote.state(&mut self.locks.ready.lock()).name();
            let inner = knote.inner(&knotes.under_mutex);
            seq_print!(
                m,
                "knote filter: {} ident: {} flags: {:x} fflags: {:x} data: {} udata: {:x} \
                 state: {}\n",
                knote.filter().raw(),
                knote.ident(),
                inner.flags,
                inner.fflags,
                inner.data,
                inner.udata,
                state,
            );
        }
    }
}
