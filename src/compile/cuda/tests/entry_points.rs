//! Entry points of the kinds that people write: with workgroup memory and barriers, atomics, structs and loops.

use crate::compile::compute::{ComputeProgram, ComputeSource, compile};

/// Sums of workgroups, by halves.
const REDUCE: &str = "
    @group(0) @binding(0) var<storage, read> values: array<f32>;
    @group(0) @binding(1) var<storage, read_write> sums: array<f32>;
    var<workgroup> tile: array<f32, 256>;
    @compute @workgroup_size(256)
    fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
            @builtin(workgroup_id) group: vec3<u32>) {
        tile[local] = select(0.0, values[id.x], id.x < arrayLength(&values));
        for (var half = 128u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if local < half { tile[local] += tile[local + half]; }
        }
        if local == 0u { sums[group.x] = tile[0]; }
    }";

const HISTOGRAM: &str = "
    @group(0) @binding(0) var<storage, read> values: array<u32>;
    @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>, 16>;
    var<workgroup> own: array<atomic<u32>, 16>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
            @builtin(num_workgroups) groups: vec3<u32>) {
        for (var i = id.x; i < arrayLength(&values); i += groups.x * 64u) { atomicAdd(&own[values[i] % 16u], 1u); }
        workgroupBarrier();
        if local < 16u { atomicAdd(&counts[local], atomicLoad(&own[local])); }
    }";

const TILED_PRODUCT: &str = "
    struct Sizes { rows: u32, inner: u32, columns: u32 }
    @group(0) @binding(0) var<uniform> sizes: Sizes;
    @group(0) @binding(1) var<storage, read> a: array<f32>;
    @group(0) @binding(2) var<storage, read> b: array<f32>;
    @group(0) @binding(3) var<storage, read_write> c: array<f32>;
    const TILE = 16u;
    var<workgroup> of_a: array<array<f32, TILE>, TILE>;
    var<workgroup> of_b: array<array<f32, TILE>, TILE>;
    @compute @workgroup_size(TILE, TILE)
    fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
        var sum = 0.0;
        for (var first = 0u; first < sizes.inner; first += TILE) {
            let column = first + local.x;
            let row = first + local.y;
            of_a[local.y][local.x] =
                select(0.0, a[id.y * sizes.inner + column], id.y < sizes.rows && column < sizes.inner);
            of_b[local.y][local.x] =
                select(0.0, b[row * sizes.columns + id.x], row < sizes.inner && id.x < sizes.columns);
            workgroupBarrier();
            for (var i = 0u; i < TILE; i++) { sum += of_a[local.y][i] * of_b[i][local.x]; }
            workgroupBarrier();
        }
        if id.y < sizes.rows && id.x < sizes.columns { c[id.y * sizes.columns + id.x] = sum; }
    }";

const BODIES: &str = "
    struct Body { position: vec3<f32>, mass: f32, velocity: vec3<f32>, }
    @group(0) @binding(0) var<storage, read> before: array<Body>;
    @group(0) @binding(1) var<storage, read_write> after: array<Body>;
    fn pull(on: vec3<f32>, by: Body) -> vec3<f32> {
        let away = by.position - on;
        return away * by.mass * pow(dot(away, away) + 0.01, -1.5);
    }
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x >= arrayLength(&after) { return; }
        var body = before[id.x];
        var sum = vec3(0.0);
        for (var i = 0u; i < arrayLength(&before); i++) { sum += pull(body.position, before[i]); }
        body.velocity += 0.001 * sum;
        body.position += 0.001 * body.velocity;
        after[id.x] = body;
    }";

/// All of them, by their names.
pub fn programs() -> Vec<(&'static str, ComputeProgram)> {
    [("reduce", REDUCE), ("histogram", HISTOGRAM), ("tiled product", TILED_PRODUCT), ("bodies", BODIES)]
        .map(|(name, text)| {
            let constants = &[];
            let source =
                ComputeSource { name, text, entry: "main", constants, loop_budget: 1_000_000, draft: false };
            let program = compile(&source).unwrap_or_else(|error| panic!("{error}"));
            (name, program.expect("not a draft"))
        })
        .into()
}
