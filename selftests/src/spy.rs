// SPDX-License-Identifier: GPL-2.0

//! What is reported of a process, to whom, and until when.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    ffi::CString,
    fs,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    ptr,
};

const USER: libc::uid_t = 65534;
const ALL: u32 = note::FORK | note::EXEC | note::TRACK | note::EXIT;
/// The exit code of the watched program.
const SECRET: i32 = 42;
/// The number of signals that the program sends to itself.
const SIGNALS: i64 = 5;

fn own_pid() -> i32 {
    std::process::id() as i32
}

fn watch(pid: i32, fflags: u32) -> Event {
    Event::new(pid as u64, Filter::PROC, ev::ADD).fflags(fflags)
}

/// Continues as an unprivileged user, as login(1) does.
fn become_user() {
    give_up_rights();
    // SAFETY: No preconditions.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
}

/// Continues as an unprivileged user without being dumpable, because the process can have secrets
/// from before.
fn give_up_rights() {
    // SAFETY: No groups.
    unsafe {
        assert_eq!(libc::setgroups(0, ptr::null()), 0);
        assert_eq!(libc::setresgid(USER, USER, USER), 0);
        assert_eq!(libc::setresuid(USER, USER, USER), 0);
    }
}

/// A copy of this test program, in a file system that honours set-user-ID bits and capabilities.
struct Program {
    folder: PathBuf,
    path: PathBuf,
}

impl Program {
    /// Creates a copy that belongs to root and has that mode.
    fn new(mode: u32) -> Self {
        let folder = PathBuf::from(format!("/dev/shm/spy-{}-{mode:o}", own_pid()));
        fs::create_dir(&folder).unwrap();
        let tmpfs = c"tmpfs".as_ptr();
        let name = CString::new(folder.to_str().unwrap()).unwrap();
        // SAFETY: All strings end in 0.
        let ret = unsafe { libc::mount(tmpfs, name.as_ptr(), tmpfs, 0, ptr::null()) };
        assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
        let path = folder.join("program");
        fs::copy("/proc/self/exe", &path).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Program { folder, path }
    }

