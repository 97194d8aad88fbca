//! Vectors of constants, component by component: SPIR-V has no constant vector that is made of smaller ones.
//!
//! naga folds `vec3(1, vec2(2, 3))`, but leaves `vec3(1, vec2())` as it is, and its SPIR-V writer then makes a module that
//! is not valid. Drivers do with it what they like; Mesa's refuses the pipeline, and the device is lost.

use super::rewrite::map_operands;
use naga::{Arena, Expression as E, Handle, Literal, Module, TypeInner};

/// The components of a constant scalar or vector, unless it is something that naga folds itself.
pub(super) fn components(module: &Module, arena: &Arena<E>, value: Handle<E>) -> Option<Vec<Literal>> {
    match arena[value] {
        E::Literal(literal) => Some(vec![literal]),
        E::ZeroValue(ty) => match module.types[ty].inner {
            TypeInner::Scalar(scalar) => Some(vec![Literal::zero(scalar)?]),
            TypeInner::Vector { size, scalar } => Some(vec![Literal::zero(scalar)?; size as usize]),
            _ => None,
        },
        E::Constant(constant) => {
            components(module, &module.global_expressions, module.constants[constant].init)
        }
        E::Splat { size, value } => {
            let value = components(module, arena, value)?;
            Some(value.repeat(size as usize))
        }
        E::Compose { ty, components: ref parts } if is_vector(module, ty) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| components(module, arena, *part)).collect();
            Some(parts?.concat())
        }
        _ => None,
    }
}

pub(super) fn is_vector(module: &Module, ty: Handle<naga::Type>) -> bool {
    matches!(module.types[ty].inner, TypeInner::Vector { .. })
}

/// Rewrites the module's own constants.
pub(super) fn flatten(module: &mut Module) {
    let old = &module.global_expressions;
    let mut new = Arena::new();
    let mut made: Vec<Handle<E>> = Vec::with_capacity(old.len());
    for (handle, expression) in old.iter() {
        let span = old.get_span(handle);
        let copy = match *expression {
            E::Compose { ty, components: ref parts } if is_vector(module, ty) => {
                let parts = parts.iter().flat_map(|part| match components(module, old, *part) {
                    Some(literals) => {
                        literals.into_iter().map(|l| new.append(E::Literal(l), span)).collect::<Vec<_>>()
                    }
                    None => vec![made[part.index()]],
                });
                E::Compose { ty, components: parts.collect() }
            }
            ref other => map_operands(other.clone(), |operand| made[operand.index()]),
        };
        made.push(new.append(copy, span));
    }
    module.global_expressions = new;
    module.constants.iter_mut().for_each(|(_, constant)| constant.init = made[constant.init.index()]);
    for (_, variable) in module.global_variables.iter_mut() {
        variable.init = variable.init.map(|init| made[init.index()]);
    }
}
