//! Statements.

use super::super::ast::{BOOL, Block, Continuing, Expr, F32, Form, I32, Id, Kind, Space, Stmt, Type, U32};
use super::place::Use;
use super::{Builder, Entry, Flow, Need, Role};

/// Blocks inside of each other.
const DEEPEST: u32 = 4;

impl Builder {
    /// Some statements; what they declare stays in the scope.
    pub(super) fn statements(&mut self, count: u32, flow: Flow) -> Block {
        let mut block = Vec::new();
        for _ in 0..count {
            if self.statements_left <= 0 {
                break;
            }
            self.statements_left -= 1;
            if let Some(statement) = self.statement(flow) {
                block.push(statement);
            }
        }
        block
    }

    /// A block with a scope of its own, which may end early.
    fn block(&mut self, flow: Flow) -> Block {
        let (scope, block_start) = (self.scope.clone(), self.block_start);
        self.block_start = self.handler.names.len();
        let flow = Flow { depth: flow.depth + 1, ..flow };
        let count = self.random.between(1, 4);
        let mut block = self.statements(count, flow);
        if self.random.chance(1, 5) {
            block.extend(self.exit(flow));
        }
        (self.scope, self.block_start) = (scope, block_start);
        block
    }

    /// A statement that leaves.
    fn exit(&mut self, flow: Flow) -> Option<Stmt> {
        let Flow { can_break, can_continue, can_return, .. } = flow;
        match self.random.below(5) {
            0 | 1 if can_break => Some(Stmt::Break),
            2 | 3 if can_continue => Some(Stmt::Continue),
            _ if can_return && self.random.chance(1, 2) => {
                let result = self.result.clone();
                let value = (result != Type::Nothing).then(|| self.expr(&result, 1, Need::Any));
                Some(Stmt::Return(value))
            }
            _ => None,
        }
    }

    fn statement(&mut self, flow: Flow) -> Option<Stmt> {
        let is_deep = flow.depth >= DEEPEST;
        let when = |is: bool, weight: u32| if is { weight } else { 0 };
        let weights = [
            8,                                   // var
            4,                                   // let
            1,                                   // const
            11,                                  // assignment
            2,                                   // step
            when(!is_deep, 5),                   // if
            when(!is_deep && flow.loops < 2, 3), // for
            when(!is_deep && flow.loops < 2, 1), // while
            when(!is_deep && flow.loops < 2, 2), // loop
            when(!is_deep, 3),                   // switch
            when(!is_deep, 1),                   // block
            4,                                   // helper
            2,                                   // emit
            2,                                   // atomic store
            1,                                   // let pointer
            3,                                   // atomic whose result is dropped
        ];
        Some(match self.random.weighted(&weights) {
            0 => {
                let ty = self.local_type();
                self.variable(ty)
            }
            1 => {
                let ty = self.local_type();
                let value = self.expr(&ty, 3, Need::Runtime);
                self.named(ty, value, Self::declare)
            }
            2 => {
                let kind = self.kind();
                let value = self.constant_expression(kind, 1);
                Stmt::Const(self.declare(Type::Scalar(kind), Role::Constant), value)
            }
            3 => return self.assignment(),
            4 => {
                let ty = if self.random.chance(1, 2) { U32 } else { I32 };
                let target = self.place(&ty, Use::Write)?;
                Stmt::Step(target, if self.random.chance(1, 2) { "++" } else { "--" })
            }
            5 => self.choice(flow),
            6 => self.counted(flow),
            7 => self.while_loop(flow),
            8 => self.endless(flow),
            9 => self.switch(flow),
            10 => Stmt::Block(self.block(flow)),
            11 => {
                let count = self.handler.functions.len() as u32;
                if count == 0 {
                    return None;
                }
                let index = self.random.below(count) as usize;
                Stmt::Call(self.helper_call(index, 2)?)
            }
            12 => return self.emit(),
            13 => {
                let kind = if self.random.chance(1, 2) { Kind::U32 } else { Kind::I32 };
                let pointer = self.table_place(&Type::Atomic(kind), Use::Address)?.address(Space::Function);
                let value = self.expr(&Type::Scalar(kind), 2, Need::Any);
                Stmt::Call(Expr::call(Type::Nothing, "atomicStore", vec![pointer, value]))
            }
            14 => return self.let_pointer(),
            _ => {
                let kind = if self.random.chance(1, 2) { Kind::U32 } else { Kind::I32 };
                let call = self.atomic(kind, 1)?;
                // Only the functions that change something may stand alone.
                let is_change = matches!(call.form, Form::Call(name) if name != "atomicLoad");
                return is_change.then_some(Stmt::Call(call));
            }
        })
    }

    /// A name for a value.
    fn named(&mut self, ty: Type, value: Expr, declare: fn(&mut Self, Type, Role) -> Id) -> Stmt {
        // The front looks through a `let` for constants, as it does through a composite.
        if value.is_wholly_runtime() {
            Stmt::Let(declare(self, ty, Role::Value), value)
        } else {
            Stmt::Var(declare(self, ty.clone(), Role::Variable), ty, Some(value))
        }
    }

