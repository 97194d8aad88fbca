//! Handlers as a proptest strategy whose cases shrink: statements go, expressions become their parts, data becomes
//! zeros, as long as the handler keeps the rules.

use super::ast::{Block, Expr, Form, Handler, Kind, Stmt, Type};
use super::build::build;
use super::builtins::Floats;
use super::handler::GeneratedHandler;
use super::print::print;
use super::random::Random;
use super::rules::broken_rule;
use super::shapes::Shapes;
use proptest::prelude::Rng;
use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Handlers of every kind, with messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handlers {
    pub floats: Floats,
}

/// A handler, its messages and its data.
#[derive(Clone, Debug)]
struct Case {
    handler: Handler,
    messages: Vec<Vec<u32>>,
    /// None if the handler has no state.
    state: Vec<u32>,
    /// Contents of every table, used or not.
    tables: Vec<Vec<u32>>,
}

/// A case on its way to a smaller one.
pub(crate) struct HandlerTree {
    /// The smallest that is known to fail.
    best: Case,
    current: Case,
    pass: usize,
    cut: usize,
    has_begun: bool,
    has_progressed: bool,
}

impl Strategy for Handlers {
    type Tree = HandlerTree;
    type Value = GeneratedHandler;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let seed = runner.rng().next_u64();
        let case = Case::new(seed, self.floats);
        Ok(HandlerTree {
            best: case.clone(),
            current: case,
            pass: 0,
            cut: 0,
            has_begun: false,
            has_progressed: false,
        })
    }
}

impl Case {
    fn new(seed: u64, floats: Floats) -> Self {
        let handler = build(seed, floats);
        let text = print(&handler);
        let broken = broken_rule(&handler);
        assert!(
            broken.is_none(),
            "`build` breaks a rule: {broken:?}
{text}"
        );
        let shapes = Shapes::of(&text);
        let mut random = Random::new(seed ^ 0x9e37_79b9_7f4a_7c15);
        (0..4).for_each(|_| _ = random.next());
        let mut value = |shape: &super::shapes::Shape| {
            let mut words = vec![0; shape.words as usize];
            for leaf in &shape.leaves {
                words[leaf.word as usize] = random.data(leaf.is_float);
            }
            words
        };
        let messages = (0..6).map(|_| value(&shapes.shape("In"))).collect();
        let has_state = handler.functions.last().is_some_and(|f| f.parameters.len() > 1);
        let state = if has_state { value(&shapes.shape("State")) } else { Vec::new() };
        let tables = handler.tables.iter().map(|table| {
            let shape = shapes.tables.iter().find(|shape| shape.name == handler.names[table.id]);
            let Some(shape) = shape else { return Vec::new() };
            let extra = if table.size.is_some() { 0 } else { seed as u32 % 5 };
            (0..shape.least + extra).flat_map(|_| value(&shape.element)).collect()
        });
        let tables = tables.collect();
        Self { messages, state, tables, handler }
    }

    fn render(&self) -> GeneratedHandler {
        let text = print(&self.handler);
        let used = self.handler.used();
        let shapes = Shapes::of(&text);
        let outputs = used.outputs.iter().map(|output| {
            let (name, ty, most) = self.handler.outputs[*output];
            (name.to_string(), ty.to_string(), most)
        });
        let tables = self.handler.tables.iter().zip(&self.tables);
        let tables = tables.filter(|(table, _)| used.ids.contains(&table.id));
        GeneratedHandler {
            outputs: outputs.collect(),
            tables: tables.map(|(t, words)| (self.handler.names[t.id].clone(), words.clone())).collect(),
            text,
            loop_budget: self.handler.loop_budget,
            messages: self.messages.clone(),
            state: self.state.clone(),
            shapes,
        }
    }
}

