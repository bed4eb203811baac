// SPDX-License-Identifier: GPL-2.0

//! `EVFILT_PROC`.

use crate::common::*;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    thread,
    time::Duration,
};

const ENDED: u16 = ev::EOF | ev::NODATA | ev::ONESHOT;

fn watch(pid: i32, fflags: u32) -> Event {
    Event::new(pid as u64, Filter::PROC, ev::ADD).fflags(fflags)
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Creates a process by the system call itself. The child exits at once with `code`.
fn clone(flags: i32, code: i32) -> i32 {
    // SAFETY: As fork(2): no new stack is given, and memory is not shared.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as i32 } {
        // SAFETY: Ends the process.
        0 => unsafe { libc::_exit(code) },
        pid => pid,
    }
}

/// The arguments of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// Calls clone3(2) with a chosen process ID, or with 0. The child exits at once with `code`.
fn clone3(number: i32, code: i32) -> i32 {
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: if number == 0 {
            0
        } else {
            &number as *const i32 as u64
        },
        set_tid_size: u64::from(number != 0),
        ..Default::default()
    };
    // SAFETY: As fork(2); the arguments are valid.
    match unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<CloneArgs>()) as i32 } {
        // SAFETY: Ends the process.
        0 => unsafe { libc::_exit(code) },
        pid => pid,
    }
}

#[test]
fn exit_of_a_child() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        7
    });
    change(&kqueue, &[watch(pid, note::EXIT).udata(5)]);
    assert!(pending(&kqueue).is_empty());
    gate.open();
    let event = one(&kqueue);
    assert_eq!((event.ident, event.udata), (pid as u64, 5));
    assert_eq!(event.fflags, note::EXIT);
    assert_eq!(event.flags & ENDED, ENDED);
    // The process can be waited for now, and waitpid(2) returns the same status.
    let mut status = 0;
    // SAFETY: The process is a child of this one.
    let waited = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
    assert_eq!(waited, pid);
    assert_eq!(event.data, i64::from(status));
    assert_eq!(libc::WEXITSTATUS(status), 7);
    let gone = Event {
        flags: ev::DELETE,
        ..watch(pid, 0)
    };
    assert_eq!(change_error(&kqueue, gone), libc::ENOENT);
}

#[test]
fn death_by_a_signal() {
    let kqueue = kqueue();
    let pid = fork(|| loop {
        thread::park();
    });
    change(&kqueue, &[watch(pid, note::EXIT)]);
    // SAFETY: The process is a child of this one.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let event = one(&kqueue);
    assert_eq!(event.data, libc::SIGKILL.into());
    assert_eq!(i64::from(reap(pid)), event.data);
}

#[test]
fn the_exit_is_reported_without_note_exit() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        0
    });
    change(&kqueue, &[watch(pid, note::FORK)]);
    gate.open();
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.flags & ENDED), (0, ENDED));
    reap(pid);
}

/// Waits until a child is a zombie, and does not reap it.
fn wait_for_zombie(pid: i32) {
    // SAFETY: The process is a child of this one, and there is room for the result.
    unsafe {
        let mut info = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        assert_eq!(libc::waitid(libc::P_PID, pid as u32, &mut info, options), 0);
    }
}

/// Differs from DragonFly, FreeBSD: The end of a process is reported when the process can be waited
/// for, and not before. Adding a zombie without NOTE_EXIT fails with ESRCH.
/// Because waitpid(pid, WNOHANG) succeeds after the event.
#[test]
fn a_zombie_is_reported_at_once() {
    let kqueue = kqueue();
    let pid = fork(|| 3);
    wait_for_zombie(pid);
    assert_eq!(change_error(&kqueue, watch(pid, note::FORK)), libc::ESRCH);
    change(&kqueue, &[watch(pid, note::EXIT)]);
    let events = pending(&kqueue);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data, 3 << 8);
    reap(pid);
    assert_eq!(change_error(&kqueue, watch(pid, note::EXIT)), libc::ESRCH);
}

/// Attaches to a process as a debugger does.
fn trace(pid: i32) {
    const PTRACE_SEIZE: libc::c_uint = 0x4206;
    // SAFETY: The call accesses no memory of this process.
    let ret = unsafe { libc::ptrace(PTRACE_SEIZE, pid, 0, 0) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

/// Waits for a process that is traced or a child, if that is possible now.
fn reap_now(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: There is room for the status.
    let waited = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG | libc::__WALL) };
    (waited == pid).then_some(status)
}

/// The parent of a child that another process traces receives its exit when the child can be waited
/// for, and the tracer receives it before that. With `late`, both start watching after the exit.
fn end_of_a_traced_child(late: bool) {
    let kqueue = kqueue();
    let (go, traced, watched) = (Gate::new(), Gate::new(), Gate::new());
    let child = fork(|| {
        go.wait();
        3
    });
    let tracer = fork(|| {
        let kqueue = self::kqueue();
        trace(child);
        if !late {
            change(&kqueue, &[watch(child, note::EXIT)]);
        }
        traced.open();
        // The process has exited, and the parent has polled it.
        watched.wait();
        if late {
            change(&kqueue, &[watch(child, note::EXIT)]);
        }
        let event = one(&kqueue);
        let same = reap_now(child).map(i64::from) == Some(event.data);
        i32::from(!same || event.data != 3 << 8 || event.fflags != note::EXIT)
    });
    traced.wait();
    let third = self::kqueue();
    let all = watch(child, note::EXIT);
    if !late {
        change(&kqueue, &[all]);
    }
    go.open();
    wait_for_traced_zombie(child);
    if late {
        change(&kqueue, &[all]);
    }
    change(&third, &[all]);
    assert!(pending(&kqueue).is_empty());
    assert_eq!(reap_now(child), None);
    watched.open();
    assert_eq!(reap(tracer), 0);
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.data), (note::EXIT, 3 << 8));
    assert_eq!(one(&third).data, 3 << 8);
    assert_eq!(reap_now(child), Some(3 << 8));
    assert!(pending(&kqueue).is_empty());
}

