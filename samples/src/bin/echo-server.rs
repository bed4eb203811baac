// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! A TCP echo server that uses only a kqueue.
//!
//! Each turn of the loop is one `kevent()` call. It applies the changes that result from the last
//! events, and returns the next events.
//!
//! - `EVFILT_READ` accepts connections and reads;
//! - `EVFILT_WRITE` is added when a client does not read the replies, and reading
//!   from that client stops until it does;
//! - `EVFILT_TIMER` closes a connection that was idle for a whole period;
//! - `EVFILT_USER` stops the server: SIGINT and SIGTERM trigger it.

use anyhow::{Context, Result};
use clap::Parser;
use kqueue::{ev, note, Event, Filter, Kqueue};
use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    thread,
};

/// The ident of the user event that stops the server.
const STOP: u64 = 0;
/// The number of bytes that are buffered for a client before reading from it stops.
const BUFFER: usize = 64 * 1024;

#[derive(Parser)]
#[command(about = "TCP echo server on a kqueue")]
struct Options {
    /// Port on 127.0.0.1; with 0 a free port is used and printed.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Closes a connection that is idle for this number of milliseconds.
    #[arg(long, default_value_t = 60_000)]
    idle: u32,
}

/// One client.
struct Connection {
    stream: TcpStream,
    /// Data that was read and not yet sent back.
    buffer: Vec<u8>,
    /// The client has shut down its sending side.
    ended: bool,
    /// Data was transferred since the timer expired last.
    active: bool,
}

impl Connection {
    fn is_stalled(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Writes as much as possible. Returns false when the connection is over.
    fn write(&mut self, stats: &mut Statistics) -> bool {
        while !self.buffer.is_empty() {
            match self.stream.write(&self.buffer) {
                Ok(count) => {
                    self.buffer.drain(..count);
                    self.active = true;
                    stats.bytes += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.is_stalled() || !self.ended
    }

    /// Reads and echoes until no data is left or the client stalls. Returns false when the
    /// connection is over.
    fn read(&mut self, stats: &mut Statistics) -> bool {
        let mut chunk = vec![0; BUFFER];
        while !self.is_stalled() {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    return false;
                }
                Ok(count) => {
                    self.active = true;
                    self.buffer.extend_from_slice(&chunk[..count]);
                    if !self.write(stats) {
                        return false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        true
    }
}

#[derive(Default)]
struct Statistics {
    connections: usize,
    bytes: usize,
    idle: usize,
    calls: usize,
    events: usize,
}

struct Server {
    kqueue: Arc<Kqueue>,
    listener: TcpListener,
    connections: HashMap<RawFd, Connection>,
    changes: Vec<Event>,
    idle: u32,
    stats: Statistics,
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let fd = stream.as_raw_fd();
            self.changes.push(Event::fd(fd, Filter::READ, ev::ADD));
            self.changes
                .push(Event::fd(fd, Filter::TIMER, ev::ADD).data(self.idle.into()));
            self.stats.connections += 1;
            let connection = Connection {
                stream,
                buffer: Vec::new(),
                ended: false,
                active: true,
            };
            self.connections.insert(fd, connection);
        }
    }

    /// Closing the descriptor ends its events. The timer has to be deleted.
    fn close(&mut self, fd: RawFd) {
        self.connections.remove(&fd);
        // The remaining changes for the descriptor are discarded, because another connection may
        // get its number.
        let timer = Event::fd(fd, Filter::TIMER, ev::DELETE);
        let is_new = |change: &Event| change.ident == timer.ident && change.filter == timer.filter;
        let never_added = self.changes.iter().any(is_new);
        self.changes.retain(|change| change.ident != timer.ident);
        if !never_added {
            self.changes.push(timer);
        }
    }

    fn handle(&mut self, event: &Event) {
        let fd = event.ident as RawFd;
        let Some(connection) = self.connections.get_mut(&fd) else {
            return;
        };
        let stalled = connection.is_stalled();
        let alive = match event.filter {
            Filter::READ => connection.read(&mut self.stats),
            Filter::WRITE => connection.write(&mut self.stats),
            _ => std::mem::take(&mut connection.active),
        };
        if !alive {
            self.stats.idle += usize::from(event.filter == Filter::TIMER);
            self.close(fd);
        } else if stalled != connection.is_stalled() {
            // Back-pressure: either we read from a client, or we wait for it to read from us.
            let (read, write) = match stalled {
                false => (ev::DISABLE, ev::ADD),
                true => (ev::ENABLE, ev::DELETE),
            };
            self.changes.push(Event::fd(fd, Filter::READ, read));
            self.changes.push(Event::fd(fd, Filter::WRITE, write));
        }
    }

    fn run(&mut self) -> Result<()> {
        let listener = self.listener.as_raw_fd();
        self.changes
            .push(Event::fd(listener, Filter::READ, ev::ADD));
        self.changes.push(Event::new(STOP, Filter::USER, ev::ADD));
        let mut events = [Event::default(); 64];
        loop {
            let count = self.kqueue.kevent(&self.changes, &mut events, None)?;
            self.stats.calls += 1;
            self.stats.events += count;
            self.changes.clear();
            for event in &events[..count] {
                anyhow::ensure!(!event.has(ev::ERROR), "change failed: {event:?}");
                if event.filter == Filter::USER {
                    return Ok(());
                }
                if event.ident == listener as u64 {
                    self.accept()?;
                } else {
                    self.handle(event);
                }
            }
        }
    }
}

/// Blocks the signals that stop the server, and starts a thread that waits for them.
fn trigger_on_signal(kqueue: Arc<Kqueue>) -> Result<()> {
    let mut signals = std::mem::MaybeUninit::uninit();
    // SAFETY: The set is initialised by `sigemptyset` before it is used.
    let signals = unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut());
        signals.assume_init()
    };
    thread::Builder::new().spawn(move || {
        let mut signal = 0;
        // SAFETY: Both pointers are valid for the call.
        unsafe { libc::sigwait(&signals, &mut signal) };
        let trigger = Event::new(STOP, Filter::USER, 0).fflags(note::TRIGGER);
        kqueue.kevent(&[trigger], &mut [], None)
    })?;
    Ok(())
}

fn main() -> Result<()> {
    let options = Options::parse();
    let kqueue = Arc::new(Kqueue::new().context("/dev/kqueue: is the module loaded?")?);
    trigger_on_signal(kqueue.clone())?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    listener.set_nonblocking(true)?;
    println!("listening {}", listener.local_addr()?.port());

    let mut server = Server {
        kqueue,
        listener,
        connections: HashMap::new(),
        changes: Vec::new(),
        idle: options.idle,
        stats: Statistics::default(),
    };
    server.run()?;
    let stats = &server.stats;
    println!(
        "served {} connections, {} bytes, in {} kevent calls that brought {} events; \
         {} closed for idleness, {} open at the end",
        stats.connections,
        stats.bytes,
        stats.calls,
        stats.events,
        stats.idle,
        server.connections.len(),
    );
    Ok(())
}
