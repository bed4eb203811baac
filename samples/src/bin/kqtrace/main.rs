// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Watches the objects that its arguments name, and prints each event as a line of text or JSON. It
//! can also list the kqueues of the system.

mod list;

use anyhow::{anyhow, bail, Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use kqueue::{Change, Descriptor, FileNotes, Kqueue, MountNotes, Process, ProcessNotes, Report};
use serde_json::{json, Value};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    },
    process::{Child, Command, ExitCode},
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What can be watched, for the help.
const KINDS: &str = "\
What to watch:
  file:PATH     changes of a file or directory: written, renamed, opened...
  process:PID   a process and all its descendants: forks, programs, exits
  signal:NAME   signals that are sent to kqtrace itself: HUP, USR1, 10...
  timer:MS      a period in milliseconds
  mounts        file systems that are mounted and unmounted
  read:X        data to read; X is a path or the number of a descriptor
  write:X       room to write
  except:X      an exceptional condition
  user:NUMBER   an event that is triggered at once";

/// The object that an argument names.
#[derive(Clone)]
enum Watched {
    Read(String),
    Write(String),
    Except(String),
    File(String),
    Process(u32),
    Signal(i32),
    /// A period in milliseconds.
    Timer(u32),
    Mounts,
    User(u64),
}

/// An argument: its text and the object that it names.
#[derive(Clone)]
struct Argument {
    text: String,
    watched: Watched,
}

impl FromStr for Argument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        let named = |watched: fn(String) -> Watched| {
            if value.is_empty() {
                bail!("{kind} of what?");
            }
            Ok(watched(value.to_owned()))
        };
        let watched = match kind {
            "read" => named(Watched::Read)?,
            "write" => named(Watched::Write)?,
            "except" => named(Watched::Except)?,
            "file" => named(Watched::File)?,
            "process" => Watched::Process(value.parse()?),
            "signal" => Watched::Signal(signal_number(value)?),
            "timer" => Watched::Timer(value.parse()?),
            "mounts" => Watched::Mounts,
            "user" => Watched::User(value.parse()?),
            _ => bail!("unknown kind of event; see --help"),
        };
        Ok(Argument {
            text: text.to_owned(),
            watched,
        })
    }
}

#[derive(Parser)]
#[command(name = "kqtrace", version, about = "Prints what happens to files, processes, signals, timers and mounts", after_help = KINDS)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// Exit after this number of events
    #[arg(long)]
    count: Option<usize>,
    /// Exit after this number of seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Report a condition of a descriptor when it arises (EV_CLEAR), not as long as it holds
    #[arg(long)]
    clear: bool,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
    /// Run a command, watch it and its descendants, and exit when all of them have exited
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND")]
    run: Vec<String>,
    /// The events to watch, see below
    #[arg(value_name = "EVENT", required_unless_present = "run")]
    events: Vec<Argument>,
}

#[derive(Subcommand)]
enum Action {
    /// Print the kqueues of all processes that the caller may see
    List {
        /// Print one JSON object for each kqueue
        #[arg(long)]
        json: bool,
    },
    /// Print the completions for a shell
    Completions { shell: Shell },
}

/// The signals, by their names in kill(1).
const SIGNALS: [(&str, i32); 12] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("TSTP", libc::SIGTSTP),
    ("WINCH", libc::SIGWINCH),
];

fn signal_number(name: &str) -> Result<i32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    let found = SIGNALS.iter().find(|(known, _)| *known == bare);
    Ok(found.with_context(|| format!("{name}: no such signal"))?.1)
}

