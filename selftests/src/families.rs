// SPDX-License-Identifier: GPL-2.0

//! Sockets of families that use their own locks, and files whose operations are replaced. An
//! unprivileged user evaluates them while there is traffic. KASAN detects reads of freed memory.

use crate::{common::*, datagram, socket};
use kqueue::{ev, note, Event, Filter};
use std::{
    fs,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    thread,
    time::Duration,
};

const NOBODY: u32 = 65534;
const IPPROTO_MPTCP: i32 = 262;
const IPPROTO_SCTP: i32 = 132;
const AF_KCM: i32 = 41;
const AF_QIPCRTR: i32 = 42;
const AF_TIPC: i32 = 30;

/// Runs `test` as an unprivileged user.
#[track_caller]
fn as_nobody(test: impl FnOnce()) {
    let passed = in_child(|| {
        // The parent does not show the output of a test.
        std::panic::set_hook(Box::new(|panic| {
            let _ = writeln!(io::stderr(), "{panic}");
        }));
        // SAFETY: No groups; then only numbers.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setgid(NOBODY), 0);
            assert_eq!(libc::setuid(NOBODY), 0);
        }
        test();
        true
    });
    assert!(passed);
}

#[track_caller]
fn owned(fd: libc::c_long) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: The callers pass new descriptors.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

#[track_caller]
fn new(family: i32, kind: i32, protocol: i32) -> OwnedFd {
    // SAFETY: The arguments are integers.
    owned(unsafe { libc::socket(family, kind, protocol) }.into())
}

/// A socket address in the form that the kernel uses.
type Address = Vec<u8>;

fn address_of<T>(value: &T) -> Address {
    let pointer = std::ptr::from_ref(value).cast::<u8>();
    // SAFETY: The callers pass structures of the ABI, all bytes of which are set.
    unsafe { std::slice::from_raw_parts(pointer, size_of::<T>()) }.to_vec()
}

fn inet() -> Address {
    let mut bytes = vec![0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    bytes
}

/// Returns the address of a TIPC service of that type, on this node only.
fn tipc(service: u32) -> Address {
    #[repr(C)]
    struct Tipc {
        family: u16,
        kind: u8,
        scope: i8,
        service: u32,
        instance: u32,
        domain: u32,
    }
    address_of(&Tipc {
        family: AF_TIPC as u16,
        kind: 2,
        scope: 3,
        service: 10_000 + service,
        instance: 17,
        domain: 0,
    })
}

fn vsock() -> Address {
    address_of(&libc::sockaddr_vm {
        svm_family: libc::AF_VSOCK as u16,
        svm_reserved1: 0,
        svm_port: libc::VMADDR_PORT_ANY,
        svm_cid: libc::VMADDR_CID_LOCAL,
        svm_zero: [0; 4],
    })
}

#[track_caller]
fn bind(fd: &OwnedFd, address: &Address) {
    // SAFETY: The address is valid for its length.
    let ret = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            address.as_ptr().cast(),
            address.len() as u32,
        )
    };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
}

#[track_caller]
fn connect(fd: &OwnedFd, address: &Address) {
    // SAFETY: The address is valid for its length.
    let ret = unsafe {
        libc::connect(
            fd.as_raw_fd(),
            address.as_ptr().cast(),
            address.len() as u32,
        )
    };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
}

/// Returns the address to which a socket is bound.
#[track_caller]
fn name(fd: &OwnedFd) -> Address {
    let mut address = vec![0; 128];
    let mut length = address.len() as u32;
    // SAFETY: There is room for this number of bytes.
    let ret =
        unsafe { libc::getsockname(fd.as_raw_fd(), address.as_mut_ptr().cast(), &mut length) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    address.truncate(length as usize);
    address
}

fn send(fd: &OwnedFd, bytes: &[u8]) -> isize {
    let (fd, flags) = (fd.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: The buffer is valid for its length.
    unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) }
}

fn receive(fd: &OwnedFd, bytes: &mut [u8]) -> isize {
    let length = bytes.len();
    // SAFETY: There is room for this number of entries.
    unsafe {
        libc::recv(
            fd.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            length,
            libc::MSG_DONTWAIT,
        )
    }
}

