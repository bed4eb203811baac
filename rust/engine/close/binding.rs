// SPDX-License-Identifier: GPL-2.0

//! The binding of a knote to the file of a descriptor, and the number of bindings of a kqueue.

use super::BoundKnotes;
use crate::{
    engine::{
        knote::{Knote, UnderMutex},
        knote_layout::BoundKnote,
    },
    sys::{
        file::fdtable::{CurrentFdTable, CurrentFiles},
        memory::treap::{self, Item},
    }, //
};
use core::{cell::UnsafeCell, cmp::Ordering, ptr};
use kernel::{
    bindings,
    fs::File,
    prelude::*,
    sync::{aref::ARef, atomic::ordering, barrier::smp_mb, Arc}, //
};

/// The binding of a knote to the file of a descriptor.
///
/// # Invariants
///
/// `file` is null, or the binding owns a reference to the file, or it is the file of the binding of
/// the knote's [primary](crate::engine::pairing). In the second case the knote is in the tree of
/// (file, descriptor table of its kqueue), unless it [is out of the tree](Knote::is_out_of_tree).
/// `file` changes only under the mutex and while the knote is in no tree.
pub(crate) struct Binding {
    file: UnsafeCell<*mut bindings::file>,
}

/// The key by which the trees are ordered.
pub(crate) struct Key {
    pub(super) file: usize,
    pub(super) fd_table: usize,
    pub(super) number: u64,
    /// The address of the knote, because several knotes may be bound to one number.
    pub(super) knote: usize,
}

// SAFETY: The links are a field of the object of the knote.
unsafe impl Item for Knote {
    type Key = Key;

    #[inline]
    unsafe fn links(this: *const Self) -> *mut treap::Links<Self> {
        // SAFETY: The knote is valid by this function's contract. Only knotes that are bound are
        // inserted into a tree ([`BoundKnotes::link`]).
        unsafe { (*this.cast::<BoundKnote>()).node.get() }
    }

    #[inline]
    fn compare(&self, key: &Key) -> Ordering {
        let own = self.key();
        (own.file.cmp(&key.file))
            .then_with(|| own.fd_table.cmp(&key.fd_table))
            .then_with(|| own.number.cmp(&key.number))
            .then_with(|| own.knote.cmp(&key.knote))
    }

    #[inline]
    fn key(&self) -> Key {
        Key {
            // SAFETY: The file does not change while the knote is in a tree or is being inserted
            // into one.
            file: unsafe { *self.binding.file.get() }.addr(),
            fd_table: self.kqueue().fd_table().address(),
            number: self.ident(),
            knote: ptr::from_ref(self).addr(),
        }
    }
}

