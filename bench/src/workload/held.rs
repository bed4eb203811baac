// SPDX-License-Identifier: GPL-2.0

//! (p) The longest time for which the processor is kept from a process with real-time priority,
//! while an operation is repeated that involves many knotes.

use super::{
    bystander::everything,
    sources::{block, kill, Files},
};
use crate::{
    measure::Case,
    queue::{kqueue, Epoll, EpollEvent, Kevents},
    sampler::{longest, run_before_others, Effort, Measured, SETTLE},
    sys::{owned, receive, send},
    Scale,
};
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read},
    mem::ManuallyDrop,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc,
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// One repetition of an operation.
type Operation = Box<dyn FnMut(Measured)>;
/// Prepares an operation for a number of knotes.
type Make = fn(usize) -> Operation;

/// The number of knotes that a row has.
#[derive(Clone, Copy)]
enum Sizes {
    /// As many as one likes.
    Any,
    /// At most `max_object_watches`, of which [`everything`] takes one.
    Watches,
    /// At most the number of paths between kqueues.
    Paths,
    /// At most `calloutmax`.
    Timers,
    /// As many as there may be threads.
    Threads,
}

impl Sizes {
    fn get(self, scale: Scale) -> &'static [usize] {
        match self {
            Sizes::Any => &[64, 1000, 10_000, 100_000][..scale.pick(4, 3)],
            Sizes::Watches => &[16, 64, 127],
            Sizes::Paths => &[16, 64, 400],
            Sizes::Timers => &[64, 1000, 10_000],
            Sizes::Threads => &[64, 1000],
        }
    }
}

