// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Prints what is appended to a file, as `tail -f` does.

use kqueue::{Change, FileNotes, Kqueue, Report};
use std::{env, fs::File, io};

fn main() -> io::Result<()> {
    let path = env::args().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = File::open(path)?;
    let kqueue = Kqueue::new()?;
    let gone = FileNotes::DELETE | FileNotes::RENAME;
    kqueue.apply(&[Change::readable(&file), Change::file(&file, gone)])?;
    for event in kqueue.incoming() {
        match event?.report() {
            Report::Readable(_) => drop(io::copy(&mut file, &mut io::stdout())?),
            _ => break,
        }
    }
    Ok(())
}