impl Binding {
    /// No binding.
    pub(in crate::engine) fn none() -> Self {
        Binding {
            file: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// Makes the knote share the file of another binding.
    ///
    /// # Safety
    ///
    /// The mutex of the kqueue of both knotes is held. The binding has no file, and its knote is
    /// the secondary of the knote of `primary` from now on.
    #[inline]
    pub(in crate::engine) unsafe fn share(&self, primary: &Binding) {
        // INVARIANT: The knote is the secondary of the other one.
        // SAFETY: The mutex is held, so no other task accesses the two fields.
        unsafe { *self.file.get() = *primary.file.get() };
    }

    /// Ends the sharing that [`Binding::share`] has begun.
    ///
    /// # Safety
    ///
    /// The mutex of the kqueue is held, and no reference that was obtained from the binding is used
    /// any more.
    #[inline]
    pub(in crate::engine) unsafe fn unshare(&self) {
        // SAFETY: The mutex is held, so no other task accesses the field.
        unsafe { *self.file.get() = ptr::null_mut() };
    }

    /// True if the knote is bound to a file.
    pub(in crate::engine) fn is_bound(&mut self) -> bool {
        !self.file.get_mut().is_null()
    }

    /// The file that the knote is bound to.
    ///
    /// # Safety
    ///
    /// The mutex of the knote's kqueue is held, or the knote is known to be bound. The knote is not
    /// unbound for as long as the result is used.
    #[inline]
    pub(in crate::engine) unsafe fn file<'a>(&self) -> Option<&'a File> {
        // SAFETY: The field does not change while the mutex is held, nor while the knote is bound.
        let file = unsafe { *self.file.get() };
        // SAFETY: By the type's invariant, this binding or that of the primary owns a reference to
        // the file. The task is in an ioctl on another descriptor, so it has no active
        // `fdget_pos`.
        (!file.is_null()).then(|| unsafe { File::from_raw_file(file) })
    }

    /// Ends the binding, if there is one, and drops the reference to the file.
    ///
    /// # Safety
    ///
    /// `self` is the binding of `knote`, and `count` belongs to the kqueue of `knote`. The mutex of
    /// that kqueue is held, and no reference that was obtained from the binding is used any more.
    #[inline]
    pub(in crate::engine) unsafe fn unbind(&self, knote: &Knote, count: &mut BindingCount) {
        // SAFETY: The mutex is held, so the field does not change.
        if unsafe { *self.file.get() }.is_null() {
            return;
        }
        // SAFETY: By this function's contract, the mutex is held, and this is the binding of the
        // knote.
        unsafe { self.release_file(knote, &count.bound_knotes) };
        count.decrement();
    }

    /// [`Binding::unbind`] for a knote that is bound. Does not update the number of bindings.
    ///
    /// # Safety
    ///
    /// As for [`Binding::unbind`], except that instead of the mutex the caller may have the only
    /// reference to the knote. `bound_knotes` has bound the knote.
    #[inline(always)]
    pub(in crate::engine) unsafe fn release_file(&self, knote: &Knote, bound_knotes: &BoundKnotes) {
        // SAFETY: By this function's contract, no other task changes the field.
        let file = unsafe { *self.file.get() };
        debug_assert!(ptr::eq(self, &knote.binding));
        if knote.is_out_of_tree() {
            // The close probe has taken it out, and does not read the file any more.
        } else if let Some(bucket) =
            bound_knotes.bucket(file.addr(), knote.kqueue().fd_table().address())
        {
            let _guard = bucket.lock.lock();
            // The close probe may have taken the knote out meanwhile, under this lock.
            if !knote.is_out_of_tree() {
                // SAFETY: The lock is held. A knote in the tree is unbound before it is freed.
                unsafe { bucket.tree(bound_knotes) }.remove(knote);
            }
        }
        // INVARIANT: The knote is in no tree, and the reference is dropped.
        // SAFETY: By this function's contract, no other task accesses the field. The binding owns
        // the reference.
        unsafe {
            *self.file.get() = ptr::null_mut();
            bindings::fput(file);
        }
    }
}

/// The number of bound knotes of one kqueue. The probe is registered while it is not 0.
pub(crate) struct BindingCount {
    bound_knotes: Arc<BoundKnotes>,
    count: usize,
}

impl BindingCount {
    pub(crate) fn new(bound_knotes: &Arc<BoundKnotes>) -> Self {
        BindingCount {
            bound_knotes: bound_knotes.clone(),
            count: 0,
        }
    }

    #[inline]
    fn increment(&mut self) -> Result {
        if self.count == 0 {
            self.bound_knotes.close_probe.acquire()?;
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn decrement(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            self.bound_knotes.close_probe.release();
        }
    }
}

impl Drop for BindingCount {
    fn drop(&mut self) {
        // The remaining knotes were released without being unbound.
        if self.count > 0 {
            self.bound_knotes.close_probe.release();
        }
    }
}

/// Binds `knote` to `file`. From then on the knote ends when its number in `fd_table`, which is the
/// descriptor table of its kqueue, no longer refers to the file.
///
/// # Errors
///
/// `EBADF` if the number refers to something else by now; the knote may be bound nevertheless. The
/// errors of registering the probe, for instance `EBUSY` if ftrace is disabled.
pub(crate) fn bind(
    knote: &Knote,
    file: ARef<File>,
    fd_table: CurrentFdTable,
    under_mutex: &mut UnderMutex,
) -> Result {
    knote.check(under_mutex);
    // SAFETY: `check` has checked that the mutex of the knote's kqueue is held.
    if unsafe { knote.binding.file() }.is_some() {
        return Ok(());
    }
    under_mutex.binding_count.increment()?;
    // SAFETY: `check` has checked that the mutex of the knote's kqueue is held.
    if unsafe {
        under_mutex
            .binding_count
            .bound_knotes
            .link(knote, file, fd_table)
    } {
        return Ok(());
    }
    // SAFETY: `check` has checked that the mutex of the knote's kqueue is held.
    if unsafe { knote.binding.file() }.is_none() {
        under_mutex.binding_count.decrement();
    }
    Err(EBADF)
}

/// Makes `secondary`, a new knote that is not bound, the secondary of `primary`. False if the
/// descriptor of the primary was closed, or if its number in `fd_table` refers to another file.
#[inline]
pub(crate) fn share_binding(
    secondary: &Knote,
    primary: &Knote,
    fd_table: CurrentFdTable,
    under_mutex: &mut UnderMutex,
) -> bool {
    secondary.check(under_mutex);
    let Some(file) = primary.file(under_mutex) else {
        return false;
    };
    let kqueue = primary.kqueue();
    let bound_knotes = &kqueue.shared().bound_knotes;
    let Some(bucket) = bound_knotes.bucket(file.as_ptr().addr(), kqueue.fd_table().address())
    else {
        return false;
    };
    // A closing task empties the slot of the descriptor. Then, under this lock, it finds that the
    // slot does not map to the file, and retires the primary and its secondary. Either it has done
    // so already, or it will find the secondary.
    let _guard = bucket.lock.lock();
    // SAFETY: A spin lock is held, which is an RCU read-side critical section.
    let files = unsafe { CurrentFiles::in_rcu(fd_table) };
    if primary.is_retired() || !files.maps(primary.ident(), file) {
        return false;
    }
    // SAFETY: `check` and `file` have checked that the mutex is held. The sharing ends before the
    // primary is unbound.
    unsafe { secondary.binding.share(&primary.binding) };
    under_mutex.pair(primary, secondary);
    true
}

impl BoundKnotes {
    /// Inserts `knote`, which is not bound, into the tree of `file`. True if its number in
    /// `fd_table`, which is the descriptor table of its kqueue, refers to the file after that.
    ///
    /// # Safety
    ///
    /// The mutex of the knote's kqueue is held.
    unsafe fn link(&self, knote: &Knote, file: ARef<File>, fd_table: CurrentFdTable) -> bool {
        if knote.bound().is_none() {
            return false;
        }
        let binding = &knote.binding;
        let address = knote.kqueue().fd_table().address();
        let Some(bucket) = self.bucket(file.as_ptr().addr(), address) else {
            return false;
        };
        let _guard = bucket.lock.lock();
        // INVARIANT: The binding owns the reference, and the knote is inserted into the tree.
        // SAFETY: The mutex and the lock of the tree are held. A knote is unbound before it is
        // freed.
        unsafe {
            *binding.file.get() = ARef::into_raw(file).as_ptr().cast();
            bucket.tree(self).insert(knote);
        }
        // The barrier pairs with that of the close probe. See "Against registration" in the
        // documentation of the parent module.
        smp_mb(ordering::Full);
        // SAFETY: A spin lock is held, which is an RCU read-side critical section. The mutex is
        // held, so the knote is not unbound.
        unsafe {
            let files = CurrentFiles::in_rcu(fd_table);
            binding
                .file()
                .is_some_and(|file| files.maps(knote.ident(), file))
        }
    }
}
