// SPDX-License-Identifier: GPL-2.0

//! Files, directories and mounts of others that the attacker watches.

use crate::{
    report::{Report, Siege},
    siege::{as_many, Assault},
    sys, Scale,
};
use kqueue::{ev, note, Event, Filter};
use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// The notes that report all accesses of others to a file.
const ALL_NOTES: u32 = note::WRITE | note::OPEN | note::READ | note::CLOSE | note::ATTRIB;

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path")
}

/// As many kqueues as possible, with a knote for each of some descriptors of a file.
fn knotes(path: &Path, kqueues: usize, descriptors: usize, event: Event) -> Assault {
    let files = as_many(descriptors, |_| File::open(path));
    let mut made = 0;
    let kqueues = as_many(kqueues, |_| {
        let kqueue = sys::kqueue()?;
        for file in &files {
            let ident = file.as_raw_fd() as u64;
            sys::change(&kqueue, Event { ident, ..event })?;
            made += 1;
        }
        Ok(kqueue)
    });
    Assault::collecting(made, kqueues, files)
}

fn inotify() -> io::Result<OwnedFd> {
    // SAFETY: The argument is a number.
    sys::owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })
}

fn inotify_watch(inotify: &OwnedFd, path: &Path, mask: u32) -> io::Result<()> {
    let path = c_path(path);
    // SAFETY: The argument is a C string.
    let ret = unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) };
    sys::checked(ret).map(drop)
}

/// As many inotify instances as possible, each with a watch of a file.
fn watches(path: &Path, mask: u32) -> Assault {
    const MORE_THAN_ALLOWED: usize = 10_000;
    let instances = as_many(MORE_THAN_ALLOWED, |_| {
        let instance = inotify()?;
        inotify_watch(&instance, path, mask)?;
        Ok(instance)
    });
    Assault::reading(instances.len(), instances)
}

fn besiege_file(report: &mut Report, siege: &Siege<'_>, path: &Path) {
    let siege = |bystander| Siege {
        bystander,
        ..*siege
    };
    let mut file = OpenOptions::new().append(true).open(path).expect("a file");
    report.besiege(&siege("writes to it"), |_| {
        file.write_all(b"x").expect("write");
    });
    report.besiege(&siege("opens and closes it"), |_| {
        drop(File::open(path).expect("open"));
    });
    let mut file = File::open(path).expect("a file");
    report.besiege(&siege("reads from it"), |_| {
        file.rewind().expect("seek");
        file.read_exact(&mut [0]).expect("read");
    });
}

/// Notes for all accesses of others to their own file.
pub fn vnode(report: &mut Report, folder: &Path, scale: Scale) {
    let path = folder.join("file");
    fs::write(&path, "text").expect("a file");
    let event = Event::new(0, Filter::VNODE, ev::ADD | ev::CLEAR).fflags(ALL_NOTES);
    let siege = Siege {
        attack: "`EVFILT_VNODE` of a file that one may read; inotify",
        bystander: "",
        kqueue: &|| knotes(&path, 64, scale.of(64), event),
        native: Some(&|| watches(&path, libc::IN_ALL_EVENTS)),
        floor: 0.0,
    };
    besiege_file(report, &siege, &path);
}

/// Knotes for the contents of a file of another user.
pub fn contents(report: &mut Report, folder: &Path, scale: Scale) {
    let path = folder.join("file");
    fs::write(&path, "text").expect("a file");
    let event = Event::new(0, Filter::READ, ev::ADD | ev::CLEAR);
    let siege = Siege {
        attack: "`EVFILT_READ` of a regular file that one may read; inotify",
        bystander: "",
        kqueue: &|| knotes(&path, 64, scale.of(64), event),
        native: Some(&|| watches(&path, libc::IN_MODIFY | libc::IN_ACCESS)),
        floor: 0.0,
    };
    besiege_file(report, &siege, &path);
}

