// SPDX-License-Identifier: GPL-2.0

//! Slab caches for many objects of one type.
//!
//! A slab cache packs objects of their exact size. `KBox` rounds the size up to the next general
//! kmalloc size, which may be half as much again.
//!
//! [`Slab::alloc`] may sleep with [`AllocMode::MaySleep`], and does not sleep with
//! [`AllocMode::NoSleep`].
//!
//! ```ignore
//! let cache = Slab::<Object>::new(c"example_object")?;
//! let object = cache.alloc(AllocMode::MaySleep, || Object::new())?;
//! // SAFETY: The object came from `alloc`, and nothing uses it afterwards.
//! unsafe { slab::free(object) };
//! ```
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h)

use core::{
    marker::PhantomData,
    ptr::{self, NonNull}, //
};
use kernel::{
    alloc::Flags,
    bindings,
    prelude::*, //
};

/// How an allocation obtains its memory.
#[derive(Clone, Copy)]
pub(crate) enum AllocMode {
    /// The allocation may sleep. It is charged to the memory cgroup of the task.
    MaySleep,
    /// The allocation does not sleep. It is charged to the active memory cgroup, and fails if the
    /// cgroup is at its limit.
    NoSleep,
}

/// `__GFP_ACCOUNT`, which the bindings do not name.
const ACCOUNT: u32 = bindings::GFP_KERNEL_ACCOUNT & !bindings::GFP_KERNEL;

impl AllocMode {
    /// The GFP flags for the C allocators.
    #[inline(always)]
    fn raw(self) -> u32 {
        match self {
            AllocMode::MaySleep => bindings::GFP_KERNEL_ACCOUNT,
            // `GFP_ATOMIC` would be wrong here, because it may exceed all limits.
            AllocMode::NoSleep => bindings::GFP_NOWAIT | ACCOUNT,
        }
    }

    /// The GFP flags for the allocators of the `kernel` crate.
    pub(crate) fn flags(self) -> Flags {
        match self {
            AllocMode::MaySleep => GFP_KERNEL_ACCOUNT,
            AllocMode::NoSleep => GFP_NOWAIT | (GFP_KERNEL_ACCOUNT & !GFP_KERNEL),
        }
    }
}

/// A cache of objects of type `T`.
pub(crate) struct Slab<T> {
    cache: NonNull<bindings::kmem_cache>,
    _objects: PhantomData<T>,
}

// SAFETY: Any thread may use a slab cache, because it has locks of its own.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: Any thread may use a slab cache, because it has locks of its own.
unsafe impl<T: Send> Sync for Slab<T> {}

impl<T> Slab<T> {
    /// An empty cache, named `name` in `/proc/slabinfo`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        let mut args = bindings::kmem_cache_args {
            align: align_of::<T>() as u32,
            ..Default::default()
        };
        // SAFETY: The name and the arguments are valid.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                name.as_char_ptr(),
                size_of::<T>() as u32,
                &raw mut args,
                0,
            )
        };
        Ok(Slab {
            cache: NonNull::new(cache).ok_or(ENOMEM)?,
            _objects: PhantomData,
        })
    }

    /// Allocates an object and initialises it with `value`. The object must be passed to [`free`]
    /// before the cache is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline(always)]
    pub(crate) fn alloc(&self, mode: AllocMode, value: impl FnOnce() -> T) -> Result<NonNull<T>> {
        // SAFETY: The cache is valid.
        let slot = unsafe { bindings::kmem_cache_alloc_noprof(self.cache.as_ptr(), mode.raw()) };
        let slot = NonNull::new(slot.cast::<T>()).ok_or(ENOMEM)?;
        // SAFETY: The allocation has the size and alignment of `T` and is not shared.
        unsafe { ptr::write(slot.as_ptr(), value()) };
        Ok(slot)
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        // SAFETY: The cache was created in `new`. The kernel prints a warning if an object is left
        // in it.
        unsafe { bindings::kmem_cache_destroy(self.cache.as_ptr()) };
    }
}

/// Drops an object and returns its memory to the cache that it came from. May be called in any
/// context but NMI.
///
/// # Safety
///
/// The object came from [`Slab::alloc`], or it is the first field of such an object whose other
/// fields need no drop. Nothing uses the object afterwards.
pub(crate) unsafe fn free<T>(object: NonNull<T>) {
    // SAFETY: The caller upholds this function's safety contract.
    unsafe {
        ptr::drop_in_place(object.as_ptr());
        bindings::kfree(object.as_ptr().cast());
    }
}