/// An operation, how it is done with a kqueue, and how with something else.
struct Row {
    title: &'static str,
    sizes: Sizes,
    kqueue: Make,
    other: Option<(&'static str, Make)>,
}

const ROWS: [Row; 20] = [
    Row {
        title: "collect all of NUM that are ready",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (files, queue) = (eventfds(count, 1), kqueue());
            add_all(&queue, &files, ev::ADD);
            let mut got = vec![Event::default(); count];
            Box::new(move |measured| {
                let _keep = &files;
                assert_eq!(measured.run(|| poll(&queue, &mut got)), got.len());
            })
        },
        other: Some(("epoll", |count| {
            let (files, epoll) = (eventfds(count, 1), Epoll::new());
            watch_all(&epoll, &files);
            let mut got = vec![NOTHING; count];
            Box::new(move |measured| {
                let _keep = &files;
                assert_eq!(measured.run(|| epoll.wait(&mut got, 0)), got.len());
            })
        })),
    },
    Row {
        title: "look at NUM that are not ready any more",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (files, queue) = (eventfds(count, 0), kqueue());
            add_all(&queue, &files, ev::ADD);
            let mut got = vec![Event::default(); count];
            Box::new(move |measured| {
                pulse(&files);
                assert_eq!(measured.run(|| poll(&queue, &mut got)), 0);
            })
        },
        other: Some(("epoll", |count| {
            let (files, epoll) = (eventfds(count, 0), Epoll::new());
            watch_all(&epoll, &files);
            let mut got = vec![NOTHING; count];
            Box::new(move |measured| {
                pulse(&files);
                assert_eq!(measured.run(|| epoll.wait(&mut got, 0)), 0);
            })
        })),
    },
    Row {
        title: "write to a file with NUM of one queue",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (files, queue) = (duplicates(count), kqueue());
            add_all(&queue, &files, ev::ADD);
            let mut got = vec![Event::default(); count];
            Box::new(move |measured| {
                measured.run(|| pulse(&files[..1]));
                assert_eq!(poll(&queue, &mut got), 0);
            })
        },
        other: Some(("epoll", |count| {
            let (files, epoll) = (duplicates(count), Epoll::new());
            watch_all(&epoll, &files);
            let mut got = vec![NOTHING; count];
            Box::new(move |measured| {
                measured.run(|| pulse(&files[..1]));
                assert_eq!(epoll.wait(&mut got, 0), 0);
            })
        })),
    },
    Row {
        title: "write to a file with one of each of NUM queues",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (files, queues) = (eventfds(1, 0), kqueues(count));
            queues
                .iter()
                .for_each(|queue| add_all(queue, &files, ev::ADD));
            Box::new(move |measured| {
                measured.run(|| pulse(&files));
                for queue in &queues {
                    assert_eq!(poll(queue, &mut [Event::default()]), 0);
                }
            })
        },
        other: Some(("epoll", |count| {
            let (files, epolls) = (eventfds(1, 0), epolls(count));
            epolls.iter().for_each(|epoll| watch_all(epoll, &files));
            Box::new(move |measured| {
                measured.run(|| pulse(&files));
                for epoll in &epolls {
                    assert_eq!(epoll.wait(&mut [NOTHING], 0), 0);
                }
            })
        })),
    },
    Row {
        title: "add and delete one of NUM of a file",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (files, queue) = (duplicates(count), kqueue());
            add_all(&queue, &files, ev::ADD);
            Box::new(move |measured| {
                measured.run(|| {
                    for flags in [ev::DELETE, ev::ADD] {
                        add_all(&queue, &files[count / 2..][..1], flags);
                    }
                })
            })
        },
        other: Some(("epoll", |count| {
            let (files, epoll) = (duplicates(count), Epoll::new());
            watch_all(&epoll, &files);
            Box::new(move |measured| {
                measured.run(|| {
                    epoll.delete(&files[count / 2]);
                    epoll.add(&files[count / 2], libc::EPOLLIN);
                })
            })
        })),
    },
    Row {
        title: "add NUM, and close the queue",
        sizes: Sizes::Any,
        kqueue: |count| {
            let files = eventfds(count, 0);
            Box::new(move |measured| {
                measured.run(|| add_all(&kqueue(), &files, ev::ADD));
            })
        },
        other: Some(("epoll", |count| {
            let files = eventfds(count, 0);
            Box::new(move |measured| {
                measured.run(|| watch_all(&Epoll::new(), &files));
            })
        })),
    },
    Row {
        title: "close a file with one of each of NUM queues",
        sizes: Sizes::Any,
        kqueue: |count| {
            let queues = kqueues(count);
            Box::new(move |measured| {
                let files = eventfds(1, 0);
                queues
                    .iter()
                    .for_each(|queue| add_all(queue, &files, ev::ADD));
                measured.run(|| drop(files));
            })
        },
        other: Some(("epoll", |count| {
            let epolls = epolls(count);
            Box::new(move |measured| {
                let files = eventfds(1, 0);
                epolls.iter().for_each(|epoll| watch_all(epoll, &files));
                measured.run(|| drop(files));
            })
        })),
    },
    Row {
        title: "close NUM duplicates of a file at once",
        sizes: Sizes::Any,
        kqueue: |count| {
            Box::new(move |measured| {
                let (files, queue) = (duplicates(count), kqueue());
                add_all(&queue, &files, ev::ADD);
                measured.run(|| close_all(files));
            })
        },
        other: Some(("epoll", |count| {
            Box::new(move |measured| {
                let (files, epoll) = (duplicates(count), Epoll::new());
                watch_all(&epoll, &files);
                measured.run(|| close_all(files));
            })
        })),
    },
    Row {
        title: "exit with NUM",
        sizes: Sizes::Any,
        kqueue: |count| {
            Box::new(move |measured| {
                exit(measured, || {
                    let (files, queue) = (duplicates(count), kqueue());
                    add_all(&queue, &files, ev::ADD);
                    (files, queue)
                })
            })
        },
        other: Some(("epoll", |count| {
            Box::new(move |measured| {
                exit(measured, || {
                    let (files, epoll) = (duplicates(count), Epoll::new());
                    watch_all(&epoll, &files);
                    (files, epoll)
                })
            })
        })),
    },
    Row {
        title: "end of a process with one of each of NUM queues",
        sizes: Sizes::Any,
        kqueue: |count| {
            let queues = kqueues(count);
            Box::new(move |measured| {
                let child = Child::fork(measured);
                let watch = Event::new(child.pid as u64, Filter::PROC, ev::ADD);
                let watch = [watch.fflags(note::EXIT)];
                queues.iter().for_each(|queue| queue.change(&watch));
                child.end(measured);
                for queue in &queues {
                    assert_eq!(poll(queue, &mut [Event::default()]), 1);
                }
            })
        },
        other: Some(("pidfd", |count| {
            let epolls = epolls(count);
            Box::new(move |measured| {
                let child = Child::fork(measured);
                // SAFETY: The arguments are integers.
                let pidfd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, child.pid, 0) });
                for epoll in &epolls {
                    epoll.add(&pidfd, libc::EPOLLIN);
                }
                child.end(measured);
                for epoll in &epolls {
                    assert_eq!(epoll.wait(&mut [NOTHING], 0), 1);
                }
            })
        })),
    },
    Row {
        title: "NUM timers that expire at once",
        sizes: Sizes::Timers,
        kqueue: |count| {
            let queue = kqueue();
            let mut got = vec![Event::default(); count];
            Box::new(move |measured| {
                let end = expiry(count);
                let flags = note::ABSTIME | note::NSECONDS;
                let timer = |ident| {
                    let timer = Event::new(ident as u64, Filter::TIMER, ev::ADD | ev::ONESHOT);
                    timer.fflags(flags).data(end as i64)
                };
                queue.change(&(0..count).map(timer).collect::<Vec<_>>());
                spin(measured, end);
                collect_all(&queue, &mut got);
            })
        },
        other: Some(("timerfd", |count| {
            // SAFETY: The arguments are integers.
            let timer = |_| owned(unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, 0) }.into());
            let (timers, epoll) = ((0..count).map(timer).collect::<Vec<_>>(), Epoll::new());
            watch_all(&epoll, &timers);
            Box::new(move |measured| {
                let end = expiry(count);
                for timer in &timers {
                    // SAFETY: Zero is a valid time.
                    let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
                    time.it_value.tv_sec = (end / 1_000_000_000) as libc::time_t;
                    time.it_value.tv_nsec = (end % 1_000_000_000) as libc::c_long;
                    let (fd, how) = (timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME);
                    // SAFETY: The time is valid.
                    unsafe { libc::timerfd_settime(fd, how, &time, std::ptr::null_mut()) };
                }
                spin(measured, end);
                timers.iter().for_each(receive);
            })
        })),
    },
    Row {
        title: "read fdinfo of a queue with NUM",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (files, queue) = (eventfds(count, 0), kqueue());
            add_all(&queue, &files, ev::ADD);
            Box::new(move |measured| {
                let _keep = &files;
                measured.run(|| fdinfo(&queue));
            })
        },
        other: Some(("epoll", |count| {
            let (files, epoll) = (eventfds(count, 0), Epoll::new());
            watch_all(&epoll, &files);
            Box::new(move |measured| {
                let _keep = &files;
                measured.run(|| fdinfo(&epoll));
            })
        })),
    },
    Row {
        title: "create and rename a file beside NUM watched folders",
        sizes: Sizes::Any,
        kqueue: |count| {
            let (folders, queue) = (Folders::new(count), kqueue());
            let notes = note::DELETE | note::RENAME | note::LINK;
            watch_files(&queue, &folders.folders, notes);
            Box::new(move |measured| {
                let _keep = &queue;
                measured.run(|| folders.change());
            })
        },
        other: Some(("inotify", |count| {
            let (folders, inotify) = (Folders::new(count), inotify());
            let mask = libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_ATTRIB;
            for index in 0..count {
                inotify_add(&inotify, &format!("{PARENT}/{index}"), mask);
            }
            Box::new(move |measured| {
                let _keep = &inotify;
                measured.run(|| folders.change());
            })
        })),
    },
    Row {
        title: "write to a file with one of each of NUM queues (VNODE)",
        sizes: Sizes::Watches,
        kqueue: |count| {
            let (files, queues) = (Files::new(1), kqueues(count));
            for queue in &queues {
                watch_files(queue, &files.files, note::WRITE);
            }
            Box::new(move |measured| {
                measured.run(|| files.change());
                for queue in &queues {
                    assert_eq!(poll(queue, &mut [Event::default()]), 1);
                }
            })
        },
        other: Some(("inotify", |count| {
            let files = Files::new(1);
            let inotifies: Vec<_> = (0..count).map(|_| inotify()).collect();
            for inotify in &inotifies {
                inotify_add(inotify, &format!("{}/0", files.folder), libc::IN_MODIFY);
            }
            Box::new(move |measured| {
                measured.run(|| files.change());
                for inotify in &inotifies {
                    let mut buffer = [0u8; 64];
                    let (fd, room) = (inotify.as_raw_fd(), buffer.len());
                    // SAFETY: The buffer is valid for its length.
                    assert!(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), room) } > 0);
                }
            })
        })),
    },
    Row {
        title: "send a signal with one of each of NUM queues",
        sizes: Sizes::Watches,
        kqueue: |count| {
            let queues = kqueues(count);
            let signal = Event::new(libc::SIGUSR1 as u64, Filter::SIGNAL, ev::ADD);
            queues.iter().for_each(|queue| queue.change(&[signal]));
            Box::new(move |measured| {
                // SAFETY: Ignoring a signal has no preconditions.
                unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
                block(libc::SIG_UNBLOCK);
                measured.run(kill);
                for queue in &queues {
                    assert_eq!(poll(queue, &mut [Event::default()]), 1);
                }
            })
        },
        other: Some(("signalfd", |count| {
            let set = block(libc::SIG_BLOCK);
            // SAFETY: The set is valid.
            let signalfd = owned(unsafe { libc::signalfd(-1, &set, 0) }.into());
            let epolls = epolls(count);
            for epoll in &epolls {
                epoll.add(&signalfd, libc::EPOLLIN);
            }
            Box::new(move |measured| {
                block(libc::SIG_BLOCK);
                // SAFETY: A pending signal that is ignored would be dropped.
                unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
                measured.run(kill);
                for epoll in &epolls {
                    assert_eq!(epoll.wait(&mut [NOTHING], 0), 1);
                }
                let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
                let (fd, room) = (signalfd.as_raw_fd(), info.len());
                // SAFETY: The buffer is valid for its length.
                unsafe { libc::read(fd, info.as_mut_ptr().cast(), room) };
            })
        })),
    },
    Row {
        title: "fork with one of each of NUM queues; without",
        sizes: Sizes::Watches,
        kqueue: |count| {
            let queues = kqueues(count);
            let me = Event::new(
                u64::from(std::process::id()),
                Filter::PROC,
                ev::ADD | ev::CLEAR,
            );
            let watch = [me.fflags(note::FORK)];
            queues.iter().for_each(|queue| queue.change(&watch));
            Box::new(move |measured| {
                measured.run(|| Child::fork(measured).end(measured));
                for queue in &queues {
                    assert_eq!(poll(queue, &mut [Event::default()]), 1);
                }
            })
        },
        other: Some(("without", |count| {
            let queues = kqueues(count);
            Box::new(move |measured| {
                let _keep = &queues;
                measured.run(|| Child::fork(measured).end(measured));
            })
        })),
    },
    Row {
        title: "trigger a queue that NUM queues watch",
        sizes: Sizes::Paths,
        kqueue: |count| {
            let (inner, queues) = (kqueue(), kqueues(count));
            add_user(&inner);
            for queue in &queues {
                queue.change(&[Event::fd(inner.as_raw_fd(), Filter::READ, ev::ADD)]);
            }
            Box::new(move |measured| {
                measured.run(|| trigger(&inner));
                assert_eq!(poll(&inner, &mut [Event::default()]), 1);
                for queue in &queues {
                    assert_eq!(poll(queue, &mut [Event::default()]), 0);
                }
            })
        },
        other: Some(("epoll", |count| {
            let (inner, epolls, files) = (Epoll::new(), epolls(count), eventfds(1, 0));
            watch_all(&inner, &files);
            for epoll in &epolls {
                epoll.add(&inner, libc::EPOLLIN);
            }
            Box::new(move |measured| {
                measured.run(|| pulse(&files));
                assert_eq!(inner.wait(&mut [NOTHING], 0), 0);
                for epoll in &epolls {
                    assert_eq!(epoll.wait(&mut [NOTHING], 0), 0);
                }
            })
        })),
    },
    Row {
        title: "close a queue in which NUM threads wait; wake as many",
        sizes: Sizes::Threads,
        kqueue: |count| Box::new(move |measured| in_child(|| close_waiting(count, measured))),
        other: Some(("poll", |count| {
            Box::new(move |measured| {
                in_child(|| {
                    let file = Arc::new(eventfds(1, 0).remove(0));
                    let polled = file.clone();
                    let threads = threads(count, move || {
                        let (fd, events, revents) = (polled.as_raw_fd(), libc::POLLIN, 0);
                        let mut poll = libc::pollfd {
                            fd,
                            events,
                            revents,
                        };
                        // SAFETY: There is one entry.
                        assert_eq!(unsafe { libc::poll(&mut poll, 1, -1) }, 1);
                    });
                    run_before_others();
                    measured.run(|| send(&*file));
                    join(threads);
                });
            })
        })),
    },
    Row {
        title: "close a queue in which a thread waits, of NUM descriptors; fork",
        sizes: Sizes::Any,
        kqueue: |count| {
            Box::new(move |measured| {
                in_child(|| {
                    let _files = duplicates(count);
                    close_waiting(1, measured);
                });
            })
        },
        other: Some(("fork", |count| {
            Box::new(move |measured| {
                in_child(|| {
                    let _files = duplicates(count);
                    measured.run(|| Child::fork(measured).end(measured));
                });
            })
        })),
    },
    Row {
        title: "trigger the first of a chain of NUM queues",
        sizes: Sizes::Paths,
        kqueue: |count| {
            let queues = kqueues(count);
            add_user(&queues[0]);
            for pair in queues.windows(2) {
                pair[1].change(&[Event::fd(pair[0].as_raw_fd(), Filter::READ, ev::ADD)]);
            }
            Box::new(move |measured| {
                measured.run(|| {
                    trigger(&queues[0]);
                    poll(&queues[count - 1], &mut [Event::default()]);
                    assert_eq!(poll(&queues[0], &mut [Event::default()]), 1);
                })
            })
        },
        other: None,
    },
];

