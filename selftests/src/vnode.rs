// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_VNODE`.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::fs::{chown, symlink, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    thread,
};

/// All notes except those of opening, closing and reading.
const CHANGES: u32 = note::DELETE
    | note::WRITE
    | note::EXTEND
    | note::ATTRIB
    | note::LINK
    | note::RENAME
    | note::REVOKE;

/// An empty directory in memory, which is removed with its contents when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Folder::new_in(Path::new("/dev/shm"))
    }

    fn new_in(place: &Path) -> Self {
        let path = place.join(format!("vnode-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates a file of four bytes.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, b"1234").unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn watch(file: &File, fflags: u32) -> Event {
    Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR).fflags(fflags)
}

/// Returns a kqueue that watches `path` for all changes.
fn watching(path: &Path) -> (Kqueue, File) {
    let file = File::open(path).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[watch(&file, CHANGES)]);
    assert!(pending(&kqueue).is_empty());
    (kqueue, file)
}

/// Returns the notes of the one pending event.
#[track_caller]
fn notes(kqueue: &Kqueue) -> u32 {
    one(kqueue).fflags
}

fn writable(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn writing_and_growing() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, file) = watching(&path);
    writable(&path).write_all(b"12").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    writable(&path).write_all(b"12345").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::EXTEND);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"6")
        .unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::EXTEND);
    writable(&path).set_len(2).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    writable(&path).set_len(100).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::EXTEND);
    assert!(pending(&kqueue).is_empty());
    drop(file);
}

#[test]
fn attributes() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, _file) = watching(&path);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(notes(&kqueue), note::ATTRIB);
    chown(&path, Some(1), Some(1)).unwrap();
    assert_eq!(notes(&kqueue), note::ATTRIB);
    let times = fs::FileTimes::new()
        .set_accessed(std::time::UNIX_EPOCH)
        .set_modified(std::time::UNIX_EPOCH);
    writable(&path).set_times(times).unwrap();
    assert_eq!(notes(&kqueue), note::ATTRIB);
}

/// A time is set to that, or to now; the others stay.
fn set_time(file: &File, accessed: Option<i64>, modified: Option<i64>) {
    let time = |seconds: Option<i64>| libc::timespec {
        tv_sec: seconds.unwrap_or(0),
        tv_nsec: match seconds {
            None => libc::UTIME_OMIT,
            Some(i64::MAX) => libc::UTIME_NOW,
            Some(_) => 0,
        },
    };
    let times = [time(accessed), time(modified)];
    // SAFETY: Two times.
    let ret = unsafe { libc::futimens(file.as_raw_fd(), times.as_ptr()) };
    assert_eq!(ret, 0);
}

const NOW: Option<i64> = Some(i64::MAX);

/// This holds for every value and for every type of file.
#[test]
fn a_change_of_the_modification_time_is_note_attrib() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, file) = watching(&path);
    let only = kqueue_for(&file, note::ATTRIB);
    let writing = kqueue_for(&file, note::WRITE | note::EXTEND);
    for modified in [Some(0), Some(1 << 40), NOW, NOW] {
        set_time(&file, None, modified);
        assert_eq!(notes(&kqueue), note::ATTRIB);
        assert_eq!(notes(&only), note::ATTRIB);
        set_time(&file, modified, modified);
        assert_eq!(notes(&kqueue), note::ATTRIB);
        assert_eq!(notes(&only), note::ATTRIB);
    }
    assert!(pending(&writing).is_empty());
    // Writes and truncations are still reported, also between two changes of times.
    let writer = writable(&path);
    for size in [4, 7, 7, 0, 0, 5] {
        let before = file.metadata().unwrap().len();
        writer.set_len(size).unwrap();
        let grown = if size > before { note::EXTEND } else { 0 };
        if size == before {
            // This does not change the size.
            assert_eq!(notes(&kqueue), note::ATTRIB);
            assert!(pending(&writing).is_empty());
        } else {
            assert_eq!(notes(&kqueue), note::WRITE | grown);
            assert_eq!(notes(&writing), note::WRITE | grown);
            assert!(pending(&only).is_empty());
            set_time(&file, None, Some(3));
            assert_eq!(notes(&kqueue), note::ATTRIB);
            assert_eq!(notes(&only), note::ATTRIB);
        }
        let _ = pending(&only);
    }
    (&writer).write_all(b"1").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    set_time(&file, None, NOW);
    (&writer).write_all(b"2").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::ATTRIB);

    // A directory, and files without contents.
    fs::create_dir(folder.path("d")).unwrap();
    let (kqueue, file) = watching(&folder.path("d"));
    fs::write(folder.path("d/a"), b"").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    set_time(&file, None, Some(0));
    assert_eq!(notes(&kqueue), note::ATTRIB);
    let fifo = std::ffi::CString::new(folder.path("f").to_str().unwrap()).unwrap();
    // SAFETY: A path.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .open(folder.path("f"))
        .unwrap();
    let kqueue = kqueue_for(&file, note::WRITE | note::ATTRIB);
    set_time(&file, None, Some(0));
    assert_eq!(notes(&kqueue), note::ATTRIB);
}

