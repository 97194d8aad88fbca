//! One kernel, one question: adds up to eight numbers in WGSL.

use ringwork::{RingKernel, Runtime, message};
use std::time::Duration;

message! {
    /// Up to eight numbers to add.
    pub struct ComputeRequest { pub len: u32, pub values: [f32; 8] }
}
message! {
    /// Their sum.
    pub struct ComputeResponse { pub result: f32 }
}

const HANDLER: &str = r#"
    fn on_message(m: ComputeRequest) -> ComputeResponse {
        var sum = 0.0;
        for (var i = 0u; i < min(m.len, 8u); i++) { sum += m.values[i]; }
        return ComputeResponse(sum);
    }"#;

fn main() -> ringwork::Result<()> {
    let runtime = Runtime::new()?;
    let compute = runtime.launch(RingKernel::<ComputeRequest, ComputeResponse>::wgsl("compute", HANDLER))?;
    compute.activate()?;
    let request = ComputeRequest { len: 3, values: [1., 2., 3., 0., 0., 0., 0., 0.] };
    let reply = compute.ask(request, Duration::from_secs(1))?;
    println!("Result: {}", reply.result);
    runtime.shutdown(Duration::from_secs(5))?;
    Ok(())
}