/// Waits until a process is a zombie that only its tracer can wait for.
fn wait_for_traced_zombie(pid: i32) {
    let is_zombie = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().starts_with(" Z")
    };
    while !is_zombie() {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_child_traced_by_another_is_reported_when_it_can_be_waited_for() {
    end_of_a_traced_child(false);
}

#[test]
fn a_traced_zombie_is_reported_when_it_can_be_waited_for() {
    end_of_a_traced_child(true);
}

#[test]
fn a_child_traced_by_its_parent_is_reported_at_once() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let child = fork(|| {
        gate.wait();
        4
    });
    trace(child);
    change(&kqueue, &[watch(child, note::EXIT)]);
    gate.open();
    assert_eq!(one(&kqueue).data, 4 << 8);
    assert_eq!(reap_now(child), Some(4 << 8));
}

#[test]
fn zombies_are_reported_when_their_tracer_exits() {
    let kqueue = kqueue();
    let (go, traced, end) = (Gate::new(), Gate::new(), Gate::new());
    let child = fork(|| {
        go.wait();
        5
    });
    let tracer = fork(|| {
        trace(child);
        traced.open();
        end.wait();
        0
    });
    traced.wait();
    change(&kqueue, &[watch(child, note::EXIT)]);
    go.open();
    wait_for_traced_zombie(child);
    assert!(pending(&kqueue).is_empty());
    end.open();
    assert_eq!(one(&kqueue).data, 5 << 8);
    assert_eq!(reap_now(child), Some(5 << 8));
    reap(tracer);
}

/// The notes of the knote at the time of the exit decide whether the event has `NOTE_EXIT`.
#[test]
fn notes_at_the_time_of_the_exit_decide() {
    const NOTES: [(u32, u32, u32); 4] = [
        (note::EXIT, 0, note::EXIT),
        (note::EXIT, note::EXEC, note::EXIT),
        (note::EXEC, note::EXIT, 0),
        (note::FORK | note::EXIT, note::EXEC, note::FORK | note::EXIT),
    ];
    for (before, after, right) in NOTES {
        for flags in [ev::ADD, ev::ADD | ev::DISABLE] {
            let kqueue = kqueue();
            let gate = Gate::new();
            let pid = fork(|| {
                gate.wait();
                reap(fork(|| 0));
                6
            });
            let with = |fflags, flags| Event {
                flags,
                ..watch(pid, fflags)
            };
            change(&kqueue, &[with(before, flags)]);
            gate.open();
            wait_for_zombie(pid);
            change(&kqueue, &[with(after, ev::ENABLE)]);
            let event = one(&kqueue);
            assert_eq!(event.fflags, right, "{before:x} {after:x} {flags:x}");
            assert_eq!(event.data, 6 << 8);
            reap(pid);
        }
    }
}

#[test]
fn an_exit_that_races_with_the_registration() {
    let kqueue = kqueue();
    for round in 0..300 {
        let pid = fork(|| round % 128);
        change(&kqueue, &[watch(pid, note::EXIT)]);
        let event = one(&kqueue);
        assert_eq!(
            (event.ident, event.data),
            (pid as u64, i64::from(round % 128) << 8)
        );
        reap(pid);
    }
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn no_such_process() {
    let kqueue = kqueue();
    for ident in [0, 4_194_304, u64::from(u32::MAX), u64::MAX, 1 << 32] {
        let event = Event::new(ident, Filter::PROC, ev::ADD).fflags(note::EXIT);
        assert_eq!(change_error(&kqueue, event), libc::ESRCH, "{ident}");
    }
    // A thread is not a process.
    let gate = Gate::new();
    thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let gate = &gate;
        let waiting = scope.spawn(move || {
            // SAFETY: No preconditions.
            send.send(unsafe { libc::gettid() }).unwrap();
            gate.wait();
        });
        let thread = receive.recv().unwrap();
        assert_eq!(
            change_error(&kqueue, watch(thread, note::EXIT)),
            libc::ESRCH
        );
        gate.open();
        waiting.join().unwrap();
    });
}

#[test]
fn a_process_that_is_no_child() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let (reader, writer) = pipe();
    let child = fork(|| {
        let grandchild = fork(|| {
            gate.wait();
            9
        });
        write(&writer, &grandchild.to_ne_bytes());
        0
    });
    reap(child);
    let mut bytes = [0; 4];
    // SAFETY: There is room for four bytes, which were written.
    let count = unsafe { libc::read(reader.as_raw_fd(), bytes.as_mut_ptr().cast(), 4) };
    assert_eq!(count, 4);
    let grandchild = i32::from_ne_bytes(bytes);
    change(&kqueue, &[watch(grandchild, note::EXIT)]);
    gate.open();
    assert_eq!(one(&kqueue).data, 9 << 8);
}

