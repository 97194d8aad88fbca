//! What only machine code has: its limits, its bytes, its memory. That it computes what the interpreter computes is
//! tested where the interpreter is: every handler there runs on both.

mod batch;
mod packed;
mod shapes;
mod unroll;

use super::{JitHandler, MachineCode, host_key, load, translate};
use crate::compile::tests::*;
use crate::compile::{
    Executable, Frame, HandlerSource, Limits, Outcome, Program, STOP_NOW, StopCheck, TableView, compile,
};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::fmt::Write;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

const COUNTING: &str = "fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                        for (var i = 0u; i < m.a[0]; i++) { r[i] = i + m.a[1]; } return Out(r); }";

fn program(text: &str) -> Program {
    compile(&source(text)).unwrap_or_else(|error| panic!("{error}"))
}

fn run(handler: &JitHandler, message: &[u32; 8]) -> Vec<u32> {
    run_on(handler, message, &[])
}

fn run_on(handler: &JitHandler, message: &[u32; 8], tables: &[TableView]) -> Vec<u32> {
    let (word, mut reply) = (AtomicU32::new(0), [0u32; 8]);
    let mut privates = [0u128; 4];
    let outcome = handler.run(Frame {
        message: bytemuck::cast_slice(message),
        state: &mut [],
        reply: bytemuck::cast_slice_mut(&mut reply),
        privates: bytemuck::cast_slice_mut(&mut privates),
        tables,
        stop: &StopCheck::new(&word, &Limits::NONE),
    });
    assert_eq!(outcome, Outcome::Done);
    reply.to_vec()
}

#[test]
fn code_survives_as_bytes() {
    let code = translate(&program(COUNTING)).unwrap();
    let bytes = code.to_bytes();
    // SAFETY: the bytes were made by this very process for this very program.
    let again = unsafe { MachineCode::from_bytes(&bytes) }.unwrap();
    assert_eq!(again, code);
    assert_eq!(run(&load(&again).unwrap(), &[3, 7, 0, 0, 0, 0, 0, 0])[..4], [7, 8, 9, 0]);
    for damage in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[damage] ^= 0x10;
        // SAFETY: it is not run.
        assert!(unsafe { MachineCode::from_bytes(&bytes) }.is_err(), "byte {damage}");
        // SAFETY: as above.
        assert!(unsafe { MachineCode::from_bytes(&bytes[..damage]) }.is_err());
    }
    let key = host_key().unwrap();
    assert!(
        key.contains(cranelift_codegen::VERSION) && key.contains("opt_level") && key == host_key().unwrap()
    );
}

#[test]
fn large_constants_are_part_of_the_code() {
    let mut list = String::new();
    (0..100).for_each(|i| write!(list, "{}u,", i * i).unwrap());
    let text = format!(
        "const SQUARES = array<u32, 100>({list}); \
         fn on_message(m: In) -> Out {{ var r: array<u32, 8>; let squares = SQUARES; var own = SQUARES; \
         own[m.a[0]] += 1u; r[0] = squares[m.a[0]]; r[1] = own[m.a[0]]; r[2] = own[m.a[1]]; return Out(r); }}"
    );
    let code = translate(&program(&text)).unwrap();
    // SAFETY: the bytes were made by this very process for this very program.
    let code = unsafe { MachineCode::from_bytes(&code.to_bytes()) }.unwrap();
    assert_eq!(run(&load(&code).unwrap(), &[9, 99, 0, 0, 0, 0, 0, 0])[..3], [81, 82, 9801]);
}

/// Bytes of executable memory that belong to no file.
#[cfg(target_os = "linux")]
fn executable_bytes() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let sizes = maps.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [range, "r-xp", ..] = *fields.as_slice() else { return None };
        let (from, to) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        (fields.len() == 5).then(|| address(to) - address(from))
    });
    sizes.sum()
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_freed_with_the_handler() {
    const HANDLERS: usize = 2_000;
    let code = translate(&program(COUNTING)).unwrap();
    let before = executable_bytes();
    let handlers: Vec<_> = (0..HANDLERS).map(|_| load(&code).unwrap()).collect();
    let during = executable_bytes();
    assert_eq!(run(handlers.last().unwrap(), &[1, 5, 0, 0, 0, 0, 0, 0])[0], 5);
    assert!(std::fs::read_to_string("/proc/self/maps").unwrap().lines().all(|line| !line.contains("wx")));
    drop(handlers);
    let after = executable_bytes();
    // Other tests have handlers of their own, but not thousands.
    assert!(during >= before + HANDLERS / 2 * 4096, "{before} {during}");
    assert!(after < before + HANDLERS / 2 * 4096, "{before} {during} {after}");
}

/// A page, and behind it one that nobody may touch.
#[cfg(unix)]
struct Guarded {
    at: *mut u8,
    page: usize,
}

