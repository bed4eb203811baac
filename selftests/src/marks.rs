// SPDX-License-Identifier: GPL-2.0

//! Watches of files and mounts: what they cost other processes, who may have them, and which files
//! can be watched.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    ptr, thread,
    time::Instant,
};

/// An unprivileged user.
const NOBODY: u32 = 65534;

/// An empty directory in memory, which is removed with its contents when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = PathBuf::from(format!("/dev/shm/marks-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates a file of ten bytes.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, b"0123456789").unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn watch(file: &impl AsRawFd, fflags: u32) -> Event {
    Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR).fflags(fflags)
}

/// Checks the number of marks of a kind. Marks that are about to be freed do not count.
#[track_caller]
fn marks(kind: &str, expected: usize) {
    let line = format!("{kind} marks: {expected}\n");
    let end = Instant::now() + SOON;
    loop {
        let text = fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap();
        if text.contains(&line) {
            return;
        }
        assert!(Instant::now() < end, "not {line}{text}");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn more_descriptors() {
    let limit = libc::rlimit {
        rlim_cur: 20_000,
        rlim_max: 20_000,
    };
    // SAFETY: One structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

fn become_user(uid: u32) {
    // SAFETY: No preconditions.
    unsafe {
        assert_eq!(libc::setgid(uid), 0);
        assert_eq!(libc::setuid(uid), 0);
    }
}

/// Collects up to `count` events. Each must come within `SOON` of the one before.
fn all(kqueue: &Kqueue, count: usize) -> Vec<Event> {
    let mut got = vec![];
    while got.len() < count {
        got.extend(soon(kqueue));
    }
    got.extend(pending(kqueue));
    got
}

/// Differs from the BSDs: A user watches one file, open file or mount namespace at most
/// max_object_watches times, by default 128; beyond that EV_ADD fails with ENOSPC.
/// Because a process that writes to the file pays for each watch; inotify has such a limit too.
#[test]
fn watches_of_one_object() {
    let _limit = Parameter::set("max_object_watches", 5);
    let folder = Folder::new();
    let (path, other) = (folder.file("a"), folder.file("b"));
    let file = File::open(&path).unwrap();
    let kqueues: Vec<_> = (0..6).map(|_| kqueue()).collect();
    let (last, others) = kqueues.split_last().unwrap();
    for kqueue in others {
        change(kqueue, &[watch(&file, note::WRITE)]);
    }
    assert_eq!(change_error(last, watch(&file, note::DELETE)), libc::ENOSPC);
    // A one-shot event that was delivered is not a watch any more.
    std::fs::write(&other, b"x").unwrap();
    let once = File::open(&other).unwrap();
    for kqueue in &kqueues {
        change(kqueue, &[add_read(&once, ev::ONESHOT)]);
        assert_eq!(one(kqueue).data, 1);
    }
    // This holds for all names and filters.
    let again = File::open(&path).unwrap();
    assert_eq!(change_error(last, add_read(&again, 0)), libc::ENOSPC);
    // An existing knote can be changed, another file can be watched, and a deleted knote makes
    // room.
    change(&others[0], &[watch(&file, note::WRITE | note::DELETE)]);
    let other = File::open(&other).unwrap();
    change(last, &[watch(&other, note::WRITE)]);
    let delete = Event {
        flags: ev::DELETE,
        ..watch(&file, 0)
    };
    change(&others[0], &[delete]);
    change(last, &[add_read(&again, 0)]);
    assert_eq!(change_error(&others[0], watch(&file, 0)), libc::ENOSPC);
    drop(again);
    change(&others[0], &[watch(&file, note::WRITE)]);
    // All knotes report the event.
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    for kqueue in others {
        assert_eq!(one(kqueue).fflags, note::WRITE);
    }
    // Another user has watches of their own.
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(in_child(|| {
        become_user(NOBODY);
        let kqueues: Vec<_> = (0..6).map(|_| kqueue()).collect();
        let errors = kqueues
            .iter()
            .filter(|kqueue| {
                let change = [watch(&file, note::WRITE)];
                kqueue.kevent(&change, &mut [], None).is_err()
            })
            .count();
        errors == 1
    }));
    let namespace = Event::new(0, Filter::FS, ev::ADD);
    for kqueue in others {
        change(kqueue, &[namespace]);
    }
    assert_eq!(change_error(last, namespace), libc::ENOSPC);
}

/// The owner of a user namespace has many user IDs in it, and the limit of one user for all of
/// them.
#[test]
fn users_of_a_user_namespace_count_for_its_owner() {
    let _limit = Parameter::set("max_object_watches", 5);
    let folder = Folder::new();
    let file = File::open(folder.file("a")).unwrap();
    let (unshared, mapped) = (Gate::new(), Gate::new());
    let child = fork(|| {
        become_user(NOBODY);
        // SAFETY: No preconditions. (So that root may write its maps.)
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWUSER), 0);
            assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
        }
        unshared.open();
        mapped.wait();
        let mut kqueues = vec![];
        let mut watched = 0;
        for uid in 0..4u32 {
            // SAFETY: No preconditions. (Back to 0 first, which has the right to become another.)
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setresuid, 0, 0, 0), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, 0), 0);
            }
            for _ in 0..3 {
                let kqueue = kqueue();
                watched += i32::from(
                    kqueue
                        .kevent(&[watch(&file, note::WRITE)], &mut [], None)
                        .is_ok(),
                );
                kqueues.push(kqueue);
            }
        }
        watched
    });
    unshared.wait();
    fs::write(format!("/proc/{child}/uid_map"), "0 200000 10").unwrap();
    mapped.open();
    let status = reap(child);
    assert_eq!(libc::WEXITSTATUS(status), 5, "{status:x}");
}

