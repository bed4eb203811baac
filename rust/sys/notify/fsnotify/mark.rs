// SPDX-License-Identifier: GPL-2.0

//! A mark on an object.
//!
//! Each mark has a spin lock, which protects its target and is held during the callback. The mutex
//! of a [`Group`] is held only while the group is created or a mark is initialised.

use super::{inode_of, state_of, EventScope, InodeSnapshot, Notify};
use crate::generated;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_uint, c_void},
    fs::File,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{atomic::ordering, Arc, Mutex, SpinLock},
    types::Opaque, //
};

/// An fsnotify group. Its marks hold references to it.
struct RawGroup(NonNull<generated::fsnotify_group>);

// SAFETY: Any thread may use a group, because it has locks of its own.
unsafe impl Send for RawGroup {}

// SAFETY: Any thread may use a group, because it has locks of its own.
unsafe impl Sync for RawGroup {}

impl Drop for RawGroup {
    fn drop(&mut self) {
        // SAFETY: This value owns the reference that `fsnotify_alloc_group` has returned.
        unsafe { generated::fsnotify_put_group(self.0.as_ptr()) };
    }
}

/// The group of all marks of one user with one kind of target. It is allocated with the first mark.
#[pin_data]
pub(crate) struct Group<T: Notify> {
    #[pin]
    group: Mutex<Option<RawGroup>>,
    _target: PhantomData<fn(T)>,
}

/// A mark. `Node::free` frees its memory.
///
/// # Invariants
///
/// While `target` is set, `inode` is valid if it is set.
#[pin_data]
#[repr(C)]
struct Node<T: Notify> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    mark: Opaque<generated::fsnotify_mark>,
    /// The inode that the mark is on, if its events are about that inode.
    inode: Option<NonNull<bindings::inode>>,
    #[pin]
    target: SpinLock<Option<Arc<T>>>,
}

/// A mark on an object. After it was dropped the target is not notified any more.
pub(crate) struct Mark<T: Notify>(NonNull<Node<T>>);

// SAFETY: A mark has locks of its own. The target is `Send + Sync`.
unsafe impl<T: Notify> Send for Mark<T> {}

// SAFETY: A mark has locks of its own. The target is `Send + Sync`.
unsafe impl<T: Notify> Sync for Mark<T> {}

impl<T: Notify> Group<T> {
    const OPS: &'static generated::fsnotify_ops = &generated::fsnotify_ops {
        // fsnotify calls `handle_event` for all events if it is set. `handle_inode_event` is for
        // inodes only, and it does not receive the type of the event's data.
        handle_event: match T::SCOPE {
            EventScope::Mounts => Some(Node::<T>::handle_mount),
            EventScope::Inode => Some(Node::<T>::handle_inode),
            EventScope::Entry => None,
        },
        handle_inode_event: Some(Node::<T>::handle),
        free_group_priv: None,
        freeing_mark: None,
        free_event: None,
        free_mark: Some(Node::<T>::free),
    };

    /// A group that is not allocated yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            group <- new_mutex!(None, "fsnotify_group"),
            _target: PhantomData,
        })
    }

    /// Calls `with` with the group, and allocates the group if necessary.
    pub(super) fn with<R>(
        &self,
        with: impl FnOnce(NonNull<generated::fsnotify_group>) -> Result<R>,
    ) -> Result<R> {
        let mut group = self.group.lock();
        if let Some(group) = &*group {
            return with(group.0);
        }
        // The marks are charged to the caller, and an inode may have several marks of the group.
        let flags = generated::FSNOTIFY_GROUP_USER | generated::FSNOTIFY_GROUP_DUPS;
        // SAFETY: The operations live as long as the module, which outlives the marks of the group.
        let raw =
            from_err_ptr(unsafe { generated::fsnotify_alloc_group(Self::OPS, flags as c_int) })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        *group = Some(RawGroup(raw));
        with(raw)
    }
}

/// The object that a mark is put on.
#[derive(Clone, Copy)]
pub(super) enum Object {
    Inode(NonNull<bindings::inode>),
    Mounts(NonNull<generated::mnt_namespace>),
}