/// Returns a kqueue that watches `file` for those notes.
fn kqueue_for(file: &File, fflags: u32) -> Kqueue {
    let kqueue = kqueue();
    change(&kqueue, &[watch(file, fflags)]);
    kqueue
}

/// Differs from the BSDs: A change of the access time alone is NOTE_ATTRIB only if NOTE_READ is
/// asked for too. A change of the modification time of a device or FIFO is NOTE_ATTRIB only if
/// NOTE_WRITE is asked for too. Truncating a file to the size that it has is NOTE_ATTRIB.
/// Because fsnotify reports these as reading and writing, so each reader and writer would pay for
/// those who watch attributes. (FreeBSD reports NOTE_ATTRIB for every truncation.)
#[test]
fn a_change_of_the_access_time_needs_note_read() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, file) = watching(&path);
    let reading = kqueue_for(&file, note::READ | note::ATTRIB);
    let only = kqueue_for(&file, note::READ);
    set_time(&file, Some(0), None);
    assert_eq!(notes(&reading), note::ATTRIB);
    assert!(pending(&kqueue).is_empty());
    assert!(pending(&only).is_empty());
    (&file).read_exact(&mut [0; 2]).unwrap();
    assert_eq!(notes(&reading), note::READ);
    assert_eq!(notes(&only), note::READ);
}

/// Other processes set times meanwhile.
#[test]
fn a_truncation_is_not_mistaken_for_an_attribute() {
    const ROUNDS: u64 = 300;
    let folder = Folder::new();
    let path = folder.file("a");
    let file = File::open(&path).unwrap();
    let kqueue = kqueue_for(&file, note::WRITE);
    thread::scope(|scope| {
        let times = scope.spawn(|| {
            for i in 0..ROUNDS {
                set_time(&file, None, Some(i as i64));
            }
        });
        let writer = writable(&path);
        for i in 0..ROUNDS {
            writer.set_len(i % 2 + 1).unwrap();
            assert_eq!(notes(&kqueue), note::WRITE);
        }
        times.join().unwrap();
    });
    assert!(pending(&kqueue).is_empty());
}

/// Differs from DragonFly, FreeBSD: NOTE_DELETE is reported when the last name of a file is
/// removed, together with NOTE_LINK. When another name is made or removed, NOTE_LINK alone is
/// reported.
/// Because the file exists as long as it has a name, and the number of names changes each time.
#[test]
fn names_created_and_removed() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, _file) = watching(&path);
    fs::hard_link(&path, folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), note::LINK);
    fs::remove_file(&path).unwrap();
    assert_eq!(notes(&kqueue), note::LINK);
    fs::remove_file(folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), note::LINK | note::DELETE);
}

fn write_by_descriptor(file: &File) {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    writable(&path).write_all(b"x").unwrap();
}

/// A file that has no name can still be open, and its events are still reported.
#[test]
fn an_open_file_without_a_name() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, mut file) = watching(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(notes(&kqueue), note::LINK | note::DELETE);
    let mut bytes = vec![];
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"1234");
    write_by_descriptor(&file);
    assert_eq!(notes(&kqueue), note::WRITE);
}

