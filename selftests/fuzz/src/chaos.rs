// SPDX-License-Identifier: GPL-2.0

//! Wild rounds: threads and processes that do anything, and memory, descriptors and allocations
//! that fail.

mod actor;
mod fuse;
pub mod kinds;
mod memory;

use crate::{
    board::{Board, Count},
    drop_root,
    random::Random,
    sys::{self, address, call, Fd},
};
use actor::{Actor, Profile};
use kinds::{Place, KINDS};
use memory::Memory;
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    thread,
};

/// The argument with which this program is executed only to end at once.
pub const CHILD: &str = "--child";

/// How many kinds of descriptors there are.
pub fn kinds() -> usize {
    KINDS.len()
}

/// What a round is to do.
pub struct Plan<'a> {
    pub seed: u64,
    /// How many operations of each thread, at most.
    pub steps: usize,
    /// Stays root.
    pub root: bool,
    /// Names of the kinds that get most of the attention; the seed chooses if there are none.
    pub hot: &'a [String],
}

/// How long a round takes, at most, in nanoseconds, if all goes well.
const ROUND: i64 = 6_000_000_000;
/// How many threads act.
const THREADS: u64 = 4;
/// Descriptors from here on are not played with.
const HIGH: Fd = 500;
/// There are hardly others from here on.
const LOW: u64 = 400;
/// How many descriptors are remembered, those of hot kinds first.
const REMEMBERED: usize = 48;
const HOT: usize = 16;
const QUEUES: usize = 4;
/// How many children there are at a time, at most.
const CHILDREN: usize = 8;

/// What all threads of a round share.
struct Shared<'a> {
    board: &'a Board,
    place: Place,
    memory: Memory,
    /// The kinds that get most of the attention.
    hot: Vec<usize>,
    fds: [AtomicI32; REMEMBERED],
    queues: [AtomicI32; QUEUES],
    children: [AtomicI32; CHILDREN],
    /// Over these descriptors are passed.
    passing: [Fd; 2],
    /// The round has a mount namespace in which it may do all.
    mounts: bool,
    end: i64,
    steps: usize,
}

impl Shared<'_> {
    /// Opens something, and remembers it.
    fn open(&self, kind: usize, random: &mut Random) {
        let fds = (KINDS[kind].1)(random, &self.place);
        if !fds.is_empty() {
            self.board.count(Count::Opened, fds.len() as u64);
            self.board.kinds.fetch_or(1 << kind, Relaxed);
        }
        let hot = self.hot.contains(&kind);
        for fd in fds {
            let flags = call(libc::SYS_fcntl, &[fd as usize, libc::F_GETFL as usize]);
            // Some stay such that they block.
            if let (Ok(flags), true) = (flags, random.chance(97)) {
                let flags = flags | libc::O_NONBLOCK as usize;
                let _ = call(
                    libc::SYS_fcntl,
                    &[fd as usize, libc::F_SETFL as usize, flags],
                );
            }
            self.remember(fd, hot, random);
        }
    }

    fn remember(&self, fd: Fd, hot: bool, random: &mut Random) {
        let at = if hot {
            random.index(HOT)
        } else {
            HOT + random.index(REMEMBERED - HOT)
        };
        let old = self.fds[at].swap(fd, Relaxed);
        if old > 2 && old != fd && old < HIGH {
            sys::close(old);
        }
    }

    /// Some descriptor, most likely one that is open, and of a hot kind.
    fn fd(&self, random: &mut Random) -> Fd {
        match random.weighted(&[60, 28, 10, 2]) {
            0 => self.fds[random.index(HOT)].load(Relaxed),
            1 => self.fds[HOT + random.index(REMEMBERED - HOT)].load(Relaxed),
            2 => random.below(LOW / 4) as Fd,
            _ => random.pick(&[-1, i32::MAX, i32::MIN, LOW as Fd]),
        }
    }

    fn is_over(&self, step: usize) -> bool {
        step >= self.steps || sys::now() > self.end
    }
}

/// Moves a descriptor to where it is let alone.
fn move_up(fd: Fd) -> Fd {
    let args = [fd as usize, libc::F_DUPFD_CLOEXEC as usize, HIGH as usize];
    match call(libc::SYS_fcntl, &args) {
        Ok(high) => {
            sys::close(fd);
            high as Fd
        }
        Err(_) => fd,
    }
}

extern "C" fn nothing(_: libc::c_int) {}

/// Signals come, and interrupt what blocks.
pub fn handle_signals() {
    let handled = [
        libc::SIGALRM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGIO,
        libc::SIGURG,
        40,
        41,
    ];
    let ignored = [
        libc::SIGPIPE,
        libc::SIGXFSZ,
        libc::SIGHUP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGTSTP,
        libc::SIGINT,
        libc::SIGQUIT,
    ];
    let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    let actions = handled.iter().map(|&number| (number, handler));
    for (number, handler) in actions.chain(ignored.iter().map(|&n| (n, libc::SIG_IGN))) {
        // SAFETY: A function that does nothing may run at any time. All-zero flags and mask are
        // values.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(number, &action, std::ptr::null_mut());
        }
    }
}

/// No more than others can stand.
fn limit() {
    let limits = [
        (libc::RLIMIT_NOFILE, HIGH as u64 + 100),
        (libc::RLIMIT_FSIZE, 1 << 20),
        (libc::RLIMIT_CORE, 0),
    ];
    for (what, most) in limits {
        let limit = [most, most];
        let args = [0, what as usize, address(&limit), 0];
        let _ = call(libc::SYS_prlimit64, &args);
    }
}

