// SPDX-License-Identifier: GPL-2.0

//! The descriptor table that a kqueue belongs to.

use super::{BoundKnotes, OWNER_BITS};
use crate::sys::{
    file::fdtable::{CurrentFdTable, FdTableId},
    memory::hash::hash,
    process::pid::Process, //
};
use core::sync::atomic::{self, AtomicUsize};
use kernel::sync::{atomic::ordering, barrier::smp_mb, Arc};

/// The descriptor table that a kqueue belongs to, which is that of the task that opened it.
///
/// An address does not identify a descriptor table for ever, because io_uring can open a file
/// without a descriptor number, and then the kqueue may outlive its descriptor table. So the first
/// call on a kqueue must come from the process that opened it, or from a process that shares the
/// descriptor table with it at that time. That call uses a descriptor of that table. From then on
/// the kqueue is closed no later than the descriptor table is torn down.
pub(crate) struct OwnerFdTable {
    bound_knotes: Arc<BoundKnotes>,
    fd_table: FdTableId,
    opener: Option<Process>,
    /// The address of the descriptor table after the first call, 0 before it. The accesses are
    /// relaxed, because the address is only compared, and a task that reads 0 checks it itself.
    confirmed: AtomicUsize,
}

impl OwnerFdTable {
    #[inline]
    pub(crate) fn id(&self) -> FdTableId {
        self.fd_table
    }

    /// The descriptor table, if it is that of the current task.
    #[inline(always)]
    pub(crate) fn if_current(&self) -> Option<CurrentFdTable> {
        let confirmed = self.confirmed.load(atomic::Ordering::Relaxed);
        FdTableId::at(confirmed)
            .if_current()
            .or_else(|| self.confirm())
    }

    /// Checks the first call. Another thread can make its first call at the same time, so the
    /// address may have been stored since the caller has read 0.
    #[cold]
    fn confirm(&self) -> Option<CurrentFdTable> {
        let confirmed = self.confirmed.load(atomic::Ordering::Relaxed);
        if confirmed != 0 {
            return FdTableId::at(confirmed).if_current();
        }
        let fd_table = self.fd_table.if_current()?;
        let opener = self.opener.as_ref()?;
        if !opener.is_current() && !opener.has_fd_table(self.fd_table) {
            // The opener may have made the first call meanwhile, and have given up the table then.
            // The barrier orders the two reads: who sees that it has given up the table also sees
            // that it has made its call, because it takes locks in between.
            smp_mb(ordering::Full);
            return FdTableId::at(self.confirmed.load(atomic::Ordering::Relaxed)).if_current();
        }
        self.confirmed
            .store(self.fd_table.address(), atomic::Ordering::Relaxed);
        Some(fd_table)
    }
}

impl Drop for OwnerFdTable {
    fn drop(&mut self) {
        let owner_counts = &self.bound_knotes.owner_counts;
        if let Some(count) = owner_counts.get(hash(self.fd_table.address(), OWNER_BITS)) {
            count.fetch_sub(1, ordering::Relaxed);
        }
    }
}

impl BoundKnotes {
    /// Counts a kqueue of `fd_table`, which exists for as long as the result.
    pub(crate) fn new_owner(self: &Arc<Self>, fd_table: FdTableId) -> OwnerFdTable {
        if let Some(count) = self.owner_counts.get(hash(fd_table.address(), OWNER_BITS)) {
            count.fetch_add(1, ordering::Relaxed);
        }
        OwnerFdTable {
            bound_knotes: self.clone(),
            fd_table,
            opener: Process::current(),
            confirmed: AtomicUsize::new(0),
        }
    }
}
