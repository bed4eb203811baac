// SPDX-License-Identifier: GPL-2.0

//! fsnotify: hearing of what happens to an inode, or to a mount namespace.
//!
//! A [`Mark`] has its target told of the events in its mask. There may be any number of them on one
//! object. A mark is freed some time after it was destroyed, by a worker of the kernel; [`Group`]
//! waits for that when the module goes.
//!
//! # Context
//!
//! `Notify::notify` runs in the task that does something to the inode, which may hold the inode's
//! locks, under the mark's own spin lock: it must not sleep.
//!
//! C header: [`include/linux/fsnotify_backend.h`](srctree/include/linux/fsnotify_backend.h)

use crate::generated;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull}, //
};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_uint, c_void},
    fs::File,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
        ArcBorrow,
        SpinLock, //
    },
    time::{delay::fsleep, Delta},
    types::Opaque, //
};

/// Events, as in the C header.
pub(crate) mod fs {
    pub(crate) const ACCESS: u32 = 0x1;
    pub(crate) const MODIFY: u32 = 0x2;
    pub(crate) const ATTRIB: u32 = 0x4;
    pub(crate) const CLOSE_WRITE: u32 = 0x8;
    pub(crate) const CLOSE_NOWRITE: u32 = 0x10;
    pub(crate) const OPEN: u32 = 0x20;
    pub(crate) const MOVED_FROM: u32 = 0x40;
    pub(crate) const MOVED_TO: u32 = 0x80;
    pub(crate) const CREATE: u32 = 0x100;
    pub(crate) const DELETE: u32 = 0x200;
    pub(crate) const DELETE_SELF: u32 = 0x400;
    pub(crate) const MOVE_SELF: u32 = 0x800;
    pub(crate) const UNMOUNT: u32 = 0x2000;
    pub(crate) const MNT_ATTACH: u32 = 0x0100_0000;
    pub(crate) const MNT_DETACH: u32 = 0x0200_0000;
    pub(crate) const ISDIR: u32 = 0x4000_0000;
}

/// What an inode is like.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InodeState {
    /// Bytes.
    pub(crate) size: i64,
    /// How many names it has.
    pub(crate) links: u32,
    /// A directory that was removed.
    pub(crate) dead: bool,
}

/// Who wants to know of inodes, or of mount namespaces.
pub(crate) trait Notify: Send + Sync + 'static {
    /// It is about mount namespaces.
    const MOUNTS: bool;

    /// Something happened: events of [`fs`], none if it was to the folder that the inode is in.
    /// `state` is the inode's, if there is one.
    fn notify(this: ArcBorrow<'_, Self>, events: u32, state: InodeState);
}

/// The group that all marks with one kind of target belong to.
pub(crate) struct Group<T: Notify> {
    group: NonNull<generated::fsnotify_group>,
    /// Marks that are not freed.
    marks: Atomic<usize>,
    _target: PhantomData<T>,
}

// SAFETY: A group has locks of its own.
unsafe impl<T: Notify> Send for Group<T> {}
// SAFETY: As above.
unsafe impl<T: Notify> Sync for Group<T> {}

/// A mark, in memory that the group frees.
///
/// # Invariants
///
/// While `target` is there, `inode` is valid, if there is one.
#[pin_data]
#[repr(C)]
struct Node<T: Notify> {
    // First, so that a pointer to it is a pointer to the whole.
    mark: Opaque<generated::fsnotify_mark>,
    group: Arc<Group<T>>,
    inode: Option<NonNull<bindings::inode>>,
    /// The mark is on that inode, not on the folder that it is in.
    own: bool,
    #[pin]
    target: SpinLock<Option<Arc<T>>>,
}

/// A mark on an inode; when it was dropped the target is not told any more.
pub(crate) struct Mark<T: Notify>(NonNull<Node<T>>);

// SAFETY: A mark has locks of its own; the target is `Send + Sync`.
unsafe impl<T: Notify> Send for Mark<T> {}
// SAFETY: As above.
unsafe impl<T: Notify> Sync for Mark<T> {}