const NOTHING: EpollEvent = EpollEvent { events: 0, u64: 0 };

fn eventfds(count: usize, value: libc::c_uint) -> Vec<OwnedFd> {
    // SAFETY: The arguments are integers.
    let new = |_| owned(unsafe { libc::eventfd(value, libc::EFD_CLOEXEC) }.into());
    (0..count).map(new).collect()
}

/// Descriptors of one file.
fn duplicates(count: usize) -> Vec<OwnedFd> {
    let one = &eventfds(1, 0)[0];
    let duplicate = |_| one.try_clone().expect("dup");
    (0..count).map(duplicate).collect()
}

fn kqueues(count: usize) -> Vec<Kqueue> {
    (0..count).map(|_| kqueue()).collect()
}

fn epolls(count: usize) -> Vec<Epoll> {
    (0..count).map(|_| Epoll::new()).collect()
}

/// Adds or deletes all descriptors in one call.
fn add_all(queue: &Kqueue, files: &[OwnedFd], flags: u16) {
    let change = |file: &OwnedFd| Event::fd(file.as_raw_fd(), Filter::READ, flags);
    queue.change(&files.iter().map(change).collect::<Vec<_>>());
}

fn watch_all(epoll: &Epoll, files: &[OwnedFd]) {
    for file in files {
        epoll.add(file, libc::EPOLLIN);
    }
}

