// SPDX-License-Identifier: GPL-2.0

//! A misc device whose files can be polled, flushed and asked for SIGIO.
//!
//! The `kernel` crate's `MiscDevice` has neither `->poll`, `->flush` and `->fasync`
//! nor a device mode. [`Device`] is its counterpart with these; an open file pins
//! the module.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::{
    fdtable::{Closing, WeakFile},
    poll::{operations, Events},
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
    /// Puts the caller on `queue`, which lives at least as long as `file`.
    pub(in crate::sys) fn wait(&self, file: &File, queue: &WaitQueue) {
        // SAFETY: All three are valid. Whoever gets on the queue leaves it before the file is
        // released, and the queue is freed after that.
        unsafe { bindings::poll_wait(file.as_ptr(), queue.as_raw(), self.0.get()) };
    }
}

/// A device each open file of which is an object of its own.
pub(crate) trait Device: Sized + 'static {
    /// What a file's private data is.
    type Ptr: ForeignOwnable + Send + Sync;
    /// What all files share; lives as long as the registration.
    type Shared: Send + Sync;

    /// A file is opened; `file` is that file, not to be kept beyond `release`.
    fn open(file: WeakFile, shared: &Self::Shared) -> Result<Self::Ptr>;
    /// The last reference to a file is gone. Drops the `WeakFile` of `open`. May sleep.
    fn release(this: Self::Ptr);
    /// A descriptor that referred to `file` was closed. May sleep.
    fn flush(this: Borrowed<'_, Self>, file: &File, table: &Closing);
    /// `ioctl(2)`, also of 32-bit programs: pointers are already converted.
    fn ioctl(this: Borrowed<'_, Self>, file: &File, cmd: u32, arg: usize) -> Result<isize>;
    /// `poll(2)` and its like: queues the caller if it gave a table, and tells what is ready.
    fn poll(this: Borrowed<'_, Self>, file: &File, table: &PollTable) -> Events;
    /// `O_ASYNC` was set or cleared.
    fn fasync(this: Borrowed<'_, Self>, fd: i32, file: &File, on: bool) -> Result;
    /// `/proc/PID/fdinfo/FD`. May sleep.
    fn show_fdinfo(this: Borrowed<'_, Self>, m: &SeqFile);
}

/// A registered device; dropping it takes it away.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Registration<T: Device> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    shared: T::Shared,
}

// SAFETY: `misc` is only handed to `misc_deregister`, from whatever thread; the rest is `Send`.
unsafe impl<T: Device> Send for Registration<T> {}
// SAFETY: Nothing of `misc` is accessible.
unsafe impl<T: Device> Sync for Registration<T> {}

impl<T: Device> Registration<T> {
    /// Registers `/dev/<name>`, which everybody may open when `mode` says so.
    pub(crate) fn new(
        name: &'static CStr,
        mode: u16,
        shared: T::Shared,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared,
            // Last: from here on files are opened.
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let misc = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: name.as_char_ptr(),
                    mode,
                    fops: &VTable::<T>::OPERATIONS,
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(misc) };
                // SAFETY: The device was just written, is pinned, and is deregistered in `drop`.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl<T: Device> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered in `new`.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The object behind `file`, if it is a file of this module's device.
pub(crate) fn object_of<T: Device>(file: &File) -> Option<Borrowed<'_, T>> {
    let owner = operations(file).owner;
    if !ptr::eq(
        owner,
        kernel::module::this_module::<crate::LocalModule>().as_ptr(),
    ) {
        return None;
    }
    // SAFETY: The module has one kind of file operations, those of its one device, which nobody
    // replaces; the file is open, so its object is there.
    Some(unsafe { VTable::<T>::borrow(file.as_ptr()) })
}

/// Opens a file like those of the device, but behind an anonymous inode, which `/proc` calls
/// `name`. Gives its descriptor in the current task.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`; and what [`Device::open`] fails with.
pub(crate) fn open_anonymous<T: Device>(
    name: &'static CStr,
    flags: u32,
    shared: &T::Shared,
) -> Result<u32> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(flags)?;
    // SAFETY: The name and the operations live as long as the module, which the file pins.
    let raw = from_err_ptr(unsafe {
        generated::anon_inode_getfile(
            name.as_char_ptr(),
            &VTable::<T>::OPERATIONS,
            ptr::null_mut(),
            (bindings::O_RDWR | flags) as c_int,
        )
    })?;
    let raw = NonNull::new(raw).ok_or(ENOMEM)?;
    // SAFETY: The reference is ours; these files have no `fdget_pos`.
    let file: ARef<File> = unsafe { ARef::from_raw(raw.cast()) };
    // SAFETY: A file is valid until after its `release`, in which the device drops this.
    let ptr = T::open(unsafe { WeakFile::new(raw) }, shared)?;
    // SAFETY: Nobody else has the file yet.
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

    /// The object behind an open file.
    ///
    /// # Safety
    ///
    /// `file` is an open file of this device, between `open` and `release`, for all of `'a`.
    unsafe fn borrow<'a>(file: *mut bindings::file) -> Borrowed<'a, T> {
        // SAFETY: `open` put the object there with `into_foreign`; only `release` takes it back.
        unsafe { T::Ptr::borrow((*file).private_data) }
    }

    /// `->open`.
    ///
    /// # Safety
    ///
    /// Called by `misc_open`, with a file of this device that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, raw: *mut bindings::file) -> c_int {
        // SAFETY: The pointers are those of a file that is being opened. Never fails.
        unsafe { bindings::nonseekable_open(inode, raw) };
        // SAFETY: `misc_open` set it to the miscdevice, the first field of a live `Registration`,
        // which cannot go while this open holds the misc lock.
        let registration = unsafe { &*(*raw).private_data.cast::<Registration<T>>() };
        let Some(file) = NonNull::new(raw) else {
            return EINVAL.to_errno();
        };
        // SAFETY: A file is valid until after its `release`, in which the device drops this.
        let file = unsafe { WeakFile::new(file) };
        match T::open(file, &registration.shared) {
            Ok(ptr) => {
                // SAFETY: The file is being opened: its private data is ours.
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
    /// Called by the VFS, with an open file of this device that nobody refers to any more.
    unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` put it there; nobody uses a file any more that is being released. One
        // that `open_anonymous` gave up has none.
        if let Some(ptr) = unsafe { T::Ptr::try_from_foreign((*file).private_data) } {
            T::release(ptr);
        }
        0
    }

    /// `->flush`.
    ///
    /// # Safety
    ///
    /// Called by the VFS, with an open file of this device and the table it is closed in.
    unsafe extern "C" fn flush(file: *mut bindings::file, id: bindings::fl_owner_t) -> c_int {
        // SAFETY: An open file of this device, valid during the call; `id` is the owner given.
        let (this, file, table) = unsafe {
            (
                Self::borrow(file),
                File::from_raw_file(file),
                Closing::from_owner(id),
            )
        };
        T::flush(this, file, &table);
        0
    }

    /// `->unlocked_ioctl`.
    ///
    /// # Safety
    ///
    /// Called by the VFS, with an open file of this device.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: An open file of this device, valid during the call, with no `fdget_pos` active.
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
    /// Called with an open file of this device, and a valid poll table or null.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> u32 {
        // A caller that only asks gives no table, which queues nothing.
        let mut none = bindings::poll_table_struct::default();
        let table = if table.is_null() {
            &raw mut none
        } else {
            table
        };
        // SAFETY: An open file of this device, valid during the call, as is the table.
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
    /// Called by the VFS, with an open file of this device.
    unsafe extern "C" fn fasync(fd: c_int, file: *mut bindings::file, on: c_int) -> c_int {
        // SAFETY: An open file of this device, valid during the call.
        let (this, file) = unsafe { (Self::borrow(file), File::from_raw_file(file)) };
        match T::fasync(this, fd, file, on != 0) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// A kqueue has no bytes: read(2) and write(2) fail as the specification's do.
    ///
    /// # Safety
    ///
    /// None; the signature is the VFS's.
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
    /// Called by procfs, with an open file of this device and a sequence file that it owns.
    unsafe extern "C" fn show_fdinfo(m: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: An open file of this device; `m` is ours during the call.
        let (this, m) = unsafe { (Self::borrow(file), SeqFile::from_raw(m)) };
        T::show_fdinfo(this, m);
    }
}
