// SPDX-License-Identifier: GPL-2.0

//! Descriptors of all kinds.

use crate::{
    random::Random,
    sys::{self, address, address_mut, call, Fd},
};
use std::ffi::{CStr, CString};

/// Address families that the libc crate does not define.
const AF_TIPC: i32 = 30;
const AF_KCM: i32 = 41;
const AF_QIPCRTR: i32 = 42;

/// Opens descriptors of one kind. Returns none if the kernel does not support the kind.
type Open = fn(&mut Random, &Place) -> Vec<Fd>;

/// The directory for files.
pub struct Place {
    /// A directory that all users may write to.
    pub folder: String,
    /// A kqueue by which other kqueues are created.
    pub queue: Fd,
}

impl Place {
    /// The path of a file in the directory.
    pub fn path(&self, name: &str) -> CString {
        CString::new(format!("{}/{name}", self.folder)).unwrap_or_default()
    }
}

/// All kinds, by name.
pub const KINDS: &[(&str, Open)] = &[
    ("pipe", pipe),
    ("packets", |_, _| pipe_with(libc::O_DIRECT)),
    ("fifo", fifo),
    ("eventfd", |random, _| {
        one(call(libc::SYS_eventfd2, &[0, random.index(2)]))
    }),
    ("timerfd", timerfd),
    ("signalfd", signalfd),
    ("inotify", inotify),
    ("fanotify", fanotify),
    ("epoll", |_, _| one(call(libc::SYS_epoll_create1, &[0]))),
    ("kqueue", kqueue),
    ("io_uring", io_uring),
    ("pidfd", pidfd),
    ("userfaultfd", |_, _| {
        let flags = libc::O_NONBLOCK as usize | 1;
        one(call(libc::SYS_userfaultfd, &[flags]))
    }),
    ("perf", perf),
    ("pty", pty),
    ("file", file),
    ("directory", |_, place| {
        open(&place.path("."), libc::O_RDONLY | libc::O_DIRECTORY)
    }),
    ("memfd", |_, _| {
        one(call(
            libc::SYS_memfd_create,
            &[c"fuzz".as_ptr() as usize, 0],
        ))
    }),
    ("device", device),
    ("procfs", procfs),
    ("sysfs", sysfs),
    ("mqueue", mqueue),
    ("tcp", |_, _| connected(libc::AF_INET, libc::SOCK_STREAM, 0)),
    ("tcp6", |_, _| {
        connected(libc::AF_INET6, libc::SOCK_STREAM, 0)
    }),
    ("ktls", ktls),
    ("udp", |_, _| datagrams(libc::AF_INET, 0)),
    ("unix_stream", |_, _| unix(libc::SOCK_STREAM)),
    ("unix_dgram", |_, _| unix(libc::SOCK_DGRAM)),
    ("unix_seqpacket", |_, _| unix(libc::SOCK_SEQPACKET)),
    ("unix_listener", unix_listener),
    ("netlink", netlink),
    ("packet", |_, _| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)
    }),
    ("raw", |_, _| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    ("mptcp", |_, _| {
        connected(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
    }),
    ("sctp", |_, _| {
        connected(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP)
    }),
    ("sctp_many", |_, _| sctp_many()),
    ("tipc", tipc),
    ("vsock", vsock),
    ("alg", alg),
    ("kcm", kcm),
    ("qrtr", qrtr),
    ("can", |_, _| {
        socket(libc::AF_CAN, libc::SOCK_RAW, libc::CAN_RAW)
    }),
    ("binder", |_, place| {
        open(&place.path("binder/binder"), libc::O_RDWR)
    }),
    ("fuse", |_, _| open(c"/dev/fuse", libc::O_RDWR)),
    ("fuse_file", |_, place| {
        open(&place.path("fuse/file"), libc::O_RDWR)
    }),
    ("sound", |random, _| {
        let names = [
            c"/dev/snd/controlC0",
            c"/dev/snd/pcmC0D0p",
            c"/dev/snd/timer",
        ];
        open(random.pick(&names), libc::O_RDWR)
    }),
];

/// Sockets of the connection-oriented kinds that are not connected: the name of the kind, the
/// family, the type and the protocol.
pub const BARE: [(&str, i32, i32, i32); 8] = [
    ("bare tcp", libc::AF_INET, libc::SOCK_STREAM, 0),
    ("bare tcp6", libc::AF_INET6, libc::SOCK_STREAM, 0),
    (
        "bare mptcp",
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_MPTCP,
    ),
    ("bare unix", libc::AF_UNIX, libc::SOCK_STREAM, 0),
    ("bare seqpacket", libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
    (
        "bare sctp",
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_SCTP,
    ),
    ("bare tipc", AF_TIPC, libc::SOCK_STREAM, 0),
    ("bare vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
];

/// True for sockets that must be connected or can be connected.
pub fn is_connected(name: &str) -> bool {
    let is_bare = BARE.iter().any(|bare| bare.0 == name);
    is_bare
        || [
            "tcp",
            "tcp6",
            "ktls",
            "unix_listener",
            "mptcp",
            "sctp",
            "tipc",
            "vsock",
        ]
        .contains(&name)
}

/// The number of the kind with this name.
pub fn kind(name: &str) -> Option<usize> {
    KINDS.iter().position(|kind| kind.0 == name)
}

fn one(fd: Result<usize, i32>) -> Vec<Fd> {
    fd.map(|fd| fd as Fd).into_iter().collect()
}

fn open(path: &CStr, flags: i32) -> Vec<Fd> {
    let flags = (flags | libc::O_NONBLOCK) as usize;
    let path = path.as_ptr() as usize;
    let at = libc::AT_FDCWD as usize;
    one(call(libc::SYS_openat, &[at, path, flags, 0o666]))
}

fn pipe_with(flags: i32) -> Vec<Fd> {
    let mut fds = [0i32; 2];
    let made = call(libc::SYS_pipe2, &[address_mut(&mut fds), flags as usize]);
    made.map(|_| fds.to_vec()).unwrap_or_default()
}

fn pipe(random: &mut Random, _: &Place) -> Vec<Fd> {
    pipe_with(random.pick(&[0, libc::O_NONBLOCK, libc::O_CLOEXEC]))
}

fn fifo(random: &mut Random, place: &Place) -> Vec<Fd> {
    let path = place.path("fifo");
    let mode = (libc::S_IFIFO | 0o666) as usize;
    let at = libc::AT_FDCWD as usize;
    let _ = call(libc::SYS_mknodat, &[at, path.as_ptr() as usize, mode, 0]);
    let flags = [libc::O_RDWR, libc::O_RDONLY, libc::O_WRONLY];
    open(&path, random.pick(&flags))
}

fn timerfd(random: &mut Random, _: &Place) -> Vec<Fd> {
    let clock = random.pick(&[libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME]);
    let fds = one(call(libc::SYS_timerfd_create, &[clock as usize, 0]));
    if let Some(&fd) = fds.first() {
        let time = |ns| libc::timespec {
            tv_sec: 0,
            tv_nsec: ns,
        };
        let times = libc::itimerspec {
            it_interval: time(random.pick(&[0, 1_000_000])),
            it_value: time(1_000_000),
        };
        let _ = call(
            libc::SYS_timerfd_settime,
            &[fd as usize, 0, address(&times), 0],
        );
    }
    fds
}

fn signalfd(_: &mut Random, _: &Place) -> Vec<Fd> {
    let set = 1u64 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGUSR2 - 1) | 1 << 40;
    one(call(
        libc::SYS_signalfd4,
        &[usize::MAX, address(&set), 8, 0],
    ))
}

fn inotify(_: &mut Random, place: &Place) -> Vec<Fd> {
    let fds = one(call(libc::SYS_inotify_init1, &[libc::O_NONBLOCK as usize]));
    if let Some(&fd) = fds.first() {
        let path = place.path(".");
        let all = libc::IN_ALL_EVENTS as usize;
        let _ = call(
            libc::SYS_inotify_add_watch,
            &[fd as usize, path.as_ptr() as usize, all],
        );
    }
    fds
}

fn fanotify(_: &mut Random, place: &Place) -> Vec<Fd> {
    let flags = (libc::FAN_REPORT_FID | libc::FAN_NONBLOCK) as usize;
    let fds = one(call(
        libc::SYS_fanotify_init,
        &[flags, libc::O_RDONLY as usize],
    ));
    if let Some(&fd) = fds.first() {
        let path = place.path(".");
        let events = (libc::FAN_OPEN | libc::FAN_MODIFY | libc::FAN_EVENT_ON_CHILD) as usize;
        let at = libc::AT_FDCWD as usize;
        let add = libc::FAN_MARK_ADD as usize;
        let args = [fd as usize, add, events, at, path.as_ptr() as usize];
        let _ = call(libc::SYS_fanotify_mark, &args);
    }
    fds
}

fn kqueue(random: &mut Random, place: &Place) -> Vec<Fd> {
    if random.chance(50) {
        return one(sys::kqueue().map(|fd| fd as usize));
    }
    let flags = random.pick(&[0, libc::O_CLOEXEC, libc::O_NONBLOCK]) as usize;
    one(call(
        libc::SYS_ioctl,
        &[place.queue as usize, sys::IOC_CREATE, flags],
    ))
}

fn io_uring(_: &mut Random, _: &Place) -> Vec<Fd> {
    let mut params = [0u32; 30];
    one(call(
        libc::SYS_io_uring_setup,
        &[4, address_mut(&mut params)],
    ))
}

fn pidfd(random: &mut Random, _: &Place) -> Vec<Fd> {
    let own = std::process::id() as usize;
    one(call(
        libc::SYS_pidfd_open,
        &[random.pick(&[own, 1, own + 1]), 0],
    ))
}

fn perf(_: &mut Random, _: &Place) -> Vec<Fd> {
    // A software event: the task clock, in user space only.
    let mut attributes = [0u64; 16];
    attributes[0] = 1 | 128 << 32;
    attributes[1] = 1;
    attributes[2] = 100_000;
    attributes[5] = 1 << 5 | 1 << 6;
    let minus_one = usize::MAX;
    one(call(
        libc::SYS_perf_event_open,
        &[address(&attributes), 0, minus_one, minus_one, 0],
    ))
}

fn pty(_: &mut Random, _: &Place) -> Vec<Fd> {
    let mut fds = open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY);
    if let Some(&master) = fds.first() {
        let unlock = 0i32;
        let _ = call(
            libc::SYS_ioctl,
            &[master as usize, libc::TIOCSPTLCK as usize, address(&unlock)],
        );
        let flags = (libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK) as usize;
        let args = [master as usize, libc::TIOCGPTPEER as usize, flags];
        fds.extend(one(call(libc::SYS_ioctl, &args)));
    }
    fds
}

fn file(random: &mut Random, place: &Place) -> Vec<Fd> {
    let name = ["a", "b", "c"][random.index(3)];
    let flags = [
        libc::O_RDWR,
        libc::O_RDONLY,
        libc::O_PATH,
        libc::O_APPEND | libc::O_WRONLY,
    ];
    open(&place.path(name), random.pick(&flags) | libc::O_CREAT)
}

fn device(random: &mut Random, _: &Place) -> Vec<Fd> {
    let names = [
        c"/dev/null",
        c"/dev/zero",
        c"/dev/full",
        c"/dev/random",
        c"/dev/kmsg",
        c"/dev/tty",
    ];
    open(random.pick(&names), libc::O_RDONLY)
}

fn procfs(random: &mut Random, _: &Place) -> Vec<Fd> {
    let names = [
        c"/proc/self/mounts",
        c"/proc/self/mountinfo",
        c"/proc/self/maps",
        c"/proc/self/ns/net",
        c"/proc/self/ns/mnt",
        c"/proc/sys/kernel/hostname",
        c"/proc/uptime",
        c"/proc/self/task",
        c"/proc/swaps",
    ];
    open(random.pick(&names), libc::O_RDONLY)
}

fn sysfs(random: &mut Random, _: &Place) -> Vec<Fd> {
    let names = [
        c"/sys/kernel/notes",
        c"/sys/kernel/mm",
        c"/sys/module/kqueue/parameters/calloutmax",
        c"/sys/fs/cgroup/cgroup.events",
        c"/sys/kernel/uevent_seqnum",
    ];
    open(random.pick(&names), libc::O_RDONLY)
}

fn mqueue(random: &mut Random, _: &Place) -> Vec<Fd> {
    let name = random.pick(&[c"fuzz.0", c"fuzz.1"]);
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK) as usize;
    one(call(
        libc::SYS_mq_open,
        &[name.as_ptr() as usize, flags, 0o600, 0],
    ))
}

