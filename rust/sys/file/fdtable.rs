// SPDX-License-Identifier: GPL-2.0

//! Descriptor tables (`files_struct`): which one is it, and what is at a number?
//!
//! C header: [`include/linux/fdtable.h`](srctree/include/linux/fdtable.h)

use crate::generated;
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    ffi::{c_int, c_uint, c_void},
    fs::{File, LocalFile},
    prelude::*,
    sync::{aref::ARef, rcu}, //
};

/// The identity of a descriptor table: an address to compare, never to follow.
///
/// A table's address may be used again when it is gone. [`crate::engine::close::Owner`] says how a
/// kqueue does without more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableId(usize);

impl TableId {
    /// The table of the current task. 0, which is no table, for a task without one.
    pub(crate) fn current() -> Self {
        TableId::of(current_files())
    }

    /// The table, if it is that of the current task.
    #[inline]
    pub(crate) fn if_current(self) -> Option<CurrentTable> {
        let files = NonNull::new(current_files())?;
        // INVARIANT: It is.
        (TableId::of(files.as_ptr()) == self).then_some(CurrentTable(files))
    }

    pub(crate) fn address(self) -> usize {
        self.0
    }

    pub(crate) fn of(files: *mut bindings::files_struct) -> Self {
        TableId(files.addr())
    }

    /// That of the table at an address; 0 is no table.
    #[inline]
    pub(crate) fn at(address: usize) -> Self {
        TableId(address)
    }
}

/// The table of the current task, for the time of a system call.
///
/// # Invariants
///
/// That is what it is: only its task can have it, since it is not `Send`, and no system call that
/// is given one changes it.
#[derive(Clone, Copy)]
pub(crate) struct CurrentTable(NonNull<bindings::files_struct>);

pub(crate) fn current_files() -> *mut bindings::files_struct {
    // SAFETY: The current task is valid, and nobody else changes its `files`.
    unsafe { (*bindings::get_current()).files }
}

/// The file at `ident` in the current task's table.
///
/// # Errors
///
/// `EBADF` if there is none, or only one that was opened with `O_PATH`.
pub(crate) fn get(ident: u64) -> Result<ARef<File>> {
    let fd = u32::try_from(ident).map_err(|_| EBADF)?;
    let file = LocalFile::fget(fd)?;
    // SAFETY: We are in an ioctl on another descriptor: no `fdget_pos` of this task is active.
    Ok(unsafe { LocalFile::assume_no_fdget_pos(file) })
}

/// The same, also if it was opened with `O_PATH`.
///
/// # Errors
///
/// `EBADF` if there is none.
#[cold]
pub(crate) fn get_path(ident: u64) -> Result<ARef<File>> {
    let fd = u32::try_from(ident).map_err(|_| EBADF)?;
    // SAFETY: No preconditions; gives a reference or null.
    let file = NonNull::new(unsafe { generated::fget_raw(fd) }).ok_or(EBADF)?;
    // SAFETY: The reference is ours. As above, and a file that was opened with `O_PATH` has no
    // offset.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}

/// True for a file that was opened with `O_PATH`: it stands for a place in a file system, and
/// cannot be read or written.
pub(crate) fn is_path(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_is_path(file.as_ptr()) }
}

/// What the numbers of the current task's table refer to now.
///
/// What a close that has returned did is seen by who makes this after that.
pub(crate) struct Names<'a> {
    files: &'a [*mut bindings::file],
}

impl<'a> Names<'a> {
    #[inline]
    pub(crate) fn of(table: CurrentTable, _: &'a rcu::Guard) -> Self {
        // SAFETY: The guard proves it.
        unsafe { Self::in_rcu(table) }
    }

    /// The same, without a guard.
    ///
    /// # Safety
    ///
    /// All of `'a` is within an RCU read-side critical section.
    #[inline]
    pub(crate) unsafe fn in_rcu(CurrentTable(files): CurrentTable) -> Self {
        Names {
            // SAFETY: A task's table lives while the task runs in it; its array is kept by RCU.
            files: unsafe { array(files.as_ptr()) },
        }
    }

    /// True when number `ident` refers to `file`.
    #[inline]
    pub(crate) fn maps(&self, ident: u64, file: &File) -> bool {
        self.maps_address(ident, file.as_ptr().addr())
    }

    /// The same for the file at an address.
    #[inline]
    pub(crate) fn maps_address(&self, ident: u64, file: usize) -> bool {
        usize::try_from(ident)
            .ok()
            .and_then(|number| self.files.get(number))
            // SAFETY: Read at once, and only compared.
            .is_some_and(|slot| unsafe { ptr::from_ref(slot).read_volatile() }.addr() == file)
    }
}

