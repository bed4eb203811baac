// SPDX-License-Identifier: GPL-2.0

//! Memory that one task allocates and another is charged for.
//!
//! C header: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::generated;
use core::marker::PhantomData;
use kernel::{bindings, types::NotThreadSafe};

/// A memory cgroup that pays.
///
/// # Invariants
///
/// Null, or a reference to it is owned.
pub(crate) struct Payer(*mut bindings::mem_cgroup);

// SAFETY: A memory cgroup may be used from any thread.
unsafe impl Send for Payer {}
// SAFETY: As above.
unsafe impl Sync for Payer {}

impl Payer {
    /// That of the current task.
    pub(crate) fn current() -> Self {
        // INVARIANT: The reference is ours; null if the kernel has no cgroups, or they are switched
        // off.
        // SAFETY: No preconditions.
        Payer(unsafe { generated::kq_current_memcg_get() })
    }

    /// Has memory that the current task has charged charged to it, until the result is dropped.
    pub(crate) fn pays(&self) -> Paying<'_> {
        Paying {
            // SAFETY: Valid by the type's invariant for as long as it is charged.
            before: unsafe { generated::kq_set_active_memcg(self.0) },
            _payer: PhantomData,
            _task: NotThreadSafe,
        }
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant. Null is none.
        unsafe { generated::kq_memcg_put(self.0) };
    }
}

/// For as long as this lives, memory that the current task has charged is charged to another.
pub(crate) struct Paying<'a> {
    before: *mut bindings::mem_cgroup,
    _payer: PhantomData<&'a Payer>,
    /// It is a state of the task.
    _task: NotThreadSafe,
}

impl Drop for Paying<'_> {
    fn drop(&mut self) {
        // SAFETY: What was there before is valid still: who has set it takes it away after this.
        unsafe { generated::kq_set_active_memcg(self.before) };
    }
}