#[cfg(unix)]
impl Guarded {
    fn new() -> Self {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (flags, protection) = (libc::MAP_PRIVATE | libc::MAP_ANON, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: new memory, wherever there is room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        let at = at.cast::<u8>();
        // SAFETY: the second of the two pages that are ours.
        assert_eq!(unsafe { libc::mprotect(at.add(page).cast(), page, libc::PROT_NONE) }, 0);
        Self { at, page }
    }

    /// Puts words where the page ends.
    fn words(&self, words: &[u32]) -> TableView {
        let bytes = size_of_val(words);
        // SAFETY: so many bytes are in the page, of which nobody else has these; it is aligned to more than a word.
        let data = unsafe { self.at.add(self.page - bytes) };
        // SAFETY: as above.
        unsafe { data.cast::<u32>().copy_from_nonoverlapping(words.as_ptr(), words.len()) };
        TableView { data, bytes }
    }
}

#[cfg(unix)]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: what `new` got, which no view outlives.
        unsafe { libc::munmap(self.at.cast(), 2 * self.page) };
    }
}

#[test]
#[cfg(unix)]
fn nothing_is_read_behind_a_message() {
    // Of the unrolled loop some copies are never entered.
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; for (var j = 0u; j < m.a[0]; j++) { \
                for (var k = 0u; k < 12u; k++) { if k < (m.a[1] & 7u) { r[0] += m.a[k]; } } } return Out(r); }";
    let memory = Guarded::new();
    let message = memory.words(&[3, 7, 1, 1, 1, 1, 1, 1]);
    // SAFETY: `words` has put as many there, and nobody writes them.
    let message = unsafe { &*message.data.cast::<[u32; 8]>() };
    let handler = load(&translate(&program(text)).unwrap()).unwrap();
    assert_eq!(run(&handler, message)[0], 3 * (3 + 7 + 5));
}

