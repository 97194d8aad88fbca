//! Generated handlers, many to a compilation, against the interpreter: bit for bit, as they use what is exact only.

use super::engine::{HostHandler, build, has_compiler};
use crate::compile::generate::{Floats, GeneratedHandler, check, count, regressions, run_series, strategy};
use crate::compile::{Interpreter, Program};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;

/// Handlers of one compilation: `g++` takes half a second for the header alone.
const BATCH: usize = 50;
const NAME: &str = "cuda";

/// Compares what the interpreter and the text make of a handler's messages.
fn compare(generated: &GeneratedHandler, program: &Arc<Program>, host: &HostHandler) -> Result<(), String> {
    let expected = run_series(&Interpreter::new(program.clone()), program, generated);
    match expected.difference(&run_series(host, program, generated)) {
        Some(difference) => Err(format!("the interpreter and the CUDA text differ: {difference}")),
        None => Ok(()),
    }
}

fn compiled(generated: &GeneratedHandler) -> Result<Arc<Program>, String> {
    generated.compile().map(Arc::new).map_err(|error| format!("it was refused: {error}"))
}

/// Compiles and compares one handler.
fn compare_alone(generated: &GeneratedHandler) -> Result<(), String> {
    let program = compiled(generated)?;
    let built = build(&[("generated.wgsl", program.clone())])?;
    compare(generated, &program, &built[0])
}

/// Compiles the handlers of a batch together and compares each; those that agree are noted.
fn compare_batch(batch: &[GeneratedHandler], good: &mut HashSet<String>) {
    let programs: Vec<_> = batch.iter().map(compiled).collect();
    let Ok(programs) = programs.into_iter().collect::<Result<Vec<_>, _>>() else { return };
    let sources: Vec<_> = programs.iter().map(|program| ("generated.wgsl", program.clone())).collect();
    // A batch that does not compile is left to the second pass, which finds out which handler it is.
    let Ok(built) = build(&sources) else { return };
    for ((generated, program), host) in batch.iter().zip(&programs).zip(&built) {
        if compare(generated, program, host).is_ok() {
            good.insert(format!("{generated:?}"));
        }
    }
}

#[test]
fn generated_handlers_agree_with_the_interpreter() {
    if !has_compiler() {
        return;
    }
    let handlers = count(200);
    // The same name and seed make the same handlers: once to compile them together, and once more to report and shrink
    // those that do not agree, each by itself.
    let (batch, good) = (RefCell::new(Vec::new()), RefCell::new(HashSet::new()));
    let (made, messages) = (Cell::new(0), Cell::new(0));
    check(NAME, &strategy(Floats::Exact), handlers, |generated| {
        made.set(made.get() + 1);
        messages.set(messages.get() + generated.messages.len());
        let mut batch = batch.borrow_mut();
        batch.push(generated.clone());
        if batch.len() == BATCH || made.get() == handlers {
            compare_batch(&batch, &mut good.borrow_mut());
            batch.clear();
        }
        Ok(())
    });
    let good = good.into_inner();
    let alone = Cell::new(0);
    check(NAME, &strategy(Floats::Exact), handlers, |generated| {
        if good.contains(&format!("{generated:?}")) {
            return Ok(());
        }
        alone.set(alone.get() + 1);
        compare_alone(generated)
    });
    println!("{handlers} handlers, {} messages; {} compiled alone", messages.get(), alone.get());
}

#[test]
fn what_once_failed_does_not_fail_again() {
    if !has_compiler() {
        return;
    }
    for (name, handler) in regressions() {
        compare_alone(&handler).unwrap_or_else(|why| panic!("{name}: {why}\n{handler:?}"));
    }
}
