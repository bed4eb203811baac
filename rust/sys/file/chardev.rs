// SPDX-License-Identifier: GPL-2.0

//! A misc device whose files support poll, flush, fasync and fdinfo.
//!
//! The `MiscDevice` of the `kernel` crate supports neither `->poll`, `->flush` and `->fasync` nor a
//! device mode. [`Device`] is a counterpart that does. An open file holds a reference to the
//! module. All operations run in task context and may sleep, unless their documentation says
//! otherwise.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::{
    fdtable::{FlushedFdTable, WeakFile},
    poll::{operations, PollEvents},
    waitqueue::WaitQueue,
};
use crate::generated;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_long, c_uint, c_ulong},
    fs::{file::FileDescriptorReservation, File},
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef,
    types::{ForeignOwnable, Opaque}, //
};

type Borrowed<'a, T> = <<T as Device>::Ptr as ForeignOwnable>::Borrowed<'a>;

/// The poll table of a caller of `->poll`.
#[repr(transparent)]
pub(crate) struct PollTable(Opaque<bindings::poll_table_struct>);

impl PollTable {
    /// Adds the caller to `queue`, which lives at least as long as `file`.
    pub(in crate::sys) fn wait(&self, file: &File, queue: &WaitQueue) {
        // SAFETY: All three pointers are valid. A poller leaves the queue before the file is
        // released, and the queue is freed after that.
        unsafe { bindings::poll_wait(file.as_ptr(), queue.as_raw(), self.0.get()) };
    }
}

