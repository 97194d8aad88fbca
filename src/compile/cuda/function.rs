//! Functions: their heads, what they declare, and what is known about all of them.

use super::declare::Module;
use super::text::Text;
use super::types::{identifier, literal};
use crate::compile::uses::visit;
use naga::valid::FunctionInfo;
use naga::{Arena, Block, Expression as E, Function, Handle, Span, Statement as S, TypeInner};
use std::collections::{HashMap, HashSet};

/// Expressions of a function and all that it calls, up to which it is inlined wherever it is called. Others are where
/// they are called from one place only: the context stays in registers only if nobody takes its address.
const MOST_INLINED: usize = 2_000;

/// The functions of a program.
pub(super) struct Functions<'m, 'a> {
    module: &'m Module<'a>,
    /// Those that the stop word can interrupt: they have loops, or call such.
    pub interruptible: HashSet<Handle<Function>>,
    outlined: HashSet<Handle<Function>>,
    /// Names of the constants declared so far, by how they are written.
    constants: HashMap<String, String>,
}

/// One function in the making.
pub(super) struct Body<'b, 'a> {
    pub module: &'b Module<'a>,
    pub interruptible: &'b HashSet<Handle<Function>>,
    pub function: &'a Function,
    pub info: &'a FunctionInfo,
    pub text: &'b mut Text,
    /// Constants that have names.
    pub constants: HashMap<Handle<E>, String>,
    /// Where `continue` goes in the loops around the statement in hand, innermost last.
    pub continues: Vec<super::statement::Continue>,
    /// Labels so far.
    pub labels: usize,
}

impl<'m, 'a> Functions<'m, 'a> {
    pub fn new(module: &'m Module<'a>) -> Self {
        let program = module.program;
        let functions = &program.module.functions;
        let (mut interruptible, mut outlined) = (HashSet::new(), HashSet::new());
        let mut sites = HashMap::<_, usize>::new();
        for handle in &program.functions {
            visit(&functions[*handle].body, &mut |statement| {
                if let S::Call { function: callee, .. } = statement {
                    *sites.entry(*callee).or_default() += 1;
                }
            });
        }
        let mut sizes = HashMap::new();
        for handle in &program.functions {
            let function = &functions[*handle];
            let mut size = function.expressions.len();
            visit(&function.body, &mut |statement| match statement {
                S::Loop { .. } => _ = interruptible.insert(*handle),
                S::Call { function: callee, .. } => {
                    if interruptible.contains(callee) {
                        interruptible.insert(*handle);
                    }
                    if !outlined.contains(callee) {
                        size += sizes.get(callee).unwrap_or(&0);
                    }
                }
                _ => {}
            });
            if size > MOST_INLINED && sites.get(handle).is_some_and(|sites| *sites > 1) {
                outlined.insert(*handle);
            }
            sizes.insert(*handle, size);
        }
        Self { module, interruptible, outlined, constants: HashMap::new() }
    }

    /// Writes a function and the constants that it is the first to use.
    pub fn write(&mut self, handle: Handle<Function>, text: &mut Text) {
        let program = self.module.program;
        let function = &program.module.functions[handle];
        let place = program.module.functions.get_span(handle);
        text.begin(place);
        let constants = self.declare_constants(function, &program.info[handle], place, text);
        let types = &self.module.types;
        let mut parameters = vec!["RtContext& context".to_owned()];
        for (argument, index) in function.arguments.iter().zip(0..) {
            let name = parameter(function, index);
            parameters.push(match *types.inner(argument.ty) {
                TypeInner::Pointer { base, .. } => format!("{}& {name}", types.name(base)),
                ref inner @ TypeInner::ValuePointer { .. } => {
                    unreachable!("WGSL has no pointers to components: {inner:?}")
                }
                TypeInner::Scalar(_) => format!("{} {name}", types.name(argument.ty)),
                _ => format!("const {}& {name}", types.name(argument.ty)),
            });
        }
        let result = function.result.as_ref().map_or("void".to_owned(), |result| types.name(result.ty));
        let inline = if self.outlined.contains(&handle) { "RT_OUTLINE" } else { "RT_INLINE" };
        let name = identifier('f', handle.index(), function.name.as_deref());
        text.line(place, format!("{inline} {result} {name}({}) {{", parameters.join(", ")));
        text.indent();
        for (local, variable) in function.local_variables.iter() {
            let ty = types.name(variable.ty);
            let name = identifier('v', local.index(), variable.name.as_deref());
            let value = match variable.init {
                Some(init) => constant(self.module, &function.expressions, init),
                None => format!("{ty}{{}}"),
            };
            text.line(function.local_variables.get_span(local), format!("{ty} {name} = {value};"));
        }
        let mut body = Body {
            module: self.module,
            interruptible: &self.interruptible,
            function,
            info: &program.info[handle],
            text,
            constants,
            continues: Vec::new(),
            labels: 0,
        };
        body.block(&function.body);
        text.outdent();
        text.own("}");
    }

