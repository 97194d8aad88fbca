//! How often the generator makes each thing.

use super::ast::{Expr, Form, Function, Handler, Stmt, Type};
use super::build::build;
use super::builtins::{self, Floats};
use super::check::count;
use super::{GeneratedHandler, check, run_series, strategy};
use crate::compile::{FaultCode, Interpreter, Outcome};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is in one handler.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn add(&mut self, what: impl Into<String>) {
        self.0.insert(what.into());
    }

    fn handler(&mut self, handler: &Handler) {
        let used = handler.used();
        for (function, _) in handler.functions.iter().zip(&used.functions).filter(|(_, used)| **used) {
            self.function(handler, function);
        }
        for table in handler.tables.iter().filter(|table| used.ids.contains(&table.id)) {
            self.add(format!("table of {}", shape(&table.element)));
            self.add(if table.size.is_some() { "sized table" } else { "unsized table" });
            self.add(if table.is_writable { "writable table" } else { "read-only table" });
        }
        for (_, ty, value) in handler.privates.iter().filter(|(id, ..)| used.ids.contains(id)) {
            self.add(format!("private {}", shape(ty)));
            self.add(if value.is_some() { "private with a value" } else { "private without a value" });
        }
    }

    fn function(&mut self, handler: &Handler, function: &Function) {
        for (_, ty) in &function.parameters {
            match ty {
                Type::Pointer(pointee, space) => {
                    self.add(format!("parameter to {space:?} {}", shape(pointee)));
                }
                ty => self.add(format!("parameter {}", shape(ty))),
            }
        }
        let last = function.body.len().saturating_sub(1);
        for (index, statement) in function.body.iter().enumerate() {
            statement.walk(&mut |s| {
                self.statement(handler, s);
                let is_last = index == last && std::ptr::eq(s, statement);
                if matches!(s, Stmt::Return(_)) && !is_last {
                    self.add("early return");
                }
            });
        }
        function.expressions(&mut |e| self.expr(e));
    }

    fn statement(&mut self, handler: &Handler, statement: &Stmt) {
        match statement {
            Stmt::Let(id, _) | Stmt::Const(id, _) | Stmt::Var(id, ..) => {
                let word = match statement {
                    Stmt::Let(_, value) if matches!(value.ty, Type::Pointer(..)) => "let pointer",
                    Stmt::Let(..) => "let",
                    Stmt::Const(..) => "const",
                    _ => "var",
                };
                self.add(word);
                if handler.names[..*id].contains(&handler.names[*id]) {
                    self.add("shadowing");
                }
                if let Stmt::Var(_, ty, _) = statement {
                    self.add(format!("var {}", shape(ty)));
                }
            }
            Stmt::Assign(target, operator, _) => {
                self.add(format!("{operator}= {}", target.ty.kind().map_or("whole", |kind| kind.name())));
            }
            Stmt::Step(_, operator) => self.add(*operator),
            Stmt::If(_, _, reject) => self.add(match reject.as_deref() {
                None => "if",
                Some([Stmt::If(..)]) => "else if",
                Some(_) => "else",
            }),
            Stmt::For(..) => self.add("for"),
            Stmt::While(..) => self.add("while"),
            Stmt::Loop(_, end) => self.add(match end {
                None => "loop",
                Some(end) if end.break_if.is_none() => "continuing",
                Some(_) => "break if",
            }),
            Stmt::Switch(selector, cases) => {
                self.add(format!("switch {}", shape(&selector.ty)));
                let default = cases.iter().position(|(labels, _)| labels.contains(&None));
                if default.is_some_and(|index| index + 1 < cases.len()) {
                    self.add("default before other cases");
                }
                if cases.iter().any(|(labels, _)| labels.len() > 1 && labels.contains(&None)) {
                    self.add("default among labels");
                }
            }
            Stmt::Block(_) => self.add("block"),
            Stmt::Break => self.add("break"),
            Stmt::Continue => self.add("continue"),
            Stmt::Return(_) => self.add("return"),
            Stmt::Call(call) => match call.form {
                Form::Call(name) => self.add(format!("{name} alone")),
                Form::Helper(_) => self.add("helper alone"),
                _ => {}
            },
        }
        let is_loop = |s: &Stmt| matches!(s, Stmt::For(..) | Stmt::While(..) | Stmt::Loop(..));
        if is_loop(statement) {
            let mut loops = 0;
            statement.walk(&mut |s| loops += u32::from(is_loop(s)));
            if loops > 1 {
                self.add("loop in a loop");
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        let first = expr.operands.first();
        match &expr.form {
            Form::Literal(_) => self.add(format!("literal {}", shape(&expr.ty))),
            Form::Name(_) | Form::Deref => {}
            Form::Constant(_) => self.add("constant"),
            Form::Unary(operator) => self.add(format!("{operator} {}", kind(&expr.ty))),
            Form::Binary(operator) => {
                let [left, right] = &expr.operands[..] else { return };
                self.add(format!("{operator} {}", kind(&left.ty)));
                let class = |ty: &Type| shape(ty).split(' ').next().unwrap_or_default().to_string();
                self.add(format!("{operator} {} {}", class(&left.ty), class(&right.ty)));
            }
            Form::Call(name) => self.add(*name),
            Form::Helper(_) => self.add("helper"),
            Form::Emit(_) => self.add("emit"),
            Form::Construct => match first {
                None => self.add(format!("zero {}", shape(&expr.ty))),
                Some(from) if expr.operands.len() == 1 && from.ty.kind() != expr.ty.kind() => {
                    self.add(format!("{} from {}", kind(&expr.ty), kind(&from.ty)));
                }
                Some(_) if expr.operands.len() == 1 && matches!(expr.ty, Type::Vector(..)) => {
                    self.add("splat")
                }
                Some(_) => self.add(format!("composite {}", shape(&expr.ty))),
            },
            Form::Bitcast => {
                self.add(format!("bitcast {} from {}", kind(&expr.ty), kind(&expr.operands[0].ty)));
            }
            Form::Swizzle(components) => self.add(format!("swizzle {}", components.len())),
            Form::Member(name) => {
                let is_struct = matches!(expr.operands[0].ty, Type::Struct(_));
                self.add(if is_struct { "member" } else { name });
            }
            Form::Index => {
                let base = &expr.operands[0].ty;
                let what = match base {
                    Type::Array(_, 0) => "an unsized table".to_string(),
                    ty => shape(ty).split(' ').next().unwrap_or_default().to_string(),
                };
                let how =
                    if matches!(expr.operands[1].form, Form::Literal(_)) { "literal" } else { "dynamic" };
                self.add(format!("{how} {} index into {what}", kind(&expr.operands[1].ty)));
            }
            Form::Address => self.add("address"),
        }
    }
}

fn kind(ty: &Type) -> &'static str {
    ty.kind().map_or("whole", |kind| kind.name())
}

