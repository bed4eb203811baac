// SPDX-License-Identifier: GPL-2.0

//! Bad input gets its errno, and changes nothing.

use crate::common::*;
use kqueue::{abi, ev, note, Event, Filter, KQUEUE_IOC_KEVENT};
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
    // What is left of the last call.
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
        // Without the flag they are not looked at.
        assert_eq!(call(&abi::kqueue_kevent { flags: 0, ..args }).unwrap(), 0);
    }
}

/// Differs from DragonFly, FreeBSD: Counts and timeouts are checked before the first change is
/// applied.
/// Because a bad call changes nothing.
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
    // Room that is never used need not exist.
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
        // SAFETY: Nothing of ours is at these addresses.
        let result = unsafe { kqueue::kevent_raw(kqueue.as_raw_fd(), &mut events.clone()) };
        assert_eq!(errno(result), libc::EFAULT);
        one(&kqueue);

        // SAFETY: As above.
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
        // SAFETY: The argument is valid for reading, and nobody writes to it.
        let ret = unsafe { libc::ioctl(kqueue.as_raw_fd(), command as _, &args) };
        assert_eq!(
            (ret, errno::<()>(Err(std::io::Error::last_os_error()))),
            (-1, libc::ENOTTY)
        );
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
fn a_descriptor_that_is_no_kqueue() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let on = |fd| {
        // SAFETY: No lists.
        unsafe { kqueue::kevent_raw(fd, &mut poll()) }
    };
    assert_eq!(errno(on(file.as_raw_fd())), libc::ENOTTY);
    assert_eq!(errno(on(-1)), libc::EBADF);
}