    /// Executes the program in this process with that task.
    fn exec(&self, what: &str) -> ! {
        let error = Command::new(&self.path)
            .args(["--exact", "spy::program", "--test-threads", "1"])
            .env("KQUEUE_SPIED", what)
            .stdout(Stdio::null())
            .exec();
        panic!("{error}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let name = CString::new(self.folder.to_str().unwrap()).unwrap();
        // SAFETY: The string ends in 0.
        unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The program that the watched processes execute. When run as a test it does nothing.
#[test]
fn program() {
    let Ok(what) = std::env::var("KQUEUE_SPIED") else {
        return;
    };
    // Takes all the rights of the file, as su(1) does.
    // SAFETY: No preconditions.
    unsafe {
        let (user, group) = (libc::geteuid(), libc::getegid());
        assert_eq!(libc::setresgid(group, group, group), 0);
        assert_eq!(libc::setresuid(user, user, user), 0);
    }
    if let Some(path) = what.strip_prefix("give up, then ") {
        give_up_rights();
        let next = std::mem::ManuallyDrop::new(Program {
            folder: PathBuf::new(),
            path: path.into(),
        });
        next.exec("be busy");
    }
    // SAFETY: No handler.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    for _ in 0..2 {
        reap(fork(|| {
            reap(fork(|| 77));
            let mut list = Command::new("/proc/self/exe");
            panic!("{}", list.arg("--list").stdout(Stdio::null()).exec());
        }));
    }
    for _ in 0..SIGNALS {
        // SAFETY: To ourselves.
        assert_eq!(unsafe { libc::kill(own_pid(), libc::SIGUSR1) }, 0);
    }
    // SAFETY: Ends the process.
    unsafe { libc::_exit(SECRET) };
}

/// The events of the process that one watcher received.
#[derive(Debug, Default)]
struct Told {
    /// All notes that were reported.
    notes: u32,
    /// The number of `NOTE_TRACKERR` events.
    errors: usize,
    children: usize,
    signals: i64,
    /// The notes and the data of the last event.
    end: (u32, i64),
}

impl Told {
    /// Collects events until the process has ended and none is pending.
    fn until_end(kqueue: &Kqueue, pid: i32) -> Self {
        let mut told = Told::default();
        let mut ended = false;
        let mut events = soon(kqueue);
        while !ended || !events.is_empty() {
            for event in events {
                ended |= told.add(event, pid);
            }
            events = if ended { pending(kqueue) } else { soon(kqueue) };
        }
        told
    }

    /// Records an event. Returns true if it is the end of the process.
    fn add(&mut self, event: Event, pid: i32) -> bool {
        if event.filter == Filter::SIGNAL {
            self.signals += event.data;
            return false;
        }
        self.children += usize::from(event.fflags & note::CHILD != 0);
        if event.ident != pid as u64 {
            return false;
        }
        self.notes |= event.fflags;
        self.errors += usize::from(event.fflags & note::TRACKERR != 0);
        if event.has(ev::EOF) {
            self.end = (event.fflags & note::EXIT, event.data);
        }
        event.has(ev::EOF)
    }
}

/// Runs a process that executes `program` to do `what`. Returns the events that three watchers
/// received: its parent, another process of the same user, and a process that shares the kqueue to
/// which the watched process itself has added events.
fn spy(program: &Program, what: &str) -> [Told; 3] {
    let (parents, own) = (kqueue(), kqueue());
    let (ready, gate) = (Gate::new(), Gate::new());
    // SAFETY: As fork(2), but with one descriptor table; the child executes another program.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_FILES | libc::SIGCHLD,
            0,
            0,
            0,
            0,
        )
    };
    let pid = pid as i32;
    if pid == 0 {
        let signal = Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD);
        change(&own, &[watch(own_pid(), note::FORK | note::EXEC), signal]);
        ready.open();
        gate.wait();
        program.exec(what);
    }
    ready.wait();
    change(&parents, &[watch(pid, ALL)]);
    let (reader, writer) = pipe();
    let other = fork(|| {
        let kqueue = kqueue();
        change(&kqueue, &[watch(pid, ALL)]);
        ready.open();
        let told = Told::until_end(&kqueue, pid);
        for word in [
            i64::from(told.notes),
            told.errors as i64,
            told.children as i64,
            i64::from(told.end.0),
            told.end.1,
        ] {
            write(&writer, &word.to_ne_bytes());
        }
        0
    });
    ready.wait();
    gate.open();
    let parent = Told::until_end(&parents, pid);
    assert_eq!(libc::WEXITSTATUS(reap(pid)), SECRET);
    assert_eq!(reap(other), 0);
    let mut words = [0i64; 5];
    for word in &mut words {
        // SAFETY: There is room for eight bytes.
        let count = unsafe { libc::read(reader.as_raw_fd(), ptr::from_mut(word).cast(), 8) };
        assert_eq!(count, 8);
    }
    let other = Told {
        notes: words[0] as u32,
        errors: words[1] as usize,
        children: words[2] as usize,
        signals: 0,
        end: (words[3] as u32, words[4]),
    };
    [parent, other, Told::until_end(&own, pid)]
}

/// The same, with watchers that are unprivileged.
fn spy_as_user(program: &Program, what: &str, right: impl FnOnce([Told; 3])) {
    assert!(in_child(|| {
        become_user();
        right(spy(program, what));
        true
    }));
}

const STATUS: (u32, i64) = (note::EXIT, (SECRET as i64) << 8);

fn all_was_told([parent, other, own]: [Told; 3]) {
    for told in [&parent, &other] {
        assert_eq!(told.notes, note::FORK | note::EXEC | note::EXIT, "{told:?}");
        // There are two children, and each of them has one child.
        assert_eq!(told.children, 4, "{told:?}");
        assert_eq!(told.end, STATUS, "{told:?}");
    }
    assert_eq!(own.notes, note::FORK | note::EXEC, "{own:?}");
    assert_eq!((own.signals, own.end), (SIGNALS, (0, STATUS.1)), "{own:?}");
}

