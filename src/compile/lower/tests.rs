//! Facts of lowered programs, and that lowering keeps places in the user's text.

use super::{CAPABILITIES, rewrite_all};
use crate::compile::tests::*;
use crate::compile::{HandlerSource, Program, compile};
use naga::valid::{ValidationFlags, Validator};
use naga::{Expression, Statement};

fn program(text: &str) -> Program {
    compile(&source(text)).unwrap()
}

#[test]
fn facts_look_only_at_what_the_handler_reaches() {
    let text = "@group(1) @binding(0) var<storage, read_write> t: array<u32>;
                fn spare() { loop { t[0] = 1u; } }
                fn helper() { let p = &t; atomic(); }
                fn atomic() {}
                fn on_message(m: In) -> Out { helper(); return Out(); }";
    let tables = [table("t", 4)];
    let program = compile(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    assert!(!program.has_loops && !program.writes_tables && !program.has_state());
    assert!(program.has_message && program.module.functions[program.entry].result.is_some());
    let names: Vec<_> =
        program.functions.iter().map(|f| program.module.functions[*f].name.as_deref().unwrap()).collect();
    assert_eq!(names, ["atomic", "helper", "on_message", "rt_handle"]);

    let text = text.replace("atomic();", "spare();");
    let program = compile(&HandlerSource { tables: &tables, ..source(&text) }).unwrap();
    assert!(program.has_loops && program.writes_tables);
}

#[test]
fn a_write_through_a_pointer_or_to_a_member_is_a_write() {
    let tables =
        [crate::compile::TableDecl { name: "t".into(), element_size: 16, element_name: "Cell", len: 4 }];
    for statement in ["let p = &t[1]; (*p).v[m.a[0]] = 1.0;", "t[m.a[0]].n += 1u;", "t[0] = t[1];"] {
        let text = format!(
            "struct Cell {{ v: vec3<f32>, n: u32 }}
             @group(1) @binding(0) var<storage, read_write> t: array<Cell>;
             fn on_message(m: In) -> Out {{ {statement} return Out(); }}"
        );
        let program = compile(&HandlerSource { tables: &tables, ..source(&text) }).unwrap();
        assert!(program.writes_tables, "{statement}");
    }
}

#[test]
fn privates_have_their_own_places() {
    let text = "var<private> a: bool; var<private> v: vec3<f32>; var<private> b: u32;
                fn on_message(m: In) -> Out { b += 1u; v.x = 1.0; a = true; return Out(); }";
    let outputs = [output("alerts", 3)];
    let program = compile(&HandlerSource { outputs: &outputs, ..source(text) }).unwrap();
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(program.module.to_ctx()).unwrap();
    let mut end = 0;
    for slot in &program.privates {
        let ty = program.module.global_variables[slot.global].ty;
        assert!(slot.offset >= end && slot.offset.is_multiple_of(4));
        assert!(layouter[ty].alignment.is_aligned(slot.offset));
        end = slot.offset + slot.size;
    }
    assert_eq!(program.privates.len(), 3 + 4);
    assert!(program.privates_size >= end && program.privates_size.is_multiple_of(16));
    assert!(program.privates.iter().any(|slot| slot.global == program.fault));
    let emit = &program.emits[0];
    assert_eq!((emit.stride, emit.size, emit.max), (8, 8, 3));
    assert!(emit.items_offset + 3 * emit.stride <= program.privates_size);
}

#[test]
fn private_variables_are_initialised_by_the_entry_alone() {
    let program = program(
        "var<private> v = vec2(vec2(1.0, 2.0) * 3.0); fn on_message(m: In) -> Out { v.x += 1.0; return Out(); }",
    );
    assert!(program.module.global_variables.iter().all(|(_, variable)| variable.init.is_none()));
    assert!(program.module.entry_points.is_empty());
    let entry = &program.module.functions[program.entry];
    let stores = entry.body.iter().filter(|s| matches!(s, Statement::Store { .. })).count();
    assert_eq!(stores, program.privates.len());
}

#[test]
fn lowered_statements_keep_their_lines() {
    let text = "fn on_message(m: In) -> Out {\n    var r: array<u32, 8>;\n    r[m.a[0]] = u32(f32(m.a[1]));\n    return Out(r);\n}";
    let program = program(text);
    let function = program.functions.iter().find_map(|f| {
        let function = &program.module.functions[*f];
        (function.name.as_deref() == Some("on_message")).then_some(function)
    });
    let function = function.unwrap();
    let mut lines: Vec<_> = function
        .body
        .span_iter()
        .filter(|(s, _)| matches!(s, Statement::Store { .. } | Statement::Return { .. }))
        .map(|(_, span)| span.location(&program.text).line_number)
        .collect();
    lines.dedup();
    assert_eq!(lines, [3, 4]);
    let mut clamps = function.expressions.iter().filter(|(_, e)| matches!(e, Expression::Math { .. }));
    assert!(clamps.all(|(h, _)| function.expressions.get_span(h).location(&program.text).line_number == 3));
    assert!(program.text.starts_with(text));
}

#[test]
fn whatever_its_name_a_function_is_rewritten_unless_it_is_a_driver_s() {
    let own = "var<private> rt_fault: u32; var<private> rt_fuel: u32; fn rt_own(i: u32) -> u32 { var a: array<u32, 4>; \
               return a[i]; }";
    let text = format!("{own} fn driver(i: u32) -> u32 {{ var a: array<u32, 4>; return a[i]; }}");
    let clamps = |driver| {
        let mut module = naga::front::wgsl::parse_str(&text).unwrap();
        let info = Validator::new(ValidationFlags::all(), CAPABILITIES).validate(&module).unwrap();
        rewrite_all(&mut module, &info, 1, false, driver);
        let clamped = module.functions.iter().map(|(_, function)| {
            function.expressions.iter().any(|(_, e)| matches!(e, Expression::Math { .. }))
        });
        clamped.collect::<Vec<_>>()
    };
    assert_eq!(clamps(None), [true, true]);
    assert_eq!(clamps(Some(own.len())), [true, false]);
}

#[test]
fn what_cannot_go_wrong_is_left_alone() {
    let text = "@group(1) @binding(0) var<storage, read> t: array<u32>;
                fn on_message(m: In) -> Out { var r = m.a; r[3] = t[0]; let v = vec3(r[1]); r[2] = v.y; return Out(r); }";
    let tables = [table("t", 4)];
    let program = compile(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    for (_, function) in program.module.functions.iter() {
        let guards = |e: &Expression| matches!(e, Expression::Math { .. } | Expression::Access { .. });
        assert!(!function.expressions.iter().any(|(_, e)| guards(e)));
    }
}