/// If the last name that is removed is not the one by which the file was opened, the release
/// candidates of Linux 7.3 remove all watches of the file, also those of inotify
/// (dentry_unlink_inode()). Later kernels keep them as long as the file is open.
#[test]
fn an_open_file_whose_last_name_was_another_one() {
    let folder = Folder::new();
    let (path, other) = (folder.file("a"), folder.path("b"));
    fs::hard_link(&path, &other).unwrap();
    let (kqueue, file) = watching(&path);
    let inotify = inotify();
    let watch = inotify_watch(&inotify, &other);
    fs::remove_file(&path).unwrap();
    fs::remove_file(&other).unwrap();
    assert_eq!(notes(&kqueue), note::LINK | note::DELETE);
    let kept = inotify_events(&inotify)[&watch] & libc::IN_IGNORED == 0;
    write_by_descriptor(&file);
    let modified = inotify_events(&inotify).contains_key(&watch);
    assert_eq!(modified, kept);
    if kept {
        assert_eq!(notes(&kqueue), note::WRITE);
    } else {
        assert!(pending(&kqueue).is_empty());
    }
}

#[test]
fn renames() {
    let folder = Folder::new();
    let (path, over) = (folder.file("a"), folder.file("b"));
    let (kqueue, _file) = watching(&path);
    let (of_over, _over) = watching(&over);
    fs::rename(&path, folder.path("c")).unwrap();
    assert_eq!(notes(&kqueue), note::RENAME);
    assert!(pending(&of_over).is_empty());
    fs::rename(folder.path("c"), &over).unwrap();
    assert_eq!(notes(&kqueue), note::RENAME);
    assert_eq!(notes(&of_over), note::LINK | note::DELETE);
}