/// Collects what is ready.
fn poll(queue: &Kqueue, got: &mut [Event]) -> usize {
    Kevents::kevent(queue, &[], got, Some(Duration::ZERO))
}

/// Collects as many one-shot events as `got` has room for, and waits for those that are late.
/// (Under emulation, an interrupt can come late.)
fn collect_all(queue: &Kqueue, got: &mut [Event]) {
    let mut count = 0;
    while count < got.len() {
        count += Kevents::wait(queue, &mut got[count..]);
    }
}

/// Starts threads, and returns when they are about to wait or wait.
fn threads(count: usize, wait: impl Fn() + Clone + Send + 'static) -> Vec<JoinHandle<()>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let start = |_| {
        let (begun, wait) = (begun.clone(), wait.clone());
        let thread = thread::Builder::new().stack_size(STACK);
        let run = move || {
            begun.fetch_add(1, Ordering::Relaxed);
            wait();
        };
        thread.spawn(run).expect("a thread")
    };
    let threads = (0..count).map(start).collect();
    while begun.load(Ordering::Relaxed) < count {
        thread::yield_now();
    }
    thread::sleep(SETTLE);
    threads
}

/// Closes a kqueue in which threads wait.
fn close_waiting(count: usize, measured: Measured) {
    let queue = kqueue();
    let fd = queue.as_raw_fd();
    let threads = threads(count, move || {
        // SAFETY: The descriptor is open until all threads wait, and is not closed here.
        let queue = ManuallyDrop::new(Kqueue::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        let closed = Kqueue::kevent(&queue, &[], &mut [Event::default()], None);
        assert!(closed.is_err());
    });
    run_before_others();
    measured.run(|| drop(queue));
    join(threads);
}

/// Runs `work` in a child, whose descriptor table is as small as its descriptors allow. (The table
/// of a process never shrinks.)
fn in_child(work: impl FnOnce()) {
    // SAFETY: This process has one thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        work();
        // SAFETY: The child has nothing to clean up.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: The process is a child of this one.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child");
}

/// The stack of a thread that only waits.
const STACK: usize = 64 << 10;

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no failed assertion");
    }
}