fn socket(family: i32, kind: i32, protocol: i32) -> Vec<Fd> {
    one(call(
        libc::SYS_socket,
        &[
            family as usize,
            (kind | libc::SOCK_NONBLOCK) as usize,
            protocol as usize,
        ],
    ))
}

/// A socket address of any family, with its length.
struct Address([u8; 128], u32);

impl Address {
    fn of<T>(of: T) -> Self {
        let mut bytes = [0; 128];
        let len = size_of::<T>().min(128);
        // SAFETY: Addresses consist of integers, and the source has this length.
        let from = unsafe { std::slice::from_raw_parts(address(&of) as *const u8, len) };
        bytes[..len].copy_from_slice(from);
        Address(bytes, len as u32)
    }

    /// The loopback address of IP.
    fn loopback(family: i32) -> Self {
        let mut bytes = [0; 28];
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        if family == libc::AF_INET6 {
            bytes[23] = 1;
        } else {
            bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
        }
        Address::of(bytes)
    }

    fn of_socket(fd: Fd) -> Self {
        let mut to = Address([0; 128], 128);
        let _ = call(
            libc::SYS_getsockname,
            &[fd as usize, address_mut(&mut to.0), address_mut(&mut to.1)],
        );
        to
    }

    fn bind(&self, fd: Fd) -> bool {
        let args = [fd as usize, address(&self.0), self.1 as usize];
        call(libc::SYS_bind, &args).is_ok()
    }