/// Two threads send and receive while two others collect events. `check` checks each `EVFILT_READ`
/// event.
#[track_caller]
fn traffic(from: &OwnedFd, to: &OwnedFd, sizes: &[usize], check: impl Fn(Event) + Sync) {
    const LOOKS: usize = 1000;
    let stop = AtomicBool::new(false);
    let (mut sent, mut got) = (0, 0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut random = Random(0x5eed);
            let mut sent = 0;
            // The collecting threads may finish before this thread has run at all.
            while sent == 0 || !stop.load(Ordering::Relaxed) {
                let size = sizes[random.below(sizes.len() as u64) as usize];
                sent += usize::from(send(from, &vec![b'x'; size]) > 0);
            }
            sent
        });
        let receiver = scope.spawn(|| {
            let mut buffer = vec![0; 8192];
            let mut got = 0;
            while got == 0 || !stop.load(Ordering::Relaxed) {
                got += usize::from(receive(to, &mut buffer) > 0);
            }
            got
        });
        let check = &check;
        let look = |flags| {
            move || {
                let kqueue = kqueue();
                change(&kqueue, &[add_read(to, flags), add_write(to, flags)]);
                for _ in 0..LOOKS {
                    for event in pending(&kqueue) {
                        assert!(!event.has(ev::EOF) && event.fflags == 0, "{event:?}");
                        assert!(event.data >= 0, "{event:?}");
                        if event.filter == Filter::READ {
                            check(event);
                        }
                    }
                }
            }
        };
        let lookers = [scope.spawn(look(0)), scope.spawn(look(ev::CLEAR))];
        let looked = lookers.map(|looker| looker.join());
        stop.store(true, Ordering::Relaxed);
        (sent, got) = (sender.join().unwrap(), receiver.join().unwrap());
        for result in looked {
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        }
    });
    assert!(sent > 0 && got > 0, "{sent} sent, {got} received");
}

fn uncounted(event: Event) {
    assert_eq!(event.data, 1, "{event:?}");
}

/// Checks that `data` is not more than the buffers can hold.
fn counted(event: Event) {
    assert!(event.data < 1 << 24, "{event:?}");
}

/// Checks the events of a connection whose family is only polled, from before the connection to its
/// end.
fn connection(family: i32, kind: i32, protocol: i32, address: &Address) {
    let listener = new(family, kind, protocol);
    bind(&listener, address);
    // SAFETY: The arguments are integers.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 8) }, 0);
    let at = match family {
        AF_TIPC => address.clone(),
        _ => name(&listener),
    };
    let kqueue = kqueue();
    let client = new(family, kind, protocol);
    change(
        &kqueue,
        &[add_read(&listener, 0), add_read(&client, ev::CLEAR)],
    );
    let events = pending(&kqueue);
    assert!(events.is_empty(), "before the connection: {events:?}");
    let unconnected = new(family, kind, protocol);
    change(&kqueue, &[add_write(&unconnected, ev::ONESHOT)]);
    for event in pending(&kqueue) {
        assert!(!event.has(ev::EOF), "before the connection: {event:?}");
    }
    drop(unconnected);
    // In TIPC the call waits until the connection is accepted.
    let server = thread::scope(|scope| {
        scope.spawn(|| connect(&client, &at));
        let event = soon(&kqueue)[0];
        assert_eq!(event.ident, listener.as_raw_fd() as u64, "{event:?}");
        assert!(event.data >= 1 && !event.has(ev::EOF), "{event:?}");
        let null = std::ptr::null_mut();
        // SAFETY: No address is asked for.
        let fd = unsafe { libc::accept(listener.as_raw_fd(), null, std::ptr::null_mut()) };
        owned(fd.into())
    });
    let delete = |fd: &OwnedFd| Event::fd(fd.as_raw_fd(), Filter::READ, ev::DELETE);
    change(&kqueue, &[delete(&listener), delete(&client)]);
    change(&kqueue, &[add_read(&server, 0)]);
    let events = pending(&kqueue);
    assert!(events.is_empty(), "before the first byte: {events:?}");
    assert_eq!(send(&client, &[0; 100]), 100);
    let event = one(&kqueue);
    assert!(event.data == 1 && !event.has(ev::EOF), "{event:?}");
    // If bytes are not counted, every low-water mark is reached.
    change(
        &kqueue,
        &[add_read(&server, 0).fflags(note::LOWAT).data(50)],
    );
    assert_eq!(one(&kqueue).data, 1);
    change(&kqueue, &[add_read(&server, 0)]);
    assert_eq!(receive(&server, &mut [0; 200]), 100);
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[delete(&server), add_write(&server, 0)]);
    let event = one(&kqueue);
    assert!(event.data >= 1 && !event.has(ev::EOF), "{event:?}");
    change(
        &kqueue,
        &[Event::fd(server.as_raw_fd(), Filter::WRITE, ev::DELETE)],
    );
    traffic(&client, &server, &[1, 100, 1000, 4000], uncounted);
    drop(client);
    change(&kqueue, &[add_read(&server, 0)]);
    while !one(&kqueue).has(ev::EOF) {
        receive(&server, &mut [0; 8192]);
    }
}