/// The array of a table's files. Each element may change, and is read at once.
///
/// # Safety
///
/// `files` is valid, and for as long as the result is used it is in the RCU section of the caller.
unsafe fn array<'a>(files: *mut bindings::files_struct) -> &'a [*mut bindings::file] {
    // SAFETY: By this function's contract. (These are loads that depend on each other, as in
    // `rcu_dereference`.)
    unsafe {
        let table = (&raw const (*files).fdt).read_volatile();
        let first = (&raw const (*table).fd).read_volatile();
        core::slice::from_raw_parts(first, (*table).max_fds as usize)
    }
}

/// True when number `ident` of `files` refers to `file`.
///
/// # Safety
///
/// `files` is a valid table. `file` is only compared.
pub(crate) unsafe fn maps(
    files: *mut bindings::files_struct,
    ident: u64,
    file: *mut bindings::file,
) -> bool {
    let Ok(fd) = c_uint::try_from(ident) else {
        return false;
    };
    let _rcu = rcu::read_lock();
    // SAFETY: `files` is valid, its array of files is kept by RCU.
    unsafe { generated::kq_files_lookup(files, fd) == file }
}

/// True when `files` is being torn down: its descriptors are closed, though still listed.
///
/// # Safety
///
/// `files` is a valid table.
pub(crate) unsafe fn is_dying(files: *mut bindings::files_struct) -> bool {
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { generated::kq_files_users(files) == 0 }
}

/// A reference from the object behind a file to the file, which does not keep it open.
///
/// # Invariants
///
/// The file's memory is valid: the object drops this before its `release` returns.
pub(crate) struct WeakFile(NonNull<bindings::file>);

// SAFETY: A file may be used from any thread.
unsafe impl Send for WeakFile {}

impl WeakFile {
    /// # Safety
    ///
    /// `file` is valid, and stays so until the value is dropped.
    pub(crate) unsafe fn new(file: NonNull<bindings::file>) -> Self {
        WeakFile(file)
    }

    /// Where the file is.
    pub(crate) fn address(&self) -> FileAddress {
        FileAddress(self.0)
    }

    /// A reference that keeps the file open, unless it is being released already.
    pub(crate) fn get(&self) -> Option<ARef<File>> {
        // SAFETY: Valid by the type's invariant.
        let open = unsafe { generated::kq_file_tryget(self.0.as_ptr()) };
        // SAFETY: We own the reference just taken; this module's files have no `fdget_pos`.
        open.then(|| unsafe { ARef::from_raw(self.0.cast()) })
    }
}

/// Where a file is. Only who has a reference to the file may follow it.
#[derive(Clone, Copy)]
pub(crate) struct FileAddress(NonNull<bindings::file>);

// SAFETY: A file may be used from any thread.
unsafe impl Send for FileAddress {}
// SAFETY: The reason given above applies here too.
unsafe impl Sync for FileAddress {}

impl FileAddress {
    pub(crate) fn as_ptr(self) -> *mut bindings::file {
        self.0.as_ptr()
    }
}

/// The table that a descriptor is being closed in, during `->flush`.
///
/// # Invariants
///
/// If it is compared equal to the table of a task that is or was, it is a valid `files_struct`.
pub(crate) struct Closing(*mut bindings::files_struct);

impl Closing {
    /// # Safety
    ///
    /// `id` is what `->flush` was called with, and the value does not outlive that call.
    pub(in crate::sys) unsafe fn from_owner(id: bindings::fl_owner_t) -> Self {
        // INVARIANT: Whoever closes a descriptor passes the table it was in, which it holds.
        Closing(id.cast())
    }

    /// True when `table` is the one, and the descriptor being closed was its last one of `file`.
    ///
    /// `count_with` calls what it is given with how many references to the file there are at least
    /// besides those of descriptors, as long as the call takes.
    pub(crate) fn is_last_in(
        &self,
        table: TableId,
        file: &File,
        count_with: impl FnOnce(&dyn Fn(usize) -> bool) -> bool,
    ) -> bool {
        /// `iterate_fd` stops at the first non-zero return.
        ///
        /// # Safety
        ///
        /// None; the signature is `iterate_fd`'s.
        unsafe extern "C" fn same(
            file: *const c_void,
            other: *mut bindings::file,
            _: c_uint,
        ) -> c_int {
            ptr::eq(file.cast(), other).into()
        }

        // Whoever closes a file of the kernel's own names no table.
        if self.0.is_null() || TableId::of(self.0) != table {
            return false;
        }
        // Who closes has one reference.
        let is_only_with = |others: usize| {
            // SAFETY: The file is valid.
            let count = unsafe { generated::kq_file_count(file.as_ptr()) };
            Some(count) == others.checked_add(1)
        };
        // The reference count first: nearly always nobody else has the file. The whole table is
        // gone through only if somebody has who does not count: a dup, or a copy of it elsewhere.
        // SAFETY: Equal to a table that was some task's, hence valid by the invariant. `same` only
        // compares.
        is_only_with(0)
            || unsafe { is_dying(self.0) }
            || count_with(&is_only_with)
            || unsafe { bindings::iterate_fd(self.0, 0, Some(same), file.as_ptr().cast()) == 0 }
    }
}
