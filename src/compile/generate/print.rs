//! A handler as WGSL text that people can read; what `on_message` does not reach is left out.

use super::ast::{Block, Expr, Form, Function, Handler, Kind, Space, Stmt, Type};
use std::fmt::Write;

/// Functions that a generated handler may call like built-in ones; printed where they are used. They keep the bits
/// of a NaN, which nothing defines, out of integers.
pub const PRELUDE: [(&str, &str); 4] = [
    (
        "half_bits",
        "fn half_bits(x: vec2<f32>) -> u32 {\n    return pack2x16float(select(x, vec2<f32>(), vec2<bool>(is_nan(x.x), is_nan(x.y))));\n}\n",
    ),
    ("bits_i", "fn bits_i(x: f32) -> i32 {\n    return select(bitcast<i32>(x), 0, is_nan(x));\n}\n"),
    ("bits_u", "fn bits_u(x: f32) -> u32 {\n    return select(bitcast<u32>(x), 0u, is_nan(x));\n}\n"),
    ("is_nan", "fn is_nan(x: f32) -> bool {\n    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;\n}\n"),
];

impl Type {
    pub fn text(&self) -> String {
        match self {
            Self::Scalar(kind) => kind.name().to_string(),
            Self::Vector(kind, size) => format!("vec{size}<{}>", kind.name()),
            Self::Matrix(columns, rows) => format!("mat{columns}x{rows}<f32>"),
            Self::Array(element, len) => format!("array<{}, {len}>", element.text()),
            Self::Struct(name) => (*name).to_string(),
            Self::Atomic(kind) => format!("atomic<{}>", kind.name()),
            Self::Pointer(pointee, Space::Function) => format!("ptr<function, {}>", pointee.text()),
            Self::Pointer(pointee, Space::Private) => format!("ptr<private, {}>", pointee.text()),
            Self::Nothing => String::new(),
        }
    }
}

fn literal(kind: Kind, bits: u32) -> String {
    match kind {
        Kind::F32 => format!("{:?}f", f32::from_bits(bits)),
        Kind::I32 if bits == i32::MIN as u32 => "i32(-2147483648)".to_string(),
        Kind::I32 => format!("{}i", bits as i32),
        Kind::U32 => format!("{bits}u"),
        Kind::Bool => (bits != 0).to_string(),
    }
}

/// Prints one handler.
struct Printer<'a> {
    handler: &'a Handler,
    text: String,
}

/// The WGSL text of a handler.
pub fn print(handler: &Handler) -> String {
    let mut printer = Printer { handler, text: String::new() };
    printer.module();
    printer.text
}