#[test]
fn mptcp() {
    as_nobody(|| connection(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP, &inet()));
}

/// An unconnected MPTCP socket has no event, as with TCP, although poll(2) reports `POLLHUP`.
#[test]
fn mptcp_before_the_connection() {
    as_nobody(|| {
        let fd = new(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP);
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&fd, 0), add_write(&fd, 0)]);
        assert!(pending(&kqueue).is_empty());
    });
}

#[test]
fn sctp() {
    as_nobody(|| connection(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SCTP, &inet()));
}

/// A one-to-many socket is not a connection. The listening socket itself receives the messages.
#[test]
fn sctp_one_to_many() {
    as_nobody(|| {
        let to = new(libc::AF_INET, libc::SOCK_SEQPACKET, IPPROTO_SCTP);
        let from = new(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SCTP);
        bind(&to, &inet());
        // SAFETY: The arguments are integers.
        assert_eq!(unsafe { libc::listen(to.as_raw_fd(), 8) }, 0);
        connect(&from, &name(&to));
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&to, 0)]);
        assert!(pending(&kqueue).is_empty());
        assert_eq!(send(&from, &[0; 100]), 100);
        let event = one(&kqueue);
        assert!(event.data == 1 && !event.has(ev::EOF), "{event:?}");
        traffic(&from, &to, &[1, 100, 1000], uncounted);
    });
}

#[test]
fn tipc_stream() {
    as_nobody(|| connection(AF_TIPC, libc::SOCK_STREAM, 0, &tipc(1)));
}

#[test]
fn tipc_seqpacket() {
    as_nobody(|| connection(AF_TIPC, libc::SOCK_SEQPACKET, 0, &tipc(2)));
}

#[test]
fn tipc_datagrams() {
    for kind in [libc::SOCK_RDM, libc::SOCK_DGRAM] {
        as_nobody(|| {
            let (from, to) = (new(AF_TIPC, kind, 0), new(AF_TIPC, kind, 0));
            bind(&to, &tipc(3));
            connect(&from, &tipc(3));
            traffic(&from, &to, &[1, 64, 1000], uncounted);
        });
    }
}

#[test]
fn vsock_stream() {
    as_nobody(|| connection(libc::AF_VSOCK, libc::SOCK_STREAM, 0, &vsock()));
}

#[test]
fn vsock_seqpacket() {
    as_nobody(|| connection(libc::AF_VSOCK, libc::SOCK_SEQPACKET, 0, &vsock()));
}

#[test]
fn qrtr() {
    as_nobody(|| {
        let make = || new(AF_QIPCRTR, libc::SOCK_DGRAM, 0);
        let (from, to) = (make(), make());
        // This node's number, and whatever port is free.
        bind(&to, &name(&to));
        connect(&from, &name(&to));
        traffic(&from, &to, &[4, 64, 1000], uncounted);
    });
}

/// The socket is not bound to an interface.
#[test]
fn can() {
    as_nobody(|| {
        let fd = new(libc::AF_CAN, libc::SOCK_RAW, libc::CAN_RAW);
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&fd, 0), add_write(&fd, 0)]);
        let event = one(&kqueue);
        assert_eq!((event.filter, event.data), (Filter::WRITE, 1), "{event:?}");
    });
}