impl Object {
    /// The object as a pointer and a type, as fsnotify takes it.
    pub(super) fn raw(self) -> (*mut c_void, c_uint) {
        match self {
            Object::Inode(inode) => (
                inode.as_ptr().cast(),
                generated::fsnotify_obj_type_FSNOTIFY_OBJ_TYPE_INODE as c_uint,
            ),
            Object::Mounts(namespace) => (
                namespace.as_ptr().cast(),
                generated::fsnotify_obj_type_FSNOTIFY_OBJ_TYPE_MNTNS as c_uint,
            ),
        }
    }

    pub(super) fn address(self) -> usize {
        self.raw().0.addr()
    }

    /// The mount namespace of the current task, which holds a reference to it.
    pub(super) fn current_mounts() -> Result<Self> {
        // SAFETY: The function has no preconditions.
        NonNull::new(unsafe { generated::kq_current_mount_ns() })
            .map(Object::Mounts)
            .ok_or(EINVAL)
    }
}

impl<T: Notify> Node<T> {
    /// The callback for an event on an inode.
    ///
    /// # Safety
    ///
    /// `mark` belongs to a `Node<T>` and is not freed during the call. `inode` is null or valid.
    unsafe extern "C" fn handle(
        mark: *mut generated::fsnotify_mark,
        events: u32,
        inode: *mut bindings::inode,
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        _cookie: u32,
    ) -> c_int {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { Self::notify_target(mark, events, inode, false) };
        0
    }

    /// # Safety
    ///
    /// As for `Node::handle`.
    unsafe fn notify_target(
        mark: *mut generated::fsnotify_mark,
        events: u32,
        inode: *mut bindings::inode,
        is_setattr: bool,
    ) {
        // SAFETY: `mark` is the first field of a live `Node<T>`.
        let this = unsafe { &*mark.cast::<Node<T>>() };
        let target = this.target.lock();
        let Some(target) = &*target else {
            return;
        };
        let inode_of_event = match T::SCOPE {
            EventScope::Inode => this.inode,
            EventScope::Entry => NonNull::new(inode),
            EventScope::Mounts => None,
        };
        let snapshot = inode_of_event.map_or_else(InodeSnapshot::default, |inode| InodeSnapshot {
            address: inode.as_ptr().addr(),
            // SAFETY: The target is set, so the type's invariant guarantees that the inode of the
            // mark is valid. The caller guarantees that the other inode is valid.
            state: unsafe { state_of(inode) },
            is_setattr,
        });
        T::notify(target.as_arc_borrow(), events, snapshot);
    }

    /// The callback for an event on the inode that the mark is on.
    ///
    /// # Safety
    ///
    /// `iter` is valid. Its inode mark, if any, belongs to a `Node<T>`.
    unsafe extern "C" fn handle_inode(
        _group: *mut generated::fsnotify_group,
        events: u32,
        _data: *const c_void,
        data_type: c_int,
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        _cookie: u32,
        iter: *mut generated::fsnotify_iter_info,
    ) -> c_int {
        // An operation through a descriptor passes a path as its data. `notify_change()` passes a
        // dentry.
        let is_setattr = data_type == generated::fsnotify_data_type_FSNOTIFY_EVENT_DENTRY as c_int;
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            let mark = generated::kq_fsnotify_inode_mark(iter);
            if !mark.is_null() {
                Self::notify_target(mark, events, core::ptr::null_mut(), is_setattr);
            }
        }
        0
    }

    /// The callback for an event on the mount namespace.
    ///
    /// # Safety
    ///
    /// `iter` is valid. Its mount namespace mark, if any, belongs to a `Node<T>`.
    unsafe extern "C" fn handle_mount(
        _group: *mut generated::fsnotify_group,
        events: u32,
        _data: *const c_void,
        _data_type: c_int,
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        _cookie: u32,
        iter: *mut generated::fsnotify_iter_info,
    ) -> c_int {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            let mark = generated::kq_fsnotify_mount_mark(iter);
            if !mark.is_null() {
                Self::notify_target(mark, events, core::ptr::null_mut(), false);
            }
        }
        0
    }

    /// The callback for the release of the last reference to a mark.
    ///
    /// # Safety
    ///
    /// `mark` is the first field of a `Node<T>` that was leaked from a box.
    unsafe extern "C" fn free(mark: *mut generated::fsnotify_mark) {
        // SAFETY: The caller upholds this function's safety contract.
        drop(unsafe { KBox::from_raw(mark.cast::<Node<T>>()) });
        // `wait_until_freed` may return from here on.
        T::marks().0.fetch_sub(1, ordering::Release);
    }
}