/// Differs from DragonFly, FreeBSD: A process of another user fails with EACCES, unless it is a
/// child of the caller or the caller may trace it. A caller that may send it a signal may watch its
/// end. A caller can find out that a process ID is in use, as with kill(2).
/// Because what another user's processes do is private to that user.
#[test]
fn processes_of_other_users_cannot_be_watched() {
    let root = own_pid();
    assert!(in_child(|| {
        // SAFETY: No preconditions.
        assert_eq!(unsafe { libc::setuid(12345) }, 0);
        let kqueue = kqueue();
        let own = fork(|| 0);
        change(&kqueue, &[watch(own, note::EXIT)]);
        one(&kqueue);
        reap(own);
        change(&kqueue, &[watch(own_pid(), note::FORK)]);
        change_error(&kqueue, watch(root, note::EXIT)) == libc::EACCES
            && change_error(&kqueue, watch(1, note::FORK | note::EXEC)) == libc::EACCES
    }));
    // Root may watch all processes.
    change(&kqueue(), &[watch(1, note::FORK)]);
}

#[test]
fn a_child_that_changes_its_user_can_be_watched() {
    let kqueue = kqueue();
    let (ready, gate) = (Gate::new(), Gate::new());
    assert!(in_child(|| {
        let kqueue = self::kqueue();
        // SAFETY: No preconditions.
        unsafe { assert_eq!(libc::setresuid(12345, 12345, 0), 0) };
        let pid = fork(|| {
            // SAFETY: No preconditions.
            unsafe { assert_eq!(libc::setresuid(0, 0, 0), 0) };
            ready.open();
            gate.wait();
            4
        });
        ready.wait();
        // SAFETY: No preconditions.
        unsafe { assert_eq!(libc::setresuid(12345, 12345, 12345), 0) };
        change(&kqueue, &[watch(pid, note::EXIT)]);
        gate.open();
        let event = one(&kqueue);
        reap(pid);
        event.data == 4 << 8
    }));
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn forks_of_all_kinds() {
    let kqueue = kqueue();
    change(&kqueue, &[watch(own_pid(), note::FORK)]);
    let forked = || {
        let event = one(&kqueue);
        assert_eq!((event.fflags, event.data), (note::FORK, 0));
        assert!(event.has(ev::CLEAR));
        assert!(pending(&kqueue).is_empty());
    };
    reap(fork(|| 0));
    forked();
    reap(clone(libc::SIGCHLD, 0));
    forked();
    reap(clone3(0, 0));
    forked();
    let status = std::process::Command::new("/proc/self/exe")
        .arg("--list")
        .output()
        .unwrap();
    assert!(status.status.success());
    forked();
    // A thread is not a fork.
    thread::spawn(|| {}).join().unwrap();
    assert!(pending(&kqueue).is_empty());
    // Two forks that were not collected are one event.
    reap(fork(|| 0));
    reap(fork(|| 0));
    forked();
}

#[test]
fn vfork_is_a_fork() {
    let kqueue = kqueue();
    change(&kqueue, &[watch(own_pid(), note::FORK | note::TRACK)]);
    // posix_spawn(3) uses CLONE_VFORK.
    let mut pid = 0;
    let program = c"/proc/self/exe";
    let list = c"--list";
    let args = [
        program.as_ptr().cast_mut(),
        list.as_ptr().cast_mut(),
        std::ptr::null_mut(),
    ];
    // SAFETY: All strings end in 0, the lists in null; its output is not wanted.
    unsafe {
        let mut actions = std::mem::zeroed();
        libc::posix_spawn_file_actions_init(&mut actions);
        let null = c"/dev/null".as_ptr();
        libc::posix_spawn_file_actions_addopen(&mut actions, 1, null, libc::O_WRONLY, 0);
        let environment = [std::ptr::null_mut()];
        let ret = libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            &actions,
            std::ptr::null(),
            args.as_ptr(),
            environment.as_ptr(),
        );
        assert_eq!(ret, 0);
    }
    reap(pid);
    let mut of_child = 0;
    let mut of_parent = 0;
    while of_child & ev_end(0) == 0 {
        for event in soon(&kqueue) {
            if event.ident == pid as u64 {
                of_child |= event.fflags | ev_end(event.flags);
            } else {
                of_parent |= event.fflags;
            }
        }
    }
    assert_eq!(of_parent, note::FORK);
    assert_eq!(of_child & note::CHILD, note::CHILD);
}

/// Returns a bit that no note uses if the event is the last one of the process, else 0.
fn ev_end(flags: u16) -> u32 {
    const END: u32 = 1 << 20;
    if flags == 0 || flags & ev::EOF != 0 {
        END
    } else {
        0
    }
}

#[test]
fn clone_parent_is_a_fork_of_the_caller() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let child = fork(|| {
        gate.wait();
        clone(libc::CLONE_PARENT, 6);
        0
    });
    change(
        &kqueue,
        &[watch(child, note::FORK | note::TRACK | note::EXIT)],
    );
    change(&kqueue, &[watch(own_pid(), note::FORK)]);
    gate.open();
    reap(child);
    let mut sibling = 0;
    let mut status = None;
    while status.is_none() {
        for event in soon(&kqueue) {
            assert_ne!(event.ident, own_pid() as u64, "we have made nobody");
            if event.fflags & note::CHILD != 0 {
                assert_eq!(event.data, child.into());
                sibling = event.ident;
            } else if event.ident == sibling && event.fflags & note::EXIT != 0 {
                status = Some(event.data);
            }
        }
    }
    assert_eq!(status, Some(6 << 8));
    reap(sibling as i32);
}

#[test]
fn exec_of_a_program() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        let mut command = again("process::does_not_exist", 0);
        command.stdout(std::process::Stdio::null());
        panic!("{}", command.exec());
    });
    change(&kqueue, &[watch(pid, note::EXEC | note::EXIT)]);
    gate.open();
    let mut seen = 0;
    while seen & note::EXIT == 0 {
        let event = one(&kqueue);
        assert_eq!(event.ident, pid as u64);
        seen |= event.fflags;
    }
    assert_eq!(seen, note::EXEC | note::EXIT);
    assert_eq!(reap(pid), 0);
}

