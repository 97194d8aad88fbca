//! Cuts an entry point at its barriers: into segments, which each invocation runs by itself, and the control flow around
//! them, which all invocations of a workgroup take together.
//!
//! A statement is of the group if it has a barrier inside, or a way out of a loop that has one; the front has seen to it
//! that all invocations take the same way there. Everything else is part of a segment.

use super::uniform::is_barrier;
use crate::compile::uses::visit_statement;
use naga::{
    Arena, Block, Expression as E, Function, GlobalVariable, Handle, Range, Span, Statement as S, SwitchValue,
};

/// What a workgroup does, in order.
pub(super) enum Step {
    /// All invocations run a segment, one after the other.
    Segment(usize),
    If {
        condition: Handle<E>,
        accept: Vec<Step>,
        reject: Vec<Step>,
    },
    Switch {
        selector: Handle<E>,
        cases: Vec<(SwitchValue, Vec<Step>, bool)>,
    },
    Loop {
        body: Vec<Step>,
        continuing: Vec<Step>,
        break_if: Option<Handle<E>>,
    },
    /// A round of a loop of the group begins: one less is left.
    Spend,
    Break,
    Continue,
    Return,
}

/// An entry point, cut.
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// The statements of each segment; the first one is the first step.
    pub segments: Vec<Block>,
    /// Does a segment run more than once?
    pub repeats: Vec<bool>,
    /// An invocation may return while others go on.
    pub returns: bool,
}

/// Cuts a function, in which loads for the whole workgroup become plain loads between two barriers. What lowering put there
/// for each invocation to count `rounds` becomes one step of the group.
pub(super) fn cut(function: &mut Function, rounds: Handle<GlobalVariable>) -> Plan {
    let body = std::mem::take(&mut function.body);
    let mut loads = Vec::new();
    let mut cutter = Cutter {
        expressions: &function.expressions,
        rounds,
        segments: Vec::new(),
        repeats: Vec::new(),
        loads: &mut loads,
        loops: 0,
    };
    let mut steps = Vec::new();
    cutter.block(&body, &mut steps);
    if !matches!(steps.first(), Some(Step::Segment(_))) {
        // Something has to set the variables' initial values.
        let segment = cutter.segment(Block::new());
        steps.insert(0, segment);
    }
    let Cutter { mut segments, mut repeats, .. } = cutter;
    let first = match steps[0] {
        Step::Segment(index) => index,
        _ => unreachable!("made above"),
    };
    // Segments are numbered in order, and the first step comes first unless it was made last.
    if first != 0 {
        let block = segments.remove(first);
        segments.insert(0, block);
        repeats.remove(first);
        repeats.insert(0, false);
        renumber(&mut steps, first);
    }
    for (result, pointer) in loads {
        function.expressions[result] = E::Load { pointer };
    }
    function.body = body;
    let mut returns = false;
    for block in &segments {
        for statement in block {
            visit_statement(statement, &mut |s| returns |= matches!(s, S::Return { .. }));
        }
    }
    Plan { steps, segments, repeats, returns }
}

fn renumber(steps: &mut [Step], first: usize) {
    for step in steps {
        match step {
            Step::Segment(index) if *index == first => *index = 0,
            Step::Segment(index) if *index < first => *index += 1,
            Step::If { accept, reject, .. } => {
                renumber(accept, first);
                renumber(reject, first);
            }
            Step::Switch { cases, .. } => cases.iter_mut().for_each(|(_, steps, _)| renumber(steps, first)),
            Step::Loop { body, continuing, .. } => {
                renumber(body, first);
                renumber(continuing, first);
            }
            _ => {}
        }
    }
}

struct Cutter<'a> {
    expressions: &'a Arena<E>,
    rounds: Handle<GlobalVariable>,
    segments: Vec<Block>,
    repeats: Vec<bool>,
    /// Results of loads for the whole workgroup, and what they load.
    loads: &'a mut Vec<(Handle<E>, Handle<E>)>,
    /// Loops of the group around the statement in hand.
    loops: usize,
}