/// The kernel's ciphers as sockets return the data that is written to them.
#[test]
fn algorithms() {
    let mut address = vec![0; 88];
    address[..2].copy_from_slice(&(libc::AF_ALG as u16).to_ne_bytes());
    address[2..10].copy_from_slice(b"skcipher");
    address[24..32].copy_from_slice(b"cbc(aes)");
    let parent = new(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
    // Some ciphers are not available to all users.
    bind(&parent, &address);
    option(&parent, libc::SOL_ALG, libc::ALG_SET_KEY, &[7; 16]);
    as_nobody(|| {
        let null = std::ptr::null_mut();
        // SAFETY: No address is asked for.
        let fd = unsafe { libc::accept(parent.as_raw_fd(), null, std::ptr::null_mut()) };
        let cipher = owned(fd.into());
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&parent, 0), add_write(&parent, 0)]);
        assert!(pending(&kqueue).is_empty());
        traffic(&cipher, &cipher, &[16, 64, 1024], uncounted);
    });
}

#[track_caller]
fn option(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) {
    // SAFETY: The value is valid for its length.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as u32,
        )
    };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
}

/// Returns both ends of a TCP connection over loopback.
fn tcp() -> (OwnedFd, OwnedFd) {
    let (client, server) = socket::tcp();
    (client.into(), server.into())
}

/// TCP does not count the bytes that TLS has decrypted. A part of a record is not readable yet.
#[test]
fn tls() {
    as_nobody(|| {
        const SOL_TLS: i32 = 282;
        const TLS_TX: i32 = 1;
        const TLS_RX: i32 = 2;
        let (client, server) = tcp();
        let kqueue = kqueue();
        // The knote is added before the protocol on top of TCP.
        change(&kqueue, &[add_read(&server, 0)]);
        // `struct tls12_crypto_info_aes_gcm_128`: version and cipher; whatever keys.
        let mut keys = [3u8; 40];
        keys[..4].copy_from_slice(&[0x03, 0x03, 51, 0]);
        for (fd, direction) in [(&client, TLS_TX), (&server, TLS_RX)] {
            option(fd, libc::SOL_TCP, libc::TCP_ULP, b"tls\0");
            option(fd, SOL_TLS, direction, &keys);
        }
        assert!(pending(&kqueue).is_empty());
        assert_eq!(send(&client, &[0; 100]), 100);
        let event = one(&kqueue);
        assert!(event.data == 1 && !event.has(ev::EOF), "{event:?}");
        assert_eq!(receive(&server, &mut [0; 200]), 100);
        assert!(pending(&kqueue).is_empty());
        traffic(&client, &server, &[1, 100, 1000], counted);
        drop(client);
        while !one(&kqueue).has(ev::EOF) {
            receive(&server, &mut [0; 8192]);
        }
    });
}

/// bpf(2).
#[track_caller]
fn bpf(command: libc::c_int, words: &[u64]) -> libc::c_long {
    // SAFETY: The attributes are valid for their length, and all that they point to is.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
    assert!(ret >= 0, "{}", io::Error::last_os_error());
    ret
}

