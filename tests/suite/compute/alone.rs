//! Entry points whose invocations run alone: no workgroup memory, no barriers.

use super::{Random, assert_close, both, groups_for};

const ADD: &str = "
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&out) { return; }
    out[id.x] = a[id.x] + b[id.x];
}";

#[test]
fn vector_add_of_any_length() {
    let (runtime, orchestrator) = both();
    let add = orchestrator.kernel(ADD, "main").unwrap();
    let mut random = Random(1);
    for len in [1, 63, 64, 65, 1000, 100_001] {
        let a: Vec<f32> = (0..len).map(|_| random.float()).collect();
        let b: Vec<f32> = (0..len).map(|_| random.float()).collect();
        let (of_a, of_b) = (runtime.buffer(&a).unwrap(), runtime.buffer(&b).unwrap());
        let out = runtime.buffer(&vec![0.0f32; len]).unwrap();
        let add = add.clone().bind("a", &of_a).bind("out", &out).bind("b", &of_b);
        let dispatch = add.dispatch(groups_for(len, 64)).unwrap();
        assert_eq!(dispatch.invocations, (len.div_ceil(64) * 64) as u64);
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(out.to_vec().unwrap(), expected);
    }
}

#[test]
fn grids_of_more_than_65535_groups() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> out: array<u32>;
        @group(0) @binding(1) var<storage, read_write> sum: atomic<u32>;
        @compute @workgroup_size(4)
        fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) total: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
            let group = id.x + total.x * (id.y + total.y * id.z);
            if group * 4u + local < arrayLength(&out) { out[group * 4u + local] = group ^ local; }
            if local == 0u { atomicAdd(&sum, 1u); }
        }";
    let (runtime, orchestrator) = both();
    let groups = [401u32, 29, 7];
    let total: u32 = groups.iter().product();
    assert!(total > 65_535);
    // Not all of the last group's.
    let len = total as usize * 4 - 3;
    let out = runtime.buffer(&vec![u32::MAX; len]).unwrap();
    let sum = runtime.buffer(&[0u32]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("out", &out).bind("sum", &sum);
    kernel.dispatch(groups).unwrap();
    assert_eq!(sum.to_vec().unwrap(), [total]);
    let out = out.to_vec().unwrap();
    assert!(out.iter().zip(0u32..).all(|(value, index)| *value == (index / 4) ^ (index % 4)));
}