impl HandlerTree {
    /// Goes to the next smaller case that keeps the rules.
    fn advance(&mut self) -> bool {
        loop {
            let mut cut = Cut { skip: self.cut, is_made: false };
            let mut case = self.best.clone();
            match self.pass {
                0 => case.handler.functions.iter_mut().for_each(|f| cut.block(&mut f.body)),
                1 => case.handler.functions.iter_mut().for_each(|f| cut.expressions(&mut f.body)),
                _ => cut.data(&mut case),
            }
            if cut.is_made && broken_rule(&case.handler).is_none() {
                self.current = case;
                return true;
            }
            self.cut += 1;
            if !cut.is_made {
                (self.pass, self.cut) = (self.pass + 1, 0);
            }
            if self.pass > 2 {
                if !self.has_progressed {
                    self.current = self.best.clone();
                    return false;
                }
                (self.pass, self.has_progressed) = (0, false);
            }
        }
    }
}

impl ValueTree for HandlerTree {
    type Value = GeneratedHandler;

    fn current(&self) -> GeneratedHandler {
        self.current.render()
    }

    fn simplify(&mut self) -> bool {
        self.best = self.current.clone();
        self.has_progressed |= self.has_begun;
        self.has_begun = true;
        self.advance()
    }

    fn complicate(&mut self) -> bool {
        self.cut += 1;
        self.advance()
    }
}

/// Makes the cut with one number.
struct Cut {
    /// Cuts before the wanted one.
    skip: usize,
    is_made: bool,
}

impl Cut {
    /// Is this the place?
    fn here(&mut self) -> bool {
        let is_here = !self.is_made && self.skip == 0;
        self.is_made |= is_here;
        self.skip = self.skip.saturating_sub(1);
        is_here
    }

    fn block(&mut self, block: &mut Block) {
        for index in 0..block.len() {
            if self.here() {
                block.remove(index);
                return;
            }
            if let Some(smaller) = self.smaller(&block[index]) {
                block.splice(index..=index, smaller);
                return;
            }
        }
        for statement in block {
            self.inner_blocks(statement);
        }
    }

    fn inner_blocks(&mut self, statement: &mut Stmt) {
        match statement {
            Stmt::If(_, accept, reject) => {
                self.block(accept);
                reject.iter_mut().for_each(|reject| self.block(reject));
            }
            Stmt::For(_, _, _, _, body) | Stmt::While(_, body) | Stmt::Block(body) => self.block(body),
            Stmt::Loop(body, end) => {
                self.block(body);
                end.iter_mut().for_each(|end| self.block(&mut end.body));
            }
            Stmt::Switch(_, cases) => cases.iter_mut().for_each(|(_, body)| self.block(body)),
            _ => {}
        }
    }

    /// What a statement with blocks can become.
    fn smaller(&mut self, statement: &Stmt) -> Option<Block> {
        if let Stmt::Block(body) = statement
            && self.here()
        {
            return Some(body.clone());
        }
        if !matches!(statement, Stmt::Block(_)) {
            for body in statement.blocks() {
                if self.here() {
                    return Some(vec![Stmt::Block(body.clone())]);
                }
            }
        }
        match statement {
            Stmt::If(condition, accept, Some(_)) if self.here() => {
                Some(vec![Stmt::If(condition.clone(), accept.clone(), None)])
            }
            Stmt::Loop(body, Some(_)) if self.here() => Some(vec![Stmt::Loop(body.clone(), None)]),
            Stmt::Switch(selector, cases) => (0..cases.len()).find(|_| self.here()).map(|removed| {
                let mut cases = cases.clone();
                cases.remove(removed);
                vec![Stmt::Switch(selector.clone(), cases)]
            }),
            Stmt::Var(id, ty, Some(_)) if self.here() => Some(vec![Stmt::Var(*id, ty.clone(), None)]),
            _ => None,
        }
    }