#[test]
#[cfg(unix)]
fn nothing_is_read_behind_a_table() {
    let text = "@group(1) @binding(0) var<storage, read> t: array<u32>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; for (var j = 0u; j < m.a[0]; j++) { \
                for (var k = 0u; k < 8u; k++) { if k < arrayLength(&t) { r[0] += t[k]; } } } return Out(r); }";
    let memory = Guarded::new();
    for length in 1..=9u32 {
        let numbers: Vec<u32> = (1..=length).collect();
        let tables = [table("t", numbers.len())];
        let program = compile(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
        let handler = load(&translate(&program).unwrap()).unwrap();
        let got = run_on(&handler, &[3, 0, 0, 0, 0, 0, 0, 0], &[memory.words(&numbers)]);
        assert_eq!(got[0], 3 * numbers.iter().take(8).sum::<u32>());
    }
}

#[test]
#[cfg(unix)]
fn nothing_is_read_where_only_another_table_has_such_an_index() {
    // The index is clamped to the one table's length, and looked at before it is the other one's.
    let text = "@group(1) @binding(0) var<storage, read> long: array<u32>;
                @group(1) @binding(1) var<storage, read> short: array<u32>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; let i = min(m.a[1], arrayLength(&long) - 1u); \
                r[1] = long[i]; for (var j = 0u; j < m.a[0]; j++) { if i < arrayLength(&short) { r[0] += short[i]; } } \
                return Out(r); }";
    let memory = Guarded::new();
    let (long, short) = ((0..100).collect::<Vec<u32>>(), [1, 2, 3, 4]);
    let tables = [table("long", long.len()), table("short", short.len())];
    let program = compile(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    let handler = load(&translate(&program).unwrap()).unwrap();
    let bytes = size_of_val(&*long);
    let views = [TableView { data: long.as_ptr().cast_mut().cast(), bytes }, memory.words(&short)];
    for (index, sum) in [(3, 12), (4, 0), (50, 0), (1000, 0)] {
        let got = run_on(&handler, &[3, index, 0, 0, 0, 0, 0, 0], &views);
        assert_eq!(got[..2], [sum, index.min(99)]);
    }
}

#[test]
fn huge_call_trees_are_left_to_the_interpreter_at_once() {
    let tree = |body: &str, depth: u32| {
        let mut text = format!("fn f0(x: u32) -> u32 {{ {body} }}\n");
        for level in 1..depth {
            let below = level - 1;
            writeln!(text, "fn f{level}(x: u32) -> u32 {{ return f{below}(x) + f{below}(x + 1u); }}")
                .unwrap();
        }
        let top = depth - 1;
        text + &format!(
            "fn on_message(m: In) -> Out {{ var r: array<u32, 8>; r[0] = f{top}(m.a[0]); return Out(r); }}"
        )
    };
    for body in ["return x;", "var y = x; for (var i = 0u; i < x; i++) { y = y * 3u + i; } return y;"] {
        let begin = Instant::now();
        let reason = translate(&program(&tree(body, 40))).unwrap_err();
        assert!(reason.starts_with("interpreter: ") && reason.contains("inline"), "{reason}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    // 255 calls are no problem.
    let code = translate(&program(&tree("return x * 3u;", 8))).unwrap();
    let handler = load(&code).unwrap();
    let sum: u32 = (0..128u32).map(|path| 3 * (5 + path.count_ones())).sum();
    assert_eq!(run(&handler, &[5, 0, 0, 0, 0, 0, 0, 0])[0], sum);
}

#[test]
fn what_is_too_large_or_too_deep_is_left_to_the_interpreter() {
    let refused = |text: &str| translate(&program(text)).unwrap_err();
    let stack = "fn on_message(m: In) -> Out { var r: array<u32, 8>; var a: array<u32, 15000>; a[m.a[0]] = 1u; \
                 let b = a; a[m.a[2]] = 2u; r[0] = a[m.a[1]] + b[m.a[1]]; return Out(r); }";
    assert!(refused(stack).contains("stack"));
    let mut chain = String::from("fn f0(x: u32) -> u32 { return x + 1u; }\n");
    for level in 1..1_100 {
        writeln!(chain, "fn f{level}(x: u32) -> u32 {{ return f{}(x); }}", level - 1).unwrap();
    }
    chain += "fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = f1099(m.a[0]); return Out(r); }";
    assert!(refused(&chain).contains("deep"));
}

#[test]
fn a_large_frame_is_walked_page_by_page() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; var a: array<u32, 15000>; \
                for (var i = 0u; i < 15000u; i++) { a[i] = i * m.a[0]; } r[0] = a[m.a[1]]; return Out(r); }";
    let code = translate(&program(text)).unwrap();
    assert_eq!(run(&load(&code).unwrap(), &[3, 14_999, 0, 0, 0, 0, 0, 0])[0], 44_997);
}

#[test]
fn an_interrupted_run_leaves_the_state_alone() {
    let text = "fn on_message(m: In, s: ptr<function, State>) -> Out { var r: array<u32, 8>; s.n += 1u; \
                loop { s.sum += 1.0; if s.sum < 0.0 { break; } } return Out(r); }";
    let endless = HandlerSource { state: Some(STATE), loop_budget: u32::MAX, ..source(text) };
    let mut bench = Bench::new(&endless).unwrap();
    bench.stop_word = AtomicU32::new(STOP_NOW);
    assert_eq!(bench.run(&[0; 32]), Outcome::Interrupted);
    assert_eq!(words(&bench.state), [0, 0]);
}

/// `struct Ring { next: u32, total: u32, kept: array<u32, 40> }`
const RING: &Layout = &Layout {
    name: "Ring",
    size: 168,
    align: 4,
    fields: &[
        scalar("next", 0, Scalar::U32),
        scalar("total", 4, Scalar::U32),
        Field { name: "kept", offset: 8, kind: FieldKind::Array { element: U32, len: 40, stride: 4 } },
    ],
};

#[test]
fn one_indexed_member_does_not_take_the_others_along() {
    // With a loop the state is copied, without one it is worked on in place.
    for looping in ["", "for (var i = 0u; i < 2u; i++) { s.total += i; }"] {
        let text = format!(
            "fn put(kept: ptr<function, array<u32, 40>>, at: u32, x: u32) {{ (*kept)[at] = x; }} \
             fn on_message(m: In, s: ptr<function, Ring>) -> Out {{ var r: array<u32, 8>; {looping} \
             r[0] = (*s).kept[m.a[0]]; put(&(*s).kept, (*s).next % 40u, m.a[1]); (*s).next += 1u; \
             (*s).total += m.a[1]; r[1] = (*s).total; let copy = *s; r[2] = copy.kept[m.a[0]] + copy.next; \
             if m.a[2] == 1u {{ *s = Ring(); }} return Out(r); }}"
        );
        let mut bench = Bench::new(&HandlerSource { state: Some(RING), ..source(&text) }).unwrap();
        for i in 0..100u32 {
            let message = [i % 50, i * 3, u32::from(i == 70), 0, 0, 0, 0, 0];
            assert_eq!(bench.run(bytemuck::cast_slice(&message)), Outcome::Done);
        }
        assert_eq!(words(&bench.state)[0], 29);
    }
}

#[test]
fn an_interrupted_loop_looks_often_enough() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; var x = 2.0; \
                loop { x = sin(x) + cos(x); if x > 5.0 { break; } } return Out(r); }";
    let mut bench = Bench::new(&HandlerSource { loop_budget: u32::MAX, ..source(text) }).unwrap();
    bench.stop_word = AtomicU32::new(STOP_NOW);
    let begin = Instant::now();
    assert_eq!(bench.run(&[0; 32]), Outcome::Interrupted);
    assert!(begin.elapsed() < Duration::from_millis(500));
}

#[test]
fn every_service_is_in_the_table() {
    assert!(super::runtime::SERVICES.is_complete());
}
