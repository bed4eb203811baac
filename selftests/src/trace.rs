// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of the module, in an instance of tracefs.

use crate::common::{errno, SOON};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    fs::{self, File},
    io::Read,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::PathBuf,
    process::{self, Command},
    thread,
    time::Duration,
};

/// The trace of this process's kqueues, from the first traced call on.
struct Trace(PathBuf);

impl Trace {
    fn begin(events: &str) -> Self {
        let folder = PathBuf::from(format!(
            "/sys/kernel/tracing/instances/kqueue-{}",
            process::id()
        ));
        fs::create_dir(&folder).unwrap();
        let trace = Trace(folder);
        trace.set("events/kqueue/enable", "0");
        trace.set(&format!("{events}/enable"), "1");
        trace
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    /// Returns the events since the last call: the name, and the fields without the kqueue's
    /// address.
    fn take(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("trace")).unwrap();
        self.set("trace", "");
        let lines = text.lines().filter_map(|line| {
            let (_, event) = line.split_once(": kqueue_")?;
            let (name, fields) = event.split_once(": kq=")?;
            let (_, fields) = fields.split_once(' ')?;
            Some(format!("{name} {fields}"))
        });
        lines.collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.set("events/kqueue/enable", "0");
        fs::remove_dir(&self.0).unwrap();
    }
}

fn kevent(kqueue: &Kqueue, changes: &[Event], room: usize) -> usize {
    let mut events = vec![Event::default(); room];
    kqueue
        .kevent(changes, &mut events, Some(Duration::ZERO))
        .unwrap()
}

#[test]
fn life_of_a_knote() {
    let kqueue = Kqueue::new().unwrap();
    let trace = Trace::begin("events/kqueue");
    let user = Event::new(7, Filter::USER, 0);
    let add = Event {
        flags: ev::ADD | ev::CLEAR,
        ..user
    };
    kevent(&kqueue, &[add], 0);
    assert_eq!(
        trace.take(),
        [
            "enter nchanges=1 nevents=0",
            "attach ident=7 filter=USER flags=ADD|CLEAR fflags=0x0 data=0",
            "exit ret=0"
        ]
    );
    kevent(&kqueue, &[user.fflags(note::TRIGGER | 5)], 0);
    assert_eq!(
        trace.take(),
        [
            "enter nchanges=1 nevents=0",
            "activate ident=7 filter=USER",
            "exit ret=0"
        ]
    );
    // The knote is already pending.
    kevent(&kqueue, &[user.fflags(note::TRIGGER)], 0);
    assert_eq!(trace.take(), ["enter nchanges=1 nevents=0", "exit ret=0"]);
    kevent(&kqueue, &[], 2);
    assert_eq!(
        trace.take(),
        [
            "enter nchanges=0 nevents=2",
            "deliver ident=7 filter=USER flags=ADD|CLEAR fflags=0x0 data=0",
            "exit ret=1"
        ]
    );
    let delete = Event {
        flags: ev::DELETE,
        ..user
    };
    kevent(&kqueue, &[delete], 0);
    assert_eq!(
        trace.take(),
        [
            "enter nchanges=1 nevents=0",
            "detach ident=7 filter=USER",
            "exit ret=0"
        ]
    );
    assert_eq!(errno(kqueue.kevent(&[delete], &mut [], None)), libc::ENOENT);
    let failed = format!("exit ret=-{}", libc::ENOENT);
    assert_eq!(
        trace.take(),
        ["enter nchanges=1 nevents=0", failed.as_str()]
    );
}

/// Each end of a knote is traced exactly once.
#[test]
fn each_end_of_a_knote_is_traced_once() {
    let kqueue = Kqueue::new().unwrap();
    let trace = Trace::begin("events/kqueue/kqueue_detach");
    let (reader, writer) = crate::common::pipe();
    let read = crate::common::add_read(&reader, 0);
    kevent(&kqueue, &[read], 0);
    let closed = format!("detach ident={} filter=READ", read.ident);
    drop(reader);
    assert_eq!(trace.take(), [closed]);
    let once = Event::new(1, Filter::USER, ev::ADD | ev::ONESHOT);
    assert_eq!(kevent(&kqueue, &[once], 0), 0);
    let trigger = Event::new(1, Filter::USER, 0).fflags(note::TRIGGER);
    assert_eq!(kevent(&kqueue, &[trigger], 0), 0);
    assert_eq!(kevent(&kqueue, &[], 1), 1);
    assert_eq!(trace.take(), ["detach ident=1 filter=USER"]);
    let never = Event::new(2, Filter::USER, ev::ADD);
    kevent(&kqueue, &[never], 0);
    drop(kqueue);
    assert_eq!(trace.take(), ["detach ident=2 filter=USER"]);
    drop(writer);
}

