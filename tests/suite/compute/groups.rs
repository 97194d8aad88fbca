//! Entry points whose workgroups work together: workgroup memory and barriers.

use super::{Random, assert_close, both, groups_for};

#[test]
fn reduction() {
    let text = "
        @group(0) @binding(0) var<storage, read> values: array<u32>;
        @group(0) @binding(1) var<storage, read_write> sums: array<u32>;
        var<workgroup> tile: array<u32, 128>;
        @compute @workgroup_size(128)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
                @builtin(workgroup_id) group: vec3<u32>) {
            var value = 0u;
            if id.x < arrayLength(&values) { value = values[id.x]; }
            tile[local] = value;
            for (var step = 64u; step > 0u; step /= 2u) {
                workgroupBarrier();
                if local < step { tile[local] += tile[local + step]; }
            }
            if local == 0u { sums[group.x] = tile[0]; }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(11);
    for len in [1, 127, 128, 129, 5000] {
        let values: Vec<u32> = (0..len).map(|_| random.next()).collect();
        let of_values = runtime.buffer(&values).unwrap();
        let groups = groups_for(len, 128);
        let sums = runtime.buffer(&vec![0u32; groups[0] as usize]).unwrap();
        let kernel =
            orchestrator.kernel(text, "main").unwrap().bind("values", &of_values).bind("sums", &sums);
        kernel.dispatch(groups).unwrap();
        let expected = values.chunks(128).map(|chunk| chunk.iter().fold(0u32, |sum, v| sum.wrapping_add(*v)));
        assert_eq!(sums.to_vec().unwrap(), expected.collect::<Vec<_>>());
    }
}

const SCAN: &str = "
    // Inclusive prefix sums of each workgroup, by Hillis and Steele; and each workgroup's sum.
    @group(0) @binding(0) var<storage, read_write> values: array<u32>;
    @group(0) @binding(1) var<storage, read_write> sums: array<u32>;
    override SIZE: u32 = 64u;
    var<workgroup> tile: array<u32, SIZE>;
    @compute @workgroup_size(SIZE)
    fn scan(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) local_id: vec3<u32>,
            @builtin(workgroup_id) group: vec3<u32>) {
        let local = local_id.x;
        var own = 0u;
        if id.x < arrayLength(&values) { own = values[id.x]; }
        tile[local] = own;
        for (var step = 1u; step < SIZE; step *= 2u) {
            workgroupBarrier();
            var before = 0u;
            if local >= step { before = tile[local - step]; }
            workgroupBarrier();
            own += before;
            tile[local] = own;
        }
        if id.x < arrayLength(&values) { values[id.x] = own; }
        if local == SIZE - 1u { sums[group.x] = own; }
    }
    @compute @workgroup_size(SIZE)
    fn add(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
        if group.x > 0u && id.x < arrayLength(&values) { values[id.x] += sums[group.x - 1u]; }
    }";

#[test]
fn prefix_sum_over_workgroups() {
    let (runtime, orchestrator) = both();
    let mut random = Random(12);
    for size in [64usize, 256] {
        let len = size * size - 5;
        let mut values: Vec<u32> = (0..len).map(|_| random.below(1000)).collect();
        let of_values = runtime.buffer(&values).unwrap();
        let sums = runtime.buffer(&vec![0u32; size]).unwrap();
        let total = runtime.buffer(&[0u32]).unwrap();
        let scan = orchestrator.kernel(SCAN, "scan").unwrap().constant("SIZE", size as f64);
        let add = orchestrator.kernel(SCAN, "add").unwrap().constant("SIZE", size as f64);
        assert_eq!(scan.workgroup_size().unwrap(), [size as u32, 1, 1]);
        let groups = groups_for(len, size);
        scan.clone().bind("values", &of_values).bind("sums", &sums).dispatch(groups).unwrap();
        scan.bind("values", &sums).bind("sums", &total).dispatch([1, 1, 1]).unwrap();
        add.bind("values", &of_values).bind("sums", &sums).dispatch(groups).unwrap();
        let mut sum = 0;
        for value in &mut values {
            sum += *value;
            *value = sum;
        }
        assert_eq!(of_values.to_vec().unwrap(), values);
        assert_eq!(total.to_vec().unwrap(), [sum]);
    }
}

