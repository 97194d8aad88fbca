//! Calls: a function's body where it is called.

use super::place::{Home, Place};
use super::{Body, MOST_CALLS, MOST_SCALARS, Operand, Refusal, Translator};
use crate::compile::jit::layout;
use crate::compile::shape;
use cranelift_codegen::ir::InstBuilder;
use naga::{Function, Handle};
use std::collections::HashMap;
use std::rc::Rc;

impl<'p> Translator<'p, '_> {
    /// Inlines a function; its result, if it has one.
    pub(super) fn inline(
        &mut self,
        handle: Handle<Function>,
        arguments: Vec<Operand>,
    ) -> Result<Option<Operand>, Refusal> {
        self.calls += 1;
        if self.calls > MOST_CALLS {
            return Err(Refusal::Calls);
        }
        self.deeper()?;
        let function = &self.module.functions[handle];
        let end = self.builder.create_block();
        let mut result_place = None;
        if let Some(result) = &function.result {
            let inner = shape::inner(self.module, result.ty);
            if shape::words(self.module, inner) > MOST_SCALARS {
                result_place = Some(self.slot(layout::size(self.module, inner))?);
            } else {
                for leaf in layout::leaves(self.module, inner) {
                    self.builder.append_block_param(end, leaf.ty);
                }
            }
        }
        let mut body = Body {
            function,
            handle,
            info: &self.program.info[handle],
            arguments,
            locals: HashMap::new(),
            values: vec![None; function.expressions.len()],
            exits: Vec::new(),
            end,
            result_place,
        };
        self.locals(&mut body)?;
        if self.block(&mut body, &function.body)? {
            // A function without a result may end without a `return`.
            self.ins().jump(end, &[]);
        }
        self.builder.seal_block(end);
        self.builder.switch_to_block(end);
        self.depth -= 1;
        if function.result.is_none() {
            return Ok(None);
        }
        let result = match body.result_place {
            Some(at) => Operand::Bytes(at),
            None => Operand::Scalars(self.builder.block_params(end).into()),
        };
        Ok(Some(result))
    }

    /// Gives every local variable its place, and its value whenever the function begins.
    fn locals(&mut self, body: &mut Body<'p>) -> Result<(), Refusal> {
        let function = body.function;
        for (handle, local) in function.local_variables.iter() {
            let facts = self.analysis.facts(body.handle);
            let inner = shape::inner(self.module, local.ty);
            let place = if facts.packed.locals.contains(&handle) {
                Rc::new(Place::Packed(self.builder.declare_var(layout::vector_type(inner))))
            } else {
                self.place(local.ty, facts.local(handle), Home::Stack)?
            };
            let value = match local.init {
                Some(init) => self.constant(&function.expressions, init, inner),
                None => self.zero_of(inner),
            };
            self.store(&place, inner, &value);
            body.locals.insert(handle, place);
        }
        Ok(())
    }
}