    /// A name for something new, sometimes one that hides another of an outer block.
    fn declare(&mut self, ty: Type, role: Role) -> Id {
        let is_outer = |entry: &&Entry| !entry.is_kept && entry.id < self.block_start;
        let outer: Vec<Id> = self.scope.iter().filter(is_outer).map(|entry| entry.id).collect();
        if !outer.is_empty() && self.random.chance(1, 8) {
            let text = self.handler.names[*self.random.pick(&outer)].clone();
            self.scope.retain(|entry| self.handler.names[entry.id] != text);
            return self.enter(text, ty, role);
        }
        self.declare_fresh(ty, role)
    }

    /// A name for something new that hides nothing.
    fn declare_fresh(&mut self, ty: Type, role: Role) -> Id {
        let text = format!("v{}", self.handler.names.len());
        self.enter(text, ty, role)
    }

    fn enter(&mut self, text: String, ty: Type, role: Role) -> Id {
        let id = self.new_name(text);
        self.scope.push(Entry { id, ty, role, root: id, is_kept: false });
        id
    }

    pub(super) fn variable(&mut self, ty: Type) -> Stmt {
        let value = self.random.chance(4, 5).then(|| self.expr(&ty, 3, Need::Any));
        Stmt::Var(self.declare(ty.clone(), Role::Variable), ty, value)
    }

    fn let_pointer(&mut self) -> Option<Stmt> {
        let ty = self.local_type();
        let space =
            if self.can_use_privates && self.random.chance(1, 4) { Space::Private } else { Space::Function };
        let (pointer, root) = self.pointer(&ty, space, &[])?;
        self.uses_privates |= space == Space::Private;
        let id = self.declare(ty, Role::Pointer(space));
        if let Some(entry) = self.scope.last_mut() {
            entry.root = root;
        }
        Some(Stmt::Let(id, pointer))
    }

    fn assignment(&mut self) -> Option<Stmt> {
        let target = self.target()?;
        let ty = target.ty.clone();
        if let Type::Atomic(kind) = ty {
            let value = self.expr(&Type::Scalar(kind), 2, Need::Any);
            let operands = vec![target.address(Space::Function), value];
            return Some(Stmt::Call(Expr::call(Type::Nothing, "atomicStore", operands)));
        }
        let operators: &[&str] = match ty.kind() {
            _ if self.random.chance(1, 2) => &[""],
            Some(_) if matches!(ty, Type::Matrix(..)) => &["+", "-", "*"],
            Some(Kind::F32) => &["+", "-", "*", "/", "%"],
            Some(Kind::Bool) => &["&", "|"],
            Some(_) => &["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"],
            None => &[""],
        };
        let operator = *self.random.pick(operators);
        let value = match operator {
            "/" | "%" => self.divisor(&ty, 2),
            "<<" | ">>" => self.shift_amount(&ty, 2),
            "*" if matches!(ty, Type::Matrix(..)) => self.expr(&F32, 2, Need::Any),
            _ => self.expr(&ty, 3, Need::Any),
        };
        Some(Stmt::Assign(target, operator, value))
    }

    fn choice(&mut self, flow: Flow) -> Stmt {
        let condition = self.expr(&BOOL, 3, Need::Runtime);
        let accept = self.block(flow);
        let reject = match self.random.below(4) {
            0 | 1 => None,
            2 => Some(self.block(flow)),
            _ => {
                let condition = self.expr(&BOOL, 2, Need::Runtime);
                let (accept, reject) = (self.block(flow), self.block(flow));
                Some(vec![Stmt::If(condition, accept, Some(reject))])
            }
        };
        Stmt::If(condition, accept, reject)
    }

    fn in_loop(&self, flow: Flow) -> Flow {
        Flow { can_break: true, can_continue: true, loops: flow.loops + 1, ..flow }
    }

    /// A number of rounds that is small, or one that only the message knows.
    fn bound(&mut self, ty: &Type) -> Expr {
        let kind = ty.kind().unwrap_or(Kind::U32);
        if self.random.chance(3, 5) {
            return Expr::literal(kind, self.random.between(1, 5));
        }
        let any = self.expr(ty, 1, Need::Runtime);
        if self.random.chance(1, 10) {
            return any;
        }
        Expr::binary(ty.clone(), "&", any, Expr::literal(kind, 7))
    }

    fn counted(&mut self, flow: Flow) -> Stmt {
        let ty = if self.random.chance(2, 3) { U32 } else { I32 };
        let kind = ty.kind().unwrap_or(Kind::U32);
        let scope = self.scope.clone();
        let bound = self.bound(&ty);
        let role = if self.random.chance(1, 10) { Role::Variable } else { Role::Value };
        let id = self.declare_fresh(ty.clone(), role);
        let counter = || Expr::name(ty.clone(), id);
        let is_down = kind == Kind::I32 && self.random.chance(1, 3);
        let (first, condition, step) = if is_down {
            (bound, Expr::binary(BOOL, ">", counter(), Expr::literal(kind, 0)), Stmt::Step(counter(), "--"))
        } else {
            let step = if self.random.chance(2, 3) {
                Stmt::Step(counter(), "++")
            } else {
                Stmt::Assign(counter(), "+", Expr::literal(kind, self.random.between(1, 2)))
            };
            (Expr::literal(kind, 0), Expr::binary(BOOL, "<", counter(), bound), step)
        };
        let body = self.block(self.in_loop(flow));
        self.scope = scope;
        Stmt::For(id, first, condition, Box::new(step), body)
    }