impl Cutter<'_> {
    fn segment(&mut self, block: Block) -> Step {
        self.segments.push(block);
        self.repeats.push(self.loops > 0);
        Step::Segment(self.segments.len() - 1)
    }

    /// Is this what lowering inserted for a loop of the group?
    fn counts_rounds(&self, statement: &S) -> bool {
        let is_rounds = |e: Handle<E>| self.expressions[e] == E::GlobalVariable(self.rounds);
        let is_left = |e: Handle<E>| matches!(self.expressions[e], E::Load { pointer } if is_rounds(pointer));
        let is_of_left =
            |e: Handle<E>| matches!(self.expressions[e], E::Binary { left, .. } if is_left(left));
        match statement {
            S::Emit(range) => range.clone().all(|e| is_left(e) || is_of_left(e)),
            S::If { condition, .. } => is_of_left(*condition),
            S::Store { pointer, .. } => is_rounds(*pointer),
            _ => false,
        }
    }

    fn close(&mut self, current: &mut Block, steps: &mut Vec<Step>) {
        if !current.is_empty() {
            let step = self.segment(std::mem::take(current));
            steps.push(step);
        }
    }

    fn steps(&mut self, block: &Block) -> Vec<Step> {
        let mut steps = Vec::new();
        self.block(block, &mut steps);
        steps
    }

    fn block(&mut self, block: &Block, steps: &mut Vec<Step>) {
        let mut current = Block::new();
        for (statement, span) in block.span_iter() {
            if self.counts_rounds(statement) {
                if matches!(statement, S::If { .. }) {
                    self.close(&mut current, steps);
                    steps.push(Step::Spend);
                }
                continue;
            }
            if !is_of_group(statement) {
                current.push(statement.clone(), *span);
                continue;
            }
            self.close(&mut current, steps);
            match statement {
                S::ControlBarrier(_) => {}
                S::WorkGroupUniformLoad { pointer, result } => {
                    self.loads.push((*result, *pointer));
                    let mut load = Block::new();
                    load.push(S::Emit(Range::new_from_bounds(*result, *result)), Span::UNDEFINED);
                    let step = self.segment(load);
                    steps.push(step);
                }
                S::Block(inner) => self.block(inner, steps),
                S::If { condition, accept, reject } => {
                    let (accept, reject) = (self.steps(accept), self.steps(reject));
                    steps.push(Step::If { condition: *condition, accept, reject });
                }
                S::Switch { selector, cases } => {
                    let cases = cases.iter().map(|c| (c.value, self.steps(&c.body), c.fall_through));
                    let cases = cases.collect();
                    steps.push(Step::Switch { selector: *selector, cases });
                }
                S::Loop { body, continuing, break_if } => {
                    self.loops += 1;
                    let (body, continuing) = (self.steps(body), self.steps(continuing));
                    self.loops -= 1;
                    steps.push(Step::Loop { body, continuing, break_if: *break_if });
                }
                S::Break => steps.push(Step::Break),
                S::Continue => steps.push(Step::Continue),
                S::Return { .. } => steps.push(Step::Return),
                _ => unreachable!("`is_of_group` names no other"),
            }
        }
        self.close(&mut current, steps);
    }
}

/// Has it a barrier inside, or a way out of itself that is not the end of the invocation?
///
/// A loop of a segment keeps its ways out to itself, so what leads out of a statement here leads to a loop of the group.
fn is_of_group(statement: &S) -> bool {
    let mut has_barrier = false;
    visit_statement(statement, &mut |s| has_barrier |= is_barrier(s));
    has_barrier || matches!(statement, S::Return { .. }) || leads_out(statement, false, false)
}

/// Is there a `break` or `continue` that leads out of it?
fn leads_out(statement: &S, in_switch: bool, in_loop: bool) -> bool {
    let any = |block: &Block, in_switch: bool, in_loop: bool| {
        block.iter().any(|statement| leads_out(statement, in_switch, in_loop))
    };
    match statement {
        S::Break => !in_switch && !in_loop,
        S::Continue => !in_loop,
        S::Block(block) => any(block, in_switch, in_loop),
        S::If { accept, reject, .. } => any(accept, in_switch, in_loop) || any(reject, in_switch, in_loop),
        S::Switch { cases, .. } => cases.iter().any(|case| any(&case.body, true, in_loop)),
        S::Loop { body, continuing, .. } => any(body, in_switch, true) || any(continuing, in_switch, true),
        _ => false,
    }
}
