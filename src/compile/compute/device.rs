//! An entry point as a module for devices that run modules: with the entry point around the lowered function, which says
//! what became of it.

use super::segment::Maker;
use super::{Builtin, ComputeProgram, Parameter, type_handle};
use naga::{
    AddressSpace, AtomicFunction, BinaryOperator as B, Block, EntryPoint, Expression as E, FunctionArgument,
    GlobalVariable, Literal, LocalVariable, Module, ResourceBinding, Scalar, ShaderStage, Span,
    Statement as S, StorageAccess, StructMember, TypeInner,
};

/// Name of the entry point.
pub(crate) const ENTRY: &str = "rt_main";

/// What invocations say when the device ended their loops.
pub(crate) const CUT_SHORT: u32 = 3;

/// A module, and the place of the buffer that tells of faults, in `@group(0)`.
pub(crate) struct EntryModule {
    pub module: Module,
    /// Two words: the greatest fault of all invocations, and the number [`CANARY`]. `None` if nothing can fault.
    pub trouble: Option<u32>,
}

/// Iterations of the loop that shows whether the device still runs loops.
pub(crate) const CANARY: u32 = 3;

/// Puts the entry point around the lowered function; `canary` for a device that ends loops after some iterations.
pub(crate) fn entry_module(program: &ComputeProgram, canary: bool) -> EntryModule {
    let mut module = program.module.clone();
    let mut maker = Maker::default();
    let arguments = module.functions[program.entry].arguments.clone();
    for (argument, parameter) in arguments.into_iter().zip(&program.parameters) {
        let binding = match parameter {
            Parameter::One(builtin) => Some(naga::Binding::BuiltIn(named(*builtin))),
            // The members of its type have theirs.
            Parameter::Struct(_) => None,
        };
        maker.function.arguments.push(FunctionArgument { binding, ..argument });
    }
    let passed = (0..program.parameters.len() as u32).map(|i| maker.add(E::FunctionArgument(i)));
    let arguments = passed.collect();
    let mut body = Block::new();
    body.push(S::Call { function: program.entry, arguments, result: None }, Span::UNDEFINED);
    let trouble = program.has_loops.then(|| {
        let own = program.bindings.iter().filter(|b| b.group == 0).map(|b| b.binding + 1);
        let binding = own.max().unwrap_or(0);
        tell(program, &mut module, &mut maker, &mut body, binding, canary);
        binding
    });
    body.push(S::Return { value: None }, Span::UNDEFINED);
    maker.function.body = body;
    module.entry_points = vec![EntryPoint {
        name: ENTRY.to_string(),
        stage: ShaderStage::Compute,
        early_depth_test: None,
        workgroup_size: program.workgroup_size,
        workgroup_size_overrides: None,
        function: maker.function,
        mesh_info: None,
        task_payload: None,
        incoming_ray_payload: None,
    }];
    EntryModule { module, trouble }
}

fn named(builtin: Builtin) -> naga::BuiltIn {
    match builtin {
        Builtin::GlobalInvocationId => naga::BuiltIn::GlobalInvocationId,
        Builtin::LocalInvocationId => naga::BuiltIn::LocalInvocationId,
        Builtin::LocalInvocationIndex => naga::BuiltIn::LocalInvocationIndex,
        Builtin::WorkgroupId => naga::BuiltIn::WorkGroupId,
        Builtin::NumWorkgroups => naga::BuiltIn::NumWorkGroups,
    }
}

/// Tells the host of a fault.
fn tell(
    program: &ComputeProgram,
    module: &mut Module,
    maker: &mut Maker,
    body: &mut Block,
    binding: u32,
    canary: bool,
) {
    let word = type_handle(module, TypeInner::Scalar(Scalar::U32));
    let atomic = type_handle(module, TypeInner::Atomic(Scalar::U32));
    let member =
        |name: &str, ty, offset| StructMember { name: Some(name.to_string()), ty, binding: None, offset };
    let members = vec![member("fault", atomic, 0), member("canary", word, 4)];
    let ty =
        naga::Type { name: Some("rt_Trouble".to_string()), inner: TypeInner::Struct { members, span: 8 } };
    let ty = module.types.insert(ty, Span::UNDEFINED);
    let global = GlobalVariable {
        name: Some("rt_trouble".to_string()),
        space: AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE },
        binding: Some(ResourceBinding { group: 0, binding }),
        ty,
        init: None,
        memory_decorations: Default::default(),
    };
    let global = module.global_variables.append(global, Span::UNDEFINED);
    let trouble = maker.add(E::GlobalVariable(global));
    let zero = maker.u32(0);
    let fault = maker.add(E::GlobalVariable(program.library.fault));
    let value = maker.load(body, fault);
    let has_faulted = maker.binary(body, B::NotEqual, value, zero);
    report(maker, body, trouble, has_faulted, value);
    if canary {
        let trips = maker
            .function
            .local_variables
            .append(LocalVariable { name: None, ty: word, init: None }, Span::UNDEFINED);
        let trips = maker.add(E::LocalVariable(trips));
        let one = maker.add(E::Literal(Literal::U32(1)));
        let cut_short = maker.u32(CUT_SHORT);
        let at = maker.emit(body, E::AccessIndex { base: trouble, index: 1 });
        let wanted = maker.load(body, at);
        let mut inside = Block::new();
        let now = maker.load(&mut inside, trips);
        let goes_on = maker.binary(&mut inside, B::Less, now, wanted);
        let mut reject = Block::new();
        reject.push(S::Break, Span::UNDEFINED);
        inside.push(S::If { condition: goes_on, accept: Block::new(), reject }, Span::UNDEFINED);
        let mut continuing = Block::new();
        let now = maker.load(&mut continuing, trips);
        let next = maker.binary(&mut continuing, B::Add, now, one);
        continuing.push(S::Store { pointer: trips, value: next }, Span::UNDEFINED);
        body.push(S::Loop { body: inside, continuing, break_if: None }, Span::UNDEFINED);
        let made = maker.load(body, trips);
        let is_short = maker.binary(body, B::NotEqual, made, wanted);
        report(maker, body, trouble, is_short, cut_short);
    }
}

fn report(
    maker: &mut Maker,
    body: &mut Block,
    trouble: naga::Handle<E>,
    condition: naga::Handle<E>,
    value: naga::Handle<E>,
) {
    let mut accept = Block::new();
    let pointer = maker.emit(&mut accept, E::AccessIndex { base: trouble, index: 0 });
    accept.push(S::Atomic { pointer, fun: AtomicFunction::Max, value, result: None }, Span::UNDEFINED);
    body.push(S::If { condition, accept, reject: Block::new() }, Span::UNDEFINED);
}