fn nothing_was_told([parent, other, own]: [Told; 3]) {
    // The parent may wait for it.
    assert_eq!(parent.notes, note::TRACKERR | note::EXIT, "{parent:?}");
    assert_eq!(parent.end, STATUS, "{parent:?}");
    assert_eq!(other.notes, note::TRACKERR, "{other:?}");
    assert_eq!(other.end, (0, 0), "{other:?}");
    for told in [&parent, &other] {
        assert_eq!((told.errors, told.children), (1, 0), "{told:?}");
    }
    assert_eq!((own.notes, own.signals, own.end), (0, 0, (0, 0)), "{own:?}");
}

#[test]
fn an_ordinary_program_is_reported() {
    let program = Program::new(0o755);
    spy_as_user(&program, "be busy", all_was_told);
}

/// Differs from DragonFly, FreeBSD: What a process does is reported only to watchers that may trace
/// it at that time. When it has executed a set-user-ID program, its user is told its end without
/// the status, its parent is told the status too, a knote with NOTE_TRACK reports NOTE_TRACKERR,
/// and EVFILT_SIGNAL counts no more.
/// Because what a program does with other rights is private to the owner of those rights. Security
/// modules cannot be asked about a task other than the current one.
#[test]
fn a_set_user_id_program_is_not_reported() {
    let program = Program::new(0o4755);
    spy_as_user(&program, "be busy", nothing_was_told);
}

#[test]
fn a_set_group_id_program_is_not_reported() {
    let program = Program::new(0o2755);
    spy_as_user(&program, "be busy", nothing_was_told);
}

/// The user cannot read the program.
#[test]
fn an_unreadable_program_is_not_reported() {
    let program = Program::new(0o711);
    spy_as_user(&program, "be busy", nothing_was_told);
}

#[test]
fn everything_is_reported_to_root() {
    let program = Program::new(0o4755);
    all_was_told(spy(&program, "be busy"));
}

#[test]
fn a_process_is_reported_again_after_an_ordinary_exec() {
    let (program, own) = (Program::new(0o4755), Program::new(0o755));
    let what = format!("give up, then {}", own.path.display());
    spy_as_user(&program, &what, |[parent, other, own]| {
        for told in [&parent, &other] {
            let notes = note::TRACKERR | note::FORK | note::EXEC | note::EXIT;
            assert_eq!(told.notes, notes, "{told:?}");
            assert_eq!((told.errors, told.children), (1, 4), "{told:?}");
            assert_eq!(told.end, STATUS, "{told:?}");
        }
        assert_eq!(own.notes, note::FORK | note::EXEC, "{own:?}");
        assert_eq!((own.signals, own.end), (SIGNALS, (0, STATUS.1)), "{own:?}");
    });
}

/// A tracked child executes a set-user-ID program.
#[test]
fn a_tracked_child_with_other_rights_is_not_reported() {
    let program = Program::new(0o4755);
    assert!(in_child(|| {
        become_user();
        let kqueue = kqueue();
        change(&kqueue, &[watch(own_pid(), note::TRACK | note::FORK)]);
        let pid = fork(|| program.exec("be busy"));
        let told = Told::until_end(&kqueue, pid);
        reap(pid);
        // The only NOTE_CHILD is that of the process itself.
        assert_eq!(told.notes, note::CHILD | note::TRACKERR, "{told:?}");
        assert_eq!((told.children, told.end.0), (1, 0), "{told:?}");
        true
    }));
}

/// Starts a process that only root may trace, and which ends when the gate is opened.
fn unreadable(gate: &Gate, ready: &Gate) -> i32 {
    fork(|| {
        give_up_rights();
        ready.open();
        gate.wait();
        reap(fork(|| 0));
        SECRET
    })
}

