// SPDX-License-Identifier: GPL-2.0

//! Invalid arguments fail with the documented errno and change nothing.

use crate::common::*;
use kqueue::{
    abi, ev, kqueue_ioc_change, kqueue_ioc_poll, kqueue_ioc_wait, note, Event, Filter, Kqueue,
    IOC_MOST, KQUEUE_IOC_KEVENT,
};
use std::os::fd::AsRawFd;

fn call(args: &abi::kqueue_kevent) -> std::io::Result<usize> {
    let kqueue = kqueue();
    // SAFETY: The tests give addresses that are not mapped, or no lists.
    unsafe { kqueue::kevent_raw(kqueue.as_raw_fd(), &mut args.clone()) }
}

fn poll() -> abi::kqueue_kevent {
    abi::kqueue_kevent {
        flags: abi::KQUEUE_TIMEOUT,
        ..Default::default()
    }
}

#[test]
fn flags_and_reserved_fields() {
    for bit in 1..32 {
        assert_eq!(
            errno(call(&abi::kqueue_kevent {
                flags: 1 << bit,
                ..poll()
            })),
            libc::EINVAL
        );
    }
    for reserved in [[1, 0], [0, 1]] {
        assert_eq!(
            errno(call(&abi::kqueue_kevent { reserved, ..poll() })),
            libc::EINVAL
        );
    }
    // The contents are left from the last call.
    let scratch = 1;
    let args = abi::kqueue_kevent { scratch, ..poll() };
    assert_eq!(call(&args).unwrap(), 0);
}

#[test]
fn timeouts() {
    for (tv_sec, tv_nsec) in [
        (-1, 0),
        (i64::MIN, 0),
        (0, -1),
        (0, 1_000_000_000),
        (0, i64::MAX),
        (-1, 999_999_999),
    ] {
        let args = abi::kqueue_kevent {
            tv_sec,
            tv_nsec,
            ..poll()
        };
        assert_eq!(errno(call(&args)), libc::EINVAL);
        // Without the flag the kernel ignores these fields.
        assert_eq!(call(&abi::kqueue_kevent { flags: 0, ..args }).unwrap(), 0);
    }
}

/// Differs from DragonFly, FreeBSD: The counts and the timeout are checked before the first change
/// is applied.
/// Because a call with wrong arguments then changes nothing.
#[test]
fn counts() {
    for count in [1 << 31, u32::MAX] {
        assert_eq!(
            errno(call(&abi::kqueue_kevent {
                nchanges: count,
                ..poll()
            })),
            libc::EINVAL
        );
        assert_eq!(
            errno(call(&abi::kqueue_kevent {
                nevents: count,
                ..poll()
            })),
            libc::EINVAL
        );
    }
    // Room in the list that is not used need not be mapped.
    assert_eq!(
        call(&abi::kqueue_kevent {
            nevents: i32::MAX as u32,
            ..poll()
        })
        .unwrap(),
        0
    );
}

#[test]
fn addresses() {
    for address in [0, 8, 1 << 46, 1 << 63, u64::MAX - 7] {
        let changes = abi::kqueue_kevent {
            changelist: address,
            nchanges: 1,
            ..poll()
        };
        assert_eq!(errno(call(&changes)), libc::EFAULT);
        let most = abi::kqueue_kevent {
            nchanges: i32::MAX as u32,
            ..changes
        };
        assert_eq!(errno(call(&most)), libc::EFAULT);

        let kqueue = kqueue();
        let add = Event::new(1, Filter::USER, ev::ADD).fflags(note::TRIGGER);
        change(&kqueue, &[add]);
        let events = abi::kqueue_kevent {
            eventlist: address,
            nevents: 1,
            ..poll()
        };
        // SAFETY: No memory of this process is at these addresses.
        let result = unsafe { kqueue::kevent_raw(kqueue.as_raw_fd(), &mut events.clone()) };
        assert_eq!(errno(result), libc::EFAULT);
        one(&kqueue);

        // SAFETY: No memory of this process is at these addresses.
        let ret = unsafe { libc::ioctl(kqueue.as_raw_fd(), KQUEUE_IOC_KEVENT as _, address) };
        assert_eq!(
            (ret, errno::<()>(Err(std::io::Error::last_os_error()))),
            (-1, libc::EFAULT)
        );
    }
}

#[test]
fn other_ioctls() {
    let kqueue = kqueue();
    let args = poll();
    for command in [
        KQUEUE_IOC_KEVENT + 1,
        KQUEUE_IOC_KEVENT - (1 << 16),
        KQUEUE_IOC_KEVENT ^ (1 << 8),
        0,
        libc::TCGETS,
    ] {
        // SAFETY: The argument is valid for reads, and no other thread writes to it.
        let ret = unsafe { libc::ioctl(kqueue.as_raw_fd(), command as _, &args) };
        assert_eq!(
            (ret, errno::<()>(Err(std::io::Error::last_os_error()))),
            (-1, libc::ENOTTY)
        );
    }
}

/// Calls one of the ioctls without arguments in memory. `address` is its argument.
fn short(kqueue: &Kqueue, command: u64, address: usize) -> std::io::Result<usize> {
    // SAFETY: The callers give a list as long as the number says, or an address that is not mapped.
    let ret = unsafe { libc::ioctl(kqueue.as_raw_fd(), command as _, address) };
    usize::try_from(ret).map_err(|_| std::io::Error::last_os_error())
}

