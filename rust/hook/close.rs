// SPDX-License-Identifier: GPL-2.0

//! Hearing of every descriptor that is closed.
//!
//! The kernel has no hook for "this descriptor went away, though its file lives
//! on". But each close of a descriptor, be it by close(2), close_range, dup2,
//! exec, exit or io_uring, calls `locks_remove_posix(file, table)`, and a function
//! probe (fprobe) sees that. By then the slot in the table is empty, or holds
//! the new file; so a watch is over when its (table, number) no longer maps to
//! its file.
//!
//! # Cost
//!
//! While there is a watch in the system, every close comes here, and nearly all
//! leave again after one barrier and one load ([`super::probe`]).
//!
//! # Context and locks
//!
//! The probe runs with preemption off in the closing task. A shard's lock is
//! taken there and by whoever adds or drops a watch; the kqueue's lock nests in it.
//!
//! # Against registration
//!
//! A watch is added, then its slot is looked at again ([`fdtable::current_maps`]).
//! The closing task empties the slot, then looks for watches. With a full barrier
//! between the two steps of each, at least one of them sees the other.
//!
//! C header: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h)

use super::{
    fdtable::{self, TableId},
    probe::{Hook, Probe, Watch}, //
};
use crate::{
    generated,
    knote::Knote, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_ulong, c_void},
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::ordering,
        barrier::smp_mb,
        Arc, //
    },
    types::Opaque, //
};

/// Watches of files: a knote hears when its number in its kqueue's table no longer refers to the
/// file.
pub(crate) type CloseHook = Hook<CloseProbe>;

/// The function probe.
#[repr(C)]
pub(crate) struct CloseProbe {
    // First, so that a pointer to it is a pointer to the whole.
    fprobe: Opaque<generated::fprobe>,
}

// SAFETY: The structure is only handed to functions with locks of their own.
unsafe impl Send for CloseProbe {}
// SAFETY: As above.
unsafe impl Sync for CloseProbe {}

// SAFETY: `unregister_fprobe` waits for the handler.
unsafe impl Probe for CloseProbe {
    type Target = Knote;
    const SHARD_BITS: u32 = 8;
    const FILTER_BITS: u32 = 14;

    unsafe fn register(&self, _: *const Hook<Self>) -> Result {
        // SAFETY: The probe is initialised, not registered, and stays in its place.
        to_result(unsafe {
            generated::register_fprobe(
                self.fprobe.get(),
                c"locks_remove_posix".as_char_ptr(),
                core::ptr::null(),
            )
        })
    }

    unsafe fn unregister(&self, _: *const Hook<Self>) {
        // SAFETY: Registered, by this function's contract.
        unsafe { generated::unregister_fprobe(self.fprobe.get()) };
    }
}

impl CloseProbe {
    /// Not registered yet.
    pub(crate) fn new() -> Self {
        CloseProbe {
            fprobe: Opaque::new(generated::fprobe {
                entry_handler: Some(Self::closing),
                ..Default::default()
            }),
        }
    }

    /// The probe's handler: `locks_remove_posix(file, table)` is being entered.
    ///
    /// # Safety
    ///
    /// Called by the probe of a [`CloseHook`], with the registers at that function's entry.
    unsafe extern "C" fn closing(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: It is the first field of the first field of a live hook, whose `drop`
        // unregisters.
        let hook = unsafe { &*probe.cast::<CloseHook>() };
        // SAFETY: `regs` are those of the probed function's entry, whose first argument this is.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) };
        // The slot was emptied before; see the module's notes on registration.
        smp_mb(ordering::Full);
        if hook.is_watched(file) {
            // SAFETY: As above, the second argument.
            let table = unsafe { generated::kq_ftrace_argument(regs.cast(), 1) };
            // SAFETY: The caller of the probed function holds both.
            unsafe {
                closed(
                    hook,
                    file as *mut bindings::file,
                    table as *mut bindings::files_struct,
                )
            };
        }
        0
    }
}

/// A descriptor of `file` in `table` was closed: ends the watches that it was for.
///
/// # Safety
///
/// Both are valid, or `table` is the owner of no descriptor table and not equal to one.
unsafe fn closed(hook: &CloseHook, file: *mut bindings::file, table: *mut bindings::files_struct) {
    hook.for_each(file.addr(), |knote| {
        let ours = knote.kqueue().is_in_table(TableId::of(table));
        // SAFETY: The table is valid if it is a kqueue's.
        let over = ours
            && unsafe { fdtable::is_dying(table) || !fdtable::maps(table, knote.ident(), file) };
        if over {
            Knote::descriptor_closed(knote.as_arc_borrow());
        }
    });
}

/// What keeps a descriptor's knote bound to it: the file, and the watch of its closing.
pub(crate) struct Binding {
    // Dropped in this order: the file's address must not be used again while it is watched.
    _watch: Watch<CloseProbe>,
    file: ARef<File>,
}

impl Binding {
    /// Binds `knote` to `file`.
    ///
    /// # Errors
    ///
    /// Those of [`Hook::watch`].
    pub(crate) fn new(hook: &Arc<CloseHook>, file: ARef<File>, knote: &Arc<Knote>) -> Result<Self> {
        Ok(Binding {
            _watch: hook.watch(file.as_ptr().addr(), knote)?,
            file,
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> &ARef<File> {
        &self.file
    }

    /// True when it is to `file`.
    pub(crate) fn is_to(&self, file: &File) -> bool {
        core::ptr::eq::<File>(&*self.file, file)
    }

    /// True when number `ident` of the current task's descriptor table refers to the file still.
    pub(crate) fn is_current(&self, ident: u64) -> bool {
        fdtable::current_maps(ident, &self.file)
    }
}