/// Differs from FreeBSD: NOTE_EXTEND is reported for files that grow. A new entry in a directory is
/// NOTE_WRITE.
/// Because the size of a directory tells little, and fsnotify does not report it.
#[test]
fn entries_of_a_directory() {
    let folder = Folder::new();
    let (kqueue, _file) = watching(&folder.0);
    let path = folder.file("a");
    assert_eq!(notes(&kqueue), note::WRITE);
    // Events of the file are not events of the directory.
    fs::write(&path, b"12345678").unwrap();
    assert!(pending(&kqueue).is_empty());
    fs::rename(&path, folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    symlink("b", folder.path("s")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    fs::hard_link(folder.path("b"), folder.path("c")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    fs::remove_file(folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
    fs::create_dir(folder.path("d")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::LINK);
    fs::remove_dir(folder.path("d")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::LINK);
}

#[test]
fn a_directory_removed() {
    let folder = Folder::new();
    let (inner, other) = (folder.path("inner"), folder.path("other"));
    fs::create_dir(&inner).unwrap();
    fs::create_dir(&other).unwrap();
    let (kqueue, _file) = watching(&inner);
    fs::remove_dir(&other).unwrap();
    assert!(pending(&kqueue).is_empty());
    fs::remove_dir(&inner).unwrap();
    let seen = notes(&kqueue);
    assert_eq!(seen & note::DELETE, note::DELETE, "{seen:x}");
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn a_directory_removed_after_it_was_moved() {
    let folder = Folder::new();
    let (inner, other) = (folder.path("inner"), folder.path("other"));
    fs::create_dir(&inner).unwrap();
    fs::create_dir(&other).unwrap();
    let (kqueue, _file) = watching(&inner);
    fs::rename(&inner, other.join("moved")).unwrap();
    assert_eq!(notes(&kqueue), note::RENAME);
    fs::remove_dir(other.join("moved")).unwrap();
    let seen = notes(&kqueue);
    assert_eq!(seen & note::DELETE, note::DELETE, "{seen:x}");
}

/// Differs from DragonFly: NOTE_OPEN, NOTE_CLOSE, NOTE_CLOSE_WRITE and NOTE_READ exist.
/// Because FreeBSD has them.
#[test]
fn opening_reading_closing() {
    let folder = Folder::new();
    let path = folder.file("a");
    let file = File::open(&path).unwrap();
    let kqueue = kqueue();
    let all = note::OPEN | note::CLOSE | note::CLOSE_WRITE | note::READ;
    change(&kqueue, &[watch(&file, all)]);
    let reading = File::open(&path).unwrap();
    assert_eq!(notes(&kqueue), note::OPEN);
    (&reading).read_exact(&mut [0; 2]).unwrap();
    assert_eq!(notes(&kqueue), note::READ);
    drop(reading);
    assert_eq!(notes(&kqueue), note::CLOSE);
    drop(writable(&path));
    assert_eq!(notes(&kqueue), note::OPEN | note::CLOSE_WRITE);
}

#[test]
fn only_requested_notes_are_reported() {
    let folder = Folder::new();
    let path = folder.file("a");
    let file = File::open(&path).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[watch(&file, note::RENAME)]);
    writable(&path).write_all(b"12345").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[watch(&file, note::ATTRIB).udata(7)]);
    writable(&path).write_all(b"123456").unwrap();
    assert!(pending(&kqueue).is_empty());
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.udata), (note::ATTRIB, 7));
}

#[test]
fn notes_accumulate_and_stay_without_clear() {
    let folder = Folder::new();
    let path = folder.file("a");
    let file = File::open(&path).unwrap();
    let kqueue = kqueue();
    let mut add = watch(&file, CHANGES);
    add.flags = ev::ADD;
    change(&kqueue, &[add]);
    writable(&path).write_all(b"1").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for _ in 0..2 {
        assert_eq!(notes(&kqueue), note::WRITE | note::ATTRIB);
    }
    fs::rename(&path, folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::ATTRIB | note::RENAME);
}

#[test]
fn many_watch_one_file() {
    let folder = Folder::new();
    let path = folder.file("a");
    let watchers: Vec<_> = (0..20).map(|_| watching(&path)).collect();
    writable(&path).write_all(b"1").unwrap();
    for (kqueue, _file) in &watchers {
        assert_eq!(notes(kqueue), note::WRITE);
    }
}

/// Opens a file with `O_PATH`, without following a symbolic link.
fn named(path: &Path) -> File {
    let mut options = OpenOptions::new();
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    options.read(true).custom_flags(flags).open(path).unwrap()
}

/// Differs from macOS: EVFILT_VNODE accepts a descriptor that was opened with O_PATH, for which
/// O_EVTONLY is another name, if the caller may read the file; otherwise it fails with EACCES. The
/// descriptor keeps the file system mounted.
/// Because opening a file in this way requires no right to it, and a process that changes the file
/// pays for each watch.
#[test]
fn o_path_descriptors() {
    let folder = Folder::new();
    let (file, directory) = (folder.file("a"), folder.path("d"));
    fs::create_dir(&directory).unwrap();
    let (link, socket, fifo) = (folder.path("l"), folder.path("s"), folder.path("f"));
    symlink("a", &link).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: A path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    for path in [&file, &directory, &link, &socket, &fifo] {
        let named = named(path);
        for filter in [Filter::READ, Filter::WRITE, Filter::EXCEPT] {
            let add = Event::fd(named.as_raw_fd(), filter, ev::ADD);
            assert_eq!(change_error(&kqueue(), add), libc::EBADF);
        }
        let kqueue = kqueue_for(&named, CHANGES);
        assert!(pending(&kqueue).is_empty());
        std::os::unix::fs::lchown(path, Some(1), Some(1)).unwrap();
        assert_eq!(notes(&kqueue), note::ATTRIB, "{path:?}");
        if path == &file {
            fs::write(path, b"12345").unwrap();
            assert_eq!(notes(&kqueue), note::WRITE | note::EXTEND);
        }
        if path == &directory {
            fs::write(path.join("a"), b"").unwrap();
            assert_eq!(notes(&kqueue), note::WRITE);
            fs::remove_file(path.join("a")).unwrap();
            assert_eq!(notes(&kqueue), note::WRITE);
        }
        let other = folder.path("other");
        fs::rename(path, &other).unwrap();
        assert_eq!(notes(&kqueue), note::RENAME, "{path:?}");
        fs::rename(&other, path).unwrap();
        assert_eq!(notes(&kqueue), note::RENAME, "{path:?}");
    }
    // The target of a link is another file.
    let linked = named(&link);
    let kqueue = kqueue_for(&linked, CHANGES);
    fs::write(&file, b"1").unwrap();
    assert!(pending(&kqueue).is_empty());
    for path in [&link, &socket, &fifo, &file] {
        let named = named(path);
        let kqueue = kqueue_for(&named, CHANGES);
        fs::remove_file(path).unwrap();
        assert_eq!(notes(&kqueue), note::DELETE | note::LINK, "{path:?}");
    }
    let named = named(&directory);
    let removed = kqueue_for(&named, CHANGES);
    fs::remove_dir(&directory).unwrap();
    assert_ne!(notes(&removed) & note::DELETE, 0);
}

/// The number can refer to another file at once, whose events are not reported.
#[test]
fn an_o_path_descriptor_is_closed() {
    let folder = Folder::new();
    let (first, second) = (folder.file("a"), folder.file("b"));
    let kqueue = kqueue();
    let fd = named(&first).into_raw_fd();
    let watch = |fd| Event::fd(fd, Filter::VNODE, ev::ADD | ev::CLEAR).fflags(note::ATTRIB);
    for path in [&second, &first, &second] {
        change(&kqueue, &[watch(fd)]);
        let other = named(path);
        // SAFETY: Both numbers are ours.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
        for path in [&first, &second] {
            fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
        }
        assert!(pending(&kqueue).is_empty());
        let delete = Event::fd(fd, Filter::VNODE, ev::DELETE);
        assert_eq!(change_error(&kqueue, delete), libc::ENOENT);
    }
    change(&kqueue, &[watch(fd)]);
    fs::set_permissions(&second, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(notes(&kqueue), note::ATTRIB);
    // SAFETY: The number is ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    fs::set_permissions(&second, Permissions::from_mode(0o640)).unwrap();
    assert!(pending(&kqueue).is_empty());
    assert_eq!(change_error(&kqueue, watch(fd)), libc::EBADF);
}

#[test]
fn an_o_path_descriptor_of_an_unreadable_file() {
    let folder = Folder::new();
    let path = folder.file("a");
    fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).unwrap();
    for (mode, allowed) in [(0o600, false), (0o622, false), (0o604, true)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(in_child(|| {
            // SAFETY: The child is one thread.
            unsafe { assert_eq!((libc::setgid(65534), libc::setuid(65534)), (0, 0)) };
            let file = named(&path);
            [0, note::ATTRIB, note::WRITE].into_iter().all(|notes| {
                match kqueue().kevent(&[watch(&file, notes)], &mut [], None) {
                    Ok(count) => allowed && count == 0,
                    Err(error) => !allowed && error.raw_os_error() == Some(libc::EACCES),
                }
            })
        }));
    }
}

#[test]
fn closing_ends_the_knote() {
    let folder = Folder::new();
    let path = folder.file("a");
    let (kqueue, file) = watching(&path);
    let copy = file.try_clone().unwrap();
    writable(&path).write_all(b"1").unwrap();
    drop(file);
    writable(&path).write_all(b"1").unwrap();
    assert!(pending(&kqueue).is_empty());
    drop(copy);
}

#[test]
fn descriptors_without_a_file_are_refused() {
    let kqueue = kqueue();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: A new descriptor, which is ours.
    let counter = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    for fd in [socket.as_raw_fd(), counter.as_raw_fd()] {
        let event = Event::fd(fd, Filter::VNODE, ev::ADD).fflags(CHANGES);
        assert_eq!(change_error(&kqueue, event), libc::EINVAL);
    }
    let event = Event::fd(-1, Filter::VNODE, ev::ADD).fflags(CHANGES);
    assert_eq!(change_error(&kqueue, event), libc::EBADF);
}

#[test]
fn overlayfs() {
    let folder = Folder::new();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    fs::write(folder.path("upper/a"), b"1234").unwrap();
    let merged = folder.path("merged");
    let of = |name| folder.path(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}\0",
        of("lower"),
        of("upper"),
        of("work")
    );
    let target = format!("{}\0", merged.display());
    // SAFETY: All strings end in 0.
    let ret = unsafe {
        libc::mount(
            c"overlay".as_ptr(),
            target.as_ptr().cast(),
            c"overlay".as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    let (kqueue, file) = watching(&merged.join("a"));
    writable(&merged.join("a")).write_all(b"12345").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::EXTEND);
    sizes_and_times(&kqueue, &merged.join("a"));
    fs::remove_file(merged.join("a")).unwrap();
    let seen = notes(&kqueue);
    assert_eq!(seen & note::DELETE, note::DELETE, "{seen:x}");
    // A watch does not keep the file system mounted after the descriptor was closed.
    drop(file);
    // SAFETY: All strings end in 0.
    assert_eq!(unsafe { libc::umount2(target.as_ptr().cast(), 0) }, 0);
}

#[test]
fn threads_change_a_file_while_it_comes_and_goes() {
    let folder = Folder::new();
    let path = folder.file("a");
    let kqueue = kqueue();
    thread::scope(|scope| {
        let churning = scope.spawn(|| {
            for round in 0..300 {
                writable(&path).write_all(b"12345").unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o600 + round % 2)).unwrap();
                let other = folder.path("b");
                fs::rename(&path, &other).unwrap();
                fs::rename(&other, &path).unwrap();
            }
        });
        while !churning.is_finished() {
            let Ok(file) = File::open(&path) else {
                continue;
            };
            change(&kqueue, &[watch(&file, CHANGES)]);
            pending(&kqueue);
            drop(file);
            assert!(pending(&kqueue).is_empty());
        }
    });
}