/// Watches for the removal of each directory in a directory of another user.
pub fn siblings(report: &mut Report, folder: &Path, scale: Scale) {
    let count = scale.of(2000);
    let names: Vec<_> = (0..count)
        .map(|i| folder.join(format!("watched{i}")))
        .collect();
    for name in &names {
        fs::create_dir(name).expect("a folder");
    }
    let left = || {
        names
            .iter()
            .filter(|name| name.exists())
            .collect::<Vec<_>>()
    };
    let through_kqueue = || {
        let kqueue = sys::kqueue().expect("kqueue");
        let left = left();
        let folders = as_many(left.len(), |i| {
            let folder = File::open(left[i])?;
            let event = Event::fd(folder.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR);
            sys::change(&kqueue, event.fflags(note::DELETE | note::LINK))?;
            Ok(folder)
        });
        Assault::collecting(folders.len(), vec![kqueue], folders)
    };
    let through_inotify = || {
        let instance = inotify().expect("inotify");
        let mask = libc::IN_DELETE_SELF | libc::IN_CREATE | libc::IN_DELETE | libc::IN_ATTRIB;
        let left = left();
        let watched = as_many(left.len(), |i| inotify_watch(&instance, left[i], mask));
        Assault::reading(watched.len(), vec![instance])
    };
    let siege = |bystander| Siege {
        attack: "`NOTE_DELETE`, `NOTE_LINK` of all folders in a folder; inotify",
        bystander,
        kqueue: &through_kqueue,
        native: Some(&through_inotify),
        floor: 0.0,
    };
    let other = folder.join("other");
    report.besiege(&siege("makes and removes another"), |_| {
        fs::create_dir(&other).expect("mkdir");
        fs::remove_dir(&other).expect("rmdir");
    });
    report.besiege(&siege("makes and removes a file beside them"), |_| {
        drop(File::create(&other).expect("create"));
        fs::remove_file(&other).expect("unlink");
    });
    let mut next = names.iter();
    report.besiege(&siege("removes one of them"), |_| {
        fs::remove_dir(next.next().expect("enough of them")).expect("rmdir");
    });
}

/// Descriptors of the list of mounts, polled by an epoll. Their number is that of the permitted
/// inotify instances.
fn mount_lists() -> Assault {
    let epoll = sys::epoll().expect("epoll");
    let lists = as_many(128, |_| {
        let list = File::open("/proc/self/mountinfo")?;
        let events = libc::EPOLLPRI | libc::EPOLLET;
        sys::epoll_ctl(&epoll, libc::EPOLL_CTL_ADD, list.as_raw_fd(), events)?;
        Ok(list)
    });
    Assault::acting(lists.len(), move || {
        // SAFETY: Zero is a valid value of the events, and the array has room for them.
        unsafe {
            let mut events: [libc::epoll_event; 128] = std::mem::zeroed();
            libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 128, 0);
        }
        // The descriptors stay open.
        lists.len() as f64
    })
}

fn besiege_mounts(report: &mut Report, folder: &Path, attack: &str, kqueue: &dyn Fn() -> Assault) {
    let target = folder.join("target");
    fs::create_dir(&target).expect("a folder");
    let target = c_path(&target);
    let siege = Siege {
        attack,
        bystander: "mounts and unmounts",
        kqueue,
        native: Some(&mount_lists),
        floor: 0.0,
    };
    report.besiege(&siege, |_| {
        sys::mount(c"tmpfs", &target);
        sys::unmount(&target);
    });
}

/// Knotes that report mounts.
pub fn mounts(report: &mut Report, folder: &Path, scale: Scale) {
    let attack = "`EVFILT_FS`; polls of `mountinfo`";
    besiege_mounts(report, folder, attack, &|| {
        let kqueue = sys::kqueue().expect("kqueue");
        let made = as_many(scale.of(3000), |i| {
            let event = Event::new(i as u64, Filter::FS, ev::ADD | ev::CLEAR);
            let notes = note::VQ_MOUNT | note::VQ_UNMOUNT;
            sys::change(&kqueue, event.fflags(notes))
        });
        Assault::collecting(made.len(), vec![kqueue], ())
    });
}

/// Notes that report the unmount of the file systems of files.
pub fn revoke(report: &mut Report, folder: &Path, scale: Scale) {
    let own = sys::folder_of_nobody(folder);
    let attack = "`NOTE_REVOKE` of files; polls of `mountinfo`";
    besiege_mounts(report, folder, attack, &|| {
        let kqueue = sys::kqueue().expect("kqueue");
        let files = as_many(scale.of(3000), |i| {
            let file = File::create(own.join(i.to_string()))?;
            let event = Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR);
            sys::change(&kqueue, event.fflags(note::REVOKE))?;
            Ok(file)
        });
        Assault::collecting(files.len(), vec![kqueue], files)
    });
}
