// SPDX-License-Identifier: GPL-2.0

//! One mark on one object.

use super::{inode_of, state_of, About, InodeLook, Notify};
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

/// A group of fsnotify's. Its marks have references of their own.
struct RawGroup(NonNull<generated::fsnotify_group>);

// SAFETY: A group has locks of its own.
unsafe impl Send for RawGroup {}

// SAFETY: The reason given above applies here too.
unsafe impl Sync for RawGroup {}

impl Drop for RawGroup {
    fn drop(&mut self) {
        // SAFETY: The reference of `fsnotify_alloc_group`.
        unsafe { generated::fsnotify_put_group(self.0.as_ptr()) };
    }
}

/// The group that all marks of one user with one kind of target belong to. Made with the first of
/// them.
#[pin_data]
pub(crate) struct Group<T: Notify> {
    #[pin]
    group: Mutex<Option<RawGroup>>,
    _target: PhantomData<fn(T)>,
}

/// A mark, in memory that the group frees.
///
/// # Invariants
///
/// While `target` is there, `inode` is valid, if there is one.
#[pin_data]
#[repr(C)]
struct Node<T: Notify> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    mark: Opaque<generated::fsnotify_mark>,
    /// What it is on, if it is told of that.
    inode: Option<NonNull<bindings::inode>>,
    #[pin]
    target: SpinLock<Option<Arc<T>>>,
}

/// A mark on an inode; when it was dropped the target is not told any more.
pub(crate) struct Mark<T: Notify>(NonNull<Node<T>>);

// SAFETY: A mark has locks of its own; the target is `Send + Sync`.
unsafe impl<T: Notify> Send for Mark<T> {}

// SAFETY: The reason given above applies here too.
unsafe impl<T: Notify> Sync for Mark<T> {}

impl<T: Notify> Group<T> {
    const OPS: &'static generated::fsnotify_ops = &generated::fsnotify_ops {
        // Used for everything if it is there. The other is for inodes only, and is not told by what
        // an event was made.
        handle_event: match T::ABOUT {
            About::Mounts => Some(Node::<T>::handle_mount),
            About::Inode => Some(Node::<T>::handle_inode),
            About::Entry => None,
        },
        handle_inode_event: Some(Node::<T>::handle),
        free_group_priv: None,
        freeing_mark: None,
        free_event: None,
        free_mark: Some(Node::<T>::free),
    };

    /// No marks yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            group <- new_mutex!(None, "fsnotify_group"),
            _target: PhantomData,
        })
    }

    /// Calls `with` with the group.
    pub(super) fn with<R>(
        &self,
        with: impl FnOnce(NonNull<generated::fsnotify_group>) -> Result<R>,
    ) -> Result<R> {
        let mut group = self.group.lock();
        if let Some(group) = &*group {
            return with(group.0);
        }
        // Charged to the caller, and several marks on one inode.
        let flags = generated::FSNOTIFY_GROUP_USER | generated::FSNOTIFY_GROUP_DUPS;
        // SAFETY: The operations live as long as the module, which outlives the group's marks.
        let raw =
            from_err_ptr(unsafe { generated::fsnotify_alloc_group(Self::OPS, flags as c_int) })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        *group = Some(RawGroup(raw));
        with(raw)
    }
}

/// What a mark is put on.
#[derive(Clone, Copy)]
pub(super) enum Object {
    Inode(NonNull<bindings::inode>),
    Mounts(NonNull<generated::mnt_namespace>),
}

impl Object {
    /// As fsnotify wants it.
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

    /// The current task's mount namespace, which it keeps.
    pub(super) fn current_mounts() -> Result<Self> {
        // SAFETY: The function has no preconditions.
        NonNull::new(unsafe { generated::kq_current_mount_ns() })
            .map(Object::Mounts)
            .ok_or(EINVAL)
    }
}

impl<T: Notify> Node<T> {
    /// Called with an event on an inode.
    ///
    /// # Safety
    ///
    /// `mark` is that of a `Node<T>`, and is not freed meanwhile. `inode` is null or valid.
    unsafe extern "C" fn handle(
        mark: *mut generated::fsnotify_mark,
        events: u32,
        inode: *mut bindings::inode,
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        _cookie: u32,
    ) -> c_int {
        // SAFETY: The caller upholds this function's safety contract.
        unsafe { Self::tell(mark, events, inode, false) };
        0
    }

    /// # Safety
    ///
    /// As for `handle`.
    unsafe fn tell(
        mark: *mut generated::fsnotify_mark,
        events: u32,
        inode: *mut bindings::inode,
        sets: bool,
    ) {
        // SAFETY: `mark` is the first field of a live `Node<T>`.
        let this = unsafe { &*mark.cast::<Node<T>>() };
        let target = this.target.lock();
        let Some(target) = &*target else {
            return;
        };
        let about = match T::ABOUT {
            About::Inode => this.inode,
            About::Entry => NonNull::new(inode),
            About::Mounts => None,
        };
        let look = about.map_or_else(InodeLook::default, |inode| InodeLook {
            address: inode.as_ptr().addr(),
            // SAFETY: The target is there, so the mark's inode is valid by the type's invariant;
            // the other one is by this function's contract.
            state: unsafe { state_of(inode) },
            sets,
        });
        T::notify(target.as_arc_borrow(), events, look);
    }