/// Loads a program of that type that returns a constant.
fn program(kind: u32, returns: u32) -> OwnedFd {
    // `r0 = returns; exit`
    let code = [0xb7 | u64::from(returns) << 32, 0x95];
    let license = c"GPL";
    let words = [
        u64::from(kind) | 2 << 32,
        code.as_ptr().addr() as u64,
        license.as_ptr().addr() as u64,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    owned(bpf(5, &words))
}

/// Creates a sockmap with one entry.
fn sockmap() -> OwnedFd {
    // Type, sizes of key and value, entries.
    owned(bpf(0, &[15 | 4 << 32, 4 | 1 << 32, 0, 0, 0, 0, 0, 0, 0]))
}

fn put(map: &OwnedFd, socket: &OwnedFd) {
    let (key, value) = (0u32, socket.as_raw_fd());
    let pointers = [
        (&raw const key).addr() as u64,
        (&raw const value).addr() as u64,
    ];
    bpf(2, &[map.as_raw_fd() as u64, pointers[0], pointers[1], 0]);
}

/// Without a program the bytes stay in the queue of TCP. With one they are taken from it.
#[test]
fn socket_of_a_sockmap() {
    const SK_SKB: u32 = 14;
    const STREAM_VERDICT: u64 = 5;
    const PASS: u32 = 1;
    for diverted in [false, true] {
        let (client, server) = tcp();
        let kqueue = kqueue();
        // The knote is added before the map.
        change(&kqueue, &[add_read(&server, 0)]);
        let map = sockmap();
        let verdict = program(SK_SKB, PASS);
        if diverted {
            let target = map.as_raw_fd() as u64;
            bpf(
                8,
                &[
                    target | (verdict.as_raw_fd() as u64) << 32,
                    STREAM_VERDICT,
                    0,
                ],
            );
        }
        put(&map, &server);
        assert_eq!(send(&client, &[0; 100]), 100);
        let event = one(&kqueue);
        assert_eq!(event.data, if diverted { 1 } else { 100 }, "{event:?}");
        assert_eq!(receive(&server, &mut [0; 200]), 100);
        assert!(pending(&kqueue).is_empty());
        as_nobody(|| {
            traffic(&client, &server, &[1, 100, 1000], counted);
        });
        // The socket is removed from the map again.
        drop((map, verdict));
    }
}

/// Messages over a TCP connection, ten bytes each.
#[test]
fn kcm() {
    const SOCKET_FILTER: u32 = 1;
    const SIOCKCMATTACH: libc::c_ulong = 0x89e0;
    let (client, server) = tcp();
    let parser = program(SOCKET_FILTER, 10);
    let kcm = new(AF_KCM, libc::SOCK_DGRAM, 0);
    let attach = [server.as_raw_fd(), parser.as_raw_fd()];
    // SAFETY: The structure is valid.
    let ret = unsafe { libc::ioctl(kcm.as_raw_fd(), SIOCKCMATTACH as _, &attach) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    as_nobody(|| {
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&kcm, 0)]);
        assert!(pending(&kqueue).is_empty());
        assert_eq!(send(&client, &[0; 10]), 10);
        let event = one(&kqueue);
        assert!(event.data == 1 && !event.has(ev::EOF), "{event:?}");
        traffic(&client, &kcm, &[10, 100, 1000], uncounted);
    });
}

/// The messages of these families are counted under the lock of their queue.
#[test]
fn counted_families_under_traffic() {
    as_nobody(|| {
        let (a, b) = datagram::udp(std::net::Ipv4Addr::LOCALHOST.into());
        traffic(&a.into(), &b.into(), &[1, 100, 1000], counted);
        let (a, b) = datagram::seqpacket();
        traffic(&a, &b, &[1, 100, 1000], counted);
        let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
        traffic(&a.into(), &b.into(), &[1, 100, 1000], counted);
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        traffic(&a.into(), &b.into(), &[1, 100, 1000], counted);
        let (a, b) = tcp();
        traffic(&a, &b, &[1, 100, 1000], counted);
    });
}

