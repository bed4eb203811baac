// SPDX-License-Identifier: GPL-2.0

//! Reads of fields of kernel structures that the bindings do not declare.
//!
//! Declaring these structures a second time would be too much. Instead, bindgen computes the
//! offsets of the fields when it generates the bindings (`rust/bindings.h`), and the C compiler
//! checks their types (`rust/helpers.c`). A read is a single load, where a C helper is a function
//! call.
//!
//! C header: [`include/linux/kcsan-checks.h`](srctree/include/linux/kcsan-checks.h)

use crate::generated::kq_offset;
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU8, Ordering}, //
};
#[cfg(CONFIG_KCSAN)]
use kernel::bindings;

/// Reads a word of another subsystem in a single load while its owner may be changing it, as
/// `data_race(READ_ONCE())` does.
///
/// The owners change these words under their own locks, which the reader does not take. Some owners
/// use a plain `pipe->readers--` or `ctx->count += n`, which KCSAN would report as a data race even
/// though the load is marked. The result is a whole word from before or after such a change.
///
/// The load orders nothing. A change of the word is followed by a wake-up. The caller takes a lock
/// before the read, and the wake-up takes the same lock after the change. So the read sees the
/// change, or the wake-up comes later and causes another read. A caller that reads two words in a
/// certain order uses [`Field::read_acquire`] or a read barrier.
///
/// # Safety
///
/// `word` is valid and aligned. `T` is an integer or a pointer.
#[inline(always)]
pub(in crate::sys) unsafe fn read_once<T: Copy>(word: *const T) -> T {
    without_kcsan(
        // SAFETY: The caller upholds this function's safety contract.
        || unsafe { word.read_volatile() },
    )
}

/// Calls `read` with KCSAN disabled for the current context.
#[inline(always)]
fn without_kcsan<T>(read: impl FnOnce() -> T) -> T {
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: KCSAN is enabled again below, in the same context.
    unsafe {
        bindings::kcsan_disable_current();
    }
    let value = read();
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: KCSAN was disabled above, in the same context.
    unsafe {
        bindings::kcsan_enable_current();
    }
    value
}

/// The offset of a field of type `T`.
pub(in crate::sys) struct Field<T>(usize, PhantomData<T>);

impl<T: Copy> Field<T> {
    /// A field at this offset, in bytes.
    pub(crate) const fn at(offset: kq_offset) -> Self {
        Field(offset as usize, PhantomData)
    }

    /// The field's address in `structure`.
    ///
    /// # Safety
    ///
    /// `structure` is valid and has the field.
    #[inline]
    pub(crate) unsafe fn of<S>(&self, structure: *const S) -> *const T {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { structure.byte_add(self.0).cast() }
    }

    /// Reads the field by [`read_once`].
    ///
    /// # Safety
    ///
    /// As for [`Field::of`]. In addition, `T` is an integer or a pointer.
    #[inline]
    pub(in crate::sys) unsafe fn read<S>(&self, structure: *const S) -> T {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { read_once(self.of(structure)) }
    }
}

impl Field<u8> {
    /// Reads the field with acquire ordering, as `smp_load_acquire` does.
    ///
    /// # Safety
    ///
    /// As for [`Field::of`].
    #[inline]
    pub(in crate::sys) unsafe fn read_acquire<S>(&self, structure: *const S) -> u8 {
        // SAFETY: The caller guarantees that the field is valid. Its other users access it by
        // single loads and stores. (The atomic load of the `kernel` crate is a function call.)
        let byte = unsafe { AtomicU8::from_ptr(self.of(structure).cast_mut()) };
        without_kcsan(|| byte.load(Ordering::Acquire))
    }
}