    fn expressions(&mut self, block: &mut Block) {
        for statement in block {
            match statement {
                Stmt::Let(_, e) | Stmt::Const(_, e) | Stmt::Var(_, _, Some(e)) | Stmt::Return(Some(e)) => {
                    self.value(e);
                }
                Stmt::Assign(target, _, value) => {
                    self.place(target);
                    self.value(value);
                }
                Stmt::Step(target, _) => self.place(target),
                Stmt::Call(call) => call.operands.iter_mut().for_each(|operand| self.value(operand)),
                Stmt::If(e, ..) | Stmt::While(e, _) | Stmt::Switch(e, _) => self.value(e),
                Stmt::For(_, first, condition, _, _) => {
                    self.value(first);
                    self.value(condition);
                }
                Stmt::Loop(_, Some(end)) => end.break_if.iter_mut().for_each(|e| self.value(e)),
                _ => {}
            }
            match statement {
                Stmt::If(_, accept, reject) => {
                    self.expressions(accept);
                    reject.iter_mut().for_each(|reject| self.expressions(reject));
                }
                Stmt::For(_, _, _, _, body) | Stmt::While(_, body) | Stmt::Block(body) => {
                    self.expressions(body)
                }
                Stmt::Loop(body, end) => {
                    self.expressions(body);
                    end.iter_mut().for_each(|end| self.expressions(&mut end.body));
                }
                Stmt::Switch(_, cases) => cases.iter_mut().for_each(|(_, body)| self.expressions(body)),
                _ => {}
            }
        }
    }

    /// Cuts inside of a place: its indices.
    fn place(&mut self, place: &mut Expr) {
        match place.form {
            Form::Index => {
                let [base, index] = &mut place.operands[..] else { return };
                self.place(base);
                self.value(index);
            }
            Form::Member(_) | Form::Swizzle(_) => self.place(&mut place.operands[0]),
            _ => {}
        }
    }

    fn value(&mut self, expr: &mut Expr) {
        if self.is_made {
            return;
        }
        if expr.form == Form::Address {
            return self.place(&mut expr.operands[0]);
        }
        if let Some(smaller) = self.smaller_value(expr) {
            *expr = smaller;
            return;
        }
        let is_place = matches!(expr.form, Form::Member(_) | Form::Swizzle(_) | Form::Index);
        for operand in &mut expr.operands {
            if is_place && matches!(operand.form, Form::Name(_) | Form::Deref) {
                continue;
            }
            self.value(operand);
        }
    }

    /// What an expression can become: a part of it with its type, zero, one.
    fn smaller_value(&mut self, expr: &Expr) -> Option<Expr> {
        if matches!(expr.form, Form::Literal(0)) || matches!(expr.ty, Type::Pointer(..) | Type::Nothing) {
            return None;
        }
        let mut parts = Vec::new();
        for operand in &expr.operands {
            operand.walk(&mut |part| {
                if part.ty == expr.ty && parts.len() < 8 {
                    parts.push(part.clone());
                }
            });
        }
        if let Type::Scalar(kind) = expr.ty {
            if self.here() {
                return Some(Expr::literal(kind, 0));
            }
            let one = if kind == Kind::F32 { 1.0f32.to_bits() } else { 1 };
            if expr.form != Form::Literal(one) && self.here() {
                return Some(Expr::literal(kind, one));
            }
        } else if (expr.form != Form::Construct || !expr.operands.is_empty()) && self.here() {
            return Some(Expr::new(expr.ty.clone(), Form::Construct, Vec::new()));
        }
        parts.into_iter().find(|_| self.here())
    }

    fn data(&mut self, case: &mut Case) {
        for index in (0..case.messages.len()).rev() {
            if case.messages.len() > 1 && self.here() {
                case.messages.remove(index);
                return;
            }
        }
        for (_, _, value) in &mut case.handler.privates {
            if value.is_some() && self.here() {
                *value = None;
            }
        }
        let words = case.messages.iter_mut().chain([&mut case.state]).chain(&mut case.tables).flatten();
        for word in words {
            if *word != 0 && self.here() {
                *word = 0;
            }
        }
    }
}
