//! Generated handlers through every engine, and that there is enough in them.

use super::check::{compare_engines, count};
use super::{Floats, GeneratedHandler, Trace, check, regressions, run_series, strategy};
use crate::compile::Interpreter;
use std::sync::Arc;

#[test]
fn engines_agree_on_generated_handlers() {
    check("engines", &strategy(Floats::All), count(2000), compare_engines);
}

#[test]
fn handlers_use_floats_as_far_as_asked() {
    let about = ["sin", "cos", "tan", "exp2", "log", "pow", "acosh", "atanh"];
    for (name, floats, words) in [("integers", Floats::None, &["f32"][..]), ("exact", Floats::Exact, &about)]
    {
        check(name, &strategy(floats), count(2000) / 10, |handler| {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let mut names = handler.text.split(|c| !is_name(c));
            match names.find(|name| words.contains(name)) {
                Some(word) => Err(format!("there is a `{word}` in it")),
                None => compare_engines(handler),
            }
        });
    }
}

#[test]
fn saved_handlers_are_read_back() {
    check("saved", &strategy(Floats::All), 50, |handler| {
        let read = GeneratedHandler::read(&handler.text, &handler.data());
        let trace = |handler: &GeneratedHandler| -> Result<Trace, String> {
            let program = Arc::new(handler.compile().map_err(|error| error.to_string())?);
            Ok(run_series(&Interpreter::new(program.clone()), &program, handler))
        };
        match trace(handler)?.difference(&trace(&read)?) {
            Some(difference) => Err(difference),
            None if read.data() != handler.data() => Err("its data changed".to_string()),
            None => Ok(()),
        }
    });
}

#[test]
fn what_once_failed_does_not_fail_again() {
    let mut replayed = 0;
    for (name, handler) in regressions() {
        compare_engines(&handler).unwrap_or_else(|why| panic!("{name}: {why}\n{handler:?}"));
        replayed += 1;
    }
    assert!(replayed > 0);
}
