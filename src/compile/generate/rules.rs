//! Is a handler still valid after something was cut out of it? The same rules that `build` follows.

use super::ast::{Block, Expr, Form, Handler, Id, Stmt, Type};
use super::builtins::PARTICULAR;
use std::panic::Location;

/// Where `break`, `continue` and `return` may stand.
#[derive(Clone, Copy)]
struct Flow {
    can_break: bool,
    can_continue: bool,
    can_return: bool,
}

struct Rules<'a> {
    handler: &'a Handler,
    /// Names that can be seen, block by block, innermost last.
    blocks: Vec<Vec<Id>>,
    /// Where the first broken rule is written down.
    broken: Option<&'static Location<'static>>,
}

/// The place of the first rule that a handler breaks.
pub fn broken_rule(handler: &Handler) -> Option<&'static Location<'static>> {
    let module = handler.constants.iter().map(|(id, _)| *id).chain(handler.privates.iter().map(|p| p.0));
    let module: Vec<Id> = module.chain(handler.tables.iter().map(|table| table.id)).collect();
    let mut rules = Rules { handler, blocks: vec![module], broken: None };
    for function in &handler.functions {
        rules.blocks.push(function.parameters.iter().map(|(id, _)| *id).collect());
        rules.statements(&function.body, Flow { can_break: false, can_continue: false, can_return: true });
        rules.blocks.pop();
        let returns = matches!(function.body.last(), Some(Stmt::Return(_)));
        rules.require(returns || function.result == Type::Nothing);
    }
    rules.broken
}