#[test]
fn exec_by_a_thread_is_not_an_exit() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        let thread = thread::spawn(|| {
            let mut command = again("process::does_not_exist", 0);
            command.stdout(std::process::Stdio::null());
            panic!("{}", command.exec());
        });
        let _ = thread.join();
        1
    });
    change(&kqueue, &[watch(pid, note::EXEC | note::EXIT)]);
    gate.open();
    let mut seen = vec![];
    while seen.last().is_none_or(|fflags| fflags & note::EXIT == 0) {
        let event = one(&kqueue);
        assert_eq!(event.ident, pid as u64);
        if event.fflags & note::EXIT != 0 {
            assert_eq!(event.data, 0);
        }
        seen.push(event.fflags);
    }
    // Both notes may be in one event, but the exit is never reported without the exec.
    assert_eq!(
        seen.iter().fold(0, |all, fflags| all | fflags),
        note::EXEC | note::EXIT
    );
    assert_eq!(
        seen.iter()
            .filter(|fflags| *fflags & note::EXIT != 0)
            .count(),
        1
    );
    assert_eq!(reap(pid), 0);
}

#[test]
fn the_process_ends_with_its_last_thread() {
    let kqueue = kqueue();
    let (left, gate) = (Gate::new(), Gate::new());
    let pid = fork(|| {
        let (left, gate) = (&left, &gate);
        thread::scope(|scope| {
            scope.spawn(|| {
                gate.wait();
                // SAFETY: Ends the process.
                unsafe { libc::_exit(11) };
            });
            left.open();
            // SAFETY: Ends this thread, the first of its process, alone.
            unsafe { libc::syscall(libc::SYS_exit, 5) };
        });
        1
    });
    change(&kqueue, &[watch(pid, note::EXIT)]);
    left.wait();
    thread::sleep(Duration::from_millis(300));
    assert!(pending(&kqueue).is_empty());
    // A process whose leader has exited is not a zombie yet, so it can still be added.
    let other = self::kqueue();
    change(&other, &[watch(pid, note::EXIT)]);
    gate.open();
    assert_eq!(one(&kqueue).data, 11 << 8);
    assert_eq!(one(&other).data, 11 << 8);
    assert_eq!(libc::WEXITSTATUS(reap(pid)), 11);
}

#[test]
fn exits_that_nobody_waits_for() {
    // SAFETY: No handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let kqueue = kqueue();
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        12
    });
    change(&kqueue, &[watch(pid, note::EXIT)]);
    gate.open();
    assert_eq!(one(&kqueue).data, 12 << 8);
}

#[test]
fn notes_can_be_changed() {
    let kqueue = kqueue();
    change(&kqueue, &[watch(own_pid(), note::EXEC)]);
    reap(fork(|| 0));
    assert!(pending(&kqueue).is_empty());
    change(&kqueue, &[watch(own_pid(), note::FORK).udata(8)]);
    reap(fork(|| 0));
    let event = one(&kqueue);
    assert_eq!((event.fflags, event.udata), (note::FORK, 8));
    change(&kqueue, &[watch(own_pid(), note::EXIT)]);
    reap(fork(|| 0));
    assert!(pending(&kqueue).is_empty());
}

/// Differs from DragonFly, FreeBSD: If a process ID is used again, the new process gets a knote of
/// its own. The knote of the former process stays until its exit is reported.
/// Because a process ID does not identify one process for ever.
#[test]
fn a_reused_process_id_is_another_process() {
    let kqueue = kqueue();
    let first = fork(|| 1);
    wait_for_zombie(first);
    change(&kqueue, &[watch(first, note::EXIT).udata(1)]);
    reap(first);
    let second = clone3(first, 2);
    assert_eq!(second, first, "root may choose the number");
    change(&kqueue, &[watch(second, note::EXIT).udata(2)]);
    let mut seen = HashMap::new();
    while seen.len() < 2 {
        for event in soon(&kqueue) {
            assert_eq!(seen.insert(event.udata, event.data), None);
        }
    }
    assert_eq!(seen, HashMap::from([(1, 1 << 8), (2, 2 << 8)]));
    reap(second);
    assert!(pending(&kqueue).is_empty());
}

/// Two tracked children have the same process ID before the kqueue is used again.
#[test]
fn a_reused_process_id_of_tracked_children() {
    let kqueue = kqueue();
    let notes = note::TRACK | note::EXIT;
    change(&kqueue, &[watch(own_pid(), notes)]);
    let first = fork(|| 1);
    reap(first);
    assert_eq!(clone3(first, 2), first, "root may choose the number");
    wait_for_zombie(first);
    // This is the second child, which has not been reaped.
    change(&kqueue, &[watch(first, notes).udata(9)]);
    let (mut children, mut ends) = (0, vec![]);
    loop {
        let events = pending(&kqueue);
        if events.is_empty() {
            break;
        }
        for event in events {
            children += usize::from(event.fflags & note::CHILD != 0);
            if event.has(ev::EOF) {
                ends.push((event.udata, event.data));
            }
        }
    }
    ends.sort_unstable();
    assert_eq!((children, ends), (2, vec![(0, 1 << 8), (9, 2 << 8)]));
    reap(first);
    assert_eq!(knotes(&kqueue), 1);
}