#[test]
fn no_mark_without_a_knote() {
    let probes = || fs::read_to_string("/sys/kernel/debug/kqueue/probes").unwrap();
    let none = |name: &str| {
        let end = std::time::Instant::now() + SOON;
        while !probes().contains(name) {
            assert!(std::time::Instant::now() < end, "{}", probes());
            thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let kqueue = kqueue();
    let own = std::process::id();
    let signal = Event::new(10, Filter::SIGNAL, ev::ADD);
    let process = Event::new(own.into(), Filter::PROC, ev::ADD).fflags(note::FORK | note::EXEC);
    let exit = Event::new(own.into(), Filter::PROC, ev::ADD).fflags(note::EXIT);
    for idle in ["close", "fork", "exec", "signal", "offset", "seek"] {
        none(&format!("{idle} registered: false watches: 0"));
    }
    none("content marks: 0\nfile marks: 0\nparent marks: 0\nmount marks: 0");
    // The exit of a process needs no probe.
    change(&kqueue, &[exit]);
    assert!(probes().contains("fork registered: false"));
    change(&kqueue, &[signal, process]);
    let folder = Folder::new();
    let file = File::open(&folder.0).unwrap();
    let mounts = Event::new(0, Filter::FS, ev::ADD);
    change(&kqueue, &[watch(&file, note::WRITE), mounts]);
    let device = File::open("/dev/loop0").unwrap();
    change(&kqueue, &[add_read(&file, 0), add_read(&device, 0)]);
    // The three knotes on descriptors belong to one kqueue, which counts once for the close probe.
    for (busy, watches) in [
        ("close", 1),
        ("fork", 1),
        ("exec", 1),
        ("signal", 1),
        ("offset", 1),
        ("seek", 1),
    ] {
        let line = format!("{busy} registered: true watches: {watches}");
        assert!(probes().contains(&line), "{}", probes());
    }
    for marks in [
        "content marks: 2",
        "file marks: 1",
        "parent marks: 0",
        "mount marks: 1",
    ] {
        assert!(probes().contains(marks), "{}", probes());
    }
    let functions = || fs::read_to_string("/sys/kernel/tracing/enabled_functions").unwrap();
    assert!(functions().contains("locks_remove_posix"));
    drop(file);
    drop(kqueue);
    for idle in ["close", "fork", "exec", "signal", "offset", "seek"] {
        none(&format!("{idle} registered: false watches: 0"));
    }
    none("content marks: 0\nfile marks: 0\nparent marks: 0\nmount marks: 0");
    assert!(!functions().contains("locks_remove_posix"));
}

fn inotify() -> OwnedFd {
    // SAFETY: A new descriptor, which is ours.
    unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_NONBLOCK)) }
}

