// SPDX-License-Identifier: GPL-2.0

//! Fields of the kernel's structures that its bindings do not declare, and that are too wide to be
//! declared again: bindgen's compiler says where they are (`rust/bindings.h`), as it lays out all that is
//! in the bindings; their types are checked by the kernel's own (`rust/helpers.c`). A read is one load,
//! where a helper is a call.
//!
//! C header: [`include/linux/kcsan-checks.h`](srctree/include/linux/kcsan-checks.h)

use crate::generated::kq_offset;
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU8, Ordering}, //
};
#[cfg(CONFIG_KCSAN)]
use kernel::bindings;

/// Reads a word of another subsystem's at once, which its owner may be changing: `data_race(READ_ONCE())`.
///
/// Owners change what is read here under locks of theirs which we do not take, and some by a plain `pipe->readers--`
/// or `ctx->count += n`. So the loads are marked, but KCSAN would report the other side all the same. What is read
/// is a whole word as it was before or after such a change, and the caller is told of the next one by a wake-up.
///
/// # Safety
///
/// `word` is valid and aligned, and `T` is a number or a pointer.
#[inline(always)]
pub(in crate::sys) unsafe fn read_once<T: Copy>(word: *const T) -> T {
    unlooked(
        // SAFETY: By this function's contract.
        || unsafe { word.read_volatile() },
    )
}

/// Calls `read` while KCSAN does not look.
#[inline(always)]
fn unlooked<T>(read: impl FnOnce() -> T) -> T {
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: It looks again below, in the same context.
    unsafe {
        bindings::kcsan_disable_current();
    }
    let value = read();
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: As said above.
    unsafe {
        bindings::kcsan_enable_current();
    }
    value
}

/// Where a field of that type is.
pub(in crate::sys) struct Field<T>(usize, PhantomData<T>);

impl<T: Copy> Field<T> {
    /// At an offset, in bytes.
    pub(crate) const fn at(offset: kq_offset) -> Self {
        Field(offset as usize, PhantomData)
    }

    /// The field's address in `structure`.
    ///
    /// # Safety
    ///
    /// `structure` is valid, and has the field.
    #[inline]
    pub(crate) unsafe fn of<S>(&self, structure: *const S) -> *const T {
        // SAFETY: By this function's contract.
        unsafe { structure.byte_add(self.0).cast() }
    }

    /// Reads it [at once](read_once).
    ///
    /// # Safety
    ///
    /// As [`Field::of`]; and `T` is a number or a pointer.
    #[inline]
    pub(in crate::sys) unsafe fn read<S>(&self, structure: *const S) -> T {
        // SAFETY: By this function's contract.
        unsafe { read_once(self.of(structure)) }
    }
}

impl Field<u8> {
    /// The same, before all that is read after it: as `smp_load_acquire`.
    ///
    /// # Safety
    ///
    /// As [`Field::of`].
    #[inline]
    pub(in crate::sys) unsafe fn read_acquire<S>(&self, structure: *const S) -> u8 {
        // SAFETY: By this function's contract; others write it at once. (The `kernel` crate's load is a
        // call.)
        let byte = unsafe { AtomicU8::from_ptr(self.of(structure).cast_mut()) };
        unlooked(|| byte.load(Ordering::Acquire))
    }
}