fn shape(ty: &Type) -> String {
    match ty {
        Type::Scalar(kind) => format!("scalar {}", kind.name()),
        Type::Vector(kind, _) => format!("vector {}", kind.name()),
        Type::Matrix(..) => "matrix".to_string(),
        Type::Array(..) => "array".to_string(),
        Type::Struct(_) => "struct".to_string(),
        Type::Atomic(kind) => format!("atomic {}", kind.name()),
        Type::Pointer(..) => "pointer".to_string(),
        Type::Nothing => "nothing".to_string(),
    }
}

/// Everything that should be there, without the built-in functions.
fn wanted() -> Vec<String> {
    let mut wanted: Vec<String> = "let|let pointer|const|var|shadowing|if|else|else if|for|while|loop|continuing|\
        break if|switch scalar u32|switch scalar i32|default before other cases|default among labels|block|break|\
        continue|return|early return|helper alone|loop in a loop|constant|helper|emit|splat|address|member|fract|\
        whole|exp|old_value|exchanged|atomicStore alone|atomicAdd alone|atomicLoad|atomicAdd|atomicSub|atomicMax|\
        atomicMin|atomicAnd|atomicOr|atomicXor|atomicExchange|atomicCompareExchangeWeak|arrayLength|transpose|\
        sized table|unsized table|writable table|read-only table|private with a value|private without a value|\
        ++|--|swizzle 1|swizzle 2|swizzle 3|swizzle 4|- f32|- i32|~ i32|~ u32|! bool|&& bool||| bool|\
        * matrix matrix|* matrix vector|* vector matrix|* matrix scalar|* scalar matrix|+ matrix matrix|\
        + vector vector|+ vector scalar|+ scalar vector|table of scalar u32|table of scalar f32|table of vector f32|\
        table of struct|table of atomic u32|table of atomic i32|parameter to Function struct|parameter struct|\
        parameter to Private scalar f32|parameter to Function scalar f32|parameter to Function array"
        .split('|')
        .map(str::to_string)
        .collect();
    for kind in ["f32", "i32", "u32"] {
        for operator in ["+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!="] {
            wanted.push(format!("{operator} {kind}"));
        }
        for operator in ["", "+", "-", "*", "/", "%"] {
            wanted.push(format!("{operator}= {kind}"));
        }
        for from in ["f32", "i32", "u32", "bool"].into_iter().filter(|from| *from != kind) {
            wanted.push(format!("{kind} from {from}"));
            wanted.push(format!("bool from {kind}"));
            if from != "bool" {
                wanted.push(format!("bitcast {kind} from {from}"));
            }
        }
    }
    for kind in ["i32", "u32"] {
        for operator in ["&", "|", "^", "<<", ">>"] {
            wanted.push(format!("{operator} {kind}"));
            wanted.push(format!("{operator}= {kind}"));
        }
        for base in ["array", "vector", "matrix", "an unsized table"] {
            wanted.push(format!("dynamic {kind} index into {base}"));
        }
    }
    for ty in ["matrix", "array", "struct", "scalar bool", "vector f32", "vector bool", "vector u32"] {
        wanted.push(format!("var {ty}"));
        wanted.push(format!("private {ty}"));
    }
    // The split at `|` above leaves the operator of the same name in pieces.
    wanted.retain(|what| !what.is_empty() && what != " bool");
    wanted.extend(["|| bool", "== bool", "!= bool", "& bool", "| bool"].map(str::to_string));
    wanted.extend(builtins::names().map(str::to_string));
    wanted
}

