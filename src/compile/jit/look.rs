//! How a loop asks whether it must stop without paying for it.
//!
//! A call clobbers registers, and a loop with a call in it, however cold, keeps in memory what it would keep in
//! registers (measured: an FIR filter's loop took three times as long). So loops call a function that preserves all
//! registers, which only Cranelift can make: this one, made once for the process, which calls the Rust function. Its
//! address comes in through the context, like all others.

use super::host;
use super::runtime;
use cranelift_codegen::Context as CompilationContext;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, types};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::sync::OnceLock;

/// `(context)`: sets [`must_stop`](runtime::Context::must_stop) in it.
pub(super) fn signature(isa: &dyn TargetIsa) -> ir::Signature {
    // Cranelift has the convention for all its processors but this one.
    let convention =
        if cfg!(target_arch = "s390x") { isa.default_call_conv() } else { CallConv::PreserveAll };
    let mut signature = ir::Signature::new(convention);
    signature.params.push(AbiParam::new(types::I64));
    signature
}

/// The function with this signature; made by the first call. Fails where there is no executable memory.
pub(super) fn address() -> Result<*const (), &'static str> {
    static LOOK: OnceLock<Option<super::Loaded>> = OnceLock::new();
    let made = LOOK.get_or_init(|| make().ok());
    made.as_ref().map(super::Loaded::address).ok_or("interpreter: the system gives no executable memory")
}

fn make() -> Result<super::Loaded, String> {
    let isa = host()?;
    let mut function = ir::Function::new();
    function.signature = signature(&**isa);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let argument = builder.block_params(entry)[0];
    let mut rust = ir::Signature::new(isa.default_call_conv());
    rust.params.push(AbiParam::new(types::I64));
    let rust = builder.import_signature(rust);
    let target = builder.ins().iconst(types::I64, runtime::look as *const () as i64);
    builder.ins().call_indirect(rust, target, &[argument]);
    builder.ins().return_(&[]);
    builder.finalize(isa.frontend_config());
    let mut context = CompilationContext::for_function(function);
    let compiled = context
        .compile(&**isa, &mut ControlPlane::default())
        .map_err(|error| format!("{:?}", error.inner))?;
    let alignment = isa.function_alignment().minimum.max(16);
    super::Loaded::new(compiled.code_buffer(), alignment).map_err(|error| error.to_string())
}
