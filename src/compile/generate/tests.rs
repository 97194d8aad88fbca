//! Generated handlers through every engine, and that there is enough in them.

use super::check::{compare_engines, count};
use super::{Floats, GeneratedHandler, Trace, check, run_series, strategy};
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
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/compile/generate/regressions");
    let mut replayed = 0;
    for file in std::fs::read_dir(folder).expect("the folder of regressions is there") {
        let path = file.expect("the folder can be read").path();
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            let read = |path| std::fs::read_to_string(path).expect("each handler has two files");
            let handler = GeneratedHandler::read(&read(path.clone()), &read(path.with_extension("data")));
            compare_engines(&handler).unwrap_or_else(|why| panic!("{}: {why}\n{handler:?}", path.display()));
            replayed += 1;
        }
    }
    assert!(replayed > 0);
}