#[test]
fn histogram() {
    let text = "
        @group(0) @binding(0) var<storage, read> values: array<u32>;
        @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>, 16>;
        var<workgroup> own: array<atomic<u32>, 16>;
        @compute @workgroup_size(32)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
                @builtin(num_workgroups) groups: vec3<u32>) {
            for (var i = id.x; i < arrayLength(&values); i += groups.x * 32u) {
                atomicAdd(&own[values[i] % 16u], 1u);
            }
            workgroupBarrier();
            if local < 16u { atomicAdd(&counts[local], atomicLoad(&own[local])); }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(13);
    let values: Vec<u32> = (0..10_007).map(|_| random.next()).collect();
    let of_values = runtime.buffer(&values).unwrap();
    let counts = runtime.buffer(&[0u32; 16]).unwrap();
    let kernel =
        orchestrator.kernel(text, "main").unwrap().bind("values", &of_values).bind("counts", &counts);
    kernel.dispatch([7, 1, 1]).unwrap();
    let mut expected = [0u32; 16];
    values.iter().for_each(|value| expected[(value % 16) as usize] += 1);
    assert_eq!(counts.to_vec().unwrap(), expected);
}

#[test]
fn tiled_matrix_product() {
    let text = "
        struct Sizes { rows: u32, inner: u32, columns: u32 }
        @group(0) @binding(0) var<uniform> sizes: Sizes;
        @group(0) @binding(1) var<storage, read> a: array<f32>;
        @group(0) @binding(2) var<storage, read> b: array<f32>;
        @group(0) @binding(3) var<storage, read_write> c: array<f32>;
        const TILE = 8u;
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
    const ROWS: usize = 21;
    const INNER: usize = 35;
    const COLUMNS: usize = 18;
    let (runtime, orchestrator) = both();
    let mut random = Random(14);
    let a: Vec<f32> = (0..ROWS * INNER).map(|_| random.below(10) as f32).collect();
    let b: Vec<f32> = (0..INNER * COLUMNS).map(|_| random.below(10) as f32).collect();
    let sizes = runtime.buffer(&[[ROWS as u32, INNER as u32, COLUMNS as u32]]).unwrap();
    let (of_a, of_b) = (runtime.buffer(&a).unwrap(), runtime.buffer(&b).unwrap());
    let c = runtime.buffer(&vec![0.0f32; ROWS * COLUMNS]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("sizes", &sizes);
    kernel.bind("a", &of_a).bind("b", &of_b).bind("c", &c).dispatch([3, 3, 1]).unwrap();
    let product = |at: usize| {
        let (row, column) = (at / COLUMNS, at % COLUMNS);
        (0..INNER).map(|i| a[row * INNER + i] * b[i * COLUMNS + column]).sum()
    };
    assert_eq!(c.to_vec().unwrap(), (0..ROWS * COLUMNS).map(product).collect::<Vec<f32>>());
}

#[test]
fn transpose_through_workgroup_memory() {
    let text = "
        @group(0) @binding(0) var<storage, read> source: array<vec2<u32>>;
        @group(0) @binding(1) var<storage, read_write> to: array<vec2<u32>>;
        override WIDTH: u32;
        override HEIGHT: u32;
        var<workgroup> tile: array<vec2<u32>, 16 * 17>;
        @compute @workgroup_size(16, 16)
        fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
            let read = group.xy * 16u + local.xy;
            if read.x < WIDTH && read.y < HEIGHT { tile[local.y * 17u + local.x] = source[read.y * WIDTH + read.x]; }
            workgroupBarrier();
            let write = group.yx * 16u + local.xy;
            if write.x < HEIGHT && write.y < WIDTH { to[write.y * HEIGHT + write.x] = tile[local.x * 17u + local.y]; }
        }";
    const WIDTH: usize = 50;
    const HEIGHT: usize = 35;
    let (runtime, orchestrator) = both();
    let values: Vec<[u32; 2]> = (0..(WIDTH * HEIGHT) as u32).map(|n| [n, !n]).collect();
    let from = runtime.buffer(&values).unwrap();
    let to = runtime.buffer(&vec![[0u32; 2]; WIDTH * HEIGHT]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    let kernel = kernel.constant("WIDTH", WIDTH as f64).constant("HEIGHT", HEIGHT as f64);
    kernel.bind("source", &from).bind("to", &to).dispatch([4, 3, 1]).unwrap();
    let expected = (0..WIDTH * HEIGHT).map(|at| values[(at % HEIGHT) * WIDTH + at / HEIGHT]);
    assert_eq!(to.to_vec().unwrap(), expected.collect::<Vec<_>>());
}

#[test]
fn dot_product() {
    let text = "
        @group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
        @group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
        @group(0) @binding(2) var<storage, read_write> partial: array<f32>;
        var<workgroup> tile: array<f32, 64>;
        @compute @workgroup_size(64)
        fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>,
                @builtin(num_workgroups) groups: vec3<u32>) {
            var sum = 0.0;
            for (var i = group.x * 64u + local; i < arrayLength(&a); i += groups.x * 64u) { sum += dot(a[i], b[i]); }
            tile[local] = sum;
            workgroupBarrier();
            if local < 8u {
                sum = 0.0;
                for (var i = local; i < 64u; i += 8u) { sum += tile[i]; }
            }
            workgroupBarrier();
            if local < 8u { tile[local] = sum; }
            workgroupBarrier();
            if local > 0u { return; }
            partial[group.x] = tile[0] + tile[1] + tile[2] + tile[3] + tile[4] + tile[5] + tile[6] + tile[7];
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(15);
    let a: Vec<[f32; 4]> = (0..3001).map(|_| std::array::from_fn(|_| random.float() - 0.5)).collect();
    let b: Vec<[f32; 4]> = (0..3001).map(|_| std::array::from_fn(|_| random.float() - 0.5)).collect();
    let (of_a, of_b) = (runtime.buffer(&a).unwrap(), runtime.buffer(&b).unwrap());
    let partial = runtime.buffer(&[0.0f32; 9]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    kernel.bind("a", &of_a).bind("b", &of_b).bind("partial", &partial).dispatch([9, 1, 1]).unwrap();
    let found: f32 = partial.to_vec().unwrap().iter().sum();
    let expected: f64 = a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| f64::from(a * b)).sum();
    assert_close(&[found], &[expected as f32], 1e-3);
}

#[test]
fn stencil_with_a_halo() {
    let text = "
        @group(0) @binding(0) var<storage, read> source: array<i32>;
        @group(0) @binding(1) var<storage, read_write> to: array<i32>;
        var<workgroup> tile: array<i32, 34>;
        @compute @workgroup_size(32)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
            let len = i32(arrayLength(&source));
            let at = i32(id.x);
            tile[local + 1u] = source[min(at, len - 1)];
            if local == 0u { tile[0] = source[max(at - 1, 0)]; }
            if local == 31u { tile[33] = source[min(at + 1, len - 1)]; }
            workgroupBarrier();
            if at < len { to[at] = tile[local] - 2 * tile[local + 1u] + tile[local + 2u]; }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(16);
    let values: Vec<i32> = (0..205).map(|_| random.below(1000) as i32 - 500).collect();
    let (from, to) = (runtime.buffer(&values).unwrap(), runtime.buffer(&[0i32; 205]).unwrap());
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("source", &from).bind("to", &to);
    kernel.dispatch(groups_for(205, 32)).unwrap();
    let expected = (0..205usize).map(|at| {
        let (before, behind) = (values[at.saturating_sub(1)], values[(at + 1).min(204)]);
        before - 2 * values[at] + behind
    });
    assert_eq!(to.to_vec().unwrap(), expected.collect::<Vec<_>>());
}
