// SPDX-License-Identifier: GPL-2.0

//! Charging the memory that one task allocates to the memory cgroup of another.
//!
//! ```ignore
//! let memcg = MemcgRef::current(); // Kept with an object.
//! // Later, in another task:
//! let active = memcg.activate();
//! cache.alloc(AllocMode::NoSleep, value)?; // Charged to the cgroup of the first task.
//! drop(active);
//! ```
//!
//! C header: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::generated;
use core::marker::PhantomData;
use kernel::{bindings, types::NotThreadSafe};

/// A reference to a memory cgroup that memory can be charged to.
///
/// # Invariants
///
/// The pointer is null, or this value owns a reference to the cgroup.
pub(crate) struct MemcgRef(*mut bindings::mem_cgroup);

// SAFETY: Any thread may use a memory cgroup.
unsafe impl Send for MemcgRef {}
// SAFETY: Any thread may use a memory cgroup.
unsafe impl Sync for MemcgRef {}

impl MemcgRef {
    /// The memory cgroup of the current task.
    pub(crate) fn current() -> Self {
        // INVARIANT: This value owns the reference. The pointer is null if the kernel has no memory
        // cgroups or they are disabled.
        // SAFETY: The function has no preconditions.
        MemcgRef(unsafe { generated::kq_current_memcg_get() })
    }

    /// Charges the accounted allocations of the current task to this cgroup until the result is
    /// dropped.
    pub(crate) fn activate(&self) -> ActiveMemcg<'_> {
        ActiveMemcg {
            // SAFETY: The type's invariant guarantees that the cgroup is valid. The result borrows
            // from `self`, so it stays valid as long as it is charged.
            before: unsafe { generated::kq_set_active_memcg(self.0) },
            _memcg: PhantomData,
            _task: NotThreadSafe,
        }
    }
}

impl Drop for MemcgRef {
    fn drop(&mut self) {
        // SAFETY: The type's invariant guarantees that this value owns the reference. The function
        // accepts null.
        unsafe { generated::kq_memcg_put(self.0) };
    }
}

/// While this value lives, accounted allocations of the current task are charged to another cgroup.
pub(crate) struct ActiveMemcg<'a> {
    before: *mut bindings::mem_cgroup,
    _memcg: PhantomData<&'a MemcgRef>,
    /// The active cgroup is state of the current task, so this value must not leave the thread.
    _task: NotThreadSafe,
}

impl Drop for ActiveMemcg<'_> {
    fn drop(&mut self) {
        // SAFETY: The previous cgroup is still valid, because the code that activated it
        // deactivates it only after this value was dropped.
        unsafe { generated::kq_set_active_memcg(self.before) };
    }
}
