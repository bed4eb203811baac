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
    fprobe::FunctionProbe,
    hook::{Hook, Presence, Probe, Watch, Watched},
};
use crate::{generated, sys::file::contents};
use core::marker::PhantomData;
use kernel::{
    bindings,
    ffi::{c_int, c_ulong, c_void},
    fmt,
    fs::File,
    prelude::*,
    sync::{Arc, ArcBorrow}, //
};

/// Someone who watches the offset of a file.
pub(crate) trait Seek: Send + Sync + 'static {
    /// It may have moved. Must not sleep.
    fn moved(this: ArcBorrow<'_, Self>);
}

/// Watches of open files whose offsets are told of in one way.
type SeekHook<T> = Hook<SeekProbe<T>>;

/// Watches of open files.
pub(crate) struct SeekHooks<T: Seek> {
    /// Of those whose offset has a lock.
    locked: Arc<SeekHook<T>>,
    /// Of the other ones.
    unlocked: Arc<SeekHook<T>>,
}

impl<T: Seek> SeekHooks<T> {
    /// No watches yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(SeekHooks {
            locked: Hook::new(SeekProbe::of_locked())?,
            unlocked: Hook::new(SeekProbe::of_unlocked())?,
        })
    }

    /// Tells `target` of moves of the offset of `file` from now on, to which the target keeps a reference.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what registering the probe fails with.
    pub(crate) fn watch(&self, file: &File, target: &Arc<T>) -> Result<Watch<SeekProbe<T>>> {
        let hook = if contents::has_locked_offset(file) {
            &self.locked
        } else {
            &self.unlocked
        };
        hook.watch(file.as_ptr().addr(), target)
    }

    /// For an administrator: which of the probes are registered, and how many watch.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.locked.show("offset", f)?;
        self.unlocked.show("seek", f)
    }

    /// Takes the probes away now. No watch is added any more.
    pub(crate) fn stop(&self) {
        self.locked.stop();
        self.unlocked.stop();
    }
}

/// A function probe.
#[repr(C)]
pub(crate) struct SeekProbe<T> {
    // First, so that a pointer to it is a pointer to the whole.
    functions: FunctionProbe,
    _target: PhantomData<fn(T)>,
}

// SAFETY: `unregister` waits for the handlers.
unsafe impl<T: Seek> Probe for SeekProbe<T> {
    unsafe fn register(&self, _: *const Presence<Self>) -> Result {
        // SAFETY: By this function's contract: the probe is in the presence, which stays in its place.
        unsafe { self.functions.register() }
    }

    unsafe fn unregister(&self, _: *const Presence<Self>) {
        // SAFETY: By this function's contract.
        unsafe { self.functions.unregister() };
    }
}

impl<T: Seek> Watched for SeekProbe<T> {
    type Target = T;
    const SHARD_BITS: u32 = 4;
    const FILTER_BITS: u32 = 10;
}

impl<T: Seek> SeekProbe<T> {
    /// For files whose offset has a lock. Not registered yet.
    fn of_locked() -> Self {
        Self::new(
            &[c"__f_unlock_pos"],
            generated::fprobe {
                entry_handler: Some(Self::unlocking),
                ..Default::default()
            },
        )
    }

    /// For the other ones. Not registered yet.
    fn of_unlocked() -> Self {
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
            functions: FunctionProbe::new(functions, fprobe),
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
        // SAFETY: By this function's contract: it is the first field of all that it is in, up to
        // a live hook, whose `stop` unregisters.
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