/// Programs like Python's watchdog ask for `NOTE_REVOKE` of thousands of files. A process that
/// mounts or unmounts has only one mark to call.
#[test]
fn one_mark_revokes_thousands_of_files() {
    const FILES: usize = 1500;
    more_descriptors();
    let folder = new_namespace();
    let place = folder.path("mounted");
    let other = folder.path("other");
    fs::create_dir(&place).unwrap();
    fs::create_dir(&other).unwrap();
    mount(&place);
    let kqueue = kqueue();
    let files: Vec<_> = (0..FILES)
        .map(|i| {
            let file = File::create(place.join(i.to_string())).unwrap();
            let event = watch(&file, note::DELETE | note::REVOKE).udata(i as u64);
            change(&kqueue, &[event]);
            file
        })
        .collect();
    marks("file", FILES);
    marks("mount", 1);
    mount(&other);
    unmount(&other, 0);
    unmount(&place, libc::MNT_DETACH);
    let got = all(&kqueue, FILES);
    let mut udata: Vec<_> = got.iter().map(|event| event.udata).collect();
    udata.sort_unstable();
    assert!(udata.into_iter().eq(0..FILES as u64));
    for event in &got {
        assert_eq!(event.fflags, note::REVOKE);
    }
    drop(files);
    marks("mount", 0);
}

/// There are more watchers of mounts than one batch notifies.
#[test]
fn many_watchers_of_one_mount_namespace() {
    const WATCHERS: u64 = 120;
    let folder = new_namespace();
    let place = folder.path("mounted");
    fs::create_dir(&place).unwrap();
    let kqueue = kqueue();
    let add = |ident| Event::new(ident, Filter::FS, ev::ADD);
    for ident in 0..WATCHERS {
        change(&kqueue, &[add(ident)]);
    }
    marks("mount", 1);
    for round in 0..20 {
        mount(&place);
        // Earlier changes are not reported.
        change(&kqueue, &[add(1000 + round)]);
        let mut idents: Vec<_> = all(&kqueue, WATCHERS as usize)
            .iter()
            .map(|event| {
                assert_eq!(event.fflags, note::VQ_MOUNT);
                event.ident
            })
            .collect();
        idents.sort_unstable();
        assert!(idents.into_iter().eq(0..WATCHERS), "round {round}");
        unmount(&place, 0);
        let more = all(&kqueue, WATCHERS as usize + 1);
        assert_eq!(more.len(), WATCHERS as usize + 1);
        assert!(more.iter().all(|event| event.fflags == note::VQ_UNMOUNT));
        let delete = Event::new(1000 + round, Filter::FS, ev::DELETE);
        change(&kqueue, &[delete]);
    }
}