impl<T: Notify> Group<T> {
    const OPS: &'static generated::fsnotify_ops = &generated::fsnotify_ops {
        // Used for everything if it is there; the other is for inodes only.
        handle_event: if T::MOUNTS {
            Some(Node::<T>::handle_mount)
        } else {
            None
        },
        handle_inode_event: Some(Node::<T>::handle),
        free_group_priv: None,
        freeing_mark: None,
        free_event: None,
        free_mark: Some(Node::<T>::free),
    };

    /// No marks yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        // Several marks of ours on one inode.
        let flags = generated::FSNOTIFY_GROUP_DUPS as c_int;
        // SAFETY: The operations live as long as the module, which outlives the group's marks.
        let group = from_err_ptr(unsafe { generated::fsnotify_alloc_group(Self::OPS, flags) })?;
        let group = NonNull::new(group).ok_or(ENOMEM)?;
        let this = Group {
            group,
            marks: Atomic::new(0),
            _target: PhantomData,
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// Waits until all marks are freed. No mark is made any more, and all were dropped.
    pub(crate) fn stop(&self) {
        while self.marks.load(ordering::Acquire) != 0 {
            // SAFETY: No preconditions; may sleep.
            unsafe { generated::fsnotify_wait_marks_destroyed() };
            fsleep(Delta::from_millis(1));
        }
        // The worker that freed the last one may still be in our function.
        // SAFETY: As above.
        unsafe { generated::fsnotify_wait_marks_destroyed() };
    }

    /// How many marks there are, those that wait to be freed included.
    pub(crate) fn marks(&self) -> usize {
        self.marks.load(ordering::Relaxed)
    }
}

impl<T: Notify> Drop for Group<T> {
    fn drop(&mut self) {
        // SAFETY: The reference of `new`. What may be left of marks has references of its own.
        unsafe { generated::fsnotify_put_group(self.group.as_ptr()) };
    }
}

/// What a mark is put on.
enum Object {
    Inode(NonNull<bindings::inode>),
    Mounts(NonNull<generated::mnt_namespace>),
}

impl Object {
    /// False for an inode that is not `about`.
    fn is(&self, about: Option<NonNull<bindings::inode>>) -> bool {
        match self {
            Object::Inode(inode) => about == Some(*inode),
            Object::Mounts(_) => true,
        }
    }

    /// As fsnotify wants it.
    fn raw(&self) -> (*mut c_void, c_uint) {
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
}

/// # Safety
///
/// `inode` is valid.
unsafe fn state_of(inode: NonNull<bindings::inode>) -> InodeState {
    let mut look = generated::kq_inode_look::default();
    // SAFETY: By this function's contract.
    unsafe { generated::kq_inode_look(inode.as_ptr(), &raw mut look) };
    InodeState {
        size: look.size,
        links: look.links,
        dead: look.dead,
    }
}

/// What `file` is like.
pub(crate) fn state(file: &File) -> InodeState {
    // SAFETY: A file has an inode as long as it lives.
    unsafe { state_of(inode_of(file)) }
}

/// True when `file` is one that has a place in a file system: no socket, and nothing anonymous.
pub(crate) fn has_inode_of_its_own(file: &File) -> bool {
    // SAFETY: A file has an inode as long as it lives.
    unsafe { generated::kq_inode_is_vnode(inode_of(file).as_ptr()) }
}

/// True when the file system was unmounted where `file` was opened (lazily, as the file is open).
pub(crate) fn is_unmounted(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_is_unmounted(file.as_ptr()) }
}

fn inode_of(file: &File) -> NonNull<bindings::inode> {
    // SAFETY: A file has an inode as long as it lives; the field does not change.
    unsafe { NonNull::new_unchecked((*file.as_ptr()).f_inode) }
}

impl<T: Notify> Node<T> {
    /// Called with an event on the inode.
    ///
    /// # Safety
    ///
    /// `mark` is that of a `Node<T>`, and is not freed meanwhile.
    unsafe extern "C" fn handle(
        mark: *mut generated::fsnotify_mark,
        events: u32,
        _inode: *mut bindings::inode,
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        _cookie: u32,
    ) -> c_int {
        // SAFETY: `mark` is the first field of a live `Node<T>`.
        let this = unsafe { &*mark.cast::<Node<T>>() };
        let target = this.target.lock();
        if let Some(target) = &*target {
            let state = this.inode.map_or_else(InodeState::default, |inode| {
                // SAFETY: The target is there, so the inode is valid by the type's invariant.
                unsafe { state_of(inode) }
            });
            let events = if this.own { events } else { 0 };
            T::notify(target.as_arc_borrow(), events, state);
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
        // SAFETY: By this function's contract.
        unsafe {
            let mark = generated::kq_fsnotify_mount_mark(iter);
            if mark.is_null() {
                return 0;
            }
            Self::handle(
                mark,
                events,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
                0,
            )
        }
    }

    /// Called when nobody has a reference to the mark any more.
    ///
    /// # Safety
    ///
    /// `mark` is that of a leaked box of `Node<T>`.
    unsafe extern "C" fn free(mark: *mut generated::fsnotify_mark) {
        // SAFETY: By this function's contract.
        let this = unsafe { KBox::from_raw(mark.cast::<Node<T>>()) };
        let group = this.group.clone();
        drop(this);
        // `Group::stop` may go on from here; it keeps the group.
        group.marks.fetch_sub(1, ordering::Release);
    }
}

impl<T: Notify> Mark<T> {
    /// Tells `target` of `events` on the inode of `file`. The caller keeps the file longer than the
    /// mark.
    ///
    /// # Errors
    ///
    /// `EINVAL` if its file system does not have that, `ENOMEM`.
    pub(crate) fn new(
        group: &Arc<Group<T>>,
        file: &File,
        events: u32,
        target: &Arc<T>,
    ) -> Result<Self> {
        let inode = inode_of(file);
        // SAFETY: The file has its inode.
        unsafe { Self::add(group, Object::Inode(inode), Some(inode), events, target) }
    }