fn inotify_watch(inotify: &OwnedFd, path: &Path) -> i32 {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: The name ends in 0.
    let number =
        unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), name.as_ptr(), libc::IN_ALL_EVENTS) };
    assert!(number > 0);
    number
}

/// Returns the events of inotify for each watch descriptor, without those of the entries of a
/// directory.
fn inotify_events(inotify: &OwnedFd) -> HashMap<i32, u32> {
    const ENTRIES: u32 = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVE;
    const HEADER: usize = size_of::<libc::inotify_event>();
    let mut seen = HashMap::new();
    let mut buffer = [0u8; 16384];
    loop {
        // SAFETY: The buffer is valid for its length; the descriptor does not block.
        let count = unsafe {
            libc::read(
                inotify.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return seen;
        };
        let mut at = 0;
        while at < count {
            let field = |offset: usize| {
                i32::from_ne_bytes(buffer[at + offset..at + offset + 4].try_into().unwrap())
            };
            let (watch, mask, name) = (field(0), field(4) as u32, field(12) as usize);
            if name == 0 || mask & ENTRIES != 0 {
                *seen.entry(watch).or_default() |= mask;
            }
            at += HEADER + name;
        }
    }
}

#[test]
fn a_tree_under_churn_is_seen_as_inotify_sees_it() {
    const ROUNDS: usize = 1500;
    const FILES: usize = 8;
    const FOLDERS: usize = 3;
    let folder = Folder::new();
    let kqueue = kqueue();
    let inotify = inotify();
    let mut places: Vec<PathBuf> = (0..FOLDERS)
        .map(|i| folder.path(&format!("d{i}")))
        .collect();
    places.iter().for_each(|path| fs::create_dir(path).unwrap());
    for i in 0..FILES {
        let path = places[i % FOLDERS].join(format!("f{i}"));
        fs::write(&path, b"1234").unwrap();
        places.push(path);
    }
    let mut open = vec![];
    let mut watches = vec![];
    for (i, path) in places.iter().enumerate() {
        let file = File::open(path).unwrap();
        change(&kqueue, &[watch(&file, CHANGES).udata(i as u64)]);
        watches.push(inotify_watch(&inotify, path));
        open.push(file);
    }
    inotify_events(&inotify);

    let mut random = 12345u64;
    let mut choose = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % below
    };
    let mut told = 0;
    for round in 0..ROUNDS {
        let of = FOLDERS + choose(FILES);
        let to = choose(FOLDERS);
        let path = places[of].clone();
        match choose(8) {
            0 => writable(&path).write_all(b"12").unwrap(),
            1 => fs::write(&path, vec![b'x'; choose(100) + 1]).unwrap(),
            2 => fs::set_permissions(&path, Permissions::from_mode(0o600 + choose(8) as u32))
                .unwrap(),
            3 => {
                let link = places[to].join(format!("link{round}"));
                fs::hard_link(&path, &link).unwrap();
                if choose(2) == 0 {
                    fs::remove_file(link).unwrap();
                }
            }
            4 | 5 => {
                let name = places[to].join(format!("f{of}-{round}"));
                fs::rename(&path, &name).unwrap();
                places[of] = name;
            }
            6 => {
                let inner = places[to].join(format!("inner{round}"));
                fs::create_dir(&inner).unwrap();
                fs::remove_dir(inner).unwrap();
            }
            _ => {
                // A truncation to the same size is a change of attributes here, and a write for
                // inotify. The same holds for truncating an empty file.
                let size = choose(50) as u64 + 1;
                let same = size == fs::metadata(&path).unwrap().len();
                let size = if same { size + 1 } else { size };
                writable(&path).set_len(size).unwrap();
            }
        }
        let mut ours = HashMap::new();
        for event in pending(&kqueue) {
            assert_eq!(ours.insert(event.udata as usize, event.fflags), None);
        }
        told += ours.len();
        let theirs = inotify_events(&inotify);
        for (i, number) in watches.iter().enumerate() {
            let ours = ours.get(&i).copied().unwrap_or(0);
            let theirs = theirs.get(number).copied().unwrap_or(0);
            let entries = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVE;
            let attributes = if i < FOLDERS {
                note::ATTRIB
            } else {
                note::ATTRIB | note::LINK
            };
            for (note, events) in [
                (note::WRITE, libc::IN_MODIFY | entries),
                (attributes, libc::IN_ATTRIB),
                (note::RENAME, libc::IN_MOVE_SELF),
            ] {
                assert_eq!(
                    ours & note != 0,
                    theirs & events != 0,
                    "round {round}, {i}: {ours:x}, inotify {theirs:x}"
                );
            }
        }
    }
    assert!(told > ROUNDS / 2);
}

