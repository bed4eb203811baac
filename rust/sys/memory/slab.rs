// SPDX-License-Identifier: GPL-2.0

//! Memory for many objects of one type, with nothing left over between them.
//!
//! `KBox` takes what the next larger of the kernel's general sizes has, up to half as much again.
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

/// What may be done for memory.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// Wait for it; it is charged to the task's memory cgroup.
    Wait,
    /// Take what is there; it is charged to the memory cgroup that pays just now, as far as that
    /// may have more.
    Atomic,
}

/// `__GFP_ACCOUNT`, which has no name in Rust.
const ACCOUNT: u32 = bindings::GFP_KERNEL_ACCOUNT & !bindings::GFP_KERNEL;

impl Memory {
    /// What the kernel's allocators are to be told.
    #[inline(always)]
    fn raw(self) -> u32 {
        match self {
            Memory::Wait => bindings::GFP_KERNEL_ACCOUNT,
            // Not `GFP_ATOMIC`, which is beyond all limits.
            Memory::Atomic => bindings::GFP_NOWAIT | ACCOUNT,
        }
    }

    /// The same for the `kernel` crate's.
    pub(crate) fn flags(self) -> Flags {
        match self {
            Memory::Wait => GFP_KERNEL_ACCOUNT,
            Memory::Atomic => GFP_NOWAIT | (GFP_KERNEL_ACCOUNT & !GFP_KERNEL),
        }
    }
}

/// A cache of objects of type `T`.
pub(crate) struct Slab<T> {
    cache: NonNull<bindings::kmem_cache>,
    _objects: PhantomData<T>,
}

// SAFETY: A cache has locks of its own.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Slab<T> {}

impl<T> Slab<T> {
    /// An empty cache, which `/proc/slabinfo` calls `name`.
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

    /// Memory with a value in it, for [`free`] to take back before the cache is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline(always)]
    pub(crate) fn alloc(&self, memory: Memory, value: impl FnOnce() -> T) -> Result<NonNull<T>> {
        // SAFETY: The cache is valid.
        let slot = unsafe { bindings::kmem_cache_alloc_noprof(self.cache.as_ptr(), memory.raw()) };
        let slot = NonNull::new(slot.cast::<T>()).ok_or(ENOMEM)?;
        // SAFETY: It is memory for one `T`, and ours.
        unsafe { ptr::write(slot.as_ptr(), value()) };
        Ok(slot)
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        // SAFETY: Made in `new`. The kernel reports it if an object is left.
        unsafe { bindings::kmem_cache_destroy(self.cache.as_ptr()) };
    }
}

/// Drops an object and gives its memory back, to whichever cache it is of. Any context but NMI.
///
/// # Safety
///
/// It came from [`Slab::alloc`], or is the first part of what did, whose rest needs no dropping. Nobody uses it any
/// more.
pub(crate) unsafe fn free<T>(object: NonNull<T>) {
    // SAFETY: By this function's contract.
    unsafe {
        ptr::drop_in_place(object.as_ptr());
        bindings::kfree(object.as_ptr().cast());
    }
}
