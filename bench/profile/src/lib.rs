// SPDX-License-Identifier: GPL-2.0

//! A plugin for QEMU, by which `make bench` learns how many of the instructions of an operation are
//! those of the module.
//!
//! The benchmark marks the parts that it measures by instructions that do nothing
//! ([`bench/src/marks.rs`](../../src/marks.rs) has the same numbers). Between the marks for the
//! beginning and the end of a part, the plugin counts the instructions at the addresses of modules,
//! and all others. At the mark for the end of a run it writes both counts to its file as a line of
//! two numbers. The guest has one processor, and kqueue is the only module that does anything while
//! a part is measured.
//!
//! Use: `-plugin libkqueue_profile.so,out=FILE`. The names and the layout of the functions of QEMU
//! are those of `qemu-plugin.h`, version 3.

use libc::{c_char, c_int, c_uint, c_void};
use std::{
    ffi::CStr,
    fs::File,
    io::{BufWriter, Write},
    ops::Range,
    sync::{Mutex, OnceLock},
};

/// The addresses at which x86-64 has modules (`Documentation/arch/x86/x86_64/mm.rst` of Linux).
const MODULES: Range<u64> = 0xffff_ffff_c000_0000..0xffff_ffff_ff00_0000;

/// A mark is a `nop dword ptr [rax + MARK + n]`, which is encoded as these bytes and the number.
const NOP: [u8; 3] = [0x0f, 0x1f, 0x80];

/// The number of a mark, without what it marks.
const MARK: u32 = 0x4b51_0000;

/// The length of a mark in bytes.
const MARK_LEN: usize = 7;

/// What a mark marks.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Begin = 1,
    End = 2,
    /// The end of a run, which consists of any number of parts.
    Run = 3,
}

/// `struct qemu_plugin_tb`.
#[repr(C)]
struct Block([u8; 0]);

/// `struct qemu_plugin_insn`.
#[repr(C)]
struct Instruction([u8; 0]);

/// `struct qemu_plugin_scoreboard`.
#[repr(C)]
struct Scoreboard([u8; 0]);

/// `qemu_plugin_u64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Counter {
    scoreboard: *mut Scoreboard,
    offset: usize,
}

extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, call: extern "C" fn(u64, *mut Block));
    fn qemu_plugin_register_atexit_cb(
        id: u64,
        call: extern "C" fn(u64, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    fn qemu_plugin_insn_data(instruction: *const Instruction, to: *mut c_void, len: usize)
        -> usize;
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        call: extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction: *mut Instruction,
        operation: c_int,
        counter: Counter,
        value: u64,
    );
    fn qemu_plugin_scoreboard_new(size: usize) -> *mut Scoreboard;
    fn qemu_plugin_u64_sum(counter: Counter) -> u64;
}

/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;

/// The version of the interface.
#[no_mangle]
pub static qemu_plugin_version: c_int = 3;

/// The instructions that were counted, in modules and elsewhere.
#[derive(Clone, Copy, Default)]
struct Counts {
    modules: u64,
    others: u64,
}

struct State {
    modules: Counter,
    others: Counter,
    run: Mutex<Run>,
}

// SAFETY: The scoreboards are never freed. QEMU adds to them on the processor that they belong to.
unsafe impl Send for State {}

// SAFETY: As above.
unsafe impl Sync for State {}

/// The present run.
struct Run {
    /// The counts when the present part began.
    begin: Option<Counts>,
    /// The counts of the parts that have ended.
    parts: Counts,
    out: BufWriter<File>,
}

static STATE: OnceLock<State> = OnceLock::new();

impl State {
    fn counts(&self) -> Counts {
        // SAFETY: Both counters are valid.
        unsafe {
            Counts {
                modules: qemu_plugin_u64_sum(self.modules),
                others: qemu_plugin_u64_sum(self.others),
            }
        }
    }

    fn handle(&self, mark: Mark) {
        let now = self.counts();
        let Ok(mut run) = self.run.lock() else { return };
        match mark {
            Mark::Begin => run.begin = Some(now),
            Mark::End => {
                if let Some(begin) = run.begin.take() {
                    run.parts.modules += now.modules - begin.modules;
                    run.parts.others += now.others - begin.others;
                }
            }
            Mark::Run => {
                let Counts { modules, others } = std::mem::take(&mut run.parts);
                // If the file is not complete, the report says so.
                let _ = writeln!(run.out, "{modules} {others}");
            }
        }
    }
}

/// The mark that an instruction is.
fn mark_of(instruction: *const Instruction) -> Option<Mark> {
    let mut bytes = [0; MARK_LEN];
    // SAFETY: The instruction is valid during its translation. The memory is as long as stated.
    let len = unsafe { qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), bytes.len()) };
    let (nop, number) = bytes.split_at(NOP.len());
    if len != MARK_LEN || nop != NOP {
        return None;
    }
    let number = u32::from_le_bytes(number.try_into().ok()?);
    [Mark::Begin, Mark::End, Mark::Run]
        .into_iter()
        .find(|mark| number == MARK + *mark as u32)
}

extern "C" fn at_mark(_processor: c_uint, mark: *mut c_void) {
    let marks = [Mark::Begin, Mark::End, Mark::Run];
    let mark = marks
        .into_iter()
        .find(|known| *known as usize == mark.addr());
    if let (Some(state), Some(mark)) = (STATE.get(), mark) {
        state.handle(mark);
    }
}

extern "C" fn at_translation(_id: u64, block: *mut Block) {
    let Some(state) = STATE.get() else { return };
    // SAFETY: The block and its instructions are valid during this call.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let counter = if MODULES.contains(&qemu_plugin_insn_vaddr(instruction)) {
                state.modules
            } else {
                state.others
            };
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, ADD, counter, 1);
            if let Some(mark) = mark_of(instruction) {
                let mark = std::ptr::without_provenance_mut(mark as usize);
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_mark, NO_REGISTERS, mark);
            }
        }
    }
}

extern "C" fn at_exit(_id: u64, _data: *mut c_void) {
    if let Some(Ok(mut run)) = STATE.get().map(|state| state.run.lock()) {
        let _ = run.out.flush();
    }
}

/// Called by QEMU when it loads the plugin. Returns 0, or -1 if `out=FILE` is missing or the file
/// cannot be written.
///
/// # Safety
///
/// `argv` has `argc` strings.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let mut out = None;
    for index in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: By this function's contract.
        let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
        if let Some(path) = argument
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("out="))
        {
            out = File::create(path).ok();
        }
    }
    let Some(out) = out else { return -1 };
    let counter = || Counter {
        // SAFETY: The size is that of the counter, which is at the beginning.
        scoreboard: unsafe { qemu_plugin_scoreboard_new(size_of::<u64>()) },
        offset: 0,
    };
    let state = State {
        modules: counter(),
        others: counter(),
        run: Mutex::new(Run {
            begin: None,
            parts: Counts::default(),
            out: BufWriter::new(out),
        }),
    };
    if STATE.set(state).is_err() {
        return -1;
    }
    // SAFETY: `id` is that of this plugin, and the functions are never unloaded.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, at_translation);
        qemu_plugin_register_atexit_cb(id, at_exit, std::ptr::null_mut());
    }
    0
}