    /// A loop that ends because a variable counts, if nothing else changes it.
    fn while_loop(&mut self, flow: Flow) -> Stmt {
        let scope = self.scope.clone();
        let bound = self.bound(&U32);
        let counter = self.declare_fresh(U32, Role::Value);
        let mut condition = Expr::binary(BOOL, "<", Expr::name(U32, counter), bound);
        if self.random.chance(1, 2) {
            let other = self.expr(&BOOL, 2, Need::Runtime);
            condition = Expr::binary(BOOL, "&&", condition, other);
        }
        let mut body = vec![Stmt::Step(Expr::name(U32, counter), "++")];
        body.extend(self.block(self.in_loop(flow)));
        self.scope = scope;
        Stmt::Block(vec![Stmt::Var(counter, U32, None), Stmt::While(condition, body)])
    }

    fn endless(&mut self, flow: Flow) -> Stmt {
        let scope = self.scope.clone();
        let bound = self.bound(&I32);
        let counter = self.declare_fresh(I32, Role::Value);
        let enough = Expr::binary(BOOL, ">=", Expr::name(I32, counter), bound);
        let leave = Stmt::If(enough.clone(), vec![Stmt::Break], None);
        let step = Stmt::Step(Expr::name(I32, counter), "++");
        let has_end = self.random.chance(3, 4);
        // What the body begins with, often as it is in a variable, for the end to use behind whatever the body did.
        let kept = (has_end && self.random.chance(1, 2)).then(|| {
            let ty = self.local_type();
            let value = self.expr(&ty, 0, Need::Runtime);
            self.named(ty, value, Self::declare_fresh)
        });
        // The end sees what the body declares: nothing that it names may be hidden there.
        self.scope.iter_mut().for_each(|entry| entry.is_kept |= has_end);
        let breaks_at_end = has_end && self.random.chance(1, 2);
        let end = has_end.then(|| {
            let flow = Flow {
                can_break: false,
                can_continue: false,
                can_return: false,
                depth: flow.depth + 1,
                loops: flow.loops + 1,
            };
            let mut body = self.block(flow);
            if let Some(Stmt::Let(id, value)) = &kept
                && let Some(target) = self.place(&value.ty, Use::Write)
            {
                body.push(Stmt::Assign(target, "", Expr::name(value.ty.clone(), *id)));
            }
            body.push(step.clone());
            Continuing { body, break_if: breaks_at_end.then_some(enough) }
        });
        let mut body: Vec<_> = kept.into_iter().collect();
        if !breaks_at_end {
            body.push(leave);
        }
        if !has_end {
            body.push(step);
        }
        body.extend(self.block(self.in_loop(flow)));
        self.scope = scope;
        Stmt::Block(vec![Stmt::Var(counter, I32, None), Stmt::Loop(body, end)])
    }

    fn switch(&mut self, flow: Flow) -> Stmt {
        let ty = if self.random.chance(1, 2) { U32 } else { I32 };
        let kind = ty.kind().unwrap_or(Kind::U32);
        let mut selector = self.expr(&ty, 2, Need::Runtime);
        if self.random.chance(2, 3) {
            selector = Expr::binary(ty, "&", selector, Expr::literal(kind, 3));
        }
        let flow = Flow { can_break: true, ..flow };
        let count = self.random.between(1, 4);
        let default = self.random.below(count);
        let mut number = 0;
        let mut cases = Vec::new();
        for index in 0..count {
            let mut labels = Vec::new();
            for _ in 0..self.random.between(1, 2) {
                labels.push(Some(number));
                number += 1;
            }
            if index == default {
                // Alone, or among others.
                if self.random.chance(1, 2) {
                    labels.clear();
                }
                labels.push(None);
            }
            cases.push((labels, self.block(flow)));
        }
        if kind == Kind::I32 && self.random.chance(1, 2) {
            cases.insert(0, (vec![Some(-1i32 as u32), Some(i32::MIN as u32)], self.block(flow)));
        }
        Stmt::Switch(selector, cases)
    }

    fn emit(&mut self) -> Option<Stmt> {
        let count = self.handler.outputs.len() as u32;
        if count == 0 {
            return None;
        }
        let output = self.random.below(count) as usize;
        let ty = Type::Struct(self.handler.outputs[output].1);
        let value = self.expr(&ty, 2, Need::Any);
        Some(Stmt::Call(Expr::new(Type::Nothing, Form::Emit(output), vec![value])))
    }
}