#[test]
fn an_undumpable_process_cannot_be_watched() {
    let (ready, gate) = (Gate::new(), Gate::new());
    let pid = unreadable(&gate, &ready);
    ready.wait();
    let watching = fork(|| {
        become_user();
        let kqueue = kqueue();
        for note in [note::FORK, note::EXEC, note::TRACK] {
            let error = change_error(&kqueue, watch(pid, note | note::EXIT));
            assert_eq!(error, libc::EACCES);
        }
        // The exit is reported to all watchers.
        change(&kqueue, &[watch(pid, note::EXIT)]);
        // Notes that are selected later are not reported.
        let more = watch(pid, ALL);
        change(&kqueue, &[more]);
        ready.open();
        let told = Told::until_end(&kqueue, pid);
        assert_eq!((told.notes, told.end), (note::TRACKERR, (0, 0)), "{told:?}");
        0
    });
    ready.wait();
    gate.open();
    assert_eq!(reap(watching), 0);
    assert_eq!(libc::WEXITSTATUS(reap(pid)), SECRET);
}

#[test]
fn a_parent_can_watch_the_exit_of_an_undumpable_child() {
    assert!(in_child(|| {
        become_user();
        let (ready, gate) = (Gate::new(), Gate::new());
        let kqueue = kqueue();
        let pid = fork(|| {
            // SAFETY: No preconditions.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
            ready.open();
            gate.wait();
            reap(fork(|| 0));
            SECRET
        });
        ready.wait();
        change(&kqueue, &[watch(pid, ALL)]);
        assert_eq!(one(&kqueue).fflags, note::TRACKERR);
        gate.open();
        let told = Told::until_end(&kqueue, pid);
        reap(pid);
        (told.notes, told.end) == (note::EXIT, STATUS)
    }));
}

/// A server that has given up its rights can watch itself, and its children that run the same
/// program.
#[test]
fn a_process_can_always_watch_itself() {
    assert!(in_child(|| {
        give_up_rights();
        let kqueue = kqueue();
        let signal = Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD);
        change(&kqueue, &[watch(own_pid(), ALL), signal]);
        // SAFETY: No handler; to ourselves.
        unsafe {
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
            libc::kill(own_pid(), libc::SIGUSR1);
        }
        assert_eq!(one(&kqueue).data, 1);
        let pid = fork(|| {
            reap(fork(|| 0));
            SECRET
        });
        let told = Told::until_end(&kqueue, pid);
        reap(pid);
        let notes = note::CHILD | note::FORK | note::EXIT;
        (told.notes, told.end) == (notes, STATUS)
    }));
}

/// The rights of the watcher are those at the time of the registration.
#[test]
fn the_rights_at_registration_apply() {
    let kqueue = kqueue();
    assert!(in_child(|| {
        let kqueue = self::kqueue();
        let (ready, gate) = (Gate::new(), Gate::new());
        let pid = unreadable(&gate, &ready);
        ready.wait();
        change(&kqueue, &[watch(pid, note::FORK | note::EXIT)]);
        give_up_rights();
        gate.open();
        let told = Told::until_end(&kqueue, pid);
        reap(pid);
        (told.notes, told.end) == (note::FORK | note::EXIT, STATUS)
    }));
    assert!(pending(&kqueue).is_empty());
}

/// A process has all rights in a user namespace that it has created, and it still belongs to the
/// user who created the namespace.
#[test]
fn a_user_can_watch_their_own_user_namespace() {
    assert!(in_child(|| {
        become_user();
        let (ready, gate) = (Gate::new(), Gate::new());
        let pid = fork(|| {
            // SAFETY: No preconditions.
            let ret = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
            assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
            ready.open();
            gate.wait();
            reap(fork(|| 0));
            SECRET
        });
        ready.wait();
        let watching = fork(|| {
            let kqueue = kqueue();
            change(&kqueue, &[watch(pid, note::FORK | note::EXIT)]);
            ready.open();
            let told = Told::until_end(&kqueue, pid);
            assert_eq!((told.notes, told.end), (note::FORK | note::EXIT, STATUS));
            0
        });
        ready.wait();
        gate.open();
        reap(watching) == 0 && libc::WEXITSTATUS(reap(pid)) == SECRET
    }));
}
