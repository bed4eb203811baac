// SPDX-License-Identifier: GPL-2.0

//! A vector of fixed capacity that is stored inline, for instance on the stack.
//!
//! ```ignore
//! let mut batch = ArrayVec::<u32, 8>::new();
//! batch.push(1)?;
//! for element in batch.drain() { /* ... */ }
//! ```

use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

/// An array whose elements are not initialised. (rustc 1.85 would fill an array of the form
/// `[const { MaybeUninit::uninit() }; N]` with zeroes.)
#[inline(always)]
pub(crate) const fn uninit_array<T, const N: usize>() -> [MaybeUninit<T>; N] {
    // SAFETY: The elements may have any value, so the array needs no initialisation.
    unsafe { MaybeUninit::uninit().assume_init() }
}

/// A vector of at most `N` elements.
///
/// # Invariants
///
/// The first `len` elements are initialised. `len` is at most `N`.
pub(crate) struct ArrayVec<T, const N: usize> {
    len: usize,
    elements: [MaybeUninit<T>; N],
}

impl<T, const N: usize> ArrayVec<T, N> {
    /// An empty vector. The memory of the elements is not initialised.
    #[inline]
    pub(crate) fn new() -> Self {
        ArrayVec {
            len: 0,
            elements: uninit_array(),
        }
    }

    /// An empty vector in `slot`. rustc 1.85 copies a vector that [`ArrayVec::new`] returns to its
    /// place, with the memory of all elements.
    #[inline(always)]
    pub(crate) fn new_in(slot: &mut MaybeUninit<Self>) -> &mut Self
    where
        T: Copy,
    {
        let vector = slot.as_mut_ptr();
        // INVARIANT: No element is initialised, and `len` is 0.
        // SAFETY: The pointer is valid. After the store all fields have a valid value, because the
        // elements may have any. The elements are `Copy`, so that the vector needs no drop.
        unsafe {
            (&raw mut (*vector).len).write(0);
            &mut *vector
        }
    }

    /// Adds an element if there is room.
    ///
    /// # Errors
    ///
    /// Returns the element if the vector is full.
    #[inline]
    pub(crate) fn push(&mut self, element: T) -> Result<(), T> {
        let Some(slot) = self.elements.get_mut(self.len) else {
            return Err(element);
        };
        slot.write(element);
        // INVARIANT: The element was just written, and `len` was less than `N`.
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    /// The free slots behind the elements, at most `most` of them.
    #[inline]
    pub(crate) fn free_slots(&mut self, most: usize) -> FreeSlots<'_, T> {
        let elements = self.elements.as_mut_ptr();
        // SAFETY: Both addresses are within the array or at its end: `len` is at most `N`, and
        // `most` is limited to the remaining slots.
        unsafe {
            let at = elements.add(self.len);
            // INVARIANT: The first `len` elements are initialised, and the slots from `at` to `end`
            // are free.
            FreeSlots {
                at,
                end: at.add(most.min(N.wrapping_sub(self.len))),
                first: elements,
                len: &mut self.len,
            }
        }
    }

    /// Drops all elements.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.drain().for_each(drop);
    }

    /// Takes all elements out, in their order.
    #[inline]
    pub(crate) fn drain(&mut self) -> Drain<'_, T> {
        // INVARIANT: The vector is empty from here on. The `Drain` owns the elements.
        let len = core::mem::replace(&mut self.len, 0);
        let elements = self.elements.as_ptr().cast::<T>();
        Drain {
            next: elements,
            // SAFETY: The array has at least `len` elements.
            end: unsafe { elements.add(len) },
            _vector: PhantomData,
        }
    }
}

/// The free slots of a vector while they are filled. Dropping this value adds the elements that
/// were pushed to the vector.
///
/// # Invariants
///
/// The elements from `first` up to, but not including, `at` are initialised elements of the vector
/// that `len` belongs to. The slots from `at` up to, but not including, `end` are free.
pub(crate) struct FreeSlots<'a, T> {
    at: *mut MaybeUninit<T>,
    end: *mut MaybeUninit<T>,
    first: *mut MaybeUninit<T>,
    len: &'a mut usize,
}

impl<T> FreeSlots<'_, T> {
    /// True if no free slot is left.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.at == self.end
    }

    /// Adds an element if a free slot is left. Drops it otherwise.
    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        if !self.is_full() {
            // INVARIANT: One more element is initialised.
            // SAFETY: `at` is less than `end`, so it is a free slot.
            unsafe {
                (*self.at).write(element);
                self.at = self.at.add(1);
            }
        }
    }
}

impl<T> Drop for FreeSlots<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Both pointers are within the array of the same vector.
        *self.len = unsafe { self.at.offset_from(self.first) } as usize;
    }
}

/// The elements of a vector while they are taken out.
///
/// # Invariants
///
/// The elements from `next` up to, but not including, `end` are initialised and owned by this
/// value.
pub(crate) struct Drain<'a, T> {
    next: *const T,
    end: *const T,
    _vector: PhantomData<&'a mut T>,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        const { assert!(size_of::<T>() > 0) };
        if self.next == self.end {
            return None;
        }
        let at = self.next;
        // INVARIANT: The caller owns the element from here on.
        // SAFETY: The element is initialised and owned by this value. The next address is at most
        // `end`.
        unsafe {
            self.next = at.add(1);
            Some(at.read())
        }
    }
}

impl<T> Drop for Drain<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T, const N: usize> Deref for ArrayVec<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: The type's invariant guarantees this.
        unsafe { core::slice::from_raw_parts(self.elements.as_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> DerefMut for ArrayVec<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: The type's invariant guarantees this.
        unsafe { core::slice::from_raw_parts_mut(self.elements.as_mut_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> Drop for ArrayVec<T, N> {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}