    /// Tells `target` of `events` on the folder that `file` is in now. The caller keeps the file
    /// longer than the mark.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) fn on_parent(
        group: &Arc<Group<T>>,
        file: &File,
        events: u32,
        target: &Arc<T>,
    ) -> Result<Self> {
        // SAFETY: The file has its name and its inode; the parent is kept by the reference
        // until the mark keeps it.
        unsafe {
            let parent = bindings::dget_parent((*file.as_ptr()).__bindgen_anon_1.f_path.dentry);
            let result = NonNull::new((*parent).d_inode)
                .ok_or(ENOENT)
                .and_then(|folder| {
                    let about = Some(inode_of(file));
                    Self::add(group, Object::Inode(folder), about, events, target)
                });
            bindings::dput(parent);
            result
        }
    }

    /// Tells `target` of `events` in the current task's mount namespace, for as long as that is.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` for a task without one.
    pub(crate) fn on_mounts(group: &Arc<Group<T>>, events: u32, target: &Arc<T>) -> Result<Self> {
        // SAFETY: No preconditions; the current task keeps its namespace.
        let namespace = NonNull::new(unsafe { generated::kq_current_mount_ns() }).ok_or(EINVAL)?;
        // SAFETY: Valid while we run.
        unsafe { Self::add(group, Object::Mounts(namespace), None, events, target) }
    }

    /// # Safety
    ///
    /// The object and the inode are valid; `about` until the mark is dropped.
    unsafe fn add(
        group: &Arc<Group<T>>,
        on: Object,
        about: Option<NonNull<bindings::inode>>,
        events: u32,
        target: &Arc<T>,
    ) -> Result<Self> {
        let own = on.is(about);
        let mark = KBox::pin_init(
            pin_init!(Node {
                mark: Opaque::uninit(),
                group: group.clone(),
                inode: about,
                own,
                target <- new_spinlock!(Some(target.clone()), "kqueue_mark"),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        group.marks.fetch_add(1, ordering::Relaxed);
        // SAFETY: It stays pinned: only `Node::free` takes the box back.
        let raw = unsafe { KBox::into_raw(Pin::into_inner_unchecked(mark)) };
        let c_mark = raw.cast::<generated::fsnotify_mark>();
        // SAFETY: Valid memory for a mark; the group is valid.
        unsafe {
            generated::fsnotify_init_mark(c_mark, group.group.as_ptr());
            (*c_mark).mask = events;
        }
        // SAFETY: Not null. From here on the reference is this value's.
        let this = Mark(unsafe { NonNull::new_unchecked(raw) });
        let (object, kind) = on.raw();
        // SAFETY: The object is valid by this function's contract, the type is its.
        to_result(unsafe { generated::fsnotify_add_mark(c_mark, object, kind, 0) })?;
        Ok(this)
    }
}

impl<T: Notify> Drop for Mark<T> {
    fn drop(&mut self) {
        let raw = self.0.as_ptr();
        // SAFETY: Valid until our reference is put below.
        let this = unsafe { &*raw };
        // Waits for a call that is running; later ones find nobody.
        let target = this.target.lock().take();
        drop(target);
        // SAFETY: We own a reference; the group is that of the mark. (Destroying one that could not
        // be added does nothing.)
        unsafe {
            generated::fsnotify_destroy_mark(raw.cast(), this.group.group.as_ptr());
            generated::fsnotify_put_mark(raw.cast());
        }
    }
}
