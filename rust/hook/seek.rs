// SPDX-License-Identifier: GPL-2.0

//! Hearing of a file's offset.
//!
//! Whoever moves the offset of an open file that others have too holds the lock of its offset, and
//! lets it go by `__f_unlock_pos(file)`; a watch comes with a reference, so that is so for each
//! regular file and directory that was opened by name and is watched. Block devices have no such
//! lock; there it is the return from the file's own function for lseek(2). Function probes (fprobe)
//! see both.
//!
//! # Context and locks
//!
//! The probes run with preemption off in the task that moved the offset; [`Seek::moved`] under the
//! lock of a shard of watches.
//!
//! C header: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h)

use super::{
    probe::{Hook, Presence, Probe, Watched},
    symbol, //
};
use crate::generated;
use core::{marker::PhantomData, ptr};
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
    sync::{Arc, ArcBorrow},
    types::Opaque, //
};

/// Someone who watches the offset of a file.
pub(crate) trait Seek: Send + Sync + 'static {
    /// It may have moved. Must not sleep.
    fn moved(this: ArcBorrow<'_, Self>);
}

/// Watches of open files.
pub(crate) type SeekHook<T> = Hook<SeekProbe<T>>;

/// How many functions one probe may be on.
const MOST_FUNCTIONS: usize = 1;

/// A function probe.
#[repr(C)]
pub(crate) struct SeekProbe<T> {
    // First, so that a pointer to it is a pointer to the whole.
    fprobe: Opaque<generated::fprobe>,
    functions: &'static [&'static CStr],
    _target: PhantomData<T>,
}

// SAFETY: The structure is only handed to functions with locks of their own.
unsafe impl<T: Seek> Send for SeekProbe<T> {}
// SAFETY: As above.
unsafe impl<T: Seek> Sync for SeekProbe<T> {}

// SAFETY: `unregister_fprobe` waits for the handlers.
unsafe impl<T: Seek> Probe for SeekProbe<T> {
    unsafe fn register(&self, presence: *const Presence<Self>) -> Result {
        let mut names = [ptr::null(); MOST_FUNCTIONS];
        for (slot, function) in names.iter_mut().zip(self.functions) {
            *slot = function.as_char_ptr();
        }
        let count = self.functions.len().min(names.len());
        // SAFETY: The probe is initialised, not registered, and stays in its place; there are that
        // many names.
        to_result(unsafe {
            generated::register_fprobe_syms(self.fprobe.get(), names.as_mut_ptr(), count as c_int)
        })?;
        // The kernel looks in modules, too, if it has no such function that can be probed itself.
        for place in 0..count as u32 {
            // SAFETY: It is registered, with as many functions.
            let address = unsafe { generated::kq_fprobe_address(self.fprobe.get(), place) };
            let is_ours = |name: &&CStr| symbol::is_kernel_s(address as usize, name);
            if !self.functions.iter().any(is_ours) {
                // SAFETY: It is registered, by the same presence.
                unsafe { self.unregister(presence) };
                return Err(EOPNOTSUPP);
            }
        }
        Ok(())
    }

    unsafe fn unregister(&self, _: *const Presence<Self>) {
        // SAFETY: Registered, by this function's contract.
        unsafe { generated::unregister_fprobe(self.fprobe.get()) };
    }
}

impl<T: Seek> Watched for SeekProbe<T> {
    type Target = T;
    const SHARD_BITS: u32 = 4;
    const FILTER_BITS: u32 = 10;
}

impl<T: Seek> SeekProbe<T> {
    /// For files whose offset has a lock. Not registered yet.
    pub(crate) fn of_locked() -> Self {
        Self::new(
            &[c"__f_unlock_pos"],
            generated::fprobe {
                entry_handler: Some(Self::unlocking),
                ..Default::default()
            },
        )
    }

    /// For the other ones. Not registered yet.
    pub(crate) fn of_unlocked() -> Self {
        Self::new(
            &[c"blkdev_llseek"],
            generated::fprobe {
                entry_handler: Some(Self::seeking),
                exit_handler: Some(Self::sought),
                // What `seeking` leaves for `sought`.
                entry_data_size: size_of::<usize>(),
                ..Default::default()
            },
        )
    }

    fn new(functions: &'static [&'static CStr], fprobe: generated::fprobe) -> Self {
        SeekProbe {
            fprobe: Opaque::new(fprobe),
            functions,
            _target: PhantomData,
        }
    }

    /// The first argument of the probed function, if it is watched.
    ///
    /// # Safety
    ///
    /// `probe` is that of a [`SeekHook<T>`], `regs` are those at the function's entry.
    unsafe fn watched(
        probe: *mut generated::fprobe,
        regs: *mut bindings::ftrace_regs,
    ) -> Option<usize> {
        // SAFETY: By this function's contract: it is the first field of the first field of the first
        // field of a live hook, whose `stop` unregisters.
        let (hook, file) = unsafe {
            let hook = &*probe.cast::<SeekHook<T>>();
            (hook, generated::kq_ftrace_argument(regs.cast(), 0) as usize)
        };
        hook.is_watched(file).then_some(file)
    }

    /// # Safety
    ///
    /// `probe` is that of a [`SeekHook<T>`].
    unsafe fn tell(probe: *mut generated::fprobe, file: usize) {
        // SAFETY: As in `watched`.
        let hook = unsafe { &*probe.cast::<SeekHook<T>>() };
        hook.for_each(file, |target: &Arc<T>| T::moved(target.as_arc_borrow()));
    }

    /// `__f_unlock_pos(file)` is being entered.
    ///
    /// # Safety
    ///
    /// Called by the probe of a [`SeekHook<T>`], with the registers at that function's entry.
    unsafe extern "C" fn unlocking(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: By this function's contract.
        unsafe {
            if let Some(file) = Self::watched(probe, regs) {
                Self::tell(probe, file);
            }
        }
        0
    }

    /// The function for lseek(2), `(file, ..)`, is being entered. Gives non-zero if its return is of no interest.
    ///
    /// # Safety
    ///
    /// As above, and `data` has room for a `usize`.
    unsafe extern "C" fn seeking(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By this function's contract.
        unsafe {
            match Self::watched(probe, regs) {
                Some(file) => {
                    data.cast::<usize>().write_unaligned(file);
                    0
                }
                None => 1,
            }
        }
    }

    /// It is being left.
    ///
    /// # Safety
    ///
    /// Called by the probe of a [`SeekHook<T>`], with what `seeking` has left.
    unsafe extern "C" fn sought(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        _regs: *mut bindings::ftrace_regs,
        data: *mut c_void,
    ) {
        // SAFETY: By this function's contract.
        unsafe { Self::tell(probe, data.cast::<usize>().read_unaligned()) };
    }
}