#[test]
fn short_forms_collect_and_change() {
    let kqueue = kqueue();
    let changes: Vec<Event> = (0..IOC_MOST as u64)
        .map(|ident| Event::new(ident, Filter::USER, ev::ADD).fflags(note::TRIGGER))
        .collect();
    let command = kqueue_ioc_change(changes.len());
    assert_eq!(short(&kqueue, command, changes.as_ptr().addr()).unwrap(), 0);
    let kinds: [fn(usize) -> u64; 2] = [kqueue_ioc_wait, kqueue_ioc_poll];
    for number in kinds {
        // The memory was never accessed before.
        let mut events = vec![Event::default(); IOC_MOST];
        let address = events.as_mut_ptr().addr();
        assert_eq!(short(&kqueue, number(0), address).unwrap(), 0);
        assert_eq!(short(&kqueue, number(1), address).unwrap(), 1);
        assert_eq!(short(&kqueue, number(IOC_MOST), address).unwrap(), IOC_MOST);
        let mut idents: Vec<u64> = events.iter().map(|event| event.ident).collect();
        idents.sort();
        assert!(idents.iter().copied().eq(0..IOC_MOST as u64));
    }
}

#[test]
fn short_changes_end_with_the_first_that_fails() {
    let kqueue = kqueue();
    let user = |ident| Event::new(ident, Filter::USER, ev::ADD).fflags(note::TRIGGER);
    let missing = Event::new(99, Filter::USER, ev::DELETE);
    for at in [0, 1, 15, 16, 17, 40] {
        let mut changes: Vec<Event> = (0..41).map(user).collect();
        changes[at] = missing;
        let command = kqueue_ioc_change(changes.len());
        let kqueue = Kqueue::new().unwrap();
        let result = short(&kqueue, command, changes.as_ptr().addr());
        assert_eq!(errno(result), libc::ENOENT, "{at}");
        assert_eq!(pending(&kqueue).len(), at);
    }
    // A part of the list is unmapped. The changes before it are applied in steps of 16.
    for address in [0, 8, 1 << 46, usize::MAX - 7] {
        let result = short(&kqueue, kqueue_ioc_change(1), address);
        assert_eq!(errno(result), libc::EFAULT);
    }
}

#[test]
fn short_forms_lose_no_event() {
    let kqueue = kqueue();
    let add = Event::new(1, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER);
    change(&kqueue, &[add]);
    for address in [0, 8, 1 << 46, usize::MAX - 7] {
        for number in [kqueue_ioc_wait(1), kqueue_ioc_poll(1)] {
            assert_eq!(errno(short(&kqueue, number, address)), libc::EFAULT);
        }
    }
    one(&kqueue);
    assert_eq!(pending(&kqueue), []);
}

#[test]
fn short_forms_leave_the_list_alone() {
    let kqueue = kqueue();
    let (master, slave) = crate::kinds::pty();
    let pattern = Event::new(!0, Filter(-77), 0x5555)
        .fflags(!0)
        .data(-3)
        .udata(!1);
    let mut events = [pattern; 3];
    let address = events.as_mut_ptr().addr();
    let poll = kqueue_ioc_poll(events.len());
    // The bytes in a terminal are counted by means of the list's memory. There are none.
    change(&kqueue, &[add_read(&slave, 0)]);
    assert_eq!(short(&kqueue, poll, address).unwrap(), 0);
    assert_eq!(events, [pattern; 3]);
    write(&master, b"line\n");
    soon(&kqueue);
    assert_eq!(short(&kqueue, poll, address).unwrap(), 1);
    assert_eq!(
        (events[0].ident, events[0].data),
        (slave.as_raw_fd() as u64, 5)
    );
    assert_eq!(events[1..], [pattern; 2]);
    read(&slave, 5);
    events[0] = pattern;
    assert_eq!(short(&kqueue, poll, address).unwrap(), 0);
    assert_eq!(events, [pattern; 3]);
}

#[test]
fn other_short_forms() {
    let kqueue = kqueue();
    let mut events = [Event::default(); 1];
    let address = events.as_mut_ptr().addr();
    for command in [
        kqueue_ioc_change(1) + 1,
        kqueue_ioc_change(1) | 2 << 30,
        kqueue_ioc_wait(1) ^ 2 << 30,
        kqueue_ioc_poll(1) | 1 << 30,
        kqueue_ioc_poll(1) ^ (1 << 8),
    ] {
        assert_eq!(errno(short(&kqueue, command, address)), libc::ENOTTY);
    }
}

#[test]
fn a_later_version_of_the_arguments() {
    #[repr(C)]
    struct Later {
        known: abi::kqueue_kevent,
        unknown: [u64; 5],
    }
    let kqueue = kqueue();
    let command = KQUEUE_IOC_KEVENT + ((5 * 8) << 16);
    let call = |args: &Later| {
        // SAFETY: The argument is as large as the number says.
        match unsafe { libc::ioctl(kqueue.as_raw_fd(), command as _, args) } {
            -1 => Err(std::io::Error::last_os_error()),
            count => Ok(count),
        }
    };
    let mut args = Later {
        known: poll(),
        unknown: [0; 5],
    };
    assert_eq!(call(&args).unwrap(), 0);
    args.unknown[4] = 1;
    assert_eq!(errno(call(&args)), libc::E2BIG);
}

#[test]
fn a_descriptor_that_is_not_a_kqueue() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let on = |fd| {
        // SAFETY: No lists.
        unsafe { kqueue::kevent_raw(fd, &mut poll()) }
    };
    assert_eq!(errno(on(file.as_raw_fd())), libc::ENOTTY);
    assert_eq!(errno(on(-1)), libc::EBADF);
}