    fn connect(&self, fd: Fd) {
        let args = [fd as usize, address(&self.0), self.1 as usize];
        let _ = call(libc::SYS_connect, &args);
    }
}

/// Opens a listening socket, a socket that connects to it, and the accepted socket if the
/// connection is established in time.
fn accepted(
    listener: Fd,
    address: impl Fn(Fd) -> Address,
    family: i32,
    kind: i32,
    protocol: i32,
) -> Vec<Fd> {
    let mut fds = vec![listener];
    if call(libc::SYS_listen, &[listener as usize, 4]).is_err() {
        return fds;
    }
    let new = socket(family, kind, protocol);
    let Some(&other) = new.first() else {
        return fds;
    };
    address(listener).connect(other);
    fds.push(other);
    let mut poll = libc::pollfd {
        fd: listener,
        events: libc::POLLIN,
        revents: 0,
    };
    sys::poll(std::slice::from_mut(&mut poll), 100);
    let flags = libc::SOCK_NONBLOCK as usize;
    fds.extend(one(call(
        libc::SYS_accept4,
        &[listener as usize, 0, 0, flags],
    )));
    fds
}

fn connected(family: i32, kind: i32, protocol: i32) -> Vec<Fd> {
    let fds = socket(family, kind, protocol);
    match fds.first() {
        Some(&listener) if Address::loopback(family).bind(listener) => {
            accepted(listener, Address::of_socket, family, kind, protocol)
        }
        _ => fds,
    }
}