impl Printer<'_> {
    fn module(&mut self) {
        let used = self.handler.used();
        self.structs(&used);
        for (binding, table) in self.handler.tables.iter().enumerate() {
            if used.ids.contains(&table.id) {
                let access = if table.is_writable { "read_write" } else { "read" };
                let size = table.size.map_or(String::new(), |size| format!(", {size}"));
                let (name, element) = (&self.handler.names[table.id], table.element.text());
                let _ = writeln!(
                    self.text,
                    "@group(1) @binding({binding}) var<storage, {access}> {name}: array<{element}{size}>;"
                );
            }
        }
        for (id, value) in self.handler.constants.iter().filter(|(id, _)| used.ids.contains(id)) {
            let (name, value) = (&self.handler.names[*id], self.expr(value));
            let _ = writeln!(self.text, "const {name} = {value};");
        }
        for (id, ty, value) in self.handler.privates.iter().filter(|(id, ..)| used.ids.contains(id)) {
            let value = value.as_ref().map_or(String::new(), |value| format!(" = {}", self.expr(value)));
            let _ = writeln!(self.text, "var<private> {}: {}{value};", self.handler.names[*id], ty.text());
        }
        let start = self.text.len();
        for (function, _) in self.handler.functions.iter().zip(&used.functions).filter(|(_, used)| **used) {
            self.function(function);
        }
        // What is further down in the prelude may be called from further up.
        for (name, text) in PRELUDE {
            if self.text[start..].contains(&format!("{name}(")) {
                self.text += text;
            }
        }
    }

    /// The structs that something printed names.
    fn structs(&mut self, used: &super::ast::Used) {
        let handler = self.handler;
        let mut wanted = vec!["In"];
        wanted.extend(handler.has_reply.then_some("Out"));
        wanted.extend(used.outputs.iter().map(|output| handler.outputs[*output].1));
        let mut add = |ty: &Type| {
            let mut ty = ty;
            while let Type::Array(inner, _) | Type::Pointer(inner, _) = ty {
                ty = inner;
            }
            if let Type::Struct(name) = ty {
                wanted.push(*name);
            }
        };
        handler.tables.iter().filter(|t| used.ids.contains(&t.id)).for_each(|t| add(&t.element));
        for (function, _) in handler.functions.iter().zip(&used.functions).filter(|(_, used)| **used) {
            add(&function.result);
            function.parameters.iter().for_each(|(_, ty)| add(ty));
            function.expressions(&mut |e| add(&e.ty));
            for statement in &function.body {
                statement.walk(&mut |s| {
                    if let Stmt::Var(_, ty, _) = s {
                        add(ty);
                    }
                });
            }
        }
        handler.privates.iter().filter(|(id, ..)| used.ids.contains(id)).for_each(|(_, ty, _)| add(ty));
        // A struct is declared before the one that holds it, so one pass backwards finds what they are made of.
        let mut is_wanted: Vec<bool> = handler.structs.iter().map(|s| wanted.contains(&s.name)).collect();
        for (index, outer) in handler.structs.iter().enumerate().rev() {
            for (inner, wanted) in handler.structs[..index].iter().zip(0..) {
                let holds = |ty: &Type| match ty {
                    Type::Array(element, _) => **element == Type::Struct(inner.name),
                    ty => *ty == Type::Struct(inner.name),
                };
                is_wanted[wanted] |= is_wanted[index] && outer.members.iter().any(|(_, ty)| holds(ty));
            }
        }
        for (structure, _) in handler.structs.iter().zip(is_wanted).filter(|(_, wanted)| *wanted) {
            let members: Vec<_> =
                structure.members.iter().map(|(name, ty)| format!("{name}: {}", ty.text())).collect();
            let _ = writeln!(self.text, "struct {} {{ {} }}", structure.name, members.join(", "));
        }
    }

    fn function(&mut self, function: &Function) {
        let parameters: Vec<_> = function
            .parameters
            .iter()
            .map(|(id, ty)| format!("{}: {}", self.handler.names[*id], ty.text()))
            .collect();
        let result = match &function.result {
            Type::Nothing => String::new(),
            ty => format!(" -> {}", ty.text()),
        };
        let _ = write!(self.text, "fn {}({}){result} ", function.name, parameters.join(", "));
        self.block(&function.body, 0);
        self.text += "\n";
    }

    fn block(&mut self, block: &Block, depth: usize) {
        self.text += "{\n";
        for statement in block {
            self.indent(depth + 1);
            self.statement(statement, depth + 1);
            self.text += "\n";
        }
        self.indent(depth);
        self.text += "}";
    }

    fn indent(&mut self, depth: usize) {
        (0..depth).for_each(|_| self.text += "    ");
    }

    fn statement(&mut self, statement: &Stmt, depth: usize) {
        let head = match statement {
            Stmt::If(condition, ..) => format!("if {} ", self.expr(condition)),
            Stmt::For(id, first, condition, step, _) => {
                let (name, first, condition) =
                    (&self.handler.names[*id], self.expr(first), self.expr(condition));
                format!("for (var {name} = {first}; {condition}; {}) ", self.simple(step))
            }
            Stmt::While(condition, _) => format!("while {} ", self.expr(condition)),
            Stmt::Loop(..) => "loop ".to_string(),
            Stmt::Switch(selector, _) => format!("switch {} {{\n", self.expr(selector)),
            Stmt::Block(_) => String::new(),
            simple => self.simple(simple) + ";",
        };
        self.text += &head;
        match statement {
            Stmt::If(_, accept, reject) => {
                self.block(accept, depth);
                match reject.as_deref() {
                    None => {}
                    Some([other @ Stmt::If(..)]) => {
                        self.text += " else ";
                        self.statement(other, depth);
                    }
                    Some(_) => {
                        self.text += " else ";
                        self.block(reject.as_ref().unwrap_or(&Vec::new()), depth);
                    }
                }
            }
            Stmt::For(_, _, _, _, body) | Stmt::While(_, body) | Stmt::Block(body) => self.block(body, depth),
            Stmt::Loop(body, end) => self.repeat(body, end.as_ref(), depth),
            Stmt::Switch(selector, cases) => {
                for (labels, body) in cases {
                    self.indent(depth + 1);
                    self.text += &labels_text(selector.ty.kind().unwrap_or(Kind::U32), labels);
                    self.block(body, depth + 1);
                    self.text += "\n";
                }
                self.indent(depth);
                self.text += "}";
            }
            _ => {}
        }
    }

    fn repeat(&mut self, body: &Block, end: Option<&super::ast::Continuing>, depth: usize) {
        self.block(body, depth);
        let Some(end) = end else { return };
        // Back behind the brace, the line's indentation and the line before.
        self.text.truncate(self.text.len() - 1 - 4 * depth);
        self.indent(depth + 1);
        self.text += "continuing ";
        self.block(&end.body, depth + 1);
        if let Some(condition) = &end.break_if {
            self.text.truncate(self.text.len() - 1 - 4 * (depth + 1));
            self.indent(depth + 2);
            self.text += &format!("break if {};\n", self.expr(condition));
            self.indent(depth + 1);
            self.text += "}";
        }
        self.text += "\n";
        self.indent(depth);
        self.text += "}";
    }

    /// A statement on one line, without its semicolon.
    fn simple(&self, statement: &Stmt) -> String {
        let name = |id: &usize| &self.handler.names[*id];
        match statement {
            Stmt::Let(id, value) => format!("let {} = {}", name(id), self.expr(value)),
            Stmt::Const(id, value) => format!("const {} = {}", name(id), self.expr(value)),
            Stmt::Var(id, ty, None) => format!("var {}: {}", name(id), ty.text()),
            Stmt::Var(id, ty, Some(value)) => {
                format!("var {}: {} = {}", name(id), ty.text(), self.expr(value))
            }
            Stmt::Assign(target, operator, value) => {
                format!("{} {operator}= {}", self.expr(target), self.expr(value))
            }
            Stmt::Step(target, operator) => self.expr(target) + operator,
            Stmt::Break => "break".to_string(),
            Stmt::Continue => "continue".to_string(),
            Stmt::Return(None) => "return".to_string(),
            Stmt::Return(Some(value)) => format!("return {}", self.expr(value)),
            Stmt::Call(call) => self.expr(call),
            _ => unreachable!("printed as a statement with blocks"),
        }
    }

    fn expr(&self, expr: &Expr) -> String {
        let all = || -> String {
            let operands: Vec<_> = expr.operands.iter().map(|operand| self.argument(operand)).collect();
            operands.join(", ")
        };
        match &expr.form {
            Form::Literal(bits) => literal(expr.ty.kind().unwrap_or(Kind::U32), *bits),
            Form::Name(id) | Form::Constant(id) => self.handler.names[*id].clone(),
            Form::Unary(operator) => format!("{operator}{}", self.inner(&expr.operands[0])),
            Form::Binary(operator) => {
                format!("{} {operator} {}", self.inner(&expr.operands[0]), self.inner(&expr.operands[1]))
            }
            Form::Call(name) => format!("{name}({})", all()),
            Form::Helper(index) => format!("{}({})", self.handler.functions[*index].name, all()),
            Form::Emit(output) => format!("emit_{}({})", self.handler.outputs[*output].0, all()),
            Form::Construct => format!("{}({})", expr.ty.text(), all()),
            Form::Bitcast => format!("bitcast<{}>({})", expr.ty.text(), all()),
            Form::Swizzle(components) => {
                let letters: String = components.iter().map(|c| ["x", "y", "z", "w"][*c]).collect();
                format!("{}.{letters}", self.inner(&expr.operands[0]))
            }
            Form::Member(name) => format!("{}.{name}", self.base(&expr.operands[0])),
            Form::Index => format!("{}[{}]", self.base(&expr.operands[0]), self.expr(&expr.operands[1])),
            Form::Deref => format!("*{}", self.expr(&expr.operands[0])),
            Form::Address => format!("&{}", self.inner(&expr.operands[0])),
        }
    }

    /// An operand of an operator.
    fn inner(&self, expr: &Expr) -> String {
        let text = self.expr(expr);
        let is_bare = !matches!(expr.form, Form::Unary(_) | Form::Binary(_) | Form::Deref | Form::Address);
        if is_bare && !text.starts_with('-') { text } else { format!("({text})") }
    }

    /// An operand in a list, where `a < b, c > d` would be a template.
    fn argument(&self, expr: &Expr) -> String {
        match expr.form {
            Form::Binary(operator) if operator.contains(['<', '>']) => format!("({})", self.expr(expr)),
            _ => self.expr(expr),
        }
    }

    /// What a member or an element is taken of; `p.x` means `(*p).x`, and some are written so.
    fn base(&self, expr: &Expr) -> String {
        match (&expr.form, expr.operands.first().map(|pointer| &pointer.form)) {
            (Form::Deref, Some(Form::Name(id))) if id % 2 == 0 => self.handler.names[*id].clone(),
            _ => self.inner(expr),
        }
    }
}

fn labels_text(kind: Kind, labels: &[Option<u32>]) -> String {
    if let [None] = labels {
        return "default: ".to_string();
    }
    let texts: Vec<_> =
        labels.iter().map(|label| label.map_or("default".to_string(), |bits| literal(kind, bits))).collect();
    format!("case {}: ", texts.join(", "))
}
