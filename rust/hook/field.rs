// SPDX-License-Identifier: GPL-2.0

//! Fields of the kernel's structures that its bindings do not declare, and that are too wide to be
//! declared again: bindgen's compiler says where they are (`rust/bindings.h`), as it lays out all that is
//! in the bindings; their types are checked by the kernel's own (`rust/helpers.c`). A read is one load,
//! where a helper is a call.

use crate::generated::kq_offset;
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU8, Ordering}, //
};

/// Where a field of that type is.
pub(super) struct Field<T>(usize, PhantomData<T>);

impl<T: Copy> Field<T> {
    /// At an offset, in bytes.
    pub(super) const fn at(offset: kq_offset) -> Self {
        Field(offset as usize, PhantomData)
    }

    /// The field's address in `structure`.
    ///
    /// # Safety
    ///
    /// `structure` is valid, and has the field.
    #[inline]
    pub(super) unsafe fn of<S>(&self, structure: *const S) -> *const T {
        // SAFETY: By this function's contract.
        unsafe { structure.byte_add(self.0).cast() }
    }

    /// Reads it at once, as `READ_ONCE`.
    ///
    /// # Safety
    ///
    /// As [`Field::of`]; and `T` is a number or a pointer.
    #[inline]
    pub(super) unsafe fn read<S>(&self, structure: *const S) -> T {
        // SAFETY: By this function's contract.
        unsafe { self.of(structure).read_volatile() }
    }
}

impl Field<u8> {
    /// The same, before all that is read after it: as `smp_load_acquire`.
    ///
    /// # Safety
    ///
    /// As [`Field::of`].
    #[inline]
    pub(super) unsafe fn read_acquire<S>(&self, structure: *const S) -> u8 {
        // SAFETY: By this function's contract; others write it at once. (The `kernel` crate's load is a
        // call.)
        let byte = unsafe { AtomicU8::from_ptr(self.of(structure).cast_mut()) };
        byte.load(Ordering::Acquire)
    }
}
