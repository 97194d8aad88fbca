//! Functions with barriers, which entry points call: the whole workgroup meets in them, on the CPU as on a GPU.

use super::{Random, both, groups_for};

/// A sum and a maximum, each by one call of what reduces.
#[test]
fn reductions_in_a_helper() {
    let text = "
        @group(0) @binding(0) var<storage, read> values: array<u32>;
        @group(0) @binding(1) var<storage, read_write> results: array<vec2<u32>>;
        var<workgroup> tile: array<u32, 128>;
        fn combine(a: u32, b: u32, largest: bool) -> u32 { return select(a + b, max(a, b), largest); }
        // All invocations get the result, and the tile is anybody's again.
        fn reduce(local: u32, own: u32, largest: bool) -> u32 {
            tile[local] = own;
            for (var step = 64u; step > 0u; step /= 2u) {
                workgroupBarrier();
                if local < step { tile[local] = combine(tile[local], tile[local + step], largest); }
            }
            workgroupBarrier();
            let result = tile[0];
            workgroupBarrier();
            return result;
        }
        @compute @workgroup_size(128)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
                @builtin(workgroup_id) group: vec3<u32>) {
            var value = 0u;
            if id.x < arrayLength(&values) { value = values[id.x]; }
            let sum = reduce(local, value, false);
            let largest = reduce(local, value, true);
            // Not the first invocation's alone.
            if local == 77u { results[group.x] = vec2(sum, largest); }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(21);
    for len in [1, 127, 128, 129, 5000] {
        let values: Vec<u32> = (0..len).map(|_| random.next()).collect();
        let of_values = runtime.buffer(&values).unwrap();
        let groups = groups_for(len, 128);
        let results = runtime.buffer(&vec![[0u32; 2]; groups[0] as usize]).unwrap();
        let kernel = orchestrator.kernel(text, "main").unwrap();
        kernel.bind("values", &of_values).bind("results", &results).dispatch(groups).unwrap();
        let expected = values.chunks(128).map(|chunk| {
            let sum = chunk.iter().fold(0u32, |sum, value| sum.wrapping_add(*value));
            [sum, chunk.iter().copied().max().unwrap()]
        });
        assert_eq!(results.to_vec().unwrap(), expected.collect::<Vec<_>>());
    }
}

/// Stream compaction: two scans, one of which goes the other way, tell each value its place.
#[test]
fn a_scan_in_a_helper_called_twice() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> values: array<u32>;
        @group(0) @binding(1) var<storage, read_write> kept: array<u32>;
        override LIMIT: u32;
        var<workgroup> sums: array<u32, 64>;
        fn scan(local: u32, value: u32) -> u32 {
            var own = value;
            sums[local] = own;
            for (var step = 1u; step < 64u; step *= 2u) {
                workgroupBarrier();
                var before = 0u;
                if local >= step { before = sums[local - step]; }
                workgroupBarrier();
                own += before;
                sums[local] = own;
            }
            // Who reads the last one's sum does it before the next scan.
            workgroupBarrier();
            return own;
        }
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
                @builtin(workgroup_id) group: vec3<u32>) {
            let value = values[id.x];
            let is_small = value < LIMIT;
            let small = scan(local, select(0u, 1u, is_small));
            let count = sums[63];
            workgroupBarrier();
            let large = scan(local, select(1u, 0u, is_small));
            values[group.x * 64u + select(count + large, small, is_small) - 1u] = value;
            if local == 63u { kept[group.x] = count; }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(22);
    let values: Vec<u32> = (0..64 * 9).map(|_| random.below(1000)).collect();
    let (of_values, kept) = (runtime.buffer(&values).unwrap(), runtime.buffer(&[0u32; 9]).unwrap());
    let kernel = orchestrator.kernel(text, "main").unwrap().constant("LIMIT", 300.0);
    kernel.bind("values", &of_values).bind("kept", &kept).dispatch([9, 1, 1]).unwrap();
    let parts = |chunk: &[u32]| chunk.iter().copied().partition::<Vec<u32>, _>(|value| *value < 300);
    let expected: Vec<u32> =
        values.chunks(64).flat_map(|chunk| [parts(chunk).0, parts(chunk).1].concat()).collect();
    assert_eq!(of_values.to_vec().unwrap(), expected);
    let counts: Vec<u32> = values.chunks(64).map(|chunk| parts(chunk).0.len() as u32).collect();
    assert_eq!(kept.to_vec().unwrap(), counts);
}