/// Waits until `fflags` are reported. The end of another namespace unmounts its mounts, which
/// causes other events.
#[track_caller]
fn told(kqueue: &Kqueue, ident: u64, fflags: u32) {
    loop {
        for event in soon(kqueue) {
            if event.ident == ident {
                assert_eq!(event.fflags, fflags);
                return;
            }
            assert_eq!(event.fflags, note::VQ_UNMOUNT);
        }
    }
}

/// A namespace can have the address of an earlier one. It must get a mark of its own.
#[test]
fn a_new_namespace_at_the_address_of_an_old_one() {
    assert!(in_child(|| {
        let folder = new_namespace();
        let place = folder.path("mounted");
        fs::create_dir(&place).unwrap();
        let kqueue = kqueue();
        for round in 0..200 {
            // SAFETY: The function has no preconditions. No other task uses the former namespace.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
            change(&kqueue, &[Event::new(round, Filter::FS, ev::ADD)]);
            mount(&place);
            told(&kqueue, round, note::VQ_MOUNT);
            unmount(&place, 0);
            told(&kqueue, round, note::VQ_UNMOUNT);
        }
        true
    }));
    marks("mount", 0);
}

/// A process that removes one of many watched directories has one mark to call, and only the
/// watcher of that directory is notified.
#[test]
fn one_mark_for_all_directories_in_one() {
    const FOLDERS: usize = 2000;
    more_descriptors();
    let folder = Folder::new();
    let kqueue = kqueue();
    let notes = note::DELETE | note::WRITE | note::RENAME;
    let path = |i: usize| folder.path(&format!("s{i}"));
    let _files: Vec<_> = (0..FOLDERS)
        .map(|i| {
            fs::create_dir(path(i)).unwrap();
            let file = File::open(path(i)).unwrap();
            change(&kqueue, &[watch(&file, notes).udata(i as u64)]);
            file
        })
        .collect();
    marks("parent", 1);
    marks("file", FOLDERS);
    // Another file in the directory is not watched.
    fs::remove_file(folder.file("x")).unwrap();
    assert!(pending(&kqueue).is_empty());
    for i in 0..FOLDERS {
        let i = i * 7 % FOLDERS;
        fs::remove_dir(path(i)).unwrap();
        let event = one(&kqueue);
        assert_eq!((event.udata, event.fflags), (i as u64, note::DELETE));
    }
    drop(kqueue);
    marks("parent", 0);
    marks("file", 0);
}

/// Two kqueues watch the directory by two descriptors, and all knotes report the event.
#[test]
fn a_directory_watched_by_two_kqueues() {
    let folder = Folder::new();
    let inner = folder.path("inner");
    fs::create_dir(&inner).unwrap();
    let kqueues = [kqueue(), kqueue()];
    let files = [File::open(&inner).unwrap(), File::open(&inner).unwrap()];
    for kqueue in &kqueues {
        for file in &files {
            change(kqueue, &[watch(file, note::DELETE)]);
        }
    }
    marks("parent", 1);
    fs::remove_dir(&inner).unwrap();
    for kqueue in &kqueues {
        assert_eq!(all(kqueue, 2).len(), 2);
    }
}

/// The removal of a directory is reported in its new parent, whether or not the move was reported.
#[test]
fn a_directory_removed_after_a_move() {
    for told in [true, false] {
        let folder = Folder::new();
        let (here, there) = (folder.path("here"), folder.path("there"));
        for path in [&here, &there] {
            fs::create_dir(path).unwrap();
        }
        let kqueue = kqueue();
        let mut files = vec![];
        for i in 0..20u64 {
            let path = here.join(i.to_string());
            fs::create_dir(&path).unwrap();
            let file = File::open(path).unwrap();
            change(&kqueue, &[watch(&file, note::DELETE).udata(i)]);
            files.push(file);
        }
        marks("parent", 1);
        for i in 0..20 {
            let name = i.to_string();
            fs::rename(here.join(&name), there.join(&name)).unwrap();
            if told {
                assert!(pending(&kqueue).is_empty());
            }
        }
        if told {
            marks("parent", 1);
            // Events in the former parent are not reported any more.
            fs::remove_dir(&here).unwrap();
            assert!(pending(&kqueue).is_empty());
        }
        for i in 0..20u64 {
            fs::remove_dir(there.join(i.to_string())).unwrap();
            let event = one(&kqueue);
            assert_eq!((event.udata, event.fflags), (i, note::DELETE));
        }
        drop(kqueue);
        marks("parent", 0);
    }
}