/// Events from an interrupt and of a tracked child are traced.
#[test]
fn interrupts_and_tracked_children_are_traced() {
    let kqueue = Kqueue::new().unwrap();
    let trace = Trace::begin("events/kqueue");
    let timer = Event::new(3, Filter::TIMER, ev::ADD | ev::ONESHOT).data(1);
    kqueue
        .kevent(&[timer], &mut [Event::default()], Some(SOON))
        .unwrap();
    let told = trace.take();
    for expected in [
        "activate ident=3 filter=TIMER",
        "deliver ident=3 filter=TIMER flags=ADD|ONESHOT|CLEAR fflags=0x0 data=",
        "detach ident=3 filter=TIMER",
    ] {
        let count = told
            .iter()
            .filter(|event| event.starts_with(expected))
            .count();
        assert_eq!(count, 1, "{expected}: {told:?}");
    }

    let own =
        Event::new(process::id().into(), Filter::PROC, ev::ADD).fflags(note::TRACK | note::EXIT);
    kevent(&kqueue, &[own], 0);
    trace.take();
    let mut child = Command::new("./busybox").arg("true").spawn().unwrap();
    child.wait().unwrap();
    let told = trace.take();
    let attach = format!("attach ident={} filter=PROC", child.id());
    assert!(
        told.iter().any(|event| event.starts_with(&attach)),
        "{told:?}"
    );
}

/// All tracepoints are switched on and off while kqueues are in use.
#[test]
fn tracing_is_switched_under_load() {
    let busy = thread::spawn(|| {
        let kqueue = Kqueue::new().unwrap();
        for ident in 0..5000 {
            let add = Event::new(ident, Filter::USER, ev::ADD | ev::ONESHOT);
            let trigger = Event::new(ident, Filter::USER, 0).fflags(note::TRIGGER);
            assert_eq!(kevent(&kqueue, &[add, trigger], 0), 0);
            assert_eq!(kevent(&kqueue, &[], 1), 1);
        }
    });
    let trace = Trace::begin("events/kqueue");
    while !busy.is_finished() {
        trace.set("events/kqueue/enable", "0");
        trace.set("events/kqueue/enable", "1");
    }
    busy.join().unwrap();
}

/// If two tracers trace one function, they run with preemption disabled. The probe of close(2) ends
/// knotes nevertheless, and the file is released before the call returns.
#[test]
fn closes_while_another_tracer_traces_their_function() {
    let trace = Trace::begin("events/kqueue");
    trace.set("events/kqueue/enable", "0");
    trace.set("set_ftrace_filter", "locks_remove_posix");
    trace.set("current_tracer", "function");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let kqueues: Vec<_> = (0..8).map(|_| Kqueue::new().unwrap()).collect();
                for round in 0..100 {
                    let (watched, mut peer) = UnixStream::pair().unwrap();
                    peer.set_nonblocking(true).unwrap();
                    let ident = watched.as_raw_fd() as u64;
                    let read = Event::new(ident, Filter::READ, ev::ADD);
                    let write = Event::new(ident, Filter::WRITE, ev::ADD);
                    for kqueue in &kqueues {
                        kevent(kqueue, &[read, write], 0);
                    }
                    if round % 2 == 0 {
                        drop(watched);
                    } else {
                        let other = File::open("/dev/null").unwrap();
                        // SAFETY: `watched` owns the number and goes on doing so.
                        assert!(unsafe { libc::dup2(other.as_raw_fd(), watched.as_raw_fd()) } >= 0);
                    }
                    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "the end of the file");
                    for kqueue in &kqueues {
                        assert_eq!(kevent(kqueue, &[], 4), 0);
                    }
                }
            });
        }
    });
    let traced = fs::read_to_string(trace.0.join("trace")).unwrap();
    assert!(traced.contains("locks_remove_posix"), "nothing was traced");
    trace.set("current_tracer", "nop");
}