impl<T: Notify> Mark<T> {
    /// Notifies `target` of `events` on the inode of `file`. The caller keeps the file open longer
    /// than the mark.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the file system does not support fsnotify; `ENOMEM`.
    pub(crate) fn new(group: &Group<T>, file: &File, events: u32, target: &Arc<T>) -> Result<Self> {
        // SAFETY: A file has an inode as long as it lives.
        unsafe { Self::add(group, Object::Inode(inode_of(file)), events, target) }
    }

    /// Calls `f` while no event of this mark is reported. `f` runs under the lock of the mark,
    /// which is a spin lock, so it must not sleep, and must not drop the mark.
    pub(crate) fn without_events<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: The node is valid until `drop` puts the reference of this value.
        let this = unsafe { self.0.as_ref() };
        let _target = this.target.lock();
        f()
    }

    /// # Safety
    ///
    /// The object is valid. If it is an inode and the events are about that inode, it stays valid
    /// until the mark is dropped.
    pub(super) unsafe fn add(
        group: &Group<T>,
        on: Object,
        events: u32,
        target: &Arc<T>,
    ) -> Result<Self> {
        let inode = match (T::SCOPE, on) {
            (EventScope::Inode, Object::Inode(inode)) => Some(inode),
            _ => None,
        };
        let mark = KBox::pin_init(
            pin_init!(Node {
                mark: Opaque::uninit(),
                inode,
                target <- new_spinlock!(Some(target.clone()), "fsnotify_mark"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let this = group.with(|group| {
            T::marks().0.fetch_add(1, ordering::Relaxed);
            // SAFETY: The node stays pinned, because only `Node::free` takes the box back.
            let raw = unsafe { KBox::into_raw(Pin::into_inner_unchecked(mark)) };
            let c_mark = raw.cast::<generated::fsnotify_mark>();
            // SAFETY: The memory is valid for a mark and not shared. The group is valid.
            unsafe {
                generated::fsnotify_init_mark(c_mark, group.as_ptr());
                (*c_mark).mask = events;
            }
            // SAFETY: The pointer is not null. The new value owns the reference from here on.
            Ok(Mark(unsafe { NonNull::new_unchecked(raw) }))
        })?;
        let (object, kind) = on.raw();
        // SAFETY: The mark is initialised. The caller guarantees that the object is valid. The type
        // belongs to the object.
        to_result(unsafe { generated::fsnotify_add_mark(this.raw(), object, kind, 0) })?;
        Ok(this)
    }

    pub(super) fn raw(&self) -> *mut generated::fsnotify_mark {
        self.0.as_ptr().cast()
    }

    /// Replaces the mask of the mark.
    pub(crate) fn set_events(&self, events: u32) {
        // SAFETY: This value owns a reference to the mark.
        unsafe { generated::fsnotify_modify_mark_mask(self.raw(), events, !events) };
    }

    /// False if the object was freed. The kernel detaches the mark before another object can get
    /// the address.
    pub(super) fn is_attached(&self) -> bool {
        // SAFETY: This value owns a reference to the mark.
        unsafe { generated::kq_fsnotify_mark_is_attached(self.raw()) }
    }
}

impl<T: Notify> Drop for Mark<T> {
    fn drop(&mut self) {
        // SAFETY: The node is valid until the reference of this value is put below.
        let this = unsafe { self.0.as_ref() };
        // The lock waits for a callback that is running. Later callbacks find no target.
        let target = this.target.lock().take();
        drop(target);
        // SAFETY: This value owns a reference to the mark, and the mark holds a reference to its
        // group. (Destroying a mark that could not be added has no effect.)
        unsafe {
            generated::fsnotify_destroy_mark(self.raw(), (*self.raw()).group);
            generated::fsnotify_put_mark(self.raw());
        }
    }
}
