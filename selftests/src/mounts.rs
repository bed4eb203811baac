// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_FS`, and `NOTE_REVOKE` of `EVFILT_VNODE`.

use crate::common::*;
use kqueue::{ev, note, Event, Filter};
use std::{
    ffi::CString,
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    ptr,
};

const MOUNT: u32 = note::VQ_MOUNT;
const UNMOUNT: u32 = note::VQ_UNMOUNT;

/// Creates a mount namespace and a directory to mount on.
fn new_namespace() -> PathBuf {
    // SAFETY: All strings end in 0.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        let root = c"/".as_ptr();
        assert_eq!(
            libc::mount(ptr::null(), root, ptr::null(), flags, ptr::null()),
            0
        );
    }
    let path = PathBuf::from(format!("/dev/shm/mounts-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
}

fn mount(path: &Path) {
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: All strings end in 0.
    let ret = unsafe { libc::mount(tmpfs, c(path).as_ptr(), tmpfs, 0, ptr::null()) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

fn unmount(path: &Path, flags: i32) {
    // SAFETY: The string ends in 0.
    let ret = unsafe { libc::umount2(c(path).as_ptr(), flags) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

fn add(fflags: u32) -> Event {
    Event::new(0, Filter::FS, ev::ADD).fflags(fflags)
}

#[test]
fn mounts_and_unmounts() {
    let path = new_namespace();
    let (all, mounts, unmounts) = (kqueue(), kqueue(), kqueue());
    change(&all, &[add(0).udata(3)]);
    change(&mounts, &[add(MOUNT)]);
    change(&unmounts, &[add(UNMOUNT)]);
    mount(&path);
    let event = one(&all);
    assert_eq!((event.fflags, event.udata), (MOUNT, 3));
    assert!(event.has(ev::CLEAR));
    assert_eq!(one(&mounts).fflags, MOUNT);
    assert!(pending(&unmounts).is_empty());
    unmount(&path, 0);
    assert_eq!(one(&all).fflags, UNMOUNT);
    assert!(pending(&mounts).is_empty());
    assert_eq!(one(&unmounts).fflags, UNMOUNT);
    mount(&path);
    unmount(&path, 0);
    assert_eq!(one(&all).fflags, MOUNT | UNMOUNT);
    assert!(pending(&all).is_empty());
    fs::remove_dir(&path).unwrap();
}

/// Differs from the BSDs: EVFILT_FS is about the mount namespace of the caller that adds it. A bind
/// mount is a mount, and moving a mount is an unmount and a mount.
/// Because Linux has one list of mounts for each namespace.
#[test]
fn another_mount_namespace_is_not_reported() {
    let path = new_namespace();
    let kqueue = kqueue();
    change(&kqueue, &[add(0)]);
    assert!(in_child(|| {
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        mount(&path);
        unmount(&path, 0);
        true
    }));
    assert!(pending(&kqueue).is_empty());
    mount(&path);
    assert_eq!(one(&kqueue).fflags, MOUNT);
    unmount(&path, 0);
    fs::remove_dir(&path).unwrap();
}

#[test]
fn a_mount_namespace_that_ends_while_watched() {
    assert!(in_child(|| {
        let path = new_namespace();
        let kqueue = kqueue();
        change(&kqueue, &[add(0)]);
        mount(&path);
        one(&kqueue);
        // The process moves to another namespace, so no process uses the first one.
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        unmount(&path, 0);
        fs::remove_dir(&path).unwrap();
        change(
            &kqueue,
            &[Event {
                flags: ev::DELETE,
                ..add(0)
            }],
        );
        true
    }));
}

/// Differs from DragonFly, FreeBSD: NOTE_REVOKE reports a lazy unmount (umount -l) of the mount in
/// which the file was opened.
/// Because an open file keeps its file system mounted, and Linux does not have revoke(2).
#[test]
fn a_lazy_unmount_revokes_a_file() {
    let path = new_namespace();
    mount(&path);
    fs::write(path.join("a"), b"1").unwrap();
    let file = fs::File::open(path.join("a")).unwrap();
    let kqueue = kqueue();
    let watch = Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR);
    change(&kqueue, &[watch.fflags(note::REVOKE | note::WRITE)]);
    // The unmount of another mount is not reported.
    let other = path.join("other");
    fs::create_dir(&other).unwrap();
    mount(&other);
    unmount(&other, 0);
    assert!(pending(&kqueue).is_empty());
    unmount(&path, libc::MNT_DETACH);
    let event = one(&kqueue);
    assert_eq!(event.fflags, note::REVOKE);
    assert!(event.has(ev::EOF));
    assert!(pending(&kqueue).is_empty());
    fs::remove_dir(&path).unwrap();
}

#[test]
fn a_watch_does_not_keep_a_file_system_mounted() {
    let path = new_namespace();
    mount(&path);
    let file = fs::File::create(path.join("a")).unwrap();
    let kqueue = kqueue();
    let watch = Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD);
    change(&kqueue, &[watch.fflags(note::DELETE | note::REVOKE)]);
    drop(file);
    unmount(&path, 0);
    fs::remove_dir(&path).unwrap();
}
