//! Runs generated handlers until one fails, and says which, as small as it gets.

use super::batches::{INSTANCES, batch_difference, instance, with_instances};
use super::shrink::Handlers;
use super::trace::run_instances;
use super::{GeneratedHandler, Trace, run_series};
#[cfg(feature = "jit")]
use crate::compile::jit;
use crate::compile::{Executable, Interpreter, Program};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A way to run programs; `None` if it does not take this one.
pub(crate) type Engine = (&'static str, fn(Arc<Program>) -> Option<Arc<dyn Executable>>);

/// Every engine of this crate, the reference first.
pub(crate) fn engines() -> Vec<Engine> {
    vec![
        ("interpreter", |program| Some(Arc::new(Interpreter::new(program)))),
        #[cfg(feature = "jit")]
        ("jit", |program| {
            let code = jit::translate(&program).ok()?;
            Some(Arc::new(jit::load(&code).expect("the system gives executable memory")))
        }),
    ]
}

/// How long a failing handler is made smaller.
const SHRINKING: Duration = Duration::from_secs(60);

/// How many handlers a test makes.
pub(crate) fn count(default: u32) -> u32 {
    variable("RINGWORK_GENERATED").unwrap_or(default)
}

fn variable(name: &str) -> Option<u32> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, but should be a number")))
}

/// Makes handlers and tests each; the smallest that fails is saved and shown.
///
/// # Panics
///
/// If a test fails or panics.
pub(crate) fn check(
    name: &str,
    handlers: &Handlers,
    count: u32,
    test: impl Fn(&GeneratedHandler) -> Result<(), String>,
) {
    let test = |handler: &GeneratedHandler| {
        catch_unwind(AssertUnwindSafe(|| test(handler))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Err(format!("it panicked: {text}"))
        })
    };
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&variable("RINGWORK_GENERATED_SEED").unwrap_or(1).to_le_bytes());
    seed[4..].iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for number in 0..count {
        let mut tree = handlers.new_tree(&mut runner).expect("handlers can always be made");
        let handler = tree.current();
        // An engine that ends the process leaves this behind.
        let running = save(&format!("{name}-running"), &handler);
        let Err(why) = test(&handler) else { continue };
        let (smallest, why) = shrink(&mut tree, (handler, why), &test);
        let saved = save(name, &smallest);
        remove(&running);
        panic!(
            "handler {number} of `{name}`: {why}\n\n{smallest:?}\nSaved as {}; both files belong into \
             src/compile/generate/regressions/ once it is understood.",
            saved.display()
        );
    }
    remove(&file(&format!("{name}-running")));
}

fn shrink(
    tree: &mut impl ValueTree<Value = GeneratedHandler>,
    mut smallest: (GeneratedHandler, String),
    test: &impl Fn(&GeneratedHandler) -> Result<(), String>,
) -> (GeneratedHandler, String) {
    let begin = Instant::now();
    let mut is_there_more = tree.simplify();
    while is_there_more && begin.elapsed() < SHRINKING {
        let handler = tree.current();
        is_there_more = match test(&handler) {
            Err(why) => {
                smallest = (handler, why);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    smallest
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringwork-{name}.wgsl"))
}

/// Writes the two files of a handler.
fn save(name: &str, handler: &GeneratedHandler) -> PathBuf {
    let path = file(name);
    let written = std::fs::write(&path, &handler.text)
        .and_then(|()| std::fs::write(path.with_extension("data"), handler.data()));
    if let Err(error) = written {
        println!("the handler could not be saved: {error}");
    }
    path
}

/// Removes the two files of a handler, if they are there.
fn remove(path: &Path) {
    // What is left of them does no harm, and the next run writes over it.
    let _ = std::fs::remove_file(path).and_then(|()| std::fs::remove_file(path.with_extension("data")));
}

/// Compiles a handler and compares what every engine makes of it, one by one, in batches, and for several instances, with
/// the reference, which runs twice.
pub(crate) fn compare_engines(handler: &GeneratedHandler) -> Result<(), String> {
    let program = Arc::new(handler.compile().map_err(|error| format!("it was refused: {error}"))?);
    let engines = engines();
    let reference = engines[0].1(program.clone()).expect("the reference runs everything");
    let expected = run_series(&*reference, &program, handler);
    let compare = |name: &str, trace: &Trace| match expected.difference(trace) {
        Some(difference) => Err(format!("{} and {name} differ: {difference}", engines[0].0)),
        None => Ok(()),
    };
    compare("its second run", &run_series(&*reference, &program, handler))?;
    for (name, engine) in &engines[1..] {
        if let Some(engine) = engine(program.clone()) {
            compare(name, &run_series(&*engine, &program, handler))?;
        }
    }
    for (name, engine) in &engines {
        if let Some(engine) = engine(program.clone())
            && let Some(difference) = batch_difference(&*engine, &program, handler, &expected)
        {
            return Err(format!("{name}, {difference}"));
        }
    }
    let Some((handler, at)) = with_instances(&program, handler) else { return Ok(()) };
    let program =
        Arc::new(handler.compile_for(Some(at)).map_err(|error| format!("it was refused: {error}"))?);
    let reference = engines[0].1(program.clone()).expect("the reference runs everything");
    let own = |message: &[u32]| instance(&program, message);
    let expected = run_instances(&*reference, &program, &handler, INSTANCES, own);
    for (name, engine) in &engines {
        if let Some(engine) = engine(program.clone())
            && let Some(difference) = batch_difference(&*engine, &program, &handler, &expected)
        {
            return Err(format!("{name}, with instances, {difference}"));
        }
    }
    Ok(())
}
