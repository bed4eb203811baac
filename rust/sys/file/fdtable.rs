// SPDX-License-Identifier: GPL-2.0

//! Descriptor tables (`files_struct`): their identity, and the files that their descriptors refer
//! to.
//!
//! Lookups in the current task's table run in task context. Those that take an RCU guard do not
//! sleep.
//!
//! C header: [`include/linux/fdtable.h`](srctree/include/linux/fdtable.h)

use crate::generated;
use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering}, //
};
use kernel::{
    bindings,
    ffi::{c_int, c_uint, c_void},
    fs::{File, LocalFile},
    prelude::*,
    sync::{aref::ARef, rcu}, //
};

/// The identity of a descriptor table: an address that is compared and never dereferenced.
///
/// The address may be reused after the table was freed. The user of this type handles that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FdTableId(usize);

impl FdTableId {
    /// The table of the current task. The address is 0, which is no table, for a task without one.
    pub(crate) fn current() -> Self {
        FdTableId::of(current_files())
    }

    /// The table, if it is the table of the current task.
    #[inline]
    pub(crate) fn if_current(self) -> Option<CurrentFdTable> {
        let files = NonNull::new(current_files())?;
        // INVARIANT: The table was just compared with that of the current task.
        (FdTableId::of(files.as_ptr()) == self).then_some(CurrentFdTable(files))
    }

    pub(crate) fn address(self) -> usize {
        self.0
    }

    pub(crate) fn of(files: *mut bindings::files_struct) -> Self {
        FdTableId(files.addr())
    }

    /// The identity of the table at an address. 0 is no table.
    #[inline]
    pub(crate) fn at(address: usize) -> Self {
        FdTableId(address)
    }
}

/// The table of the current task, during a system call.
///
/// # Invariants
///
/// It is the table of the current task. Only that task can have this value, because it is not
/// `Send`. No system call that uses this value replaces the task's table.
#[derive(Clone, Copy)]
pub(crate) struct CurrentFdTable(NonNull<bindings::files_struct>);

pub(crate) fn current_files() -> *mut bindings::files_struct {
    // SAFETY: The current task is valid. Only the task itself changes its `files`.
    unsafe { (*bindings::get_current()).files }
}

/// The file that descriptor `ident` of the current task refers to.
///
/// # Errors
///
/// `EBADF` if there is no such file, or if it was opened with `O_PATH`.
pub(crate) fn get(ident: u64) -> Result<ARef<File>> {
    let fd = u32::try_from(ident).map_err(|_| EBADF)?;
    let file = LocalFile::fget(fd)?;
    // SAFETY: The task is in an ioctl on another descriptor, so it has no active `fdget_pos`.
    Ok(unsafe { LocalFile::assume_no_fdget_pos(file) })
}

/// The file that descriptor `ident` of the current task refers to, even if it was opened with
/// `O_PATH`.
///
/// # Errors
///
/// `EBADF` if there is no such file.
#[cold]
pub(crate) fn get_o_path(ident: u64) -> Result<ARef<File>> {
    let fd = u32::try_from(ident).map_err(|_| EBADF)?;
    // SAFETY: The function has no preconditions. It returns a reference or null.
    let file = NonNull::new(unsafe { generated::fget_raw(fd) }).ok_or(EBADF)?;
    // SAFETY: This function owns the reference. The task has no active `fdget_pos`, as in `get`; a
    // file that was opened with `O_PATH` has no offset anyway.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}

/// True for a file that was opened with `O_PATH`. Such a file only denotes a location in a file
/// system and cannot be read or written.
pub(crate) fn is_o_path(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_is_path(file.as_ptr()) }
}

/// The files that the descriptors of the current task refer to now.
///
/// A value that is created after a close has returned observes the effect of that close.
pub(crate) struct CurrentFiles<'a> {
    files: &'a [AtomicPtr<bindings::file>],
}

impl<'a> CurrentFiles<'a> {
    #[inline]
    pub(crate) fn of(table: CurrentFdTable, _: &'a rcu::Guard) -> Self {
        // SAFETY: The RCU guard is held for all of `'a`.
        unsafe { Self::in_rcu(table) }
    }

    /// Creates the value without an RCU guard.
    ///
    /// # Safety
    ///
    /// All of `'a` is within one RCU read-side critical section.
    #[inline]
    pub(crate) unsafe fn in_rcu(CurrentFdTable(files): CurrentFdTable) -> Self {
        CurrentFiles {
            // SAFETY: The table lives while its task is in a system call. RCU keeps its array.
            files: unsafe { array(files.as_ptr()) },
        }
    }

    /// True if descriptor `ident` refers to `file`.
    #[inline]
    pub(crate) fn maps(&self, ident: u64, file: &File) -> bool {
        self.maps_address(ident, file.as_ptr().addr())
    }

    /// True if descriptor `ident` refers to the file at this address.
    #[inline]
    pub(crate) fn maps_address(&self, ident: u64, file: usize) -> bool {
        usize::try_from(ident)
            .ok()
            .and_then(|number| self.files.get(number))
            // The load is relaxed, because the pointer is only compared. A caller that must not
            // miss a close executes a full barrier before, or takes a lock that the closing task
            // has taken. (A speculated load beyond the array reveals nothing, because the pointer
            // is only compared.)
            .is_some_and(|slot| slot.load(Ordering::Relaxed).addr() == file)
    }
}