#[test]
fn children_are_tracked() {
    let kqueue = kqueue();
    let gate = Gate::new();
    change(
        &kqueue,
        &[
            watch(own_pid(), note::TRACK | note::EXIT).udata(3),
            Event {
                flags: ev::ADD | ev::KEEPUDATA,
                ..watch(own_pid(), note::TRACK | note::EXIT).udata(4)
            },
        ],
    );
    let pid = fork(|| {
        gate.wait();
        2
    });
    let event = one(&kqueue);
    assert_eq!((event.ident, event.udata), (pid as u64, 3));
    assert_eq!((event.fflags, event.data), (note::CHILD, own_pid().into()));
    // The knote behaves like any other.
    change(
        &kqueue,
        &[Event {
            flags: ev::DISABLE,
            ..watch(pid, note::TRACK | note::EXIT)
        }],
    );
    gate.open();
    wait_for_zombie(pid);
    assert!(pending(&kqueue).is_empty());
    change(
        &kqueue,
        &[Event {
            flags: ev::ENABLE,
            ..watch(pid, note::TRACK | note::EXIT)
        }],
    );
    assert_eq!(one(&kqueue).data, 2 << 8);
    reap(pid);
    // The parent still has its knote.
    change(
        &kqueue,
        &[Event {
            flags: ev::DELETE,
            ..watch(own_pid(), 0)
        }],
    );
}

/// Differs from DragonFly, macOS: NOTE_CHILD and the exit of a tracked child are two events. (macOS
/// does not track.)
/// Because data cannot hold both the parent's process ID and the wait status; FreeBSD reports two
/// events too.
#[test]
fn a_tracked_child_that_exits_reports_both() {
    let kqueue = kqueue();
    change(&kqueue, &[watch(own_pid(), note::TRACK | note::EXIT)]);
    let pid = fork(|| 2);
    reap(pid);
    let first = one(&kqueue);
    assert_eq!((first.fflags, first.data), (note::CHILD, own_pid().into()));
    assert!(!first.has(ev::EOF));
    let second = one(&kqueue);
    assert_eq!((second.fflags, second.data), (note::EXIT, 2 << 8));
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn a_tracked_child_can_be_deleted_before_it_is_reported() {
    let kqueue = kqueue();
    let gate = Gate::new();
    change(&kqueue, &[watch(own_pid(), note::TRACK)]);
    let pid = fork(|| {
        gate.wait();
        0
    });
    change(
        &kqueue,
        &[Event {
            flags: ev::DELETE,
            ..watch(pid, 0)
        }],
    );
    gate.open();
    reap(pid);
    assert!(pending(&kqueue).is_empty());
}

/// A scan releases its lock again and again. A child that is created at that moment can become
/// pending before its knote is complete.
#[test]
fn children_created_during_a_scan() {
    const CHILDREN: usize = 100;
    let kqueue = kqueue();
    // This knote is always ready, so that each scan needs several critical sections.
    let ready: Vec<_> = (0..100)
        .map(|ident| Event::new(ident, Filter::USER, ev::ADD).fflags(note::TRIGGER))
        .collect();
    change(&kqueue, &ready);
    change(&kqueue, &[watch(own_pid(), note::TRACK)]);
    let gate = Gate::new();
    thread::scope(|scope| {
        let forker = scope.spawn(|| {
            let child = || {
                gate.wait();
                0
            };
            (0..CHILDREN).map(|_| fork(child)).collect::<Vec<_>>()
        });
        let mut events = vec![Event::default(); 256];
        let mut born = 0;
        let mut end = std::time::Instant::now() + SOON;
        while born < CHILDREN {
            let count = kqueue
                .kevent(&[], &mut events, Some(Duration::ZERO))
                .unwrap();
            let new = events[..count]
                .iter()
                .filter(|event| event.fflags & note::CHILD != 0 && event.filter == Filter::PROC)
                .count();
            born += new;
            if new > 0 {
                end = std::time::Instant::now() + SOON;
            }
            assert!(std::time::Instant::now() < end, "{born} were told");
        }
        let pids = forker.join().unwrap();
        pids.iter().for_each(|_| gate.open());
        pids.into_iter().for_each(|pid| assert_eq!(reap(pid), 0));
    });
}

#[test]
fn a_kqueue_closed_with_unreported_children() {
    let kqueue = kqueue();
    let gate = Gate::new();
    change(
        &kqueue,
        &[watch(own_pid(), note::TRACK | note::FORK | note::EXEC)],
    );
    let pids: Vec<_> = (0..20)
        .map(|_| {
            fork(|| {
                gate.wait();
                0
            })
        })
        .collect();
    drop(kqueue);
    for _ in &pids {
        gate.open();
    }
    pids.into_iter().for_each(|pid| assert_eq!(reap(pid), 0));
}

#[test]
fn a_child_that_cannot_be_tracked() {
    let kqueue = kqueue();
    change(&kqueue, &[watch(own_pid(), note::TRACK)]);
    let limit = Parameter::set("max_user_knotes", 1);
    reap(fork(|| 0));
    let event = one(&kqueue);
    assert_eq!(
        (event.ident, event.fflags),
        (own_pid() as u64, note::TRACKERR)
    );
    drop(limit);
    reap(fork(|| 0));
    assert_eq!(one(&kqueue).fflags, note::CHILD);
}

/// A process that forks pays for each watcher.
#[test]
fn watches_of_one_process_are_limited() {
    let _limit = Parameter::set("max_object_watches", 2);
    let kqueues = [kqueue(), kqueue(), kqueue()];
    let [first, second, third] = &kqueues;
    change(first, &[watch(own_pid(), note::FORK)]);
    change(second, &[watch(own_pid(), note::EXEC | note::TRACK)]);
    for note in [note::FORK, note::EXEC, note::TRACK] {
        assert_eq!(change_error(third, watch(own_pid(), note)), libc::ENOSPC);
    }
    // All watchers get the exit.
    change(third, &[watch(own_pid(), note::EXIT)]);
    // A change that is refused has no effect.
    let more = watch(own_pid(), note::FORK);
    assert_eq!(change_error(third, more), libc::ENOSPC);
    assert_eq!(pending(third), []);
    // The limit of another process is separate.
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        0
    });
    change(third, &[watch(pid, note::FORK)]);
    change(first, &[watch(own_pid(), note::EXIT)]);
    change(third, &[more]);
    gate.open();
    reap(pid);
}