    /// Called with an event on the inode that the mark is on.
    ///
    /// # Safety
    ///
    /// `iter` is valid, and its mark of an inode, if any, that of a `Node<T>`.
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
        // What is done by a descriptor is told with its path, and what notify_change() does with
        // the name alone.
        let sets = data_type == generated::fsnotify_data_type_FSNOTIFY_EVENT_DENTRY as c_int;
        // SAFETY: The caller upholds this function's safety contract.
        unsafe {
            let mark = generated::kq_fsnotify_inode_mark(iter);
            if !mark.is_null() {
                Self::tell(mark, events, core::ptr::null_mut(), sets);
            }
        }
        0
    }

    /// Called with an event on the mount namespace.
    ///
    /// # Safety
    ///
    /// `iter` is valid, and its mark of a namespace, if any, that of a `Node<T>`.
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
                Self::tell(mark, events, core::ptr::null_mut(), false);
            }
        }
        0
    }

    /// Called when nobody has a reference to the mark any more.
    ///
    /// # Safety
    ///
    /// `mark` is that of a leaked box of `Node<T>`.
    unsafe extern "C" fn free(mark: *mut generated::fsnotify_mark) {
        // SAFETY: The caller upholds this function's safety contract.
        drop(unsafe { KBox::from_raw(mark.cast::<Node<T>>()) });
        // `wait_until_freed` may go on from here.
        T::marks().0.fetch_sub(1, ordering::Release);
    }
}

impl<T: Notify> Mark<T> {
    /// Tells `target` of `events` on the inode of `file`. The caller keeps the file longer than the
    /// mark.
    ///
    /// # Errors
    ///
    /// `EINVAL` if its file system does not have that, `ENOMEM`.
    pub(crate) fn new(group: &Group<T>, file: &File, events: u32, target: &Arc<T>) -> Result<Self> {
        // SAFETY: The file has its inode.
        unsafe { Self::add(group, Object::Inode(inode_of(file)), events, target) }
    }

    /// # Safety
    ///
    /// The object is valid; if the target is told of it and it is an inode, it is until the mark is
    /// dropped.
    pub(super) unsafe fn add(
        group: &Group<T>,
        on: Object,
        events: u32,
        target: &Arc<T>,
    ) -> Result<Self> {
        let inode = match (T::ABOUT, on) {
            (About::Inode, Object::Inode(inode)) => Some(inode),
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
            // SAFETY: It stays pinned: only `Node::free` takes the box back.
            let raw = unsafe { KBox::into_raw(Pin::into_inner_unchecked(mark)) };
            let c_mark = raw.cast::<generated::fsnotify_mark>();
            // SAFETY: Valid memory for a mark, which nobody else has; the group is valid.
            unsafe {
                generated::fsnotify_init_mark(c_mark, group.as_ptr());
                (*c_mark).mask = events;
            }
            // SAFETY: Not null. From here on the reference is this value's.
            Ok(Mark(unsafe { NonNull::new_unchecked(raw) }))
        })?;
        let (object, kind) = on.raw();
        // SAFETY: The mark is initialised; the object is valid by this function's contract, the
        // type is its.
        to_result(unsafe { generated::fsnotify_add_mark(this.raw(), object, kind, 0) })?;
        Ok(this)
    }

    pub(super) fn raw(&self) -> *mut generated::fsnotify_mark {
        self.0.as_ptr().cast()
    }

    /// Tells of those events from now on, and no others.
    pub(crate) fn set_events(&self, events: u32) {
        // SAFETY: We own a reference.
        unsafe { generated::fsnotify_modify_mark_mask(self.raw(), events, !events) };
    }

    /// False if the object has ended: the kernel then has taken the mark off it, before another one
    /// can be in its place.
    pub(super) fn is_attached(&self) -> bool {
        // SAFETY: We own a reference.
        unsafe { generated::kq_fsnotify_mark_is_attached(self.raw()) }
    }
}

impl<T: Notify> Drop for Mark<T> {
    fn drop(&mut self) {
        // SAFETY: Valid until our reference is put below.
        let this = unsafe { self.0.as_ref() };
        // Waits for a call that is running; later ones find nobody.
        let target = this.target.lock().take();
        drop(target);
        // SAFETY: We own a reference; the group is that of the mark, which has one to it.
        // (Destroying one that could not be added does nothing.)
        unsafe {
            generated::fsnotify_destroy_mark(self.raw(), (*self.raw()).group);
            generated::fsnotify_put_mark(self.raw());
        }
    }
}