fn signal_name(number: i32) -> String {
    let found = SIGNALS.iter().find(|(_, known)| *known == number);
    found.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// The state of the program.
struct Watches {
    kqueue: Kqueue,
    /// The argument for each watched descriptor.
    names: HashMap<RawFd, String>,
    /// The watched files, which stay open.
    files: Vec<File>,
    /// The number of processes of `--run`, and the first of them.
    running: usize,
    child: Option<Child>,
    options: Options,
}

const PROCESS: ProcessNotes = ProcessNotes::all()
    .difference(ProcessNotes::TRACKERR)
    .difference(ProcessNotes::CHILD);
/// Ends the program.
const DURATION: u64 = u64::MAX;

impl Watches {
    fn descriptor(&mut self, name: &str, open: &OpenOptions) -> Result<RawFd> {
        let fd = match name.parse() {
            Ok(fd) => fd,
            Err(_) => {
                let file = open.open(name).with_context(|| name.to_owned())?;
                let fd = file.as_raw_fd();
                self.files.push(file);
                fd
            }
        };
        self.names.insert(fd, name.to_owned());
        Ok(fd)
    }

    fn change(&mut self, watched: &Watched) -> Result<Change> {
        let mut open = OpenOptions::new();
        open.custom_flags(libc::O_NONBLOCK);
        let mut on = |how: fn(BorrowedFd<'static>) -> Change, name: &str, open: &OpenOptions| {
            let fd = self.descriptor(name, open)?;
            // SAFETY: The argument is an integer. The call fails if there is no such descriptor.
            let change = how(unsafe { BorrowedFd::borrow_raw(fd) });
            anyhow::Ok(if self.options.clear {
                change.edge()
            } else {
                change
            })
        };
        Ok(match watched {
            Watched::Read(name) => on(Change::readable, name, open.read(true))?,
            Watched::Write(name) => on(Change::writable, name, open.write(true))?,
            Watched::Except(name) => on(Change::exceptional, name, open.read(true))?,
            Watched::File(name) => on(
                |fd| Change::file(fd, FileNotes::all()),
                name,
                open.read(true),
            )?,
            Watched::Process(pid) => Change::process(*pid, PROCESS),
            Watched::Signal(number) => {
                // SAFETY: Ignoring a signal has no preconditions. A kqueue counts ignored signals
                // too.
                unsafe { libc::signal(*number, libc::SIG_IGN) };
                Change::signal(*number)
            }
            // The period identifies the timer.
            Watched::Timer(period) => {
                let period = u64::from(*period);
                Change::timer(period, Duration::from_millis(period))
            }
            Watched::Mounts => Change::mounts(MountNotes::all()),
            Watched::User(id) => {
                self.kqueue.apply(&[Change::user(*id)])?;
                Change::trigger(*id)
            }
        })
    }

    fn add_all(&mut self) -> Result<()> {
        for Argument { text, watched } in self.options.events.clone() {
            let change = self.change(&watched)?;
            self.kqueue.apply(&[change]).context(text)?;
        }
        if let Some(seconds) = self.options.duration {
            let end = Change::timeout(DURATION, Duration::from_secs(seconds));
            self.kqueue.apply(&[end])?;
        }
        if let Some((program, arguments)) = self.options.run.split_first() {
            // The child stops before it executes the program, so that the program is watched from
            // its beginning.
            let shell = ["-c", "kill -STOP $$; exec \"$@\"", "sh", program];
            let child = Command::new("/bin/sh")
                .args(shell)
                .args(arguments)
                .spawn()?;
            let pid = child.id();
            let mut status = 0;
            // SAFETY: The process is a child of this one.
            unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WUNTRACED) };
            self.kqueue.apply(&[Change::process(pid, PROCESS)])?;
            // SAFETY: The process is a child of this one.
            unsafe { libc::kill(pid as i32, libc::SIGCONT) };
            self.child = Some(child);
            self.running = 1;
        }
        Ok(())
    }

    fn name(&self, fd: RawFd) -> &str {
        self.names.get(&fd).map_or("", String::as_str)
    }

    fn on_descriptor(&self, kind: &str, what: &Descriptor) -> (String, Value) {
        let name = self.name(what.fd);
        let mut line = format!("{kind} {name}: {} bytes", what.bytes);
        if what.end {
            line += ", end";
        }
        if what.hung_up {
            line += ", hung up";
        }
        if what.error != 0 {
            line += &format!(", {}", std::io::Error::from_raw_os_error(what.error));
        }
        let json = json!({
            "event": kind, "fd": what.fd, "name": name, "bytes": what.bytes, "end": what.end,
            "hung_up": what.hung_up, "error": what.error,
        });
        (line, json)
    }

    fn on_process(&mut self, process: &Process) -> (String, Value) {
        let pid = process.pid;
        let mut line = format!(
            "process {pid}: {}",
            names(process.notes.iter_names()).join(" ")
        );
        let mut json = json!({
            "event": "process", "pid": pid, "notes": names(process.notes.iter_names()),
        });
        if let Some(parent) = process.parent() {
            self.running += 1;
            line += &format!(" of {parent}");
            json["parent"] = parent.into();
        }
        if process.notes.contains(ProcessNotes::EXEC) {
            // The process may have continued since.
            if let Ok(comm) = fs::read_to_string(format!("/proc/{pid}/comm")) {
                line += &format!(" {}", comm.trim_end());
                json["program"] = comm.trim_end().into();
            }
        }
        if let Some(status) = process.status() {
            self.running = self.running.saturating_sub(1);
            line += &format!(", {status}");
            json["code"] = status.code().into();
            json["signal"] = status.signal().into();
        }
        (line, json)
    }

    fn show(&mut self, report: &Report) -> Result<(String, Value)> {
        Ok(match report {
            Report::Readable(what) => self.on_descriptor("read", what),
            Report::Writable(what) => self.on_descriptor("write", what),
            Report::Exceptional(what) => self.on_descriptor("except", what),
            Report::File { fd, notes } => {
                let (name, notes) = (self.name(*fd), names(notes.iter_names()));
                (
                    format!("file {name}: {}", notes.join(" ")),
                    json!({ "event": "file", "fd": fd, "name": name, "notes": notes }),
                )
            }
            Report::Process(process) => self.on_process(process),
            Report::Signal { number, count } => {
                let name = signal_name(*number);
                (
                    format!("signal {name}: {count}"),
                    json!({ "event": "signal", "number": number, "name": name, "count": count }),
                )
            }
            Report::Timer { id, expirations } => (
                format!("timer {id}: {expirations}"),
                json!({ "event": "timer", "period": id, "expirations": expirations }),
            ),
            Report::User { id, flags } => (
                format!("user {id}: {flags:#x}"),
                json!({ "event": "user", "id": id, "flags": flags }),
            ),
            Report::Mounts(notes) => {
                let notes = names(notes.iter_names());
                (
                    format!("mounts: {}", notes.join(" ")),
                    json!({ "event": "mounts", "notes": notes }),
                )
            }
            other => bail!("unexpected: {other:?}"),
        })
    }

    /// True when there is nothing more to wait for.
    fn is_over(&self) -> bool {
        self.child.is_some() && self.running == 0 && self.options.events.is_empty()
    }

    fn print_all(&mut self) -> Result<()> {
        let mut left = self.options.count.unwrap_or(usize::MAX);
        let mut events = kqueue::Events::with_capacity(64);
        let mut out = std::io::stdout().lock();
        while left > 0 && !self.is_over() {
            self.kqueue.wait(&mut events, None)?;
            for event in &events {
                let report = event.report();
                if matches!(report, Report::Timer { id: DURATION, .. }) {
                    return Ok(());
                }
                let (line, mut json) = self.show(&report)?;
                if self.options.json {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                    json["time"] = now.as_secs_f64().into();
                    writeln!(out, "{json}")?;
                } else {
                    writeln!(out, "{line}")?;
                }
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The names of flags.
fn names<T>(set: impl Iterator<Item = (&'static str, T)>) -> Vec<String> {
    let words = set.map(|(name, _)| name.to_lowercase().replace('_', "-"));
    words.collect()
}

/// Creates a kqueue. If that fails, prints an explanation.
fn kqueue() -> Result<Kqueue> {
    Kqueue::new().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            anyhow!("there is no /dev/kqueue: load the module (modprobe kqueue)")
        }
        _ => anyhow::Error::new(error).context("/dev/kqueue"),
    })
}

fn run(options: Options) -> Result<()> {
    match options.action {
        Some(Action::List { json }) => return list::print(json),
        Some(Action::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Options::command(), "kqtrace", &mut script);
            return Ok(std::io::stdout().write_all(&script)?);
        }
        None => {}
    }
    let mut watches = Watches {
        kqueue: kqueue()?,
        names: HashMap::new(),
        files: Vec::new(),
        running: 0,
        child: None,
        options,
    };
    watches.add_all()?;
    watches.print_all()?;
    if let Some(mut child) = watches.child {
        child.wait()?;
    }
    Ok(())
}

fn main() -> ExitCode {
    // Errors in the arguments, and requests for help, end the program here.
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kqtrace: {error:#}");
            ExitCode::FAILURE
        }
    }
}