/// Checks truncations and changes of the times of a file of five bytes.
fn sizes_and_times(kqueue: &Kqueue, path: &Path) {
    let file = writable(path);
    for (size, expected) in [(2, note::WRITE), (9, note::WRITE | note::EXTEND)] {
        file.set_len(size).unwrap();
        assert_eq!(notes(kqueue), expected);
        set_time(&file, None, Some(1000));
        assert_eq!(notes(kqueue), note::ATTRIB);
    }
    writable(path).write_all(b"1").unwrap();
    assert_eq!(notes(kqueue), note::WRITE);
}

/// Checks the notes of a file system. `removed` are the notes for the removal of the last name of a
/// file.
fn of_a_file_system(place: &Path, removed: u32) {
    let folder = Folder::new_in(place);
    let (of_folder, _folder) = watching(&folder.0);
    let path = folder.file("a");
    assert_eq!(notes(&of_folder), note::WRITE);
    let (kqueue, _file) = watching(&path);
    writable(&path).write_all(b"12345").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE | note::EXTEND);
    sizes_and_times(&kqueue, &path);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(notes(&kqueue), note::ATTRIB);
    fs::rename(&path, folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), note::RENAME);
    assert_eq!(notes(&of_folder), note::WRITE);
    fs::remove_file(folder.path("b")).unwrap();
    assert_eq!(notes(&kqueue), removed);
    fs::create_dir(folder.path("d")).unwrap();
    assert_eq!(notes(&of_folder), note::WRITE | note::LINK);
    let (of_inner, _inner) = watching(&folder.path("d"));
    fs::remove_dir(folder.path("d")).unwrap();
    let seen = notes(&of_inner);
    assert_eq!(seen & note::DELETE, note::DELETE, "{seen:x}");
}

