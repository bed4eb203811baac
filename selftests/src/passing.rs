// SPDX-License-Identifier: GPL-2.0

//! Descriptors that are passed by exec, `SCM_RIGHTS` and io_uring.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
};

fn user() -> Event {
    Event::new(1, Filter::USER, ev::ADD | ev::CLEAR).fflags(note::TRIGGER)
}

/// Sends a descriptor through a UNIX socket, and receives it.
fn send(socket: &UnixStream, fd: &impl AsFd) {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let data = [IoSlice::new(b"x")];
    sendmsg(socket, &data, &mut control, SendFlags::empty()).unwrap();
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return fds.next().unwrap();
        }
    }
    panic!("no descriptor came")
}

#[test]
fn a_received_file_is_a_descriptor_of_its_own() {
    let (a, b) = UnixStream::pair().unwrap();
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0).udata(1)]);
    send(&a, &reader);
    let received = receive(&b);
    change(&kqueue, &[add_read(&received, 0).udata(2)]);
    write(&writer, b"x");
    assert_eq!(soon(&kqueue).len(), 2);
    drop(reader);
    assert_eq!(one(&kqueue).udata, 2);
}

#[test]
fn a_file_in_a_socket_queue_keeps_no_knote() {
    let (a, b) = UnixStream::pair().unwrap();
    let (reader, writer) = pipe();
    let kqueue = kqueue();
    change(&kqueue, &[add_read(&reader, 0)]);
    send(&a, &reader);
    drop(reader);
    write(&writer, b"x");
    assert!(pending(&kqueue).is_empty());
    drop((a, b));
}

#[test]
fn a_kqueue_received_by_its_owner_works() {
    let (a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    send(&a, &kqueue);
    let received = Kqueue::from(receive(&b));
    drop(kqueue);
    change(&received, &[user()]);
    one(&received);
}

/// Differs from DragonFly, FreeBSD, epoll: A kqueue that is sent over a UNIX socket is of no use to
/// the receiver. It ends when its owner has closed its last descriptor, even if it is still in the
/// socket.
/// Because a kqueue belongs to one descriptor table; the BSDs refuse to send one.
#[test]
fn a_kqueue_received_by_another_process_fails() {
    let (a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[user()]);
    send(&a, &kqueue);
    assert!(in_child(|| {
        let received = Kqueue::from(receive(&b));
        change_error(&received, user()) == libc::EBADF
    }));
    one(&kqueue);
}

#[test]
fn a_kqueue_left_in_a_socket_queue_is_closed() {
    let (a, b) = UnixStream::pair().unwrap();
    let kqueue = kqueue();
    change(&kqueue, &[user()]);
    send(&a, &kqueue);
    drop(kqueue);
    let received = Kqueue::from(receive(&b));
    assert_eq!(change_error(&received, user()), libc::EBADF);
}

#[test]
fn exec_closes_the_kqueue() {
    if let Ok(fd) = std::env::var("KQUEUE_FD") {
        let fd = fd.parse().unwrap();
        // SAFETY: No preconditions.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert_eq!(flags, -1);
        return;
    }
    let (reader, writer) = pipe();
    assert!(in_child(|| {
        let kqueue = kqueue();
        change(&kqueue, &[add_write(&writer, 0)]);
        let fd = kqueue.as_raw_fd();
        let error = again("passing::exec_closes_the_kqueue", fd).exec();
        panic!("{error}");
    }));
    // The pipe was released, too.
    drop(writer);
    read(&reader, 0);
}

#[test]
fn exec_keeps_a_kqueue_without_close_on_exec() {
    if let Ok(fd) = std::env::var("KQUEUE_FD") {
        let fd = fd.parse().unwrap();
        // SAFETY: The program that called exec has left it to us.
        let kqueue = Kqueue::from(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
        // The knotes exist, except those of the descriptors that exec has closed.
        let events = pending(&kqueue);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].filter, Filter::USER);
        return;
    }
    assert!(in_child(|| {
        let fd = kqueue::open(0).unwrap().into_raw_fd();
        // SAFETY: The number is ours.
        let kqueue = Kqueue::from(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
        let (_reader, writer) = pipe();
        change(&kqueue, &[user(), add_write(&writer, 0)]);
        let error = again("passing::exec_keeps_a_kqueue_without_close_on_exec", fd).exec();
        panic!("{error}");
    }));
}

#[test]
fn io_uring_close() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(&kqueue, &[add_write(&writer, 0)]);
    let mut ring = io_uring::IoUring::new(2).unwrap();
    let close = io_uring::opcode::Close::new(io_uring::types::Fd(writer.into_raw_fd())).build();
    // SAFETY: The entry refers to no memory of this process.
    unsafe { ring.submission().push(&close).unwrap() };
    ring.submit_and_wait(1).unwrap();
    assert_eq!(ring.completion().next().unwrap().result(), 0);
    assert!(pending(&kqueue).is_empty());
    read(&reader, 0);
}

#[test]
fn exit_of_a_process_that_shares_the_table() {
    let kqueue = kqueue();
    let (reader, writer) = pipe();
    change(&kqueue, &[add_read(&reader, 0)]);
    // SAFETY: As fork(2), but with one descriptor table; the child leaves at once.
    unsafe {
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        let child = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t;
        if child == 0 {
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
    }
    // The table still exists.
    write(&writer, b"x");
    one(&kqueue);
}