    /// Declares the arrays, matrices and structs that are constant, so that they are in memory once.
    fn declare_constants(
        &mut self,
        function: &Function,
        info: &FunctionInfo,
        place: Span,
        text: &mut Text,
    ) -> HashMap<Handle<E>, String> {
        let expressions = &function.expressions;
        let is_large = |handle: Handle<E>| {
            let inner = info[handle].ty.inner_with(&self.module.types.module.types);
            matches!(inner, TypeInner::Array { .. } | TypeInner::Struct { .. } | TypeInner::Matrix { .. })
        };
        let mut found = Vec::new();
        let mut inside = HashSet::new();
        for (handle, expression) in expressions.iter() {
            if is_large(handle) && is_constant(expressions, handle) && !matches!(expression, E::ZeroValue(_))
            {
                found.push(handle);
                if let E::Compose { components, .. } = expression {
                    inside.extend(components.iter().copied());
                }
            }
        }
        let mut names = HashMap::new();
        for handle in found.into_iter().filter(|handle| !inside.contains(handle)) {
            let value = constant(self.module, expressions, handle);
            let number = self.constants.len();
            let name = self.constants.entry(value.clone()).or_insert_with(|| {
                let name = format!("k{number}");
                let ty = value.split('{').next().unwrap_or_default();
                text.line(place, format!("static __device__ const {ty} {name} = {value};"));
                name
            });
            names.insert(handle, name.clone());
        }
        names
    }
}

pub(super) fn parameter(function: &Function, index: u32) -> String {
    identifier('a', index as usize, function.arguments[index as usize].name.as_deref())
}

/// Is this known when the program is compiled?
pub(super) fn is_constant(arena: &Arena<E>, expression: Handle<E>) -> bool {
    match arena[expression] {
        E::Literal(_) | E::Constant(_) | E::ZeroValue(_) => true,
        E::Compose { ref components, .. } => components.iter().all(|c| is_constant(arena, *c)),
        E::Splat { value, .. } => is_constant(arena, value),
        _ => false,
    }
}

/// A constant expression; `arena` is the module's or a function's.
pub(super) fn constant(module: &Module<'_>, arena: &Arena<E>, expression: Handle<E>) -> String {
    let types = &module.types;
    match arena[expression] {
        E::Literal(value) => literal(value),
        E::Constant(handle) => {
            let naga = types.module;
            constant(module, &naga.global_expressions, naga.constants[handle].init)
        }
        E::ZeroValue(ty) => format!("{}{{}}", types.name(ty)),
        E::Splat { size, value } => {
            let ty = types.inner_name(&TypeInner::Vector { size, scalar: scalar_of(module, arena, value) });
            let value = constant(module, arena, value);
            format!("{ty}{{{{{}}}}}", vec![value; size as usize].join(", "))
        }
        E::Compose { ty, ref components } => {
            let mut parts = Vec::new();
            for component in components {
                match (types.inner(ty), scalars(module, arena, *component)) {
                    (TypeInner::Vector { .. }, scalars) if scalars.len() > 1 => parts.extend(scalars),
                    _ => parts.push(constant(module, arena, *component)),
                }
            }
            types.compose(ty, &parts)
        }
        _ => unreachable!("validated: constant expressions are evaluated by the front"),
    }
}

/// The components of a constant vector, each as it is written; of another constant, nothing.
fn scalars(module: &Module<'_>, arena: &Arena<E>, expression: Handle<E>) -> Vec<String> {
    match arena[expression] {
        E::Constant(handle) => {
            let naga = module.types.module;
            scalars(module, &naga.global_expressions, naga.constants[handle].init)
        }
        E::Splat { size, value } => vec![constant(module, arena, value); size as usize],
        E::ZeroValue(ty) => match *module.types.inner(ty) {
            TypeInner::Vector { size, scalar } => {
                let zero = format!("{}{{}}", module.types.inner_name(&TypeInner::Scalar(scalar)));
                vec![zero; size as usize]
            }
            _ => Vec::new(),
        },
        E::Compose { ty, ref components } if matches!(module.types.inner(ty), TypeInner::Vector { .. }) => {
            let parts = components.iter().map(|component| match scalars(module, arena, *component) {
                parts if parts.is_empty() => vec![constant(module, arena, *component)],
                parts => parts,
            });
            parts.flatten().collect()
        }
        _ => Vec::new(),
    }
}

fn scalar_of(module: &Module<'_>, arena: &Arena<E>, expression: Handle<E>) -> naga::Scalar {
    let naga = module.types.module;
    match arena[expression] {
        E::Literal(value) => value.scalar(),
        E::Constant(handle) => scalar_of(module, &naga.global_expressions, naga.constants[handle].init),
        E::ZeroValue(ty) => naga.types[ty].inner.scalar().expect("validated: what is spread is a scalar"),
        _ => unreachable!("validated: what is spread is a scalar"),
    }
}

/// Every value that a block makes itself, in order; not those of the blocks inside.
pub(super) fn made(block: &Block) -> Vec<Handle<E>> {
    let mut all = Vec::new();
    for statement in block {
        match statement {
            S::Emit(range) => all.extend(range.clone()),
            S::Call { result, .. } | S::Atomic { result, .. } => all.extend(result),
            S::WorkGroupUniformLoad { result, .. } => all.push(*result),
            _ => {}
        }
    }
    all
}
