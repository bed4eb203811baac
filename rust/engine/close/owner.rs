// SPDX-License-Identifier: GPL-2.0

//! The descriptor table that a kqueue belongs to.

use super::{BoundKnotes, OWNER_BITS};
use crate::sys::{
    file::fdtable::{CurrentTable, TableId},
    probe::watched::hash,
    process::pid::Process, //
};
use core::sync::atomic::{self, AtomicUsize};
use kernel::sync::{atomic::ordering, Arc};

/// The table that a kqueue belongs to, which is the table of the task that opened it.
///
/// An address does not identify a table for ever, because io_uring can open a file without a
/// descriptor number, and then the kqueue may outlive its table. So the first call on a kqueue must
/// come from the process that opened it, or from a process that shares the table with it at that
/// time. That call uses a descriptor of the table. From then on the kqueue is closed no later than
/// the table is torn down.
pub(crate) struct OwnerTable {
    bound_knotes: Arc<BoundKnotes>,
    table: TableId,
    opener: Option<Process>,
    /// The address of the table after the first call, 0 before it. The accesses are relaxed,
    /// because the address is only compared, and a task that reads 0 checks the table itself.
    confirmed: AtomicUsize,
}

impl OwnerTable {
    #[inline]
    pub(crate) fn table(&self) -> TableId {
        self.table
    }

    /// The table, if it is the table of the current task.
    #[inline(always)]
    pub(crate) fn if_current(&self) -> Option<CurrentTable> {
        let confirmed = self.confirmed.load(atomic::Ordering::Relaxed);
        TableId::at(confirmed)
            .if_current()
            .or_else(|| self.confirm())
    }

    #[cold]
    fn confirm(&self) -> Option<CurrentTable> {
        if self.confirmed.load(atomic::Ordering::Relaxed) != 0 {
            return None;
        }
        let table = self.table.if_current()?;
        let opener = self.opener.as_ref()?;
        if !opener.is_current() && !opener.has_table(self.table) {
            return None;
        }
        self.confirmed
            .store(self.table.address(), atomic::Ordering::Relaxed);
        Some(table)
    }
}

impl Drop for OwnerTable {
    fn drop(&mut self) {
        let owner_counts = &self.bound_knotes.owner_counts;
        if let Some(count) = owner_counts.get(hash(self.table.address(), OWNER_BITS)) {
            count.fetch_sub(1, ordering::Relaxed);
        }
    }
}

impl BoundKnotes {
    /// Counts a kqueue of `table`, which exists for as long as the result.
    pub(crate) fn new_owner(self: &Arc<Self>, table: TableId) -> OwnerTable {
        if let Some(count) = self.owner_counts.get(hash(table.address(), OWNER_BITS)) {
            count.fetch_add(1, ordering::Relaxed);
        }
        OwnerTable {
            bound_knotes: self.clone(),
            table,
            opener: Process::current(),
            confirmed: AtomicUsize::new(0),
        }
    }
}
