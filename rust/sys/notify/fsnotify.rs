// SPDX-License-Identifier: GPL-2.0

//! fsnotify: hearing of what happens to an inode, or to a mount namespace.
//!
//! A [`Mark`] has its target told of the events in its mask. There may be several on one object; how many
//! one user may have is for the caller to see to ([`crate::engine::objects`]), since who changes the object pays for
//! each. What may have any number of watchers has one mark for all of a user's ([`Share`]).
//!
//! Each user has a [`Group`] of each kind, so that none waits for another one's lock. A mark is freed some time
//! after it was destroyed, by a worker of the kernel; [`wait_until_freed`] waits for that when the module goes.
//!
//! # Context
//!
//! `Notify::notify` runs in the task that does something to the inode, which may hold the inode's
//! locks, under the mark's own spin lock: it must not sleep, nor take longer for more watchers.
//!
//! C header: [`include/linux/fsnotify_backend.h`](srctree/include/linux/fsnotify_backend.h)

use crate::generated;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_uint, c_void},
    fs::File,
    new_mutex,
    new_spinlock,
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{ordering, Atomic},
        Arc,
        ArcBorrow,
        Mutex,
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

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The inode that the mark is on.
    Inode,
    /// One in the directory that the mark is on.
    Entry,
    /// The mount namespace that the mark is on.
    Mounts,
}

/// An inode that something happened to.
#[derive(Clone, Copy, Default)]
pub(crate) struct InodeLook {
    pub(crate) address: usize,
    pub(crate) state: InodeState,
    /// The event tells of attributes that are set, the size and the times among them, and not of reading or writing by a
    /// descriptor. (Only known of the inode that the mark is on.)
    pub(crate) sets: bool,
}

/// Who wants to know of inodes, or of mount namespaces.
pub(crate) trait Notify: Send + Sync + 'static {
    /// What it is told of.
    const ABOUT: About;

    /// How many marks there are of this kind. (This is a function because a constant of Rust 1.85
    /// cannot refer to a static that can change.)
    fn marks() -> &'static MarkCount;

    /// Something happened: events of [`fs`]. `inode` is what it is about, if that is one.
    fn notify(this: ArcBorrow<'_, Self>, events: u32, inode: InodeLook);
}

/// A number of marks, those included that wait to be freed.
pub(crate) struct MarkCount(Atomic<usize>);

impl MarkCount {
    pub(crate) const fn new() -> Self {
        MarkCount(Atomic::new(0))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(ordering::Acquire)
    }
}

/// Waits until all marks of a kind are freed. No mark is made any more, and all were dropped.
pub(crate) fn wait_until_freed(marks: &MarkCount) {
    while marks.get() != 0 {
        // SAFETY: No preconditions; may sleep.
        unsafe { generated::fsnotify_wait_marks_destroyed() };
        fsleep(Delta::from_millis(1));
    }
    // The worker that freed the last one may still be in our function.
    // SAFETY: As above.
    unsafe { generated::fsnotify_wait_marks_destroyed() };
}

/// A group of fsnotify's. Its marks have references of their own.
struct RawGroup(NonNull<generated::fsnotify_group>);

// SAFETY: A group has locks of its own.
unsafe impl Send for RawGroup {}
// SAFETY: As above.
unsafe impl Sync for RawGroup {}

impl Drop for RawGroup {
    fn drop(&mut self) {
        // SAFETY: The reference of `fsnotify_alloc_group`.
        unsafe { generated::fsnotify_put_group(self.0.as_ptr()) };
    }
}

/// The group that all marks of one user with one kind of target belong to. Made with the first of them.
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
    // First, so that a pointer to it is a pointer to the whole.
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
// SAFETY: As above.
unsafe impl<T: Notify> Sync for Mark<T> {}

