// SPDX-License-Identifier: GPL-2.0

//! The probes of the functions that every close calls, and the self-test of the close probe.

use super::{BoundKnotes, OWNER_BITS};
use crate::{
    generated,
    sys::{
        file::fdtable::{self, FdTableId},
        memory::hash::hash,
        probe::{
            fprobe::FunctionProbe,
            on_demand::{OnDemandProbe, Probe},
        },
    }, //
};
use core::ptr;
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
    sync::{atomic::ordering, barrier::smp_mb, Arc},
    types::Opaque, //
};

/// The probe of `locks_remove_posix`.
#[repr(C)]
pub(crate) struct CloseProbe {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    ops: Opaque<bindings::ftrace_ops>,
}

// SAFETY: The structure is only passed to functions that do their own locking.
unsafe impl Send for CloseProbe {}

// SAFETY: The structure is only passed to functions that do their own locking.
unsafe impl Sync for CloseProbe {}

// SAFETY: The structure is not a static one of the kernel image, so ftrace marks it as
// `FTRACE_OPS_FL_DYNAMIC`. For such a structure `unregister_ftrace_function` waits for all tasks
// that may be in the callback or may be about to call it.
unsafe impl Probe for CloseProbe {
    /// While the probe is registered, every close in the system calls it. But a program that makes
    /// and closes many kqueues should not patch the kernel for each of them.
    const LINGER_MILLIS: u32 = 10_000;

    unsafe fn register(&self, on_demand: *const OnDemandProbe<Self>) -> Result {
        let ops = self.ops.get();
        let function = generated::locks_remove_posix as *const c_void;
        // SAFETY: The structure is initialised and not registered. It is not moved.
        unsafe {
            to_result(bindings::ftrace_set_filter_ip(
                ops,
                function.addr() as c_ulong,
                0,
                1,
            ))?;
            to_result(bindings::register_ftrace_function(ops))
                .inspect_err(|_| bindings::ftrace_free_filter(ops))?;
        }
        // SAFETY: The on-demand probe is the first field of a `BoundKnotes`, which is valid by this
        // function's contract.
        let tested = unsafe { &*on_demand.cast::<BoundKnotes>() }.self_test();
        if tested.is_err() {
            // SAFETY: The probe was just registered with the same `on_demand`.
            unsafe { self.unregister(on_demand) };
        }
        tested
    }

    unsafe fn unregister(&self, _: *const OnDemandProbe<Self>) {
        let ops = self.ops.get();
        // SAFETY: By this function's contract, the probe is registered.
        unsafe {
            bindings::unregister_ftrace_function(ops);
            bindings::ftrace_free_filter(ops);
        }
    }
}

impl CloseProbe {
    /// A probe that is not registered.
    pub(super) fn new() -> Self {
        CloseProbe {
            ops: Opaque::new(bindings::ftrace_ops {
                func: Some(Self::closing),
                // With the flag "permanent", an attempt to disable ftrace (`kernel.ftrace_enabled`)
                // fails.
                flags: (bindings::FTRACE_OPS_FL_SAVE_ARGS | bindings::FTRACE_OPS_FL_PERMANENT)
                    as c_ulong,
                ..Default::default()
            }),
        }
    }

    /// The callback at the entry of `locks_remove_posix(file, table)`.
    ///
    /// # Safety
    ///
    /// The caller is the probe of a [`BoundKnotes`]. `regs` are the registers at the entry of the
    /// probed function.
    unsafe extern "C" fn closing(
        _ip: c_ulong,
        _parent: c_ulong,
        ops: *mut bindings::ftrace_ops,
        regs: *mut bindings::ftrace_regs,
    ) {
        // SAFETY: The `ftrace_ops` is the first field of a `CloseProbe`, which is the first field
        // of an `OnDemandProbe`, which is the first field of a `BoundKnotes`. That unregisters the
        // probe before it is freed.
        let bound_knotes = unsafe { &*ops.cast::<BoundKnotes>() };
        // SAFETY: `regs` are the registers at the entry of the probed function. The first argument
        // is the file.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) } as usize;
        // The slot was emptied before. See "Against registration" in the documentation of the
        // module.
        smp_mb(ordering::Full);
        // SAFETY: `regs` are the registers at the entry of the probed function. The second argument
        // is the descriptor table.
        let fd_table = unsafe { generated::kq_ftrace_argument(regs.cast(), 1) } as usize;
        if !bound_knotes.may_have_kqueue(fd_table) {
            return;
        }
        if fd_table == bound_knotes.self_test_table() {
            bound_knotes.self_test_hit.store(true, ordering::Relaxed);
        } else if bound_knotes.may_be_bound(file, fd_table) {
            // SAFETY: The caller of the probed function holds references to both.
            unsafe {
                bound_knotes.handle_close(
                    file as *mut bindings::file,
                    fd_table as *mut bindings::files_struct,
                )
            };
        }
    }
}

/// The probe of the functions that close descriptors which were opened with `O_PATH`.
#[repr(C)]
pub(crate) struct PathProbe {
    // This is the first field, so that a pointer to it is also a pointer to the structure.
    functions: FunctionProbe,
}