#[test]
fn n_body_step() {
    let text = "
        struct Body { position: vec3<f32>, mass: f32 }
        struct Step { dt: f32, softening: f32 }
        @group(0) @binding(0) var<storage, read> bodies: array<Body>;
        @group(0) @binding(1) var<storage, read_write> velocities: array<vec4<f32>>;
        @group(1) @binding(0) var<uniform> step: Step;
        @compute @workgroup_size(32)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x >= arrayLength(&bodies) { return; }
            let own = bodies[id.x].position;
            var pull = vec3<f32>();
            for (var i = 0u; i < arrayLength(&bodies); i++) {
                let d = bodies[i].position - own;
                let r2 = dot(d, d) + step.softening;
                pull += d * (bodies[i].mass / (r2 * sqrt(r2)));
            }
            velocities[id.x] += vec4(pull * step.dt, 0.0);
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(2);
    let bodies: Vec<[f32; 4]> =
        (0..150).map(|_| [random.float(), random.float(), random.float(), random.float()]).collect();
    let before: Vec<[f32; 4]> =
        (0..150).map(|_| [random.float(), random.float(), random.float(), 0.0]).collect();
    let of_bodies = runtime.buffer(&bodies).unwrap();
    let velocities = runtime.buffer(&before).unwrap();
    let step = runtime.buffer(&[[0.01f32, 0.1]]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    let kernel = kernel.bind("bodies", &of_bodies).bind("velocities", &velocities).bind("step", &step);
    kernel.dispatch(groups_for(150, 32)).unwrap();
    let mut expected = before;
    for (velocity, own) in expected.iter_mut().zip(&bodies) {
        let mut pull = [0.0f32; 3];
        for other in &bodies {
            let d = [other[0] - own[0], other[1] - own[1], other[2] - own[2]];
            let r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + 0.1;
            let scale = other[3] / (r2 * r2.sqrt());
            (0..3).for_each(|axis| pull[axis] += d[axis] * scale);
        }
        (0..3).for_each(|axis| velocity[axis] += pull[axis] * 0.01);
    }
    assert_close(&velocities.to_vec().unwrap().concat(), &expected.concat(), 1e-4);
}

#[test]
fn string_search() {
    let text = "
        // Four characters in a word.
        @group(0) @binding(0) var<storage, read> text: array<u32>;
        @group(0) @binding(1) var<storage, read> pattern: array<u32>;
        @group(0) @binding(2) var<storage, read_write> found: array<atomic<u32>>;
        struct Lengths { text: u32, pattern: u32 }
        @group(0) @binding(3) var<uniform> lengths: Lengths;
        fn character(word: u32, at: u32) -> u32 { return extractBits(word, (at % 4u) * 8u, 8u); }
        @compute @workgroup_size(128)
        fn search(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x + lengths.pattern > lengths.text { return; }
            for (var i = 0u; i < lengths.pattern; i++) {
                let at = id.x + i;
                if character(text[at / 4u], at) != character(pattern[i / 4u], i) { return; }
            }
            let place = atomicAdd(&found[0], 1u);
            atomicStore(&found[1u + place], id.x);
        }";
    let (runtime, orchestrator) = both();
    let haystack = "abracadabra, said the magician; abra, abra! ".repeat(23);
    let needle = "abra";
    let words = |text: &str| -> Vec<u32> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    let (of_text, pattern) =
        (runtime.buffer(&words(&haystack)).unwrap(), runtime.buffer(&words(needle)).unwrap());
    let found = runtime.buffer(&[0u32; 200]).unwrap();
    let lengths = runtime.buffer(&[[haystack.len() as u32, needle.len() as u32]]).unwrap();
    let kernel = orchestrator.kernel(text, "search").unwrap();
    let kernel = kernel.bind("text", &of_text).bind("pattern", &pattern).bind("found", &found);
    kernel.bind("lengths", &lengths).dispatch(groups_for(haystack.len(), 128)).unwrap();
    let found = found.to_vec().unwrap();
    let mut places = found[1..=found[0] as usize].to_vec();
    places.sort();
    let expected: Vec<u32> = haystack.match_indices(needle).map(|(at, _)| at as u32).collect();
    assert_eq!(places, expected);
}

#[test]
fn mandelbrot() {
    let text = "
        override WIDTH: u32;
        override ROUNDS: u32 = 50u;
        @group(2) @binding(5) var<storage, read_write> image: array<u32>;
        fn rounds(c: vec2<f32>) -> u32 {
            var z = vec2<f32>();
            for (var i = 0u; i < ROUNDS; i++) {
                if dot(z, z) > 4.0 { return i; }
                z = vec2(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + c;
            }
            return ROUNDS;
        }
        @compute @workgroup_size(8, 8)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = id.y * WIDTH + id.x;
            if id.x >= WIDTH || at >= arrayLength(&image) { return; }
            image[at] = rounds(vec2<f32>(id.xy) * 0.0625 - vec2(2.0, 1.0));
        }";
    const WIDTH: u32 = 45;
    const HEIGHT: u32 = 33;
    let (runtime, orchestrator) = both();
    let image = runtime.buffer(&[0u32; (WIDTH * HEIGHT) as usize]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("image", &image);
    let kernel = kernel.constant("WIDTH", WIDTH.into()).constant("ROUNDS", 40.0);
    kernel.dispatch([WIDTH.div_ceil(8), HEIGHT.div_ceil(8), 1]).unwrap();
    let expected = (0..WIDTH * HEIGHT).map(|at| {
        let c = [(at % WIDTH) as f32 * 0.0625 - 2.0, (at / WIDTH) as f32 * 0.0625 - 1.0];
        let mut z = [0.0f32; 2];
        for round in 0..40 {
            if z[0] * z[0] + z[1] * z[1] > 4.0 {
                return round;
            }
            z = [z[0] * z[0] - z[1] * z[1] + c[0], 2.0 * z[0] * z[1] + c[1]];
        }
        40
    });
    // A GPU may contract, which moves the edge of the set by an ulp.
    let image = image.to_vec().unwrap();
    let different = image.iter().zip(expected).filter(|(a, b)| **a != *b).count();
    assert!(different <= image.len() / 100, "{different} of {}", image.len());
}

#[test]
fn game_of_life() {
    let text = "
        const SIDE = 50;
        @group(0) @binding(0) var<storage, read> now: array<u32>;
        @group(0) @binding(1) var<storage, read_write> next: array<u32>;
        @compute @workgroup_size(16, 4)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = vec2<i32>(id.xy);
            if any(at >= vec2(SIDE)) { return; }
            var neighbours = 0u;
            for (var y = -1; y <= 1; y++) {
                for (var x = -1; x <= 1; x++) {
                    if x == 0 && y == 0 { continue; }
                    let cell = (at + vec2(x, y) + SIDE) % SIDE;
                    neighbours += now[cell.y * SIDE + cell.x];
                }
            }
            let alive = now[at.y * SIDE + at.x];
            next[at.y * SIDE + at.x] = select(0u, 1u, neighbours == 3u || (alive == 1u && neighbours == 2u));
        }";
    const SIDE: usize = 50;
    let (runtime, orchestrator) = both();
    let mut random = Random(3);
    let mut cells: Vec<u32> = (0..SIDE * SIDE).map(|_| random.below(3) / 2).collect();
    let (a, b) = (runtime.buffer(&cells).unwrap(), runtime.buffer(&cells).unwrap());
    let step = orchestrator.kernel(text, "main").unwrap();
    let forth = step.clone().bind("now", &a).bind("next", &b);
    let back = step.bind("now", &b).bind("next", &a);
    for round in 0..10 {
        if round % 2 == 0 { &forth } else { &back }.dispatch([4, 13, 1]).unwrap();
        let at = |cells: &[u32], x: usize, y: usize| cells[(y % SIDE) * SIDE + x % SIDE];
        let next = (0..SIDE * SIDE).map(|cell| {
            let (x, y) = (cell % SIDE + SIDE, cell / SIDE + SIDE);
            let around =
                (0..9).filter(|n| *n != 4).map(|n| at(&cells, x + n % 3 - 1, y + n / 3 - 1)).sum::<u32>();
            u32::from(around == 3 || (cells[cell] == 1 && around == 2))
        });
        cells = next.collect();
    }
    assert_eq!(a.to_vec().unwrap(), cells);
}

#[test]
fn k_means_step() {
    let text = "
        struct Sum { x: atomic<i32>, y: atomic<i32>, count: atomic<u32>, pad: u32 }
        @group(0) @binding(0) var<storage, read> points: array<vec2<f32>>;
        @group(0) @binding(1) var<storage, read> centres: array<vec2<f32>, 5>;
        @group(0) @binding(2) var<storage, read_write> sums: array<Sum, 5>;
        @group(0) @binding(3) var<storage, read_write> nearest: array<u32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x >= arrayLength(&points) { return; }
            let point = points[id.x];
            var best = 0u;
            var least = 1e30;
            for (var i = 0u; i < 5u; i++) {
                let d = point - centres[i];
                if dot(d, d) < least { least = dot(d, d); best = i; }
            }
            nearest[id.x] = best;
            // Fixed point, so that the order of the sums does not matter.
            atomicAdd(&sums[best].x, i32(round(point.x * 1024.0)));
            atomicAdd(&sums[best].y, i32(round(point.y * 1024.0)));
            atomicAdd(&sums[best].count, 1u);
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(4);
    // Quarters, so that no rounding decides anything.
    let mut point = || [random.below(400) as f32 / 4.0, random.below(400) as f32 / 4.0];
    let centres: Vec<[f32; 2]> = (0..5).map(|_| point()).collect();
    let points: Vec<[f32; 2]> = (0..777).map(|_| point()).collect();
    let of_points = runtime.buffer(&points).unwrap();
    let of_centres = runtime.buffer(&centres).unwrap();
    let sums = runtime.buffer(&[[0i32; 4]; 5]).unwrap();
    let nearest = runtime.buffer(&vec![9u32; 777]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("points", &of_points);
    let kernel = kernel.bind("centres", &of_centres).bind("sums", &sums).bind("nearest", &nearest);
    kernel.dispatch(groups_for(777, 64)).unwrap();
    let mut expected = [[0i32; 4]; 5];
    let near = points.iter().map(|point| {
        let distance = |centre: &[f32; 2]| {
            let d = [point[0] - centre[0], point[1] - centre[1]];
            d[0] * d[0] + d[1] * d[1]
        };
        let best = (0..5).min_by(|a, b| distance(&centres[*a]).total_cmp(&distance(&centres[*b]))).unwrap();
        expected[best][0] += (point[0] * 1024.0) as i32;
        expected[best][1] += (point[1] * 1024.0) as i32;
        expected[best][2] += 1;
        best as u32
    });
    assert_eq!(nearest.to_vec().unwrap(), near.collect::<Vec<_>>());
    assert_eq!(sums.to_vec().unwrap(), expected);
}

/// A graph by rows: where each node's edges begin, and whom they lead to.
fn graph(nodes: usize, random: &mut Random) -> (Vec<u32>, Vec<u32>) {
    let (mut starts, mut targets) = (vec![0], Vec::new());
    for _ in 0..nodes {
        targets.extend((0..random.below(8)).map(|_| random.below(nodes as u32)));
        starts.push(targets.len() as u32);
    }
    (starts, targets)
}

#[test]
fn page_rank_step() {
    let text = "
        @group(0) @binding(0) var<storage, read> starts: array<u32>;
        @group(0) @binding(1) var<storage, read> sources: array<u32>;
        @group(0) @binding(2) var<storage, read> shares: array<f32>;
        @group(0) @binding(3) var<storage, read_write> ranks: array<f32>;
        override DAMPING = 0.85f;
        @compute @workgroup_size(32)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let nodes = arrayLength(&ranks);
            if id.x >= nodes { return; }
            var sum = 0.0;
            for (var edge = starts[id.x]; edge < starts[id.x + 1u]; edge++) { sum += shares[sources[edge]]; }
            ranks[id.x] = (1.0 - DAMPING) / f32(nodes) + DAMPING * sum;
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(5);
    let (starts, sources) = graph(500, &mut random);
    let shares: Vec<f32> = (0..500).map(|_| random.float() / 500.0).collect();
    let buffers = [runtime.buffer(&starts).unwrap(), runtime.buffer(&sources).unwrap()];
    let of_shares = runtime.buffer(&shares).unwrap();
    let ranks = runtime.buffer(&[0.0f32; 500]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    let kernel = kernel.bind("starts", &buffers[0]).bind("sources", &buffers[1]);
    kernel.bind("shares", &of_shares).bind("ranks", &ranks).dispatch(groups_for(500, 32)).unwrap();
    let expected = starts.windows(2).map(|range| {
        let own = &sources[range[0] as usize..range[1] as usize];
        let sum = own.iter().fold(0.0, |sum, source| sum + shares[*source as usize]);
        (1.0f32 - 0.85) / 500.0 + 0.85 * sum
    });
    assert_close(&ranks.to_vec().unwrap(), &expected.collect::<Vec<_>>(), 1e-6);
}

#[test]
fn sparse_matrix_times_vector() {
    let text = "
        struct Entry { column: u32, value: f32 }
        struct Matrix { rows: u32, pad: u32, entries: array<Entry> }
        @group(0) @binding(0) var<storage, read> starts: array<u32>;
        @group(0) @binding(1) var<storage, read> matrix: Matrix;
        @group(0) @binding(2) var<storage, read> x: array<f32>;
        @group(0) @binding(3) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(16)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x >= matrix.rows { return; }
            var sum = f32(arrayLength(&matrix.entries));
            for (var i = starts[id.x]; i < starts[id.x + 1u]; i++) {
                let entry = matrix.entries[i];
                sum += entry.value * x[entry.column];
            }
            y[id.x] = sum;
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(6);
    let (starts, columns) = graph(203, &mut random);
    let values: Vec<f32> = columns.iter().map(|_| random.below(100) as f32).collect();
    let mut matrix = vec![203u32, 0];
    columns.iter().zip(&values).for_each(|(column, value)| matrix.extend([*column, value.to_bits()]));
    let x: Vec<f32> = (0..203).map(|_| random.below(100) as f32).collect();
    let (of_starts, of_matrix) = (runtime.buffer(&starts).unwrap(), runtime.buffer(&matrix).unwrap());
    let of_x = runtime.buffer(&x).unwrap();
    let y = runtime.buffer(&[-1.0f32; 210]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    let kernel = kernel.bind("starts", &of_starts).bind("matrix", &of_matrix).bind("x", &of_x).bind("y", &y);
    kernel.dispatch(groups_for(210, 16)).unwrap();
    let rows = starts.windows(2).map(|range| {
        let own = range[0] as usize..range[1] as usize;
        own.fold(columns.len() as f32, |sum, i| sum + values[i] * x[columns[i] as usize])
    });
    let expected: Vec<f32> = rows.chain([-1.0; 7]).collect();
    assert_eq!(y.to_vec().unwrap(), expected);
}

#[test]
fn convolution() {
    let text = "
        @group(0) @binding(0) var<storage, read> image: array<f32>;
        @group(0) @binding(1) var<uniform> kernel: array<vec4<f32>, 3>;
        @group(0) @binding(2) var<storage, read_write> out: array<f32>;
        override WIDTH: i32;
        override HEIGHT: i32;
        @compute @workgroup_size(8, 8, 1)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = vec2<i32>(id.xy);
            if at.x >= WIDTH || at.y >= HEIGHT { return; }
            var sum = 0.0;
            for (var y = 0; y < 3; y++) {
                for (var x = 0; x < 3; x++) {
                    let source = clamp(at + vec2(x - 1, y - 1), vec2(0), vec2(WIDTH - 1, HEIGHT - 1));
                    sum += kernel[y][x] * image[source.y * WIDTH + source.x];
                }
            }
            out[at.y * WIDTH + at.x] = sum;
        }";
    const WIDTH: usize = 37;
    const HEIGHT: usize = 21;
    let (runtime, orchestrator) = both();
    let mut random = Random(7);
    let image: Vec<f32> = (0..WIDTH * HEIGHT).map(|_| random.below(256) as f32).collect();
    let weights = [[1.0f32, 2.0, 1.0, 0.0], [2.0, 4.0, 2.0, 0.0], [1.0, 2.0, 1.0, 0.0]];
    let (of_image, kernel) = (runtime.buffer(&image).unwrap(), runtime.buffer(&weights).unwrap());
    let out = runtime.buffer(&vec![0.0f32; WIDTH * HEIGHT]).unwrap();
    let convolve = orchestrator.kernel(text, "main").unwrap();
    let convolve = convolve.constant("WIDTH", WIDTH as f64).constant("HEIGHT", HEIGHT as f64);
    convolve.bind("image", &of_image).bind("kernel", &kernel).bind("out", &out).dispatch([5, 3, 1]).unwrap();
    let expected = (0..WIDTH * HEIGHT).map(|at| {
        let (x, y) = ((at % WIDTH) as i32, (at / WIDTH) as i32);
        let mut sum = 0.0;
        for (dy, row) in weights.iter().enumerate() {
            for (dx, weight) in row[..3].iter().enumerate() {
                let from_x = (x + dx as i32 - 1).clamp(0, WIDTH as i32 - 1) as usize;
                let from_y = (y + dy as i32 - 1).clamp(0, HEIGHT as i32 - 1) as usize;
                sum += weight * image[from_y * WIDTH + from_x];
            }
        }
        sum
    });
    assert_eq!(out.to_vec().unwrap(), expected.collect::<Vec<_>>());
}

#[test]
fn floyd_warshall_step() {
    let text = "
        const NODES = 32u;
        struct Round { k: u32 }
        @group(0) @binding(0) var<storage, read_write> lengths: array<array<u32, 32>, 32>;
        @group(0) @binding(1) var<uniform> turn: Round;
        @compute @workgroup_size(8, 8)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let through = lengths[id.y][turn.k] + lengths[turn.k][id.x];
            if through < lengths[id.y][id.x] { lengths[id.y][id.x] = through; }
        }";
    const NODES: usize = 32;
    let (runtime, orchestrator) = both();
    let mut random = Random(8);
    let mut expected: Vec<[u32; NODES]> = (0..NODES)
        .map(|from| std::array::from_fn(|to| if from == to { 0 } else { random.below(1000) + 1 }))
        .collect();
    let lengths = runtime.buffer(&expected).unwrap();
    let turn = runtime.buffer(&[0u32]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("lengths", &lengths).bind("turn", &turn);
    for k in 0..NODES {
        turn.write(0, &[k as u32]).unwrap();
        kernel.dispatch([4, 4, 1]).unwrap();
        for from in 0..NODES {
            for to in 0..NODES {
                let through = expected[from][k] + expected[k][to];
                expected[from][to] = expected[from][to].min(through);
            }
        }
    }
    assert_eq!(lengths.to_vec().unwrap(), expected);
}

#[test]
fn bounding_box() {
    let text = "
        @group(0) @binding(0) var<storage, read> points: array<vec3<i32>>;
        struct Box { least: array<atomic<i32>, 3>, most: array<atomic<i32>, 3> }
        @group(0) @binding(1) var<storage, read_write> bounds: Box;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x >= arrayLength(&points) { return; }
            for (var axis = 0; axis < 3; axis++) {
                atomicMin(&bounds.least[axis], points[id.x][axis]);
                atomicMax(&bounds.most[axis], points[id.x][axis]);
            }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(9);
    let mut coordinate = || random.below(20_000) as i32 - 10_000;
    let points: Vec<[i32; 4]> = (0..1234).map(|_| [coordinate(), coordinate(), coordinate(), 0]).collect();
    let of_points = runtime.buffer(&points).unwrap();
    let bounds = runtime.buffer(&[[i32::MAX, i32::MAX, i32::MAX, i32::MIN, i32::MIN, i32::MIN]]).unwrap();
    let kernel =
        orchestrator.kernel(text, "main").unwrap().bind("points", &of_points).bind("bounds", &bounds);
    kernel.dispatch(groups_for(1234, 64)).unwrap();
    let of = |axis: usize| points.iter().map(move |point| point[axis]);
    let least = (0..3).map(|axis| of(axis).min().unwrap());
    let most = (0..3).map(|axis| of(axis).max().unwrap());
    assert_eq!(bounds.to_vec().unwrap().concat(), least.chain(most).collect::<Vec<_>>());
}

#[test]
fn heat_stencil_in_three_dimensions() {
    let text = "
        const N = vec3<u32>(20u, 12u, 9u);
        @group(0) @binding(0) var<storage, read> now: array<f32>;
        @group(0) @binding(1) var<storage, read_write> next: array<f32>;
        fn at(p: vec3<u32>) -> f32 { return now[p.x + N.x * (p.y + N.y * p.z)]; }
        struct Ids { @builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32> }
        @compute @workgroup_size(4, 4, 4)
        fn main(ids: Ids) {
            let p = ids.id;
            if any(p >= N) { return; }
            let low = max(p, vec3(1u)) - 1u;
            let high = min(p + 1u, N - 1u);
            let around = at(vec3(low.x, p.yz)) + at(vec3(high.x, p.yz)) + at(vec3(p.x, low.y, p.z))
                + at(vec3(p.x, high.y, p.z)) + at(vec3(p.xy, low.z)) + at(vec3(p.xy, high.z));
            next[p.x + N.x * (p.y + N.y * p.z)] = at(p) * 0.25 + around * 0.125;
        }";
    const N: [usize; 3] = [20, 12, 9];
    let (runtime, orchestrator) = both();
    let mut random = Random(10);
    let cells: Vec<f32> = (0..N.iter().product()).map(|_| random.below(64) as f32).collect();
    let now = runtime.buffer(&cells).unwrap();
    let next = runtime.buffer(&vec![0.0f32; cells.len()]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("now", &now).bind("next", &next);
    kernel.dispatch([5, 3, 3]).unwrap();
    let index = |p: [usize; 3]| p[0] + N[0] * (p[1] + N[1] * p[2]);
    let mut expected = vec![0.0; cells.len()];
    for (at, value) in expected.iter_mut().enumerate() {
        let p = [at % N[0], at / N[0] % N[1], at / N[0] / N[1]];
        let mut around = 0.0f32;
        for axis in 0..3 {
            for step in [p[axis].max(1) - 1, (p[axis] + 1).min(N[axis] - 1)] {
                let mut other = p;
                other[axis] = step;
                around += cells[index(other)];
            }
        }
        *value = cells[at] * 0.25 + around * 0.125;
    }
    assert_eq!(next.to_vec().unwrap(), expected);
}
