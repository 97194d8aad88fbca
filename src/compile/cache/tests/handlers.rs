//! Which handlers share their code, and which must not.

use super::super::{Cache, CacheSettings};
use crate::compile::tests::{ALERT, IN, OUT, STATE, output, source};
use crate::compile::{HandlerSource, OutputDecl, TableDecl};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::sync::Arc;

const TEXT: &str = "fn on_message(m: In) -> Out { return Out(m.a); }";

fn cache() -> Cache {
    Cache::new(&CacheSettings::new().without_disk(), None).expect("good settings")
}

fn table(len: usize, element_name: &'static str) -> TableDecl {
    TableDecl { name: "t".to_owned(), element_size: 4, element_name, len }
}

#[test]
fn one_handler_under_many_names_is_compiled_once() {
    let cache = cache();
    let first = cache.handler(&source(TEXT)).unwrap();
    for number in 0..100 {
        let again =
            cache.handler(&HandlerSource { name: &format!("kernel {number}"), ..source(TEXT) }).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(Arc::ptr_eq(&first.executable().0, &again.executable().0), "decoded once, too");
    }
    let told = cache.statistics();
    assert_eq!((told.hits, told.misses, told.entries, told.evictions), (100, 1, 1, 0));
    cache.clear().unwrap();
    assert!(!Arc::ptr_eq(&first, &cache.handler(&source(TEXT)).unwrap()));
}

#[test]
fn errors_name_their_own_kernel() {
    let cache = cache();
    for name in ["one", "two"] {
        let error = cache.handler(&HandlerSource { name, ..source("fn on_message(m: In) -> Out {") });
        let text = error.err().expect("it does not compile").to_string();
        assert!(text.starts_with(&format!("{name}:1:")), "{text}");
    }
    let told = cache.statistics();
    assert_eq!((told.hits, told.misses, told.entries), (0, 2, 0));
}

/// Layouts that differ from `In` and from each other in one thing.
const fn words(name: &'static str, size: u32, align: u32, fields: &'static [Field]) -> Layout {
    Layout { name, size, align, fields }
}
const fn field(name: &'static str, offset: u32, kind: FieldKind) -> Field {
    Field { name, offset, kind }
}
const WORD: FieldKind = FieldKind::Scalar(Scalar::U32);
static LAYOUTS: [Layout; 11] = [
    words("A", 8, 4, &[field("x", 0, WORD)]),
    words("B", 8, 4, &[field("x", 0, WORD)]),
    words("A", 12, 4, &[field("x", 0, WORD)]),
    words("A", 8, 8, &[field("x", 0, WORD)]),
    words("A", 8, 4, &[field("y", 0, WORD)]),
    words("A", 8, 4, &[field("x", 4, WORD)]),
    words("A", 8, 4, &[field("x", 0, FieldKind::Scalar(Scalar::I32))]),
    words("A", 8, 4, &[field("x", 0, FieldKind::Vector(Scalar::U32, 2))]),
    words("A", 8, 4, &[field("x", 0, FieldKind::Array { element: &WORD, len: 2, stride: 4 })]),
    words("A", 8, 4, &[field("x", 0, FieldKind::Struct(ALERT))]),
    words("A", 8, 4, &[field("x", 0, WORD), field("y", 4, WORD)]),
];

#[test]
fn all_that_makes_another_program_makes_another_key() {
    let outputs: Vec<OutputDecl> = vec![output("a", 1), output("b", 1)];
    let more = [output("a", 2)];
    let other = [OutputDecl { layout: STATE, ..output("a", 1) }];
    let tables = [table(8, "u32"), TableDecl { name: "u".to_owned(), ..table(8, "u32") }];
    let wide = [TableDecl { element_size: 8, ..table(8, "u32") }];
    let base = || source(TEXT);
    let mut sources = vec![
        base(),
        HandlerSource { text: "fn on_message(m: In) -> Out { return Out(m.a); } ", ..base() },
        HandlerSource { input: OUT, ..base() },
        HandlerSource { output: IN, ..base() },
        HandlerSource { state: Some(STATE), ..base() },
        HandlerSource { state: Some(ALERT), ..base() },
        HandlerSource { outputs: &outputs, ..base() },
        HandlerSource { outputs: &outputs[..1], ..base() },
        HandlerSource { outputs: &outputs[1..], ..base() },
        HandlerSource { outputs: &more, ..base() },
        HandlerSource { outputs: &other, ..base() },
        HandlerSource { tables: &tables, ..base() },
        HandlerSource { tables: &tables[..1], ..base() },
        HandlerSource { tables: &tables[1..], ..base() },
        HandlerSource { tables: &wide, ..base() },
        HandlerSource { loop_budget: 1, ..base() },
        HandlerSource { instance_at: Some(0), ..base() },
        HandlerSource { instance_at: Some(4), ..base() },
    ];
    sources.extend(LAYOUTS.iter().map(|input| HandlerSource { input, ..base() }));
    let keys: Vec<_> = sources.iter().map(super::super::key::handler).collect();
    for (index, key) in keys.iter().enumerate() {
        for (other, second) in keys[..index].iter().enumerate() {
            assert_ne!(key, second, "sources {other} and {index}");
        }
    }
    // And what words errors only, or is looked at for each kernel, makes none.
    let renamed = [table(3, "f32")];
    let source = HandlerSource { name: "another", tables: &renamed, ..base() };
    assert_eq!(super::super::key::handler(&source), keys[12]);
}

#[test]
fn kernels_with_tables_of_different_lengths_share_code_if_they_are_long_enough() {
    let text = "@group(1) @binding(0) var<storage, read> t: array<u32, 4>;
                fn on_message(m: In) -> Out { return Out(array<u32, 8>(t[1], 0, 0, 0, 0, 0, 0, 0)); }";
    let cache = cache();
    let get =
        |name, len| cache.handler(&HandlerSource { name, tables: &[table(len, "u32")], ..source(text) });
    let first = get("one", 4).unwrap();
    assert!(Arc::ptr_eq(&first, &get("two", 9).unwrap()));
    for len in [0, 3] {
        let error = get("three", len).err().expect("it is too short").to_string();
        assert!(error.starts_with("three:1:") && error.contains("`t`"), "{error}");
    }
    assert!(Arc::ptr_eq(&first, &get("four", 4).unwrap()));
    assert_eq!(cache.statistics().entries, 1);
}