/// Differs from FreeBSD: NOTE_OPEN, NOTE_CLOSE, NOTE_CLOSE_WRITE and NOTE_READ fail with EACCES
/// unless the caller may read the file at that time. For a file that is neither a regular file nor
/// a directory the same holds for NOTE_WRITE.
/// Because these notes tell what other processes do. (inotify requires that right for all of its
/// events. Security modules are asked as for reading, since the hook that inotify calls is not
/// available to modules.)
#[test]
fn notes_of_others_require_the_right_to_read() {
    let folder = Folder::new();
    let path = folder.file("a");
    fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let special = folder.path("fifo");
    let name = CString::new(special.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: The string ends in 0.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let _both = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&special)
        .unwrap();
    fs::set_permissions(&special, Permissions::from_mode(0o622)).unwrap();
    assert!(in_child(|| {
        become_user(NOBODY);
        let kqueue = kqueue();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let pipe = OpenOptions::new().write(true).open(&special).unwrap();
        // The permission of the file counts, not the access mode of the descriptor.
        change(&kqueue, &[watch(&file, note::OPEN | note::WRITE)]);
        drop(file);
        let changes = note::WRITE | note::EXTEND | note::DELETE | note::ATTRIB;
        change(&kqueue, &[watch(&pipe, note::ATTRIB | note::DELETE)]);
        assert_eq!(change_error(&kqueue, watch(&pipe, changes)), libc::EACCES);
        true
    }));
    fs::set_permissions(&path, Permissions::from_mode(0o622)).unwrap();
    assert!(in_child(|| {
        become_user(NOBODY);
        let kqueue = kqueue();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let others = [note::OPEN, note::READ, note::CLOSE, note::CLOSE_WRITE];
        for note in others {
            assert_eq!(
                change_error(&kqueue, watch(&file, note | note::WRITE)),
                libc::EACCES
            );
        }
        change(&kqueue, &[watch(&file, note::WRITE)]);
        // A knote cannot be changed to such notes either, and it keeps its notes.
        for note in others {
            assert_eq!(change_error(&kqueue, watch(&file, note)), libc::EACCES);
        }
        (&file).write_all(b"x").unwrap();
        assert_eq!(one(&kqueue).fflags, note::WRITE);
        true
    }));
}