/// The array of the files of a table. Its elements may change concurrently.
///
/// # Safety
///
/// `files` is valid. The caller is in an RCU read-side critical section as long as the result is
/// used.
unsafe fn array<'a>(files: *mut bindings::files_struct) -> &'a [AtomicPtr<bindings::file>] {
    // SAFETY: The caller upholds this function's safety contract. (Each load depends on the one
    // before it, as in `rcu_dereference`.)
    unsafe {
        let table = (&raw const (*files).fdt).read_volatile();
        let first = (&raw const (*table).fd).read_volatile();
        core::slice::from_raw_parts(first.cast(), (*table).max_fds as usize)
    }
}

/// True if descriptor `ident` of `files` refers to `file`.
///
/// # Safety
///
/// `files` is a valid table. `file` may be invalid, because it is only compared.
pub(crate) unsafe fn maps(
    files: *mut bindings::files_struct,
    ident: u64,
    file: *mut bindings::file,
) -> bool {
    let Ok(fd) = c_uint::try_from(ident) else {
        return false;
    };
    let _rcu = rcu::read_lock();
    // SAFETY: `files` is valid. RCU keeps its array.
    unsafe { generated::kq_files_lookup(files, fd) == file }
}

/// True if `files` is being torn down. Its descriptors are being closed, although they are still in
/// the array.
///
/// # Safety
///
/// `files` is a valid table.
pub(crate) unsafe fn is_dying(files: *mut bindings::files_struct) -> bool {
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { generated::kq_files_users(files) == 0 }
}

/// A weak reference from the private data of a file to the file. It does not keep the file open.
///
/// # Invariants
///
/// The memory of the file is valid. The object drops this value before its `release` returns.
pub(crate) struct WeakFile(NonNull<bindings::file>);

// SAFETY: Any thread may use a file.
unsafe impl Send for WeakFile {}

impl WeakFile {
    /// # Safety
    ///
    /// `file` is valid and stays so until the value is dropped.
    pub(crate) unsafe fn new(file: NonNull<bindings::file>) -> Self {
        WeakFile(file)
    }

    /// The pointer to the file.
    pub(crate) fn as_file_ptr(&self) -> FilePtr {
        FilePtr(self.0)
    }

    /// A reference that keeps the file open. `None` if the file is being released already.
    pub(crate) fn get(&self) -> Option<ARef<File>> {
        // SAFETY: The type's invariant guarantees that the file is valid.
        let open = unsafe { generated::kq_file_tryget(self.0.as_ptr()) };
        // SAFETY: This function owns the reference that was just taken. The files of this module
        // have no `fdget_pos`.
        open.then(|| unsafe { ARef::from_raw(self.0.cast()) })
    }
}

/// The pointer of a [`WeakFile`] without its guarantee. Only code that holds a reference to the
/// file may dereference it.
#[derive(Clone, Copy)]
pub(crate) struct FilePtr(NonNull<bindings::file>);

// SAFETY: Any thread may use a file.
unsafe impl Send for FilePtr {}
// SAFETY: Any thread may use a file.
unsafe impl Sync for FilePtr {}

impl FilePtr {
    pub(crate) fn as_ptr(self) -> *mut bindings::file {
        self.0.as_ptr()
    }
}

/// The table in which a descriptor is being closed, during `->flush`.
///
/// # Invariants
///
/// If the pointer equals the table of a present or former task, it is a valid `files_struct`.
pub(crate) struct FlushedFdTable(*mut bindings::files_struct);

impl FlushedFdTable {
    /// # Safety
    ///
    /// `id` is the argument of `->flush`. The value does not outlive that call.
    pub(in crate::sys) unsafe fn from_owner(id: bindings::fl_owner_t) -> Self {
        // INVARIANT: A task that closes a descriptor passes its table to `->flush`, and it holds a
        // reference to that table.
        FlushedFdTable(id.cast())
    }

    /// True if the descriptor is being closed in `table`, and it was the last descriptor of `file`
    /// there.
    ///
    /// `count_with` calls its argument with a lower bound of the number of references to the file
    /// that do not belong to descriptors. The bound holds for the duration of that call.
    pub(crate) fn is_last_in(
        &self,
        table: FdTableId,
        file: &File,
        count_with: impl FnOnce(&dyn Fn(usize) -> bool) -> bool,
    ) -> bool {
        /// The callback of `iterate_fd`, which stops at the first nonzero result.
        ///
        /// # Safety
        ///
        /// It has no requirements. `iterate_fd` determines the signature.
        unsafe extern "C" fn same(
            file: *const c_void,
            other: *mut bindings::file,
            _: c_uint,
        ) -> c_int {
            ptr::eq(file.cast(), other).into()
        }

        // A close of a file by the kernel itself passes no table.
        if self.0.is_null() || FdTableId::of(self.0) != table {
            return false;
        }
        // The task that closes the descriptor holds one reference.
        let is_only_with = |others: usize| {
            // SAFETY: The file is valid.
            let count = unsafe { generated::kq_file_count(file.as_ptr()) };
            Some(count) == others.checked_add(1)
        };
        // The reference count is checked first, because other references are rare. The whole table
        // is searched only if there is a reference that is not accounted for, such as a duplicate
        // descriptor in this or another table.
        // SAFETY: The pointer equals a table that belonged to a task, so the type's invariant
        // guarantees that it is valid. `same` only compares pointers.
        is_only_with(0)
            || unsafe { is_dying(self.0) }
            || count_with(&is_only_with)
            || unsafe { bindings::iterate_fd(self.0, 0, Some(same), file.as_ptr().cast()) == 0 }
    }
}