/// The watch of a tracked child counts like that of its parent.
#[test]
fn watches_of_tracked_children_are_limited() {
    let limit = Parameter::set("max_object_watches", 2);
    let kqueues = [kqueue(), kqueue(), kqueue()];
    for kqueue in &kqueues[..2] {
        change(kqueue, &[watch(own_pid(), note::TRACK)]);
    }
    let gate = Gate::new();
    let pid = fork(|| {
        gate.wait();
        0
    });
    assert_eq!(
        change_error(&kqueues[2], watch(pid, note::FORK)),
        libc::ENOSPC
    );
    gate.open();
    reap(pid);
    drop(limit);
    // Each of the earlier watchers gets an event.
    let _limit = Parameter::set("max_object_watches", 1);
    reap(fork(|| 0));
    for kqueue in &kqueues[..2] {
        assert!(!pending(kqueue).is_empty());
    }
}

/// Returns the kernel memory of a cgroup in bytes.
fn kernel_memory(group: &str) -> i64 {
    let stat = std::fs::read_to_string(format!("{group}/memory.stat")).unwrap();
    let line = stat.lines().find_map(|line| line.strip_prefix("kernel "));
    line.unwrap().parse().unwrap()
}

/// The events of tracked children are charged to the watcher, and not to the process that forks.
#[test]
fn tracked_children_are_charged_to_the_watcher() {
    const CHILDREN: i64 = 1000;
    let root = format!("/dev/shm/cgroup-{}", own_pid());
    std::fs::create_dir(&root).unwrap();
    let path = std::ffi::CString::new(root.clone()).unwrap();
    let kind = c"cgroup2".as_ptr();
    // SAFETY: All strings end in 0.
    let ret = unsafe { libc::mount(kind, path.as_ptr(), kind, 0, std::ptr::null()) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    let group = format!("{root}/kqueue-{}", own_pid());
    std::fs::write(format!("{root}/cgroup.subtree_control"), "+memory").unwrap();
    std::fs::create_dir(&group).unwrap();
    let (ready, gate) = (Gate::new(), Gate::new());
    let forker = fork(|| {
        gate.wait();
        (0..CHILDREN).for_each(|_| assert_eq!(reap(fork(|| 0)), 0));
        ready.open();
        gate.wait();
        0
    });
    let watcher = fork(|| {
        std::fs::write(format!("{group}/cgroup.procs"), own_pid().to_string()).unwrap();
        let kqueue = kqueue();
        change(&kqueue, &[watch(forker, note::TRACK | note::EXIT)]);
        let before = kernel_memory(&group);
        gate.open();
        ready.wait();
        let grown = kernel_memory(&group) - before;
        gate.open();
        // Each child has a knote, a source, and three watches.
        assert!(grown > 500 * CHILDREN, "{grown}");
        0
    });
    let status = reap(watcher);
    reap(forker);
    let _ = std::fs::remove_dir(&group);
    // SAFETY: The string ends in 0.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    let _ = std::fs::remove_dir(&root);
    assert_eq!(status, 0);
}

/// Collects events until the expected number of tracked processes has ended. Returns the parent of
/// each process.
fn collect_tracked(kqueue: &Kqueue, expected: usize) -> HashMap<u64, u64> {
    let mut parents = HashMap::new();
    let mut ended = HashMap::new();
    while ended.len() < expected {
        for event in soon(kqueue) {
            assert_eq!(event.fflags & note::TRACKERR, 0);
            if event.fflags & note::CHILD != 0 {
                assert_eq!(
                    parents.insert(event.ident, event.data as u64),
                    None,
                    "{event:?}"
                );
            }
            if event.has(ev::EOF) {
                assert!(parents.contains_key(&event.ident), "{event:?}");
                assert_eq!(ended.insert(event.ident, event.data), None, "{event:?}");
            }
        }
    }
    assert!(pending(kqueue)
        .iter()
        .all(|event| event.fflags & note::CHILD == 0));
    assert_eq!(parents.len(), expected);
    parents
}

/// Forks `width` children, each of which does the same until the depth is `depth`.
fn tree(width: usize, depth: usize) {
    if depth == 0 {
        return;
    }
    let children: Vec<_> = (0..width)
        .map(|_| {
            fork(|| {
                tree(width, depth - 1);
                0
            })
        })
        .collect();
    children
        .into_iter()
        .for_each(|pid| assert_eq!(reap(pid), 0));
}

#[test]
fn a_storm_of_forks_to_any_depth() {
    // Each process has 3 children, to a depth of 5: 3 + 9 + .. + 243.
    const COUNT: usize = 363;
    let kqueue = kqueue();
    let gate = Gate::new();
    let root = fork(|| {
        gate.wait();
        tree(3, 5);
        0
    });
    change(
        &kqueue,
        &[watch(root, note::TRACK | note::EXIT | note::FORK)],
    );
    gate.open();
    let parents = thread::scope(|scope| {
        let collecting = scope.spawn(|| {
            let mut parents = HashMap::new();
            let mut ended = std::collections::HashSet::new();
            while ended.len() < COUNT + 1 {
                for event in soon(&kqueue) {
                    assert_eq!(event.fflags & note::TRACKERR, 0);
                    if event.fflags & note::CHILD != 0 {
                        assert_eq!(parents.insert(event.ident, event.data as u64), None);
                    }
                    if event.has(ev::EOF) {
                        assert!(ended.insert(event.ident), "{event:?}");
                    }
                }
            }
            parents
        });
        assert_eq!(reap(root), 0);
        collecting.join().unwrap()
    });
    assert_eq!(parents.len(), COUNT);
    // All processes descend from the root, at a depth of at most five.
    for child in parents.keys() {
        let mut at = *child;
        let mut depth = 0;
        while at != root as u64 {
            at = parents[&at];
            depth += 1;
            assert!(depth <= 5);
        }
    }
    assert!(pending(&kqueue).is_empty());
}

#[test]
fn hundreds_of_short_lived_processes() {
    const COUNT: usize = 300;
    let kqueue = kqueue();
    change(&kqueue, &[watch(own_pid(), note::TRACK | note::EXIT)]);
    thread::scope(|scope| {
        let kqueue = &kqueue;
        let collecting = scope.spawn(move || collect_tracked(kqueue, COUNT));
        for _ in 0..COUNT {
            reap(fork(|| 0));
        }
        let parents = collecting.join().unwrap();
        assert!(parents.values().all(|parent| *parent == own_pid() as u64));
    });
}

/// A thread can find the process ID of a child before fork(2) has made the knote of the child.
#[test]
fn a_child_that_a_thread_adds_during_the_fork_has_one_knote() {
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

    let kqueue = kqueue();
    let notes = note::TRACK | note::EXIT;
    change(&kqueue, &[watch(own_pid(), notes)]);
    // The process ID that the thread tries to add. 0: none, negative: the thread ends.
    let (next, forked) = (AtomicI32::new(0), AtomicBool::new(false));
    let (mut first, mut ends) = (0, Vec::new());
    thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let mut first = 0;
            loop {
                match next.load(SeqCst) {
                    0 => thread::yield_now(),
                    pid if pid < 0 => return first,
                    pid => {
                        let added = loop {
                            let last = forked.load(SeqCst);
                            let added = kqueue.kevent(&[watch(pid, notes)], &mut [], None).is_ok();
                            if added || last {
                                break added && !last;
                            }
                        };
                        first += usize::from(added);
                        next.store(0, SeqCst);
                    }
                }
            }
        });
        // No process has this number.
        let mut guess = i32::MAX;
        for _ in 0..200 {
            let gate = Gate::new();
            forked.store(false, SeqCst);
            next.store(guess, SeqCst);
            let pid = fork(|| {
                gate.wait();
                0
            });
            forked.store(true, SeqCst);
            while next.load(SeqCst) != 0 {
                thread::yield_now();
            }
            gate.open();
            assert_eq!(reap(pid), 0);
            // The exit has activated all knotes of the child.
            let mut count = 0;
            loop {
                let events = pending(&kqueue);
                if events.is_empty() {
                    break;
                }
                let ended = |event: &&Event| event.ident == pid as u64 && event.has(ev::EOF);
                count += events.iter().filter(ended).count();
            }
            ends.push(count);
            if guess != pid {
                // The number may have been that of another process.
                let delete = Event::new(guess as u64, Filter::PROC, ev::DELETE);
                let _ = kqueue.kevent(&[delete], &mut [], None);
            }
            guess = pid + 1;
        }
        next.store(-1, SeqCst);
        first = adding.join().unwrap();
    });
    println!("{first} of 200 children were added before fork(2) returned");
    assert_eq!(ends, [1; 200]);
    assert_eq!(knotes(&kqueue), 1);
}