/// The number of links of a directory changes with the directories in it, which are not watched.
#[test]
fn attributes_of_a_directory_with_changing_entries() {
    let folder = Folder::new();
    let (path, other) = (folder.path("d"), folder.path("other"));
    fs::create_dir(&path).unwrap();
    let file = File::open(&path).unwrap();
    let kqueue = kqueue();
    let mut mode = 0o700;
    let mut change_mode = || {
        mode ^= 0o11;
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    for notes in [
        note::ATTRIB,
        note::ATTRIB | note::DELETE | note::RENAME,
        note::ATTRIB | note::LINK | note::WRITE,
    ] {
        change(&kqueue, &[watch(&file, notes)]);
        let steps: [&dyn Fn(); 4] = [
            &|| fs::create_dir(path.join("s")).unwrap(),
            &|| fs::rename(path.join("s"), &other).unwrap(),
            &|| fs::rename(&other, path.join("s")).unwrap(),
            &|| fs::remove_dir(path.join("s")).unwrap(),
        ];
        for step in steps {
            step();
            let entries: u32 = pending(&kqueue).iter().map(|event| event.fflags).sum();
            assert_eq!(entries & note::ATTRIB, 0);
            change_mode();
            assert_eq!(one(&kqueue).fflags, note::ATTRIB, "{notes:x}");
        }
        // This also holds while no event is collected.
        fs::create_dir(path.join("s")).unwrap();
        change_mode();
        fs::remove_dir(path.join("s")).unwrap();
        assert_eq!(one(&kqueue).fflags & note::ATTRIB, note::ATTRIB);
    }
    // A file that was replaced by a rename has not changed its attributes.
    change(
        &kqueue,
        &[watch(&file, note::ATTRIB | note::DELETE | note::LINK)],
    );
    fs::create_dir(&other).unwrap();
    fs::rename(&other, &path).unwrap();
    let seen = one(&kqueue).fflags;
    assert_eq!(
        seen & (note::ATTRIB | note::DELETE),
        note::DELETE,
        "{seen:x}"
    );
}

/// Notes that are found by comparison with an earlier state use the state at the time of the change
/// that adds them.
#[test]
fn notes_added_by_a_later_change() {
    let folder = Folder::new();
    // (size, where three bytes are written, notes)
    for (size, at, expected) in [
        (5, 5, note::WRITE | note::EXTEND),
        (100, 0, note::WRITE),
        (100, 98, note::WRITE | note::EXTEND),
    ] {
        let path = folder.file("a");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let kqueue = kqueue();
        change(&kqueue, &[watch(&file, note::DELETE)]);
        file.set_len(size).unwrap();
        change(&kqueue, &[watch(&file, note::WRITE | note::EXTEND)]);
        file.write_all_at(b"abc", at).unwrap();
        assert_eq!(one(&kqueue).fflags, expected);
        // First fewer notes are selected, and then more.
        change(&kqueue, &[watch(&file, note::LINK)]);
        file.set_len(1000).unwrap();
        change(&kqueue, &[watch(&file, note::EXTEND)]);
        file.write_all_at(b"abc", 500).unwrap();
        assert!(pending(&kqueue).is_empty());
        fs::hard_link(&path, folder.path("b")).unwrap();
        change(&kqueue, &[watch(&file, note::LINK)]);
        assert!(pending(&kqueue).is_empty());
        fs::remove_file(folder.path("b")).unwrap();
        assert_eq!(one(&kqueue).fflags, note::LINK);
    }
    // Directories were created before the note was selected, and one was removed.
    let path = folder.path("d");
    fs::create_dir(&path).unwrap();
    let file = File::open(&path).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[watch(&file, note::ATTRIB)]);
    fs::create_dir(path.join("s")).unwrap();
    change(&kqueue, &[watch(&file, note::LINK | note::ATTRIB)]);
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(one(&kqueue).fflags, note::ATTRIB);
    fs::remove_dir(path.join("s")).unwrap();
    assert_eq!(one(&kqueue).fflags, note::LINK);
    change(&kqueue, &[watch(&file, note::ATTRIB)]);
    fs::remove_dir(&path).unwrap();
    change(&kqueue, &[watch(&file, note::DELETE | note::LINK)]);
    assert!(pending(&kqueue).is_empty());
}