impl Rules<'_> {
    #[track_caller]
    fn require(&mut self, rule: bool) {
        if !rule {
            self.broken.get_or_insert(Location::caller());
        }
    }

    fn block(&mut self, block: &Block, flow: Flow) {
        self.blocks.push(Vec::new());
        self.statements(block, flow);
        self.blocks.pop();
    }

    fn declare(&mut self, id: Id) {
        let text = &self.handler.names[id];
        let own = self.blocks.last_mut().expect("a function's block is there");
        let is_new = own.iter().all(|other| self.handler.names[*other] != *text);
        own.push(id);
        self.require(is_new);
    }

    fn statements(&mut self, block: &Block, flow: Flow) {
        for (index, statement) in block.iter().enumerate() {
            let leaves = matches!(statement, Stmt::Break | Stmt::Continue | Stmt::Return(_));
            self.require(!leaves || index + 1 == block.len());
            self.statement(statement, flow);
        }
    }

    fn statement(&mut self, statement: &Stmt, flow: Flow) {
        let in_loop = Flow { can_break: true, can_continue: true, ..flow };
        match statement {
            Stmt::Let(id, value) => {
                self.expr(value);
                self.require(value.is_wholly_runtime());
                self.declare(*id);
            }
            Stmt::Const(id, value) => {
                self.require(value.is_constant());
                self.declare(*id);
            }
            Stmt::Var(id, _, value) => {
                value.iter().for_each(|value| self.expr(value));
                self.declare(*id);
            }
            Stmt::Assign(target, operator, value) => {
                self.expr(target);
                self.expr(value);
                self.right_side(operator, value);
            }
            Stmt::Step(target, _) => self.expr(target),
            Stmt::If(condition, accept, reject) => {
                self.runtime(condition);
                self.block(accept, flow);
                reject.iter().for_each(|reject| self.block(reject, flow));
            }
            Stmt::For(id, first, condition, step, body) => {
                self.blocks.push(Vec::new());
                self.expr(first);
                self.declare(*id);
                self.runtime(condition);
                self.statement(step, flow);
                self.block(body, in_loop);
                self.blocks.pop();
            }
            Stmt::While(condition, body) => {
                self.runtime(condition);
                self.block(body, in_loop);
            }
            Stmt::Loop(body, end) => {
                let leaves = end.as_ref().is_some_and(|end| end.break_if.is_some()) || breaks(body);
                self.require(leaves);
                // What the body declares is seen at the end, and what that declares in its condition.
                self.blocks.push(Vec::new());
                self.statements(body, in_loop);
                if let Some(end) = end {
                    self.blocks.push(Vec::new());
                    let flow = Flow { can_break: false, can_continue: false, can_return: false };
                    self.statements(&end.body, flow);
                    end.break_if.iter().for_each(|condition| self.runtime(condition));
                    self.blocks.pop();
                }
                self.blocks.pop();
            }
            Stmt::Switch(selector, cases) => {
                self.runtime(selector);
                self.require(cases.iter().flat_map(|(labels, _)| labels).any(Option::is_none));
                cases.iter().for_each(|(_, body)| self.block(body, Flow { can_break: true, ..flow }));
            }
            Stmt::Block(body) => self.block(body, flow),
            Stmt::Break => self.require(flow.can_break),
            Stmt::Continue => self.require(flow.can_continue),
            Stmt::Return(value) => {
                self.require(flow.can_return);
                value.iter().for_each(|value| self.expr(value));
            }
            Stmt::Call(call) => {
                self.expr(call);
                let is_call = matches!(call.form, Form::Helper(_) | Form::Emit(_));
                let is_atomic = |name: &str| name.starts_with("atomic") && name != "atomicLoad";
                self.require(is_call || matches!(call.form, Form::Call(name) if is_atomic(name)));
            }
        }
    }

    fn runtime(&mut self, expr: &Expr) {
        self.expr(expr);
        self.require(!expr.is_constant());
    }

    /// What stands on the right of an operator that constants can break.
    fn right_side(&mut self, operator: &str, right: &Expr) {
        let Form::Literal(bits) = right.form else {
            let is_particular = matches!(operator, "/" | "%" | "<<" | ">>");
            return self.require(!is_particular || right.is_wholly_runtime());
        };
        match operator {
            "/" | "%" => self.require(bits << 1 != 0),
            "<<" | ">>" => self.require(bits < 32),
            _ => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        let operands = &expr.operands;
        match &expr.form {
            Form::Name(id) | Form::Constant(id) => {
                let text = &self.handler.names[*id];
                let seen = self.blocks.iter().rev().flat_map(|block| block.iter().rev());
                let found = seen.into_iter().find(|other| self.handler.names[**other] == *text);
                let is_found = found == Some(id);
                self.require(is_found);
            }
            Form::Construct => {
                let converts = |operand: &Expr| operand.ty.kind() != expr.ty.kind();
                let is_conversion = operands.len() == 1 && expr.ty.kind().is_some() && converts(&operands[0]);
                self.require(!is_conversion || !operands[0].is_constant());
            }
            Form::Binary(operator) => {
                self.right_side(operator, &operands[1]);
                let needs_both = matches!(*operator, "&&" | "||");
                self.require(!needs_both || !operands.iter().any(Expr::is_constant));
            }
            Form::Call(name) => {
                let is_particular =
                    PARTICULAR.contains(name) || name.starts_with("half") || *name == "transpose";
                self.require(!is_particular || !operands.iter().any(Expr::is_constant));
                self.require(*name != "select" || !operands[2].is_constant());
            }
            Form::Index => {
                let len = operands[0].ty.element().map_or(0, |(_, len)| len);
                match operands[1].form {
                    Form::Literal(index) => self.require((index < len || len == 0) && index < 1 << 31),
                    _ => self.require(!operands[1].is_constant()),
                }
            }
            _ => {}
        }
        let is_folded = matches!(
            expr.form,
            Form::Unary(_)
                | Form::Binary(_)
                | Form::Call(_)
                | Form::Bitcast
                | Form::Swizzle(_)
                | Form::Member(_)
                | Form::Index
        );
        self.require(!is_folded || !expr.is_constant());
        operands.iter().for_each(|operand| self.expr(operand));
    }
}

/// Is there a `break` for the loop with this body? Without one the front does not see that the loop ends.
fn breaks(body: &Block) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::Break => true,
        Stmt::If(..) | Stmt::Block(_) => statement.blocks().into_iter().any(breaks),
        _ => false,
    })
}