fn ktls(random: &mut Random, _: &Place) -> Vec<Fd> {
    let fds = connected(libc::AF_INET, libc::SOCK_STREAM, 0);
    for &fd in fds.iter().skip(1 + random.index(2)) {
        let args = [fd as usize, libc::SOL_TCP as usize, libc::TCP_ULP as usize];
        let name = c"tls".as_ptr() as usize;
        let set = call(libc::SYS_setsockopt, &[args[0], args[1], args[2], name, 3]);
        if set.is_ok() {
            // AES-GCM-128 of TLS 1.2, with a key of zeros.
            let mut info = [0u8; 40];
            info[..4].copy_from_slice(&[3, 3, 51, 0]);
            for way in [1, 2] {
                let args = [fd as usize, 282, way, address(&info), 40];
                let _ = call(libc::SYS_setsockopt, &args);
            }
        }
    }
    fds
}

fn datagrams(family: i32, protocol: i32) -> Vec<Fd> {
    let mut fds = socket(family, libc::SOCK_DGRAM, protocol);
    fds.extend(socket(family, libc::SOCK_DGRAM, protocol));
    if let [a, b] = fds[..] {
        if Address::loopback(family).bind(a) && Address::loopback(family).bind(b) {
            Address::of_socket(a).connect(b);
            Address::of_socket(b).connect(a);
        }
    }
    fds
}

fn unix(kind: i32) -> Vec<Fd> {
    let mut fds = [0i32; 2];
    let kind = (kind | libc::SOCK_NONBLOCK) as usize;
    let args = [libc::AF_UNIX as usize, kind, 0, address_mut(&mut fds)];
    let made = call(libc::SYS_socketpair, &args);
    made.map(|_| fds.to_vec()).unwrap_or_default()
}

fn unix_listener(random: &mut Random, _: &Place) -> Vec<Fd> {
    let kind = random.pick(&[libc::SOCK_STREAM, libc::SOCK_SEQPACKET]);
    let fds = socket(libc::AF_UNIX, kind, 0);
    match fds.first() {
        // The kernel chooses the name.
        Some(&listener) if Address::of(libc::AF_UNIX as u16).bind(listener) => {
            accepted(listener, Address::of_socket, libc::AF_UNIX, kind, 0)
        }
        _ => fds,
    }
}

fn netlink(random: &mut Random, _: &Place) -> Vec<Fd> {
    let protocol = random.pick(&[libc::NETLINK_ROUTE, libc::NETLINK_KOBJECT_UEVENT, 4, 16]);
    socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)
}