#[test]
fn tracking_while_the_knote_comes_and_goes() {
    let kqueue = kqueue();
    thread::scope(|scope| {
        let forking = scope.spawn(|| {
            for _ in 0..400 {
                reap(fork(|| 0));
            }
        });
        while !forking.is_finished() {
            change(&kqueue, &[watch(own_pid(), note::TRACK)]);
            change(
                &kqueue,
                &[Event {
                    flags: ev::DELETE,
                    ..watch(own_pid(), 0)
                }],
            );
            pending(&kqueue);
        }
    });
    while !pending(&kqueue).is_empty() {}
    change(&kqueue, &[watch(own_pid(), note::TRACK)]);
    reap(fork(|| 0));
    assert_eq!(one(&kqueue).fflags, note::CHILD);
}

#[test]
fn process_ids_are_those_of_the_caller_s_namespace() {
    // SAFETY: No preconditions. Children of this process go into a new namespace from here on.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
    let outer = kqueue();
    change(&outer, &[watch(own_pid(), note::TRACK | note::EXIT)]);
    let (ready, gate) = (Gate::new(), Gate::new());
    let init = fork(|| {
        assert_eq!(own_pid(), 1);
        let inner = kqueue();
        change(&inner, &[watch(1, note::TRACK)]);
        let pid = fork(|| 0);
        reap(pid);
        let event = one(&inner);
        assert_eq!(
            (event.ident, event.fflags, event.data),
            (pid as u64, note::CHILD, 1)
        );
        assert_eq!(pid, 2);
        // A process outside of the namespace has no number in it.
        for outside in [3, 4, 5, 6, 7] {
            assert_eq!(
                change_error(&inner, watch(outside, note::EXIT)),
                libc::ESRCH
            );
        }
        ready.open();
        gate.wait();
        0
    });
    ready.wait();
    let mut children = vec![];
    while children.len() < 2 {
        for event in soon(&outer) {
            if event.fflags & note::CHILD != 0 {
                children.push((event.ident, event.data));
            }
        }
    }
    // In this namespace init has the number that fork has returned, and its child has a visible
    // number.
    assert_eq!(children[0], (init as u64, own_pid().into()));
    assert_eq!(children[1].1, init.into());
    assert!(children[1].0 > 2);
    gate.open();
    assert_eq!(reap(init), 0);
}