/// Differs from the BSDs: EVFILT_VNODE and EVFILT_READ fail with EINVAL for a memfd. EVFILT_VNODE
/// fails with EINVAL for a pipe, a pidfd, a namespace file, a kqueue, and everything else that has
/// no place in a file system.
/// Because fsnotify does not report what is done to these files, or would report what unrelated
/// processes do. FreeBSD refuses shared memory objects too.
#[test]
fn files_outside_of_file_systems_are_refused() {
    // SAFETY: New descriptors, which are ours.
    let new = |fd: libc::c_int| unsafe {
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    let kqueue = kqueue();
    let refused = |fd: &dyn AsRawFd, what: &str| {
        let event = Event::fd(fd.as_raw_fd(), Filter::VNODE, ev::ADD);
        let error = change_error(&kqueue, event.fflags(note::WRITE | note::DELETE));
        assert_eq!(error, libc::EINVAL, "{what}");
    };
    // SAFETY: The strings are; the number is our own.
    let (memory, process) = unsafe {
        (
            new(libc::memfd_create(c"x".as_ptr(), libc::MFD_CLOEXEC)),
            new(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as libc::c_int),
        )
    };
    let again = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{}", memory.as_raw_fd()))
        .unwrap();
    for file in [&memory as &dyn AsRawFd, &again] {
        refused(file, "memfd");
        let read = Event::fd(file.as_raw_fd(), Filter::READ, ev::ADD);
        assert_eq!(change_error(&kqueue, read), libc::EINVAL);
    }
    change(&kqueue, &[add_write(&memory, 0)]);
    assert_eq!(one(&kqueue).filter, Filter::WRITE);
    drop(memory);
    let (reader, writer) = pipe();
    refused(&reader, "pipe");
    refused(&writer, "pipe");
    refused(&process, "pidfd");
    let namespace = File::open("/proc/self/ns/net").unwrap();
    refused(&namespace, "namespace");
    let read = Event::fd(namespace.as_raw_fd(), Filter::READ, ev::ADD);
    assert_eq!(change_error(&kqueue, read), libc::EINVAL);
    refused(&kqueue, "kqueue");
    refused(&kqueue::open(libc::O_CLOEXEC).unwrap(), "/dev/kqueue");
    // These have one, or had.
    let folder = Folder::new();
    let path = folder.file("a");
    let file = File::open(&path).unwrap();
    fs::remove_file(path).unwrap();
    change(&kqueue, &[watch(&file, note::WRITE)]);
    let unnamed = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&folder.0)
        .unwrap();
    change(&kqueue, &[watch(&unnamed, note::WRITE | note::EXTEND)]);
    (&unnamed).write_all(b"x").unwrap();
    assert_eq!(one(&kqueue).fflags, note::WRITE | note::EXTEND);
    let null = File::open("/dev/null").unwrap();
    change(&kqueue, &[watch(&null, note::OPEN)]);
    let _other = File::open("/dev/null").unwrap();
    assert_eq!(one(&kqueue).fflags, note::OPEN);
}

/// A namespace file that is mounted is refused like every other namespace file.
#[test]
fn a_mounted_namespace_file_is_refused() {
    let folder = new_namespace();
    let path = folder.file("ns");
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: All strings end in 0.
    let ret = unsafe {
        libc::mount(
            c"/proc/self/ns/net".as_ptr(),
            name.as_ptr(),
            ptr::null(),
            libc::MS_BIND,
            ptr::null(),
        )
    };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    let file = File::open(&path).unwrap();
    let error = change_error(&kqueue(), watch(&file, note::OPEN));
    drop(file);
    unmount(&path, 0);
    assert_eq!(error, libc::EINVAL);
}

/// Each watcher is notified once of what has happened since its last event, however many watchers
/// there are.
#[test]
fn the_largest_number_of_watchers_of_one_file() {
    let folder = Folder::new();
    let path = folder.file("a");
    let kqueue = kqueue();
    let files: Vec<_> = (0..128).map(|_| File::open(&path).unwrap()).collect();
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    for (i, file) in files.iter().enumerate() {
        let event = if i % 2 == 0 {
            watch(file, note::WRITE | note::EXTEND)
        } else {
            add_read(file, ev::CLEAR)
        };
        change(&kqueue, &[event]);
    }
    marks("file", 64);
    marks("content", 64);
    let first = all(&kqueue, 64);
    assert_eq!(first.len(), 64, "there is something to read");
    for round in 1..20 {
        for _ in 0..round {
            (&writer).write_all(b"x").unwrap();
        }
        let got = all(&kqueue, 128);
        assert_eq!(got.len(), 128, "round {round}");
        let grown = note::WRITE | note::EXTEND;
        assert_eq!(got.iter().filter(|event| event.fflags == grown).count(), 64);
    }
}

/// Creates a mount namespace and a directory.
fn new_namespace() -> Folder {
    // SAFETY: All strings end in 0.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        let root = c"/".as_ptr();
        let ret = libc::mount(ptr::null(), root, ptr::null(), flags, ptr::null());
        assert_eq!(ret, 0);
    }
    Folder::new()
}

fn mount(path: &Path) {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: All strings end in 0.
    let ret = unsafe { libc::mount(tmpfs, name.as_ptr(), tmpfs, 0, ptr::null()) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

fn unmount(path: &Path, flags: i32) {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: The string ends in 0.
    let ret = unsafe { libc::umount2(name.as_ptr(), flags) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}