fn sctp_many() -> Vec<Fd> {
    let mut fds = socket(libc::AF_INET, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP);
    fds.extend(socket(
        libc::AF_INET,
        libc::SOCK_SEQPACKET,
        libc::IPPROTO_SCTP,
    ));
    if let [a, b] = fds[..] {
        if Address::loopback(libc::AF_INET).bind(a) {
            let _ = call(libc::SYS_listen, &[a as usize, 4]);
            Address::of_socket(a).connect(b);
        }
    }
    fds
}

/// A service of this node: the type, and an instance or a range of instances.
#[repr(C)]
struct Tipc {
    family: u16,
    kind: u8,
    scope: i8,
    name: [u32; 3],
}

fn tipc(random: &mut Random, _: &Place) -> Vec<Fd> {
    let number = 10_000 + random.below(1 << 30) as u32;
    let named = |kind, last| {
        Address::of(Tipc {
            family: AF_TIPC as u16,
            kind,
            scope: 3,
            name: [number, 17, last],
        })
    };
    let kind = random.pick(&[
        libc::SOCK_RDM,
        libc::SOCK_RDM,
        libc::SOCK_STREAM,
        libc::SOCK_SEQPACKET,
    ]);
    let fds = socket(AF_TIPC, kind, 0);
    let Some(&first) = fds.first() else {
        return fds;
    };
    if !named(1, 17).bind(first) {
        return fds;
    }
    if kind != libc::SOCK_RDM {
        return accepted(first, |_| named(2, 0), AF_TIPC, kind, 0);
    }
    let other = socket(AF_TIPC, kind, 0);
    // The destination of messages that are sent without an address.
    other.iter().for_each(|&fd| named(2, 0).connect(fd));
    [fds, other].concat()
}

fn vsock(_: &mut Random, _: &Place) -> Vec<Fd> {
    let address = |port| {
        Address::of(libc::sockaddr_vm {
            svm_family: libc::AF_VSOCK as u16,
            svm_reserved1: 0,
            svm_port: port,
            svm_cid: libc::VMADDR_CID_LOCAL,
            svm_zero: [0; 4],
        })
    };
    let fds = socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0);
    match fds.first() {
        Some(&listener) if address(libc::VMADDR_PORT_ANY).bind(listener) => accepted(
            listener,
            Address::of_socket,
            libc::AF_VSOCK,
            libc::SOCK_STREAM,
            0,
        ),
        _ => fds,
    }
}

fn alg(random: &mut Random, _: &Place) -> Vec<Fd> {
    let mut fds = socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
    let Some(&fd) = fds.first() else {
        return fds;
    };
    let mut bytes = [0u8; 88];
    bytes[..2].copy_from_slice(&(libc::AF_ALG as u16).to_ne_bytes());
    let (kind, name) = random.pick(&[("hash", "sha256"), ("skcipher", "cbc(aes)")]);
    bytes[2..2 + kind.len()].copy_from_slice(kind.as_bytes());
    bytes[24..24 + name.len()].copy_from_slice(name.as_bytes());
    if Address::of(bytes).bind(fd) {
        let key = [1u8; 16];
        let args = [
            fd as usize,
            libc::SOL_ALG as usize,
            libc::ALG_SET_KEY as usize,
        ];
        let _ = call(
            libc::SYS_setsockopt,
            &[args[0], args[1], args[2], address(&key), 16],
        );
        fds.extend(one(call(libc::SYS_accept4, &[fd as usize, 0, 0, 0])));
    }
    fds
}

fn kcm(random: &mut Random, _: &Place) -> Vec<Fd> {
    let kind = random.pick(&[libc::SOCK_DGRAM, libc::SOCK_SEQPACKET]);
    let mut fds = socket(AF_KCM, kind, 0);
    if let Some(&fd) = fds.first() {
        // Another socket of the same multiplexer.
        let mut clone = 0i32;
        let args = [fd as usize, 0x89e2, address_mut(&mut clone)];
        if call(libc::SYS_ioctl, &args).is_ok() {
            fds.push(clone);
        }
    }
    fds
}

fn qrtr(_: &mut Random, _: &Place) -> Vec<Fd> {
    let mut fds = socket(AF_QIPCRTR, libc::SOCK_DGRAM, 0);
    fds.extend(socket(AF_QIPCRTR, libc::SOCK_DGRAM, 0));
    if let [a, b] = fds[..] {
        Address::of_socket(a).connect(b);
        Address::of_socket(b).connect(a);
    }
    fds
}
