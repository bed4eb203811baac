// SPDX-License-Identifier: GPL-2.0

//! The binding of a knote to the file of a descriptor, and the bindings of a kqueue.

use super::BoundKnotes;
use crate::{
    engine::{knote::KnoteAccess, knote_memory::Knote},
    sys::{
        file::fdtable::{CurrentFiles, CurrentTable},
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

/// Binds a knote to the file of a descriptor.
///
/// # Invariants
///
/// `file` is null, or a reference to a file is owned. In the latter case the knote is in the tree
/// of (file, table of its kqueue), unless it [is unlinked](Knote::is_unlinked). `file` only changes
/// while the knote is in no tree, under the mutex.
pub(crate) struct Binding {
    file: UnsafeCell<*mut bindings::file>,
    /// The links of the knote in its tree, guarded by the lock of the tree. Once the close probe
    /// has taken the knote out, they are the memory of a [`ClosedKnote`], since there may be a
    /// million knotes.
    pub(super) node: UnsafeCell<treap::Links<Knote>>,
}

const _: () = assert!(
    size_of::<bindings::callback_head>() <= size_of::<treap::Links<Knote>>()
        && align_of::<bindings::callback_head>() <= align_of::<treap::Links<Knote>>()
);

/// The order of the trees.
pub(crate) struct Key {
    pub(super) file: usize,
    pub(super) table: usize,
    pub(super) number: u64,
    /// The address of the knote, as several knotes may be bound to one number.
    pub(super) knote: usize,
}

// SAFETY: A knote has its own links.
unsafe impl Item for Knote {
    type Key = Key;

    #[inline]
    unsafe fn links(this: *const Self) -> *mut treap::Links<Self> {
        // SAFETY: The knote is valid by this function's contract.
        unsafe { (*this).binding.node.get() }
    }

    #[inline]
    fn compare(&self, key: &Key) -> Ordering {
        let own = self.key();
        (own.file.cmp(&key.file))
            .then_with(|| own.table.cmp(&key.table))
            .then_with(|| own.number.cmp(&key.number))
            .then_with(|| own.knote.cmp(&key.knote))
    }

    #[inline]
    fn key(&self) -> Key {
        Key {
            // SAFETY: The file does not change while the knote is in a tree, or is put into one.
            file: unsafe { *self.binding.file.get() }.addr(),
            table: self.kqueue().table().address(),
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
            node: UnsafeCell::new(treap::Links::NONE),
        }
    }

    /// True if the knote is bound to a file.
    pub(in crate::engine) fn is_bound(&mut self) -> bool {
        !self.file.get_mut().is_null()
    }

    /// The file.
    ///
    /// # Safety
    ///
    /// The mutex of the knote's kqueue is held, or the knote is known to be bound; and until the
    /// result is used no more it is not unbound.
    #[inline]
    pub(in crate::engine) unsafe fn file<'a>(&self) -> Option<&'a File> {
        // SAFETY: It does not change while the mutex is held, nor between binding and unbinding.
        let file = unsafe { *self.file.get() };
        // SAFETY: We own a reference by the type's invariant. An ioctl on another descriptor has
        // no `fdget_pos` active.
        (!file.is_null()).then(|| unsafe { File::from_raw_file(file) })
    }

    /// Ends the binding, if there is one, and drops the reference to the file.
    ///
    /// # Safety
    ///
    /// The mutex of the kqueue of `knote`, whose bindings those are, is held. This is its binding,
    /// and nobody has a reference to its file.
    #[inline]
    pub(in crate::engine) unsafe fn unbind(&self, knote: &Knote, count: &mut BindingCount) {
        // SAFETY: It does not change but in there.
        if unsafe { *self.file.get() }.is_null() {
            return;
        }
        // SAFETY: By this function's contract.
        unsafe { self.release_file(knote, &count.bound_knotes) };
        count.decrement();
    }

    /// [`Binding::unbind`] for a knote that is bound, without counting it.
    ///
    /// # Safety
    ///
    /// As [`Binding::unbind`], or nobody else uses the knote; it was bound by `bound_knotes`.
    #[inline(always)]
    pub(in crate::engine) unsafe fn release_file(&self, knote: &Knote, bound_knotes: &BoundKnotes) {
        // SAFETY: It does not change but here.
        let file = unsafe { *self.file.get() };
        debug_assert!(ptr::eq(self, &knote.binding));
        if let Some(bucket) = bound_knotes.bucket(file.addr(), knote.kqueue().table().address()) {
            let _guard = bucket.lock.lock();
            // The close probe may have taken it out, which it does under this lock.
            if !knote.is_unlinked() {
                // SAFETY: The lock is held; what is in the tree is unbound before it is freed.
                unsafe { bucket.tree(bound_knotes) }.remove(knote);
            }
        }
        // INVARIANT: In no tree, and the reference is given up.
        // SAFETY: We are the only one to change it; the reference is ours.
        unsafe {
            *self.file.get() = ptr::null_mut();
            bindings::fput(file);
        }
    }
}

/// The number of bound knotes of one kqueue. The probe is registered while there are some.
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
        // These were given up without being unbound.
        if self.count > 0 {
            self.bound_knotes.close_probe.release();
        }
    }
}

/// Binds `knote` to `file`, so that it ends when its number in `table`, its kqueue's table, no
/// longer refers to the file.
///
/// # Errors
///
/// `EBADF` if the number refers to something else by now; the knote may be bound all the same. The
/// error of registering the probe: `EBUSY` if ftrace is disabled.
pub(crate) fn bind(
    knote: &Knote,
    file: ARef<File>,
    table: CurrentTable,
    access: &mut KnoteAccess,
) -> Result {
    knote.check(access);
    // SAFETY: The mutex is held.
    if unsafe { knote.binding.file() }.is_some() {
        return Ok(());
    }
    access.binding_count.increment()?;
    // SAFETY: As above.
    if unsafe { access.binding_count.bound_knotes.link(knote, file, table) } {
        return Ok(());
    }
    // SAFETY: As above.
    if unsafe { knote.binding.file() }.is_none() {
        access.binding_count.decrement();
    }
    Err(EBADF)
}

impl BoundKnotes {
    /// Puts `knote`, which is not bound, into the tree of `file`. True if its number in `table`,
    /// its kqueue's table, refers to the file after that.
    ///
    /// # Safety
    ///
    /// The mutex of its kqueue is held.
    unsafe fn link(&self, knote: &Knote, file: ARef<File>, table: CurrentTable) -> bool {
        let binding = &knote.binding;
        let address = knote.kqueue().table().address();
        let Some(bucket) = self.bucket(file.as_ptr().addr(), address) else {
            return false;
        };
        let _guard = bucket.lock.lock();
        // INVARIANT: The reference is the binding's now, and the knote is put into the tree.
        // SAFETY: The mutex is held, and the lock. A knote is unbound before it is freed.
        unsafe {
            *binding.file.get() = ARef::into_raw(file).as_ptr().cast();
            bucket.tree(self).insert(knote);
        }
        smp_mb(ordering::Full);
        // SAFETY: A spin lock is held, which is an RCU read-side critical section. The mutex is
        // held.
        unsafe {
            let files = CurrentFiles::in_rcu(table);
            binding
                .file()
                .is_some_and(|file| files.maps(knote.ident(), file))
        }
    }
}
