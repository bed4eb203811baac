// SPDX-License-Identifier: GPL-2.0

//! The longest delay of a process with real-time priority, which a timer wakes over and over while
//! this process does something else on the same processor.
//!
//! The kernel is preempted at once for such a process, except while interrupts or preemption are
//! disabled, that is, while a spin lock is held, and while an interrupt is handled.

use std::{
    io,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        OnceLock,
    },
    thread,
    time::{Duration, Instant},
};

/// The shortest time between two samples, in nanoseconds. Up to as much is added at random, so that
/// the samples do not keep step with what is measured.
const PERIOD: u64 = 60_000;

/// The time that the kernel has for work which a preparation has deferred, as to free tasks.
pub const SETTLE: Duration = Duration::from_millis(100);

/// A round goes on beyond its time until it has this many samples or repetitions.
const FEWEST: u64 = 8;
const REPETITIONS: usize = 200;

/// The end of a round: so many samples, or so much time, whichever comes first.
#[derive(Clone, Copy)]
pub struct Effort {
    pub samples: u64,
    pub time: Duration,
}

/// Memory that both processes share.
struct Shared {
    /// Samples count only while the measured part of an operation runs.
    counts: AtomicBool,
    stop: AtomicBool,
    samples: AtomicU64,
    longest: AtomicU64,
}

impl Shared {
    /// The one page that all rounds use, in the state in which a round begins.
    fn get() -> &'static Self {
        static PAGE: OnceLock<&Shared> = OnceLock::new();
        let page = PAGE.get_or_init(|| {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let (size, access) = (size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE);
            // SAFETY: The kernel chooses the address. The mapping is never removed. It is filled
            // with zeroes, which are valid values of all fields.
            unsafe {
                let address = libc::mmap(std::ptr::null_mut(), size, access, flags, -1, 0);
                assert_ne!(address, libc::MAP_FAILED);
                &*address.cast()
            }
        });
        page.counts.store(false, Ordering::Relaxed);
        page.stop.store(false, Ordering::Relaxed);
        page.samples.store(0, Ordering::Relaxed);
        page.longest.store(0, Ordering::Relaxed);
        page
    }
}

/// The sampling process.
struct Sampler {
    pid: libc::pid_t,
    shared: &'static Shared,
    /// The processors on which this process ran before.
    affinity: libc::cpu_set_t,
}

/// Marks the measured part of an operation.
#[derive(Clone, Copy)]
pub struct Measured(Option<&'static Shared>);

impl Measured {
    /// Runs `work` as a measured part.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        self.begin();
        let result = work();
        self.end();
        result
    }

    /// Begins a measured part. A child of this process may call it, and its parent ends the part.
    pub fn begin(self) {
        if let Some(shared) = self.0 {
            shared.counts.store(true, Ordering::Relaxed);
        }
    }

    pub fn end(self) {
        if let Some(shared) = self.0 {
            shared.counts.store(false, Ordering::Relaxed);
        }
    }
}

/// Gives the calling thread this real-time priority. False if it may not have it.
fn set_priority(priority: libc::c_int) -> bool {
    let priority = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: The parameters are valid.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) == 0 }
}

/// Gives the calling thread the lowest real-time priority, so that threads that it wakes do not run
/// before it sleeps.
pub fn run_before_others() {
    assert!(set_priority(1), "no real-time priority: run as root");
}

fn now() -> u64 {
    // SAFETY: Zero is a valid time, and the pointer is valid.
    let time = unsafe {
        let mut time = std::mem::zeroed::<libc::timespec>();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until `time` and returns how much later this process runs again.
fn delay(time: u64) -> u64 {
    let until = libc::timespec {
        tv_sec: (time / 1_000_000_000) as libc::time_t,
        tv_nsec: (time % 1_000_000_000) as libc::c_long,
    };
    let (clock, how) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
    // SAFETY: The time is valid, and no remaining time is asked for.
    unsafe { libc::clock_nanosleep(clock, how, &until, std::ptr::null_mut()) };
    now() - time
}

/// Takes samples until it is told to stop.
fn sample(shared: &Shared) {
    let mut random = 1u64;
    while !shared.stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005);
        random = random.wrapping_add(1_442_695_040_888_963_407);
        let delay = delay(now() + PERIOD + (random >> 33) % PERIOD);
        if shared.counts.load(Ordering::Relaxed) {
            shared.longest.fetch_max(delay, Ordering::Relaxed);
            shared.samples.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Sampler {
    fn start() -> Self {
        let shared = Shared::get();
        // SAFETY: The sets are valid. This process has one thread. The child does not use its
        // descriptors, and only takes samples.
        unsafe {
            let mut affinity = std::mem::zeroed();
            let mut one = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&affinity), &mut affinity);
            libc::CPU_SET(0, &mut one);
            libc::sched_setaffinity(0, size_of_val(&one), &one);
            let pid = libc::fork();
            assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The descriptors of this process must not keep files open that the other closes.
                libc::syscall(libc::SYS_close_range, 3, !0u32, 0);
                if !set_priority(50) {
                    libc::_exit(1);
                }
                sample(shared);
                libc::_exit(0);
            }
            Sampler {
                pid,
                shared,
                affinity,
            }
        }
    }

    /// Ends the process and returns the longest delay.
    fn longest(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut status = 0;
        // SAFETY: The process is a child of this one. The set is valid.
        unsafe {
            assert_eq!(libc::waitpid(self.pid, &mut status, 0), self.pid);
            libc::sched_setaffinity(0, size_of_val(&self.affinity), &self.affinity);
        }
        assert_eq!(status, 0, "no real-time priority: run as root");
        self.shared.longest.load(Ordering::Relaxed)
    }
}

/// Returns the longest delay in nanoseconds during the measured parts of an operation that is
/// repeated. `make` prepares the operation. Its first repetition is not measured.
pub fn longest<Operation: FnMut(Measured)>(
    effort: Effort,
    make: impl FnOnce() -> Operation,
) -> f64 {
    let sampler = Sampler::start();
    let mut operation = make();
    operation(Measured(None));
    // What the preparation has left to RCU is done before the first sample.
    thread::sleep(SETTLE);
    let start = Instant::now();
    for repetition in 0.. {
        operation(Measured(Some(sampler.shared)));
        let samples = sampler.shared.samples.load(Ordering::Relaxed);
        let few = samples < FEWEST && repetition < REPETITIONS;
        if samples >= effort.samples || start.elapsed() >= effort.time && !few {
            break;
        }
    }
    sampler.longest() as f64
}