/// A device whose open files each are an object of their own.
pub(crate) trait Device: Sized + 'static {
    /// The type of the private data of a file.
    type Ptr: ForeignOwnable + Send + Sync;
    /// The data that all files share. It lives as long as the registration.
    type Shared: Send + Sync;

    /// Opens a file. `file` must be dropped before `release` returns.
    fn open(file: WeakFile, shared: &Self::Shared) -> Result<Self::Ptr>;
    /// The last reference to a file was dropped. Drops the `WeakFile` that `open` received. May
    /// sleep.
    fn release(this: Self::Ptr);
    /// A descriptor that referred to `file` was closed. May sleep.
    fn flush(this: Borrowed<'_, Self>, file: &File, table: &FlushedFdTable);
    /// `ioctl(2)`. For 32-bit programs, pointers are already converted.
    fn ioctl(this: Borrowed<'_, Self>, file: &File, cmd: u32, arg: usize) -> Result<isize>;
    /// `poll(2)` and similar calls: adds the caller to the wait queue if it gave a table, and
    /// returns the ready events.
    fn poll(this: Borrowed<'_, Self>, file: &File, table: &PollTable) -> PollEvents;
    /// `O_ASYNC` was set or cleared.
    fn fasync(this: Borrowed<'_, Self>, fd: i32, file: &File, on: bool) -> Result;
    /// `/proc/PID/fdinfo/FD`. May sleep.
    fn show_fdinfo(this: Borrowed<'_, Self>, m: &SeqFile);
}

/// A registered device. Dropping it removes the device.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Registration<T: Device> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    shared: T::Shared,
}

// SAFETY: `misc` is only passed to `misc_deregister`, which any thread may call. The other fields
// are `Send`.
unsafe impl<T: Device> Send for Registration<T> {}
// SAFETY: No function accesses `misc` through a shared reference.
unsafe impl<T: Device> Sync for Registration<T> {}

impl<T: Device> Registration<T> {
    /// Registers `/dev/<name>` with the access mode `mode`.
    pub(crate) fn new(
        name: &'static CStr,
        mode: u16,
        shared: T::Shared,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared,
            // This is the last field to be initialised, because files may be opened from here on.
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let misc = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: name.as_char_ptr(),
                    mode,
                    fops: &VTable::<T>::OPERATIONS,
                    ..pin_init::zeroed()
                };
                // SAFETY: The initialiser guarantees that the slot is valid for writes.
                unsafe { slot.write(misc) };
                // SAFETY: The device was just initialised and is pinned. `drop` deregisters it.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl<T: Device> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The device was registered in `new`.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The private data of `file`, if it is a file of this module's device.
pub(crate) fn object_of<T: Device>(file: &File) -> Option<Borrowed<'_, T>> {
    let owner = operations(file).owner;
    if !ptr::eq(
        owner,
        kernel::module::this_module::<crate::LocalModule>().as_ptr(),
    ) {
        return None;
    }
    // SAFETY: The module has only one set of file operations, those of its device, and nothing
    // replaces them. The file is open, so its private data is set.
    Some(unsafe { VTable::<T>::borrow(file.as_ptr()) })
}

/// Opens a file with the operations of the device on an anonymous inode, which `/proc` shows as
/// `name`. Returns its descriptor in the current task.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`, and the errors of [`Device::open`].
pub(crate) fn open_anonymous<T: Device>(
    name: &'static CStr,
    flags: u32,
    shared: &T::Shared,
) -> Result<u32> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(flags)?;
    // SAFETY: The name and the operations live as long as the module, to which the file holds a
    // reference.
    let raw = from_err_ptr(unsafe {
        generated::anon_inode_getfile(
            name.as_char_ptr(),
            &VTable::<T>::OPERATIONS,
            ptr::null_mut(),
            (bindings::O_RDWR | flags) as c_int,
        )
    })?;
    let raw = NonNull::new(raw).ok_or(ENOMEM)?;
    // SAFETY: This function owns the reference. These files have no `fdget_pos`.
    let file: ARef<File> = unsafe { ARef::from_raw(raw.cast()) };
    // SAFETY: A file is valid until its `release` has returned, and the device drops the reference
    // in `release`.
    let ptr = T::open(unsafe { WeakFile::new(raw) }, shared)?;
    // SAFETY: Nothing else refers to the file yet.
    unsafe { (*raw.as_ptr()).private_data = ptr.into_foreign() };
    let descriptor = reservation.reserved_fd();
    reservation.fd_install(file);
    Ok(descriptor)
}

struct VTable<T: Device>(PhantomData<T>);

impl<T: Device> VTable<T> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: kernel::module::this_module::<crate::LocalModule>().as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        flush: Some(Self::flush),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: bindings::compat_ptr_ioctl,
        poll: Some(Self::poll),
        fasync: Some(Self::fasync),
        read_iter: Some(Self::read_write_iter),
        write_iter: Some(Self::read_write_iter),
        show_fdinfo: Some(Self::show_fdinfo),
        ..pin_init::zeroed()
    };

    /// The private data of an open file.
    ///
    /// # Safety
    ///
    /// `file` is an open file of this device, between its `open` and its `release`, for all of
    /// `'a`.
    unsafe fn borrow<'a>(file: *mut bindings::file) -> Borrowed<'a, T> {
        // SAFETY: `open` stored the object with `into_foreign`. Only `release` takes it back.
        unsafe { T::Ptr::borrow((*file).private_data) }
    }

    /// `->open`.
    ///
    /// # Safety
    ///
    /// The caller is `misc_open`, with a file of this device that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, raw: *mut bindings::file) -> c_int {
        // SAFETY: The pointers belong to a file that is being opened. The function never fails.
        unsafe { bindings::nonseekable_open(inode, raw) };
        // SAFETY: `misc_open` has set the private data to the miscdevice, which is the first field
        // of a `Registration`. The registration cannot be dropped while this open holds the misc
        // lock.
        let registration = unsafe { &*(*raw).private_data.cast::<Registration<T>>() };
        let Some(file) = NonNull::new(raw) else {
            return EINVAL.to_errno();
        };
        // SAFETY: A file is valid until its `release` has returned, and the device drops the
        // reference in `release`.
        let file = unsafe { WeakFile::new(file) };
        match T::open(file, &registration.shared) {
            Ok(ptr) => {
                // SAFETY: The file is being opened, so nothing else accesses its private data.
                unsafe { (*raw).private_data = ptr.into_foreign() };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// `->release`.
    ///
    /// # Safety
    ///
    /// The caller is the VFS, with an open file of this device to which no reference is left.
    unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` stored the object, and nothing uses a file that is being released. The
        // private data is null if `open_anonymous` failed after it had created the file.
        if let Some(ptr) = unsafe { T::Ptr::try_from_foreign((*file).private_data) } {
            T::release(ptr);
        }
        0
    }

    /// `->flush`.
    ///
    /// # Safety
    ///
    /// The caller is the VFS, with an open file of this device and the table it is closed in.
    unsafe extern "C" fn flush(file: *mut bindings::file, id: bindings::fl_owner_t) -> c_int {
        // SAFETY: The file is an open file of this device and is valid during the call. `id` is the
        // owner that the VFS has passed.
        let (this, file, table) = unsafe {
            (
                Self::borrow(file),
                File::from_raw_file(file),
                FlushedFdTable::from_owner(id),
            )
        };
        T::flush(this, file, &table);
        0
    }

    /// `->unlocked_ioctl`.
    ///
    /// # Safety
    ///
    /// The caller is the VFS, with an open file of this device.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The file is an open file of this device and is valid during the call. No
        // `fdget_pos` is active.
        let (this, file) = unsafe { (Self::borrow(file), File::from_raw_file(file)) };
        match T::ioctl(this, file, cmd, arg) {
            Ok(ret) => ret as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// `->poll`.
    ///
    /// # Safety
    ///
    /// `file` is an open file of this device. `table` is a valid poll table or null.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> u32 {
        // A caller that does not want to wait passes no table. An empty table queues nothing.
        let mut none = bindings::poll_table_struct::default();
        let table = if table.is_null() {
            &raw mut none
        } else {
            table
        };
        // SAFETY: The file is an open file of this device. The file and the table are valid during
        // the call.
        let (this, file, table) = unsafe {
            (
                Self::borrow(file),
                File::from_raw_file(file),
                &*table.cast::<PollTable>(),
            )
        };
        T::poll(this, file, table).bits()
    }

    /// `->fasync`.
    ///
    /// # Safety
    ///
    /// The caller is the VFS, with an open file of this device.
    unsafe extern "C" fn fasync(fd: c_int, file: *mut bindings::file, on: c_int) -> c_int {
        // SAFETY: The file is an open file of this device and is valid during the call.
        let (this, file) = unsafe { (Self::borrow(file), File::from_raw_file(file)) };
        match T::fasync(this, fd, file, on != 0) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// The files have no contents, so read(2) and write(2) fail with `ENXIO`.
    ///
    /// # Safety
    ///
    /// It has no requirements. The VFS determines the signature.
    unsafe extern "C" fn read_write_iter(
        _: *mut bindings::kiocb,
        _: *mut bindings::iov_iter,
    ) -> isize {
        ENXIO.to_errno() as isize
    }

    /// `->show_fdinfo`.
    ///
    /// # Safety
    ///
    /// The caller is procfs, with an open file of this device and a sequence file that it owns.
    unsafe extern "C" fn show_fdinfo(m: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: The file is an open file of this device. Only this thread uses `m` during the
        // call.
        let (this, m) = unsafe { (Self::borrow(file), SeqFile::from_raw(m)) };
        T::show_fdinfo(this, m);
    }
}