/// Makes eventfds readable for a moment.
fn pulse(files: &[OwnedFd]) {
    for file in files {
        send(file);
        receive(file);
    }
}

fn close_all(files: Vec<OwnedFd>) {
    let mut numbers: Vec<_> = files
        .into_iter()
        .map(std::os::fd::IntoRawFd::into_raw_fd)
        .collect();
    numbers.sort_unstable();
    // The numbers are consecutive except where a number was free before.
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let (first, last) = (run[0] as libc::c_uint, run[run.len() - 1] as libc::c_uint);
        // SAFETY: The caller owned the descriptors.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// A child that waits for a byte and then exits. The measured part begins in the child, right
/// before its end, and ends when it has ended.
struct Child {
    pid: libc::pid_t,
    gate: OwnedFd,
}

impl Child {
    fn fork(measured: Measured) -> Self {
        Self::fork_with(measured, || ())
    }

    /// Forks a child that prepares something first, which ends with the child.
    fn fork_with<Kept>(measured: Measured, prepare: impl FnOnce() -> Kept) -> Self {
        let gate = eventfds(1, 0).remove(0);
        let ready = eventfds(1, 0).remove(0);
        // SAFETY: This process has one thread. The child only prepares, waits and exits.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            let _kept = ManuallyDrop::new(prepare());
            send(&ready);
            receive(&gate);
            measured.begin();
            // SAFETY: The child has nothing to clean up.
            unsafe { libc::_exit(0) }
        }
        receive(&ready);
        Child { pid, gate }
    }

    fn end(self, measured: Measured) {
        send(&self.gate);
        // SAFETY: The process is a child of this one.
        let pid = unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        assert_eq!(pid, self.pid);
        measured.end();
    }
}

