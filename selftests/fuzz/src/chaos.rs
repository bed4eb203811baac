// SPDX-License-Identifier: GPL-2.0

//! Wild rounds: threads and processes do arbitrary operations, and memory accesses, descriptors and
//! allocations fail.

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

/// With this argument the program exits at once.
pub const CHILD: &str = "--child";

/// The number of kinds of descriptors.
pub fn kinds() -> usize {
    KINDS.len()
}

/// The parameters of a round.
pub struct Plan<'a> {
    pub seed: u64,
    /// The maximum number of operations of each thread.
    pub steps: usize,
    /// True if the round stays root.
    pub root: bool,
    /// The names of the hot kinds, which most operations use. If there are none, the seed chooses
    /// them.
    pub hot: &'a [String],
}

/// The maximum duration of a round in nanoseconds, if nothing hangs.
const ROUND: i64 = 6_000_000_000;
/// The number of threads.
const THREADS: u64 = 4;
/// No operation uses descriptors with this number or a higher one.
const HIGH: Fd = 500;
/// Hardly any other descriptors have this number or a higher one.
const LOW: u64 = 400;
/// The number of descriptors that are remembered, those of hot kinds first.
const REMEMBERED: usize = 48;
const HOT: usize = 16;
const QUEUES: usize = 4;
/// The maximum number of children at a time.
const CHILDREN: usize = 8;

/// The state that all threads of a round share.
struct Shared<'a> {
    board: &'a Board,
    place: Place,
    memory: Memory,
    /// The hot kinds, which most operations use.
    hot: Vec<usize>,
    fds: [AtomicI32; REMEMBERED],
    queues: [AtomicI32; QUEUES],
    children: [AtomicI32; CHILDREN],
    /// The sockets over which descriptors are passed.
    passing: [Fd; 2],
    /// True if the round has a mount namespace in which it has all rights.
    mounts: bool,
    end: i64,
    steps: usize,
}

impl Shared<'_> {
    /// Opens descriptors of some kind and remembers them.
    fn open(&self, kind: usize, random: &mut Random) {
        let fds = (KINDS[kind].1)(random, &self.place);
        if !fds.is_empty() {
            self.board.count(Count::Opened, fds.len() as u64);
            self.board.kinds.fetch_or(1 << kind, Relaxed);
        }
        let hot = self.hot.contains(&kind);
        for fd in fds {
            let flags = call(libc::SYS_fcntl, &[fd as usize, libc::F_GETFL as usize]);
            // Some descriptors stay in blocking mode.
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

    /// Chooses a descriptor. Most likely it is open and of a hot kind.
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

/// Moves a descriptor to a number that no operation uses.
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

/// Installs the signal handlers. Signals interrupt blocking calls.
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
        // SAFETY: The handler does nothing, so it may run at any time. Zero is a valid value of the
        // flags and of the mask.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(number, &action, std::ptr::null_mut());
        }
    }
}

/// Sets limits, so that the round does not exhaust the machine.
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

/// Becomes root in namespaces of its own. True if that succeeded.
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
    // Enable the loopback interface.
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

/// The directory of a round. It disappears with the mount namespace of the round, if there is one,
/// and is removed explicitly otherwise.
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
    sys::chmod(&path, 0o1777);
    folder
}

/// Gives all users access to the devices that the rounds use, if this process has the rights to do
/// so.
pub fn open_devices() {
    let sound = fs::read_dir("/dev/snd").into_iter().flatten().flatten();
    let sound = sound.map(|entry| entry.path());
    for path in sound.chain(["/dev/fuse".into()]) {
        let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes());
        let path = path.unwrap_or_default();
        sys::chmod(&path, 0o666);
    }
}

/// Removes the files that rounds have left.
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

/// Runs one round. Returns 1 if something was wrong, and leaves a message on the board.
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
    // A separate process is the FUSE server. It ends with this process.
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