fn pidfd(pid: libc::pid_t, flags: libc::c_uint) -> OwnedFd {
    // SAFETY: The descriptor is new.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, flags) as RawFd;
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

fn add_procdesc(fd: &impl AsRawFd, fflags: u32) -> Event {
    Event::fd(fd.as_raw_fd(), Filter::PROCDESC, ev::ADD).fflags(fflags)
}

/// Differs from FreeBSD: A process descriptor is a pidfd (pidfd_open(2)), and EVFILT_PROCDESC is
/// -11. Adding a zombie without NOTE_EXIT fails with ESRCH, and so does adding a process that has
/// been waited for.
/// Because Linux does not have pdfork(2), and -8 is EVFILT_EXCEPT in the specification. The status
/// cannot be read from a pidfd after the wait.
#[test]
fn a_process_descriptor() {
    let kqueue = kqueue();
    for (code, status) in [(7, 7 << 8), (0, 0)] {
        let gate = Gate::new();
        let child = fork(|| {
            gate.wait();
            code
        });
        let fd = pidfd(child, 0);
        change(&kqueue, &[add_procdesc(&fd, note::EXIT).udata(5)]);
        // Other knotes for the process ID and for EVFILT_READ exist.
        let number = Event::new(child as u64, Filter::PROC, ev::ADD);
        change(&kqueue, &[number.fflags(note::EXIT)]);
        assert!(pending(&kqueue).is_empty());
        gate.open();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(soon(&kqueue));
        }
        seen.sort_by_key(|event| event.filter.0);
        let event = seen[0];
        assert_eq!(
            (event.filter, event.ident, event.udata),
            (Filter::PROCDESC, fd.as_raw_fd() as u64, 5)
        );
        assert_eq!((event.fflags, event.data), (note::EXIT, status));
        assert_eq!(event.flags & (ev::EOF | ev::ONESHOT), ev::EOF | ev::ONESHOT);
        assert_eq!(seen[1].data, status);
        // The knote was deleted. A zombie is reported at once.
        assert!(pending(&kqueue).is_empty());
        change(&kqueue, &[add_procdesc(&fd, note::EXIT)]);
        assert_eq!(one(&kqueue).data, status);
        assert_eq!(change_error(&kqueue, add_procdesc(&fd, 0)), libc::ESRCH);
        reap(child);
        assert_eq!(
            change_error(&kqueue, add_procdesc(&fd, note::EXIT)),
            libc::ESRCH
        );
    }
}

#[test]
fn other_descriptors_are_refused_by_procdesc() {
    let kqueue = kqueue();
    let (reader, _writer) = pipe();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    for fd in [reader.as_raw_fd(), file.as_raw_fd(), kqueue.as_raw_fd()] {
        let add = Event::fd(fd, Filter::PROCDESC, ev::ADD).fflags(note::EXIT);
        assert_eq!(change_error(&kqueue, add), libc::EINVAL);
    }
    // This is the number of a thread that is not a process.
    let (wait, go) = pipe();
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            // SAFETY: No preconditions.
            tell.send(unsafe { libc::gettid() }).unwrap();
            let mut poll = libc::pollfd {
                fd: wait.as_raw_fd(),
                events: 0,
                revents: 0,
            };
            // SAFETY: One structure.
            unsafe { libc::poll(&mut poll, 1, -1) };
        });
        let thread = pidfd(told.recv().unwrap(), libc::PIDFD_THREAD);
        let add = add_procdesc(&thread, note::EXIT);
        assert_eq!(change_error(&kqueue, add), libc::ESRCH);
        drop(go);
    });
    let own = pidfd(std::process::id() as libc::pid_t, 0);
    for fflags in [note::FORK, note::EXEC, note::TRACK, note::EXIT | note::FORK] {
        assert_eq!(
            change_error(&kqueue, add_procdesc(&own, fflags)),
            libc::EINVAL
        );
    }
    change(&kqueue, &[add_procdesc(&own, note::EXIT)]);
    assert_eq!(
        change_error(&kqueue, add_procdesc(&own, note::EXEC)),
        libc::EINVAL
    );
}

#[test]
fn a_process_descriptor_that_is_closed() {
    let kqueue = kqueue();
    let gate = Gate::new();
    let child = fork(|| {
        gate.wait();
        0
    });
    let (fd, other) = (pidfd(child, 0), pidfd(child, 0));
    change(
        &kqueue,
        &[
            add_procdesc(&fd, note::EXIT),
            add_procdesc(&other, note::EXIT),
        ],
    );
    drop(fd);
    gate.open();
    assert_eq!(one(&kqueue).ident, other.as_raw_fd() as u64);
    reap(child);
    assert!(pending(&kqueue).is_empty());
}

/// A caller that has a pidfd of another user's process receives its end and nothing else.
#[test]
fn a_process_descriptor_of_another_user() {
    let gate = Gate::new();
    let child = fork(|| {
        gate.wait();
        9
    });
    let fd = pidfd(child, 0);
    let watcher = fork(|| {
        // SAFETY: The child is one thread.
        unsafe { assert_eq!(libc::setuid(65534), 0) };
        let kqueue = kqueue();
        change(&kqueue, &[add_procdesc(&fd, note::EXIT)]);
        gate.open();
        let event = one(&kqueue);
        assert!(event.has(ev::EOF));
        (event.fflags != 0 || event.data != 0).into()
    });
    assert_eq!(reap(watcher), 0);
    reap(child);
}