/// The end of a child that has prepared something.
fn exit<Kept>(measured: Measured, prepare: impl FnOnce() -> Kept) {
    Child::fork_with(measured, prepare).end(measured);
}

/// The nanoseconds since the epoch.
fn time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time after 1970").as_nanos() as u64
}

/// The time at which timers expire: later than it takes to arm them.
fn expiry(count: usize) -> u64 {
    time() + 200_000 + count as u64 * 8000
}

/// Computes until the timers have expired.
fn spin(measured: Measured, end: u64) {
    measured.run(|| while time() < end + 100_000 {});
}

fn fdinfo(queue: &impl AsRawFd) {
    let path = format!("/proc/self/fdinfo/{}", queue.as_raw_fd());
    let mut file = File::open(path).expect("fdinfo");
    let mut buffer = vec![0; 1 << 16];
    while file.read(&mut buffer).expect("fdinfo") > 0 {}
}

fn watch_files(queue: &Kqueue, files: &[File], notes: u32) {
    for file in files {
        let event = Event::fd(file.as_raw_fd(), Filter::VNODE, ev::ADD | ev::CLEAR);
        queue.change(&[event.fflags(notes)]);
    }
}

/// Adds a user event.
fn add_user(queue: &Kqueue) {
    queue.change(&[Event::new(1, Filter::USER, ev::ADD | ev::CLEAR)]);
}