/// A bitonic sort whose steps are calls in two loops, of a function that calls another one with a barrier.
#[test]
fn a_sort_by_calls_in_loops() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> values: array<i32>;
        var<workgroup> tile: array<i32, 128>;
        fn exchange(local: u32, other: u32, up: bool) {
            let a = tile[local];
            let b = tile[other];
            meet();
            if other > local { tile[local] = select(max(a, b), min(a, b), up); }
            else { tile[local] = select(min(a, b), max(a, b), up); }
            meet();
        }
        fn meet() { workgroupBarrier(); }
        fn load(local: u32, at: u32) { tile[local] = values[at]; meet(); }
        @compute @workgroup_size(128)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
            load(local, id.x);
            for (var size = 2u; size <= 128u; size *= 2u) {
                for (var distance = size / 2u; distance > 0u; distance /= 2u) {
                    exchange(local, local ^ distance, (local & size) == 0u);
                }
            }
            values[id.x] = tile[local];
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(23);
    let mut values: Vec<i32> = (0..128 * 5).map(|_| random.next() as i32).collect();
    let of_values = runtime.buffer(&values).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    kernel.bind("values", &of_values).dispatch([5, 1, 1]).unwrap();
    values.chunks_mut(128).for_each(<[i32]>::sort_unstable);
    assert_eq!(of_values.to_vec().unwrap(), values);
}

/// Returns from loops, a `switch` and branches of helpers, by what is the same for the workgroup; pointers, variables that
/// begin anew with each call, and a load for the whole workgroup.
#[test]
fn helpers_that_return_early() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> results: array<array<u32, 4>>;
        struct Pair { a: u32, b: array<u32, 2> }
        var<workgroup> tile: array<u32, 32>;
        var<workgroup> chosen: u32;
        // The sum of what the neighbours have, so many steps away; by how it was found.
        fn search(local: u32, limit: u32, found: ptr<function, u32>) -> u32 {
            var steps = 1u;
            var pair = Pair(3u, array<u32, 2>(4u, 5u));
            if limit == 0u { *found += 100u; return 7u; }
            for (var i = 0u; i < 10u; i++) {
                tile[local] = local + i;
                workgroupBarrier();
                pair.b[i % 2u] += tile[(local + 1u) % 32u];
                workgroupBarrier();
                switch limit {
                    case 3u: { if i == 2u { *found += 200u; return pair.b[1]; } }
                    case 4u: { loop { steps += 1u; if steps > 4u { return pair.a + steps; } workgroupBarrier(); } }
                    case 5u: { break; }
                    default: { if i == limit { return pair.b[0] * 10u + steps; } }
                }
                steps += 1u;
                if limit == 5u && i == 1u { break; }
            }
            workgroupBarrier();
            *found += 1u;
            return pair.b[0] + pair.b[1] * 1000u + steps;
        }
        fn choose(local: u32, group: u32) -> u32 {
            if local == 31u { chosen = group % 8u; }
            return workgroupUniformLoad(&chosen);
        }
        // Behind its last barrier each may leave on its own.
        fn last(local: u32, value: u32) -> u32 {
            tile[local] = value;
            workgroupBarrier();
            if local < 5u { return 1u; }
            if tile[31u - local] % 2u == 0u { return 2u; }
            return 3u;
        }
        @compute @workgroup_size(32)
        fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>,
                @builtin(global_invocation_id) id: vec3<u32>) {
            let limit = choose(local, group.x);
            var found = local;
            var result = array<u32, 4>();
            for (var call = 0u; call < 2u; call++) {
                result[call] = search(local, limit, &found);
            }
            result[2] = found;
            result[3] = last(local, limit + local);
            results[id.x] = result;
        }";
    fn search(local: u32, limit: u32, found: &mut u32) -> u32 {
        let (mut steps, a, mut b) = (1, 3, [4, 5]);
        if limit == 0 {
            *found += 100;
            return 7;
        }
        for i in 0..10 {
            b[i as usize % 2] += (local + 1) % 32 + i;
            match limit {
                3 if i == 2 => {
                    *found += 200;
                    return b[1];
                }
                4 => return a + 5,
                3 | 5 => {}
                _ if i == limit => return b[0] * 10 + steps,
                _ => {}
            }
            steps += 1;
            if limit == 5 && i == 1 {
                break;
            }
        }
        *found += 1;
        b[0] + b[1] * 1000 + steps
    }
    let (runtime, orchestrator) = both();
    let results = runtime.buffer(&vec![[0u32; 4]; 32 * 9]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    kernel.bind("results", &results).dispatch([9, 1, 1]).unwrap();
    let results = results.to_vec().unwrap();
    for (id, result) in (0u32..).zip(results) {
        let (local, limit) = (id % 32, id / 32 % 8);
        let mut found = local;
        let sums = [search(local, limit, &mut found), search(local, limit, &mut found)];
        let last = match local {
            0..5 => 1,
            _ if (limit + 31 - local) % 2 == 0 => 2,
            _ => 3,
        };
        assert_eq!(
            result,
            [sums[0], sums[1], found, last],
            "invocation {local} of the workgroup with {limit}"
        );
    }
}