#[test]
fn ext4() {
    let folder = Folder::new();
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    };
    let (image, place) = (folder.path("image"), folder.path("mounted"));
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    fs::create_dir(&place).unwrap();
    let (image, mounted) = (image.to_str().unwrap(), place.to_str().unwrap());
    run("/sbin/mkfs.ext4", &["-q", image]);
    run("/bin/mount", &["-o", "loop", image, mounted]);
    let result = std::panic::catch_unwind(|| of_a_file_system(&place, note::LINK | note::DELETE));
    run("/bin/umount", &[mounted]);
    result.unwrap();
}

/// Differs from DragonFly, FreeBSD: On a network file system of which only the server knows the
/// number of names, the removal of the last name is reported as NOTE_ATTRIB.
/// Because the kernel does not know that number.
#[test]
fn on_9p() {
    // Only the server knows the number of names.
    of_a_file_system(&folder_on_9p(), note::ATTRIB);
}

#[test]
fn procfs() {
    let path = Path::new("/proc/self/comm");
    let file = File::open(path).unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[watch(&file, CHANGES | note::OPEN)]);
    let written = writable(path);
    assert_eq!(notes(&kqueue), note::OPEN);
    (&written).write_all(b"renamed").unwrap();
    assert_eq!(notes(&kqueue), note::WRITE);
}