// SAFETY: `unregister` waits for handlers that are running.
unsafe impl Probe for PathProbe {
    const LINGER_MILLIS: u32 = CloseProbe::LINGER_MILLIS;

    unsafe fn register(&self, _: *const OnDemandProbe<Self>) -> Result {
        // SAFETY: By this function's contract, the probe is a part of `on_demand`, which is not
        // moved.
        unsafe { self.functions.register() }
    }

    unsafe fn unregister(&self, _: *const OnDemandProbe<Self>) {
        // SAFETY: By this function's contract, the probe is registered.
        unsafe { self.functions.unregister() };
    }
}

impl PathProbe {
    pub(super) fn new() -> Self {
        PathProbe {
            functions: FunctionProbe::new(
                &[c"filp_close", c"fput_close_sync"],
                generated::fprobe {
                    entry_handler: Some(Self::closing),
                    ..Default::default()
                },
            ),
        }
    }

    /// The handler at the entry of `filp_close(file, ..)` and `fput_close_sync(file)`.
    ///
    /// # Safety
    ///
    /// The caller is the probe of a [`BoundKnotes`]. `regs` are the registers at the entry of the
    /// probed function.
    unsafe extern "C" fn closing(
        probe: *mut generated::fprobe,
        _entry: c_ulong,
        _ret: c_ulong,
        regs: *mut bindings::ftrace_regs,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: `regs` are the registers at the entry of the probed function. The first argument
        // is the file.
        let file = unsafe { generated::kq_ftrace_argument(regs.cast(), 0) } as *mut bindings::file;
        // SAFETY: The caller of the probed function holds a reference to the file.
        if !unsafe { generated::kq_file_is_path(file) } {
            return 0;
        }
        // SAFETY: The fprobe is the first field of a `FunctionProbe`, which is the first field of a
        // `PathProbe`, which is the first field of the `path_probe` of a `BoundKnotes`. That
        // unregisters the probe before it is freed.
        let bound_knotes = unsafe {
            let path_probe = probe.cast::<OnDemandProbe<PathProbe>>();
            &*kernel::container_of!(path_probe, BoundKnotes, path_probe)
        };
        // The slot was emptied before. See "Against registration" in the documentation of the
        // module.
        smp_mb(ordering::Full);
        let fd_table = FdTableId::current();
        if bound_knotes.may_have_kqueue(fd_table.address())
            && bound_knotes.may_be_bound(file.addr(), fd_table.address())
        {
            // SAFETY: The caller of the probed function holds a reference to the file. The
            // descriptor table is that of the current task.
            unsafe { bound_knotes.handle_close(file, fdtable::current_files()) };
        }
        0
    }
}

/// While a value of this type exists, the close of a descriptor that was opened with `O_PATH` ends
/// the knotes that are bound to the descriptor.
pub(crate) struct PathCloseWatch(Arc<BoundKnotes>);

impl PathCloseWatch {
    /// Registers the probe. This must be done before such a knote is bound.
    ///
    /// # Errors
    ///
    /// The errors of registering the probe.
    pub(crate) fn new(bound_knotes: &Arc<BoundKnotes>) -> Result<Self> {
        bound_knotes.path_probe.acquire()?;
        Ok(PathCloseWatch(bound_knotes.clone()))
    }
}

impl Drop for PathCloseWatch {
    fn drop(&mut self) {
        self.0.path_probe.release();
    }
}

impl BoundKnotes {
    /// The address that the self-test passes as the descriptor table.
    #[inline]
    fn self_test_table(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Closes a file of the module in the same way as the kernel closes all other files, and checks
    /// that the probe was called. The probe is not called if a compiler has inlined the function
    /// into its callers.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the probe was not called; `ENFILE`, `ENOMEM`.
    fn self_test(&self) -> Result {
        const OPERATIONS: &bindings::file_operations = &bindings::file_operations {
            owner: kernel::module::this_module::<crate::LocalModule>().as_ptr(),
            ..pin_init::zeroed()
        };
        // SAFETY: The name and the operations live as long as the module, to which the file holds a
        // reference.
        let file = from_err_ptr(unsafe {
            generated::anon_inode_getfile(
                c"[kqueue-probe]".as_char_ptr(),
                OPERATIONS,
                ptr::null_mut(),
                bindings::O_RDONLY as c_int,
            )
        })?;
        self.self_test_hit.store(false, ordering::Relaxed);
        let count = self
            .owner_counts
            .get(hash(self.self_test_table(), OWNER_BITS))
            .ok_or(EINVAL)?;
        // The probe reads this number in the same task.
        count.fetch_add(1, ordering::Relaxed);
        // SAFETY: This function owns the reference to the file. The address that is passed as the
        // descriptor table is only compared with the owners of file locks, and no lock has this
        // owner.
        unsafe { bindings::filp_close(file, ptr::from_ref(self).cast_mut().cast()) };
        count.fetch_sub(1, ordering::Relaxed);
        if self.self_test_hit.load(ordering::Relaxed) {
            Ok(())
        } else {
            Err(EOPNOTSUPP)
        }
    }
}