#[test]
fn everything_is_generated() {
    const HANDLERS: u64 = 500;
    let mut counts = BTreeMap::<String, u32>::new();
    for seed in 0..HANDLERS {
        let mut seen = Seen::default();
        seen.handler(&build(0x5bd1_e995 * (seed + 1), Floats::All));
        seen.0.into_iter().for_each(|what| *counts.entry(what).or_default() += 1);
    }
    let mut rare: Vec<_> =
        wanted().into_iter().map(|what| (counts.get(&what).copied().unwrap_or(0), what)).collect();
    rare.sort();
    println!("the rarest of {} things in {HANDLERS} handlers: {:?}", counts.len(), &rare[..40]);
    assert!(rare[0].0 >= 5, "too rare: {:?}", &rare[..20]);
}

#[test]
fn some_handlers_fault_and_most_do_not() {
    let outcomes = RefCell::new(BTreeMap::<&str, u32>::new());
    let handlers = count(2000).min(500);
    check("faults", &strategy(Floats::All), handlers, |handler: &GeneratedHandler| {
        let program = Arc::new(handler.compile().map_err(|error| error.to_string())?);
        let trace = run_series(&Interpreter::new(program.clone()), &program, handler);
        let mut faults = BTreeSet::new();
        for step in &trace.0 {
            let name = match step.outcome {
                Outcome::Done => continue,
                Outcome::Fault(FaultCode::LoopBudget) => "loop budget",
                Outcome::Fault(FaultCode::EmitOverflow) => "emits",
                Outcome::Interrupted => return Err("nobody interrupts it".to_string()),
            };
            faults.insert(name);
        }
        if faults.is_empty() {
            faults.insert("none");
        }
        faults.into_iter().for_each(|name| *outcomes.borrow_mut().entry(name).or_default() += 1);
        Ok(())
    });
    let outcomes = outcomes.into_inner();
    println!("faults of {handlers} handlers: {outcomes:?}");
    let share = |name| f64::from(outcomes.get(name).copied().unwrap_or(0)) / f64::from(handlers);
    assert!(share("none") > 0.6 && share("loop budget") > 0.02 && share("emits") > 0.01, "{outcomes:?}");
}