/// Line disciplines change and terminals hang up while two threads evaluate reading and writing.
#[test]
fn terminals_that_hang_up() {
    const ROUNDS: usize = 150;
    const N_NULL: libc::c_int = 27;
    let kqueue = kqueue();
    let (stop, current) = (AtomicBool::new(false), AtomicI32::new(-1));
    // SAFETY: They would end us.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGCONT, libc::SIG_IGN);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
    }
    thread::scope(|scope| {
        let look = || {
            while !stop.load(Ordering::Relaxed) {
                for event in pending(&kqueue) {
                    assert!(event.data >= 0, "{event:?}");
                }
            }
        };
        let busy = |of: &dyn Fn(libc::c_int)| {
            while !stop.load(Ordering::Relaxed) {
                of(current.load(Ordering::Relaxed));
                thread::yield_now();
            }
        };
        scope.spawn(look);
        scope.spawn(look);
        // The number may refer to another file or to none when it is used.
        scope.spawn(move || {
            busy(&|fd| {
                // SAFETY: The arguments are integers.
                unsafe { libc::ioctl(fd, libc::TIOCVHANGUP) };
            })
        });
        scope.spawn(move || {
            busy(&|fd| {
                for discipline in [N_NULL, 0] {
                    // SAFETY: A pointer to an int.
                    unsafe { libc::ioctl(fd, libc::TIOCSETD, &discipline) };
                }
            })
        });
        for round in 0..ROUNDS {
            let (mut master, mut slave) = (-1, -1);
            let (name, none) = (std::ptr::null_mut(), std::ptr::null());
            // SAFETY: There is room for both descriptors. The name and the settings are null.
            let ret = unsafe { libc::openpty(&mut master, &mut slave, name, none, none.cast()) };
            assert_eq!(ret, 0, "{}", io::Error::last_os_error());
            let (master, slave) = (owned(master.into()), owned(slave.into()));
            let lowat = add_write(&slave, 0).fflags(note::LOWAT).data(100_000);
            let changes = [
                add_read(&master, 0),
                add_write(&master, 0),
                add_read(&slave, 0),
                lowat,
            ];
            current.store(slave.as_raw_fd(), Ordering::Relaxed);
            change(&kqueue, &changes);
            for _ in 0..20 {
                for fd in [&master, &slave] {
                    // SAFETY: Six bytes. It may have hung up.
                    unsafe { libc::write(fd.as_raw_fd(), b"hello\n".as_ptr().cast(), 6) };
                }
            }
            current.store(-1, Ordering::Relaxed);
            if round % 2 == 0 {
                drop(master);
            } else {
                drop(slave);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A terminal whose line discipline changes does not tell its room. A low-water mark that cannot be
/// reached is not reached by that.
#[test]
fn a_changing_line_discipline_reaches_no_mark() {
    const CHANGES: i32 = 200;
    const N_NULL: libc::c_int = 27;
    // SAFETY: It would stop us.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let (mut master, mut slave) = (-1, -1);
    let (name, none) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: There is room for both descriptors. The name and the settings are null.
    let ret = unsafe { libc::openpty(&mut master, &mut slave, name, none, none.cast()) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    let (master, slave) = (owned(master.into()), owned(slave.into()));
    let set = |discipline: libc::c_int| {
        // SAFETY: A pointer to an int.
        unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSETD, &discipline) }
    };
    assert_eq!(set(N_NULL), 0, "{}", io::Error::last_os_error());
    let (kqueue, changes) = (kqueue(), AtomicI32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while changes.fetch_add(1, Ordering::Relaxed) < CHANGES {
                for discipline in [N_NULL, 0] {
                    set(discipline);
                    thread::sleep(Duration::from_millis(3));
                }
            }
        });
        while changes.load(Ordering::Relaxed) < CHANGES {
            for side in [&master, &slave] {
                let mark = add_write(side, 0).fflags(note::LOWAT).data(1_000_000);
                let events = collect(&kqueue, mark);
                assert!(events.is_empty(), "{events:?}");
            }
        }
    });
}

/// A sound card is removed while its mixer is watched, which replaces the file's operations.
#[test]
fn a_device_is_unplugged() {
    const DRIVER: &str = "/sys/bus/platform/drivers/snd_dummy";
    const CARD: &str = "snd_dummy.0";
    // `_IOWR('U', 0x16, int)`
    const SUBSCRIBE: libc::c_ulong = 0xc004_5516;
    if !Path::new(DRIVER).exists() {
        skip("the kernel has no driver snd_dummy");
    }
    for _ in 0..3 {
        let mixer = fs::File::open("/dev/snd/controlC0").unwrap();
        let on: libc::c_int = 1;
        // SAFETY: A pointer to an int.
        let ret = unsafe { libc::ioctl(mixer.as_raw_fd(), SUBSCRIBE as _, &on) };
        assert_eq!(ret, 0, "{}", io::Error::last_os_error());
        let kqueue = kqueue();
        change(&kqueue, &[add_read(&mixer, 0)]);
        assert!(pending(&kqueue).is_empty());
        thread::scope(|scope| {
            let look = || while !soon(&kqueue)[0].has(ev::EOF) {};
            let lookers = [scope.spawn(look), scope.spawn(look)];
            // The call returns when no process has the files open any more.
            let unplug = scope.spawn(|| fs::write(format!("{DRIVER}/unbind"), CARD));
            for looker in lookers {
                looker.join().unwrap();
            }
            change(&kqueue, &[add_write(&mixer, 0)]);
            assert!(soon(&kqueue).iter().all(|event| event.has(ev::EOF)));
            drop(mixer);
            unplug.join().unwrap().unwrap();
        });
        assert!(pending(&kqueue).is_empty());
        fs::write(format!("{DRIVER}/bind"), CARD).unwrap();
    }
}
