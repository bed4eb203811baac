// SPDX-License-Identifier: GPL-2.0

//! Each bit of `flags` and `fflags` is accepted, ignored or refused, with each filter.

use crate::common::*;
use kqueue::{abi, ev, note, Event, Filter, Kqueue};
use std::{
    fs::File,
    io::Read,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// The bits that the ABI does not define.
const UNKNOWN: [u16; 2] = [0x0100, 0x0400];
/// The flags that the kernel sets. A change can have them if it was an event before.
const SYSTEM: u16 = abi::EV_SYSFLAGS as u16;

/// Objects that can be watched, with an ident for each filter.
struct Watched {
    pipe: (OwnedFd, OwnedFd),
    socket: TcpStream,
    _peer: TcpStream,
    file: File,
    child: libc::pid_t,
    pidfd: OwnedFd,
}

impl Watched {
    fn new() -> Self {
        let pipe = pipe();
        let (socket, peer) = connection();
        let stop = pipe.1.as_raw_fd();
        let child = fork(|| {
            // SAFETY: Waits for a signal that ends it; the descriptor is its own copy.
            unsafe {
                libc::close(stop);
                libc::pause()
            }
        });
        Watched {
            pipe,
            socket,
            _peer: peer,
            file: File::open("/proc/self/exe").unwrap(),
            child,
            // SAFETY: The descriptor is new.
            pidfd: unsafe {
                let fd = libc::syscall(libc::SYS_pidfd_open, child, 0);
                OwnedFd::from_raw_fd(fd as RawFd)
            },
        }
    }

    /// Returns a change for each filter that adds a knote.
    fn adds(&self) -> Vec<Event> {
        let add = |ident: u64, filter| Event::new(ident, filter, ev::ADD);
        let of = |fd: &dyn AsRawFd, filter| Event::fd(fd.as_raw_fd(), filter, ev::ADD);
        vec![
            of(&self.pipe.0, Filter::READ),
            of(&self.pipe.1, Filter::WRITE),
            of(&self.socket, Filter::EXCEPT),
            of(&self.file, Filter::VNODE).fflags(note::ATTRIB),
            add(self.child as u64, Filter::PROC).fflags(note::EXIT),
            add(libc::SIGUSR1 as u64, Filter::SIGNAL),
            add(1, Filter::TIMER).data(3_600_000),
            add(1, Filter::USER),
            add(0, Filter::FS),
            of(&self.pidfd, Filter::PROCDESC).fflags(note::EXIT),
        ]
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: The process is a child of this one.
        unsafe { libc::kill(self.child, libc::SIGKILL) };
        reap(self.child);
    }
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap().0;
    (socket, peer)
}

/// Returns true if the knote exists, and deletes it.
fn is_there(kqueue: &Kqueue, add: &Event) -> bool {
    let delete = Event {
        flags: ev::DELETE,
        ..*add
    };
    match kqueue.kevent(&[delete], &mut [], None) {
        Ok(0) => true,
        result => {
            assert_eq!(errno(result), libc::ENOENT);
            false
        }
    }
}

fn with(event: &Event, flags: u16) -> Event {
    Event {
        flags: event.flags | flags,
        ..*event
    }
}

/// Differs from the BSDs, macOS: A flag that is not in the header (0x0100, 0x0400) fails with
/// EINVAL in every change.
/// Because the flag asks for something that does not exist: EV_UDATA_SPECIFIC and EV_DISPATCH2 of
/// macOS, EV_FORCEONESHOT of FreeBSD. The flags that the kernel sets in an event are ignored in a
/// change, since programs pass events as changes.
#[test]
fn unknown_flags_are_refused() {
    let watched = Watched::new();
    let kqueue = kqueue();
    for add in watched.adds() {
        for flag in UNKNOWN {
            for more in [0, ev::RECEIPT, SYSTEM] {
                let error = change_error(&kqueue, with(&add, flag | more));
                assert_eq!(error, libc::EINVAL, "{add:?} {flag:x}");
            }
            assert!(!is_there(&kqueue, &add), "{add:?} {flag:x}");
            // An existing knote does not change.
            change(&kqueue, &[add.udata(1)]);
            for action in [0, ev::ADD, ev::DELETE, ev::ENABLE, ev::DISABLE] {
                let other = Event {
                    flags: action | flag,
                    ..add.udata(2)
                };
                assert_eq!(change_error(&kqueue, other), libc::EINVAL, "{other:?}");
            }
            // With room the error is an event, and the next change is applied.
            let mut events = [Event::default(); 2];
            let changes = [with(&add, flag), Event { flags: 0, ..add }];
            let count = kqueue.kevent(&changes, &mut events, None).unwrap();
            assert_eq!(count, 1);
            assert_eq!(
                (events[0].flags, events[0].data),
                (ev::ERROR, libc::EINVAL.into())
            );
            assert!(is_there(&kqueue, &add), "{add:?} {flag:x}");
        }
    }
}

/// All other flags are accepted, alone and together with those that the kernel sets.
#[test]
fn known_flags_are_accepted() {
    let watched = Watched::new();
    let kqueue = kqueue();
    for add in watched.adds() {
        for bit in 0..16 {
            let flag = 1 << bit;
            if UNKNOWN.contains(&flag) || flag == ev::DELETE {
                continue;
            }
            for more in [0, SYSTEM] {
                change(&kqueue, &[with(&add, flag | more)]);
                assert!(is_there(&kqueue, &add), "{add:?} {flag:x}");
            }
        }
        // EV_ADD is first.
        change(&kqueue, &[with(&add, ev::DELETE)]);
        assert!(is_there(&kqueue, &add), "{add:?}");
    }
}

/// Differs from the BSDs, macOS: An unknown note fails with EINVAL for EVFILT_VNODE, EVFILT_PROC,
/// EVFILT_PROCDESC, EVFILT_TIMER and EVFILT_FS. The other filters accept any fflags.
/// Because a program that asks for an unknown note would wait for ever. (FreeBSD checks the notes
/// of timers.) The fflags of the other filters do not select what is reported, and an event that is
/// passed as a change may have an error number in them.
#[test]
fn unknown_notes_are_refused() {
    const VNODE: u32 = 0x7ff;
    const PROC: u32 =
        note::EXIT | note::FORK | note::EXEC | note::TRACK | note::TRACKERR | note::CHILD;
    const TIMER: u32 = note::SECONDS
        | note::MSECONDS
        | note::USECONDS
        | note::NSECONDS
        | note::ABSTIME
        | note::BOOTTIME;
    const FS: u32 = abi::VQ_MOUNT | abi::VQ_UNMOUNT;
    let watched = Watched::new();
    let kqueue = kqueue();
    for add in watched.adds() {
        let known = match add.filter {
            Filter::VNODE => VNODE,
            Filter::PROC => PROC,
            Filter::TIMER => TIMER,
            Filter::FS => FS,
            Filter::PROCDESC => note::EXIT,
            _ => u32::MAX,
        };
        for bit in 0..32 {
            let asked = add.fflags(1 << bit);
            if known & asked.fflags != 0 {
                change(&kqueue, &[asked]);
                assert!(is_there(&kqueue, &add), "{asked:?}");
                continue;
            }
            assert_eq!(change_error(&kqueue, asked), libc::EINVAL, "{asked:?}");
            // The same holds together with other flags, and for an existing knote.
            let both = add.fflags(add.fflags | asked.fflags);
            assert_eq!(change_error(&kqueue, both), libc::EINVAL, "{both:?}");
            change(&kqueue, &[add]);
            assert_eq!(change_error(&kqueue, both), libc::EINVAL, "{both:?}");
            // Deletions, and changes that leave the period of a timer as it is, do not use the
            // value.
            if add.filter == Filter::TIMER {
                let flags = ev::ENABLE;
                change(&kqueue, &[Event { flags, ..both }]);
            }
            let flags = ev::DELETE;
            change(&kqueue, &[Event { flags, ..both }]);
        }
    }
}

/// Programs keep an event and pass it as a change with another action.
#[test]
fn an_event_can_be_passed_as_a_change() {
    let watched = Watched::new();
    let kqueue = kqueue();
    // An event of a socket that was reset, with its error.
    let (socket, peer) = connection();
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: The option is of that size.
    let ret = unsafe {
        libc::setsockopt(
            peer.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        )
    };
    assert_eq!(ret, 0);
    drop(peer);
    write(&watched.pipe.1, b"x");
    let changes = [
        add_read(&socket, ev::DISPATCH),
        add_write(&socket, ev::DISPATCH),
        add_read(&watched.pipe.0, ev::DISPATCH),
        Event::fd(
            watched.file.as_raw_fd(),
            Filter::VNODE,
            ev::ADD | ev::DISPATCH,
        )
        .fflags(note::OPEN),
        Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD | ev::DISPATCH),
        Event::new(1, Filter::TIMER, ev::ADD | ev::DISPATCH).data(1),
        Event::new(1, Filter::USER, ev::ADD | ev::DISPATCH)
            .fflags(note::TRIGGER | note::FFCOPY | 7),
    ];
    change(&kqueue, &changes);
    File::open("/proc/self/exe")
        .unwrap()
        .read_exact(&mut [0])
        .unwrap();
    // SAFETY: The signal is ignored, which does not keep it from being counted.
    unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::kill(libc::getpid(), libc::SIGUSR1);
    }
    let mut seen = Vec::new();
    while seen.len() < changes.len() {
        seen.extend(soon(&kqueue));
    }
    assert!(seen
        .iter()
        .any(|event| event.fflags == libc::ECONNRESET as u32));
    for action in [ev::ENABLE, ev::ADD | ev::DISABLE, ev::DELETE] {
        for event in &seen {
            let again = Event {
                flags: event.flags & !(ev::ADD | ev::DISPATCH) | action,
                ..*event
            };
            change(&kqueue, &[again]);
        }
    }
    assert!(pending(&kqueue).is_empty());
}