/// Becomes root of namespaces of its own. True if that worked.
pub fn own_namespaces() -> bool {
    let uid = call(libc::SYS_getuid, &[]).unwrap_or(0);
    let gid = call(libc::SYS_getgid, &[]).unwrap_or(0);
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET;
    if call(libc::SYS_unshare, &[flags as usize]).is_err() {
        return false;
    }
    let _ = fs::write("/proc/self/setgroups", "deny");
    let _ = fs::write("/proc/self/uid_map", format!("0 {uid} 1"));
    let _ = fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
    // The loopback is up.
    if let Ok(socket) = call(
        libc::SYS_socket,
        &[libc::AF_INET as usize, libc::SOCK_DGRAM as usize, 0],
    ) {
        let mut request = [0u8; 40];
        request[..2].copy_from_slice(b"lo");
        request[16] = libc::IFF_UP as u8;
        let _ = call(
            libc::SYS_ioctl,
            &[socket, libc::SIOCSIFFLAGS as usize, address(&request)],
        );
        sys::close(socket as Fd);
    }
    true
}

/// The folder of a round, which goes with its mount namespace if it has one, and by hand else.
pub fn folder() -> String {
    let folder = format!("/dev/shm/kqueue-fuzz.{}", sys::now());
    let path = std::ffi::CString::new(folder.clone()).unwrap_or_default();
    let _ = fs::create_dir(&folder);
    let kind = c"tmpfs".as_ptr() as usize;
    let data = c"size=16m".as_ptr() as usize;
    let _ = call(
        libc::SYS_mount,
        &[kind, path.as_ptr() as usize, kind, 0, data],
    );
    let _ = call(libc::SYS_chmod, &[path.as_ptr() as usize, 0o1777]);
    folder
}

/// Lets everybody use devices that have tests of their own here, if we may decide that.
pub fn open_devices() {
    let sound = fs::read_dir("/dev/snd").into_iter().flatten().flatten();
    let sound = sound.map(|entry| entry.path());
    for path in sound.chain(["/dev/fuse".into()]) {
        let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes());
        let path = path.unwrap_or_default();
        let _ = call(libc::SYS_chmod, &[path.as_ptr() as usize, 0o666]);
    }
}

/// Removes what rounds have left.
pub fn clean_up() {
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("kqueue-fuzz.")
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// One round. 1 if something was wrong, which the board tells.
pub fn run(plan: &Plan<'_>, board: &Board) -> i32 {
    let mut random = Random::new(plan.seed);
    handle_signals();
    let mut place = Place {
        folder: folder(),
        queue: -1,
    };
    let server = fuse::mount(&place);
    if let Ok(null) = call(
        libc::SYS_openat,
        &[
            libc::AT_FDCWD as usize,
            c"/dev/null".as_ptr() as usize,
            libc::O_RDWR as usize,
        ],
    ) {
        for fd in 0..3 {
            let _ = sys::dup2(null as Fd, fd);
        }
    }
    // A process of its own answers, which goes when this one does.
    let mut served = None;
    let answers = Random::new(random.next());
    if let Some(server) = server {
        match sys::clone(0) {
            Ok(0) => {
                let kill = libc::SIGKILL as usize;
                let _ = call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, kill]);
                server.serve(answers);
                sys::exit(0);
            }
            _ => server.leave(),
        }
        let path = place.path("fuse/file");
        let (path, flags) = (path.as_ptr() as usize, libc::O_RDWR as usize);
        let args = [libc::AT_FDCWD as usize, path, flags, 0];
        served = call(libc::SYS_openat, &args).ok().map(|fd| fd as Fd);
    }
    let memory = Memory::new(served);
    served.into_iter().for_each(sys::close);
    if !plan.root {
        drop_root();
    }
    let mounts = random.chance(40) && own_namespaces();
    let named = plan.hot.iter().filter_map(|name| kinds::kind(name));
    let mut hot: Vec<usize> = named.collect();
    if hot.is_empty() {
        hot.extend((0..2).map(|_| random.index(KINDS.len())));
    }
    place.queue = sys::kqueue().map_or(-1, move_up);
    let mut passing = [-1i32; 2];
    let kind = (libc::SOCK_DGRAM | libc::SOCK_NONBLOCK) as usize;
    let args = [
        libc::AF_UNIX as usize,
        kind,
        0,
        sys::address_mut(&mut passing),
    ];
    let _ = call(libc::SYS_socketpair, &args);
    let passing = passing.map(move_up);
    limit();
    let shared = Shared {
        board,
        place,
        memory,
        hot,
        fds: [const { AtomicI32::new(-1) }; REMEMBERED],
        queues: [const { AtomicI32::new(-1) }; QUEUES],
        children: [const { AtomicI32::new(-1) }; CHILDREN],
        passing,
        mounts,
        end: sys::now() + ROUND,
        steps: plan.steps,
    };
    for queue in &shared.queues {
        queue.store(sys::kqueue().unwrap_or(-1), Relaxed);
    }
    for &kind in shared.hot.iter().chain(&shared.hot) {
        shared.open(kind, &mut random);
    }
    for _ in 0..6 {
        shared.open(random.index(KINDS.len()), &mut random);
    }
    let lazy = Random::new(random.next());
    let done = AtomicBool::new(false);
    let (shared, done) = (&shared, &done);
    thread::scope(|threads| {
        let lazy = threads.spawn(move || shared.memory.serve(done, lazy));
        let actors: Vec<_> = (0..THREADS)
            .map(|number| {
                let random = Random::new(plan.seed ^ (number + 1).rotate_left(48));
                let profile = Profile::of(number, &mut random.clone());
                threads.spawn(move || Actor::new(shared, random, profile).run())
            })
            .collect();
        let mut wrong = false;
        for actor in actors {
            wrong |= actor.join().unwrap_or(true);
        }
        done.store(true, Relaxed);
        let _ = lazy.join();
        i32::from(wrong)
    })
}