fn trigger(queue: &Kqueue) {
    queue.change(&[Event::new(1, Filter::USER, 0).fflags(note::TRIGGER)]);
}

fn inotify() -> OwnedFd {
    // SAFETY: The arguments are integers.
    owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) }.into())
}

fn inotify_add(inotify: &OwnedFd, path: &str, mask: u32) {
    let path = CString::new(path).expect("a path");
    // SAFETY: The argument is a C string.
    let watch = unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) };
    assert!(watch >= 0, "{}", io::Error::last_os_error());
}

/// A folder in memory with many folders, which are open.
struct Folders {
    folders: Vec<File>,
}

const PARENT: &str = "/dev/shm/kqueue-bench-held";

impl Folders {
    fn new(count: usize) -> Self {
        fs::create_dir(PARENT).expect("a folder in memory");
        let new = |index| {
            let path = format!("{PARENT}/{index}");
            fs::create_dir(&path).expect("a folder");
            File::open(path).expect("a folder")
        };
        Folders {
            folders: (0..count).map(new).collect(),
        }
    }

    /// Creates a file beside the folders, renames and removes it.
    fn change(&self) {
        let [one, other] = ["one", "other"].map(|name| format!("{PARENT}/{name}"));
        File::create(&one).expect("a file");
        fs::rename(&one, &other).expect("another name");
        fs::remove_file(&other).expect("no name");
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(PARENT);
    }
}

pub fn cases(scale: Scale, run: &mut dyn FnMut(Case)) {
    let effort = Effort {
        samples: scale.pick(2000, 400) as u64,
        time: Duration::from_millis(scale.pick(1000, 400) as u64),
    };
    // The probes stay registered, so that no operation includes their registration.
    let _busy = everything();
    run(Case::new('p', "longest delay: computing", None)
        .once()
        .side("kqueue", move || {
            longest(effort, || {
                |measured: Measured| spin(measured, time() + 1_000_000)
            })
        }));
    for row in ROWS {
        for &count in row.sizes.get(scale) {
            let what = row.title.replace("NUM", &count.to_string());
            let mut case = Case::new('p', format!("longest delay: {what}"), None)
                .once()
                .side("kqueue", move || longest(effort, || (row.kqueue)(count)));
            if let Some((name, other)) = row.other {
                case = case.side(name, move || longest(effort, || other(count)));
            }
            run(case);
        }
    }
}
