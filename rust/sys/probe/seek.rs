// SPDX-License-Identifier: GPL-2.0

//! Notification of changes of a file offset.
//!
//! A task that changes the offset of an open file holds the offset lock if other references to the
//! file exist, and releases it by `__f_unlock_pos(file)`. A watch holds a reference to the file.
//! Therefore the lock is taken for each watched regular file or directory that was opened by name.
//! Block devices have no offset lock. For them, the return from the file's own lseek(2) operation
//! is probed. Function probes (fprobe) observe both events.
//!
//! # Context and locks
//!
//! The probes run with preemption disabled, in the task that changed the offset.
//! [`SeekTarget::moved`] runs under the lock of a shard of watches.
//!
//! # Against registration
//!
//! A registration inserts the watch and then reads the offset. The task that changes the offset
//! stores it and then reads the number of watches. Each of them executes a full barrier between the
//! two steps, so at least one of them sees what the other has done (`selftests/state`, `offset`).
//! The release of the offset lock does not order the two steps of the task, because it follows
//! both. For block devices, the number is read when the operation returns and not when it begins,
//! because a registration may come between its beginning and the store.
//!
//! C header: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h)

use super::{
    fprobe::FunctionProbe,
    on_demand::{OnDemandProbe, Probe},
    watches::{ObjectProbe, Watch, WatchedProbe},
};
use crate::{generated, sys::file::offset};
use core::marker::PhantomData;
use kernel::{
    bindings,
    ffi::{c_int, c_ulong, c_void},
    fmt,
    fs::File,
    prelude::*,
    sync::{
        atomic::ordering,
        barrier::smp_mb,
        Arc,
        ArcBorrow, //
    }, //
};

/// The target of a watch of a file offset.
pub(crate) trait SeekTarget: Send + Sync + 'static {
    /// The offset may have changed. Must not sleep.
    fn moved(this: ArcBorrow<'_, Self>);
}

/// The watches that are served by one of the two probes.
type OffsetWatches<T> = WatchedProbe<SeekProbe<T>>;

/// The watches of the offsets of open files.
pub(crate) struct SeekWatches<T: SeekTarget> {
    /// The watches of files that have an offset lock.
    locked: Arc<OffsetWatches<T>>,
    /// The watches of files that have no offset lock.
    unlocked: Arc<OffsetWatches<T>>,
}

impl<T: SeekTarget> SeekWatches<T> {
    /// No watches.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(SeekWatches {
            locked: WatchedProbe::new(SeekProbe::of_locked())?,
            unlocked: WatchedProbe::new(SeekProbe::of_unlocked())?,
        })
    }

    /// Notifies `target` of changes of the offset of `file` until the watch is dropped. The target
    /// holds a reference to the file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and the errors of the registration of the probe.
    pub(crate) fn watch(&self, file: &File, target: &Arc<T>) -> Result<Watch<SeekProbe<T>>> {
        let watches = if offset::has_locked_offset(file) {
            &self.locked
        } else {
            &self.unlocked
        };
        watches.watch(file.as_ptr().addr(), target)
    }

    /// For statistics: which of the probes are registered, and the number of watches.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.locked.show("offset", f)?;
        self.unlocked.show("seek", f)
    }

    /// Unregisters the probes now. No watch is added any more.
    pub(crate) fn stop(&self) {
        self.locked.stop();
        self.unlocked.stop();
    }
}

/// The probe of [`OffsetWatches`].
#[repr(C)]
pub(crate) struct SeekProbe<T> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    functions: FunctionProbe,
    _target: PhantomData<fn(T)>,
}

// SAFETY: `unregister` waits for handlers that are running.
unsafe impl<T: SeekTarget> Probe for SeekProbe<T> {
    const LINGER_MILLIS: u32 = 10_000;

    unsafe fn register(&self, _: *const OnDemandProbe<Self>) -> Result {
        // SAFETY: The caller guarantees that the probe is part of the on-demand probe, which is not
        // moved.
        unsafe { self.functions.register() }
    }

    unsafe fn unregister(&self, _: *const OnDemandProbe<Self>) {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { self.functions.unregister() };
    }
}

impl<T: SeekTarget> ObjectProbe for SeekProbe<T> {
    type Target = T;
    const SHARD_BITS: u32 = 4;
    const FILTER_BITS: u32 = 10;
}

impl<T: SeekTarget> SeekProbe<T> {
    /// The probe for files that have an offset lock. It is not registered.
    fn of_locked() -> Self {
        Self::new(
            &[c"__f_unlock_pos"],
            generated::fprobe {
                entry_handler: Some(Self::unlock_entry),
                ..Default::default()
            },
        )
    }

    /// The probe for files that have no offset lock. It is not registered.
    fn of_unlocked() -> Self {
        Self::new(
            &[c"blkdev_llseek"],
            generated::fprobe {
                entry_handler: Some(Self::seek_entry),
                exit_handler: Some(Self::seek_exit),
                // The size of the data that `seek_entry` passes to `seek_exit`.
                entry_data_size: size_of::<usize>(),
                ..Default::default()
            },
        )
    }

    fn new(functions: &'static [&'static CStr], fprobe: generated::fprobe) -> Self {
        SeekProbe {
            functions: FunctionProbe::new(functions, fprobe),
            _target: PhantomData,
        }
    }

    /// Notifies the targets that watch the offset of `file`. The current task may have changed the
    /// offset just now.
    ///
    /// # Safety
    ///
    /// `probe` belongs to live [`OffsetWatches<T>`].
    unsafe fn notify_targets(probe: *mut generated::fprobe, file: usize) {
        // SAFETY: The caller upholds this function's safety contract. The probe is the first field
        // of each structure that encloses it, up to the watches.
        let watches = unsafe { &*probe.cast::<OffsetWatches<T>>() };
        // The offset was stored before. See "Against registration" in the documentation of the
        // module.
        smp_mb(ordering::Full);
        if watches.is_watched(file) {
            watches.for_each(file, |target: &Arc<T>| T::moved(target.as_arc_borrow()));
        }
    }

    /// The entry handler of `__f_unlock_pos(file)`.
    ///
    /// # Safety
    ///
    /// The caller is the probe of live [`OffsetWatches<T>`]. `regs` are the registers at the
    /// function's entry.
    unsafe extern "C" fn unlock_entry(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: `regs` are the registers at the entry of the probed function. The first argument
        // is the file. The caller upholds this function's safety contract.
        unsafe {
            let file = generated::kq_ftrace_argument(regs.cast(), 0) as usize;
            Self::notify_targets(probe, file);
        }
        0
    }

    /// The entry handler of the lseek(2) operation, whose first argument is the file. The return of
    /// each operation is probed, because the file may be watched by then.
    ///
    /// # Safety
    ///
    /// `regs` are the registers at the function's entry. `data` has room for a `usize`.
    unsafe extern "C" fn seek_entry(
        _probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            let file = generated::kq_ftrace_argument(regs.cast(), 0) as usize;
            data.cast::<usize>().write_unaligned(file);
        }
        0
    }

    /// The exit handler of the lseek(2) operation.
    ///
    /// # Safety
    ///
    /// The caller is the probe of live [`OffsetWatches<T>`]. `data` is what `seek_entry` has
    /// stored.
    unsafe extern "C" fn seek_exit(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        _regs: *mut bindings::ftrace_regs,
        data: *mut c_void,
    ) {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { Self::notify_targets(probe, data.cast::<usize>().read_unaligned()) };
    }
}