impl<T: Notify> Group<T> {
    const OPS: &'static generated::fsnotify_ops = &generated::fsnotify_ops {
        // Used for everything if it is there. The other is for inodes only, and is not told by what an event was made.
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
            group <- new_mutex!(None, "kqueue_group"),
            _target: PhantomData,
        })
    }

    /// Calls `with` with the group.
    fn with<R>(
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
enum Object {
    Inode(NonNull<bindings::inode>),
    Mounts(NonNull<generated::mnt_namespace>),
}

impl Object {
    /// As fsnotify wants it.
    fn raw(self) -> (*mut c_void, c_uint) {
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

    fn address(self) -> usize {
        self.raw().0.addr()
    }

    /// The current task's mount namespace, which it keeps.
    fn current_mounts() -> Result<Self> {
        // SAFETY: No preconditions.
        NonNull::new(unsafe { generated::kq_current_mount_ns() })
            .map(Object::Mounts)
            .ok_or(EINVAL)
    }
}

/// Where the inode of `file` is, as long as the file is.
pub(crate) fn address(file: &File) -> usize {
    inode_of(file).as_ptr().addr()
}

/// Where the current task's mount namespace is.
///
/// # Errors
///
/// `EINVAL` for a task without one.
pub(crate) fn address_of_mounts() -> Result<usize> {
    Object::current_mounts().map(Object::address)
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

/// True when `file` is one that has a place in a file system that is mounted: no socket, and nothing anonymous. Of
/// those fsnotify is not told what is done through the descriptor that made them.
pub(crate) fn has_place(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_has_place(file.as_ptr()) }
}

/// True when the current task may read what is in `file`, now and if it were opened anew.
///
/// May sleep.
pub(crate) fn may_read(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { generated::kq_file_may_read(file.as_ptr()) == 0 }
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
        // SAFETY: By this function's contract.
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
            // SAFETY: The target is there, so the mark's inode is valid by the type's invariant; the other one is
            // by this function's contract.
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
        // What is done by a descriptor is told with its path, and what notify_change() does with the name alone.
        let sets = data_type == generated::fsnotify_data_type_FSNOTIFY_EVENT_DENTRY as c_int;
        // SAFETY: By this function's contract.
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
        // SAFETY: By this function's contract.
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
        // SAFETY: By this function's contract.
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
    /// The object is valid; if the target is told of it and it is an inode, it is until the mark is dropped.
    unsafe fn add(group: &Group<T>, on: Object, events: u32, target: &Arc<T>) -> Result<Self> {
        let inode = match (T::ABOUT, on) {
            (About::Inode, Object::Inode(inode)) => Some(inode),
            _ => None,
        };
        let mark = KBox::pin_init(
            pin_init!(Node {
                mark: Opaque::uninit(),
                inode,
                target <- new_spinlock!(Some(target.clone()), "kqueue_mark"),
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
        // SAFETY: The mark is initialised; the object is valid by this function's contract, the type is its.
        to_result(unsafe { generated::fsnotify_add_mark(this.raw(), object, kind, 0) })?;
        Ok(this)
    }

    fn raw(&self) -> *mut generated::fsnotify_mark {
        self.0.as_ptr().cast()
    }

    /// Tells of those events from now on, and no others.
    pub(crate) fn set_events(&self, events: u32) {
        // SAFETY: We own a reference.
        unsafe { generated::fsnotify_modify_mark_mask(self.raw(), events, !events) };
    }

    /// False if the object has ended: the kernel then has taken the mark off it, before another one can be in its
    /// place.
    fn is_attached(&self) -> bool {
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
        // SAFETY: We own a reference; the group is that of the mark, which has one to it. (Destroying one that could
        // not be added does nothing.)
        unsafe {
            generated::fsnotify_destroy_mark(self.raw(), (*self.raw()).group);
            generated::fsnotify_put_mark(self.raw());
        }
    }
}

/// Marks that many watchers of a user have in common: one for each object.
#[pin_data]
pub(crate) struct Shares<T: Notify> {
    #[pin]
    group: Group<T>,
    /// By the object's address. One of an object that has ended may be left until another one is there.
    #[pin]
    marks: Mutex<RBTree<usize, Shared<T>>>,
}

struct Shared<T: Notify> {
    mark: Mark<T>,
    target: Arc<T>,
    shares: usize,
}

/// Who has such marks.
pub(crate) trait Sharing<T: Notify>: Send + Sync + 'static {
    fn shares(&self) -> &Shares<T>;
}

/// One watcher's part in such a mark.
pub(crate) struct Share<T: Notify, S: Sharing<T>> {
    of: Arc<S>,
    object: usize,
    target: Arc<T>,
}

impl<T: Notify> Shares<T> {
    /// No marks yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            group <- Group::new(),
            marks <- new_mutex!(RBTree::new(), "kqueue_shares"),
        })
    }
}

impl<T: Notify, S: Sharing<T>> Share<T, S> {
    /// A part in the mark on the folder that `file` is in now, which is told of `events` in it. `new` makes the target
    /// if there is no such mark.
    ///
    /// # Errors
    ///
    /// What `new` fails with; `ENOENT` if the folder was removed; `EINVAL`, `ENOMEM`.
    pub(crate) fn of_folder(
        of: &Arc<S>,
        file: &File,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        // SAFETY: The file has its name; the folder is kept by the reference. The mark is not told of the folder.
        unsafe {
            let folder = bindings::dget_parent((*file.as_ptr()).__bindgen_anon_1.f_path.dentry);
            let result = NonNull::new((*folder).d_inode)
                .ok_or(ENOENT)
                .and_then(|inode| Self::join(of, Object::Inode(inode), events, new));
            bindings::dput(folder);
            result
        }
    }

    /// The same in the mark on the current task's mount namespace, for as long as that is.
    ///
    /// # Errors
    ///
    /// What `new` fails with; `EINVAL` for a task without one; `ENOMEM`.
    pub(crate) fn of_mounts(
        of: &Arc<S>,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let namespace = Object::current_mounts()?;
        // SAFETY: Valid while we run.
        unsafe { Self::join(of, namespace, events, new) }
    }

    /// # Safety
    ///
    /// The object is valid; the target is not told of it, if it is an inode.
    unsafe fn join(
        of: &Arc<S>,
        object: Object,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let shares = of.shares();
        let address = object.address();
        let mut marks = shares.marks.lock();
        let (target, ended) = match marks.get_mut(&address) {
            Some(shared) if shared.mark.is_attached() => {
                shared.shares += 1;
                (shared.target.clone(), None)
            }
            _ => {
                let target = new()?;
                let shared = Shared {
                    // SAFETY: By this function's contract.
                    mark: unsafe { Mark::add(&shares.group, object, events, &target)? },
                    target: target.clone(),
                    shares: 1,
                };
                let ended = marks.try_create_and_insert(address, shared, GFP_KERNEL_ACCOUNT)?;
                (target, ended)
            }
        };
        drop(marks);
        drop(ended);
        Ok(Share {
            of: of.clone(),
            object: address,
            target,
        })
    }

    /// What the mark tells.
    pub(crate) fn target(&self) -> &Arc<T> {
        &self.target
    }
}

impl<T: Notify, S: Sharing<T>> Drop for Share<T, S> {
    fn drop(&mut self) {
        let mut marks = self.of.shares().marks.lock();
        let mut over = None;
        if let Some(shared) = marks.get_mut(&self.object) {
            // If it is another one, ours has ended with its object.
            if Arc::ptr_eq(&shared.target, &self.target) {
                shared.shares -= 1;
                if shared.shares == 0 {
                    over = marks.remove_node(&self.object);
                }
            }
        }
        drop(marks);
        drop(over);
    }
}
