//! Sorting and compaction.

use super::{Random, both, groups_for};

#[test]
fn bitonic_sort_in_a_workgroup() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> values: array<i32>;
        var<workgroup> tile: array<i32, 256>;
        fn swap_if_needed(a: u32, b: u32, ascending: bool) {
            if (tile[a] > tile[b]) == ascending { let old = tile[a]; tile[a] = tile[b]; tile[b] = old; }
        }
        @compute @workgroup_size(128)
        fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
            let first = group.x * 256u;
            tile[local] = values[first + local];
            tile[local + 128u] = values[first + local + 128u];
            for (var length = 2u; length <= 256u; length *= 2u) {
                for (var distance = length / 2u; distance > 0u; distance /= 2u) {
                    workgroupBarrier();
                    let a = local / distance * distance * 2u + local % distance;
                    swap_if_needed(a, a + distance, (a & length) == 0u);
                }
            }
            workgroupBarrier();
            values[first + local] = tile[local];
            values[first + local + 128u] = tile[local + 128u];
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(21);
    let mut values: Vec<i32> = (0..256 * 5).map(|_| random.next() as i32).collect();
    let of_values = runtime.buffer(&values).unwrap();
    orchestrator.kernel(text, "main").unwrap().bind("values", &of_values).dispatch([5, 1, 1]).unwrap();
    values.chunks_exact_mut(256).for_each(<[i32]>::sort);
    assert_eq!(of_values.to_vec().unwrap(), values);
}

const RADIX: &str = "
    struct Pass { shift: u32 }
    @group(0) @binding(0) var<storage, read> keys: array<u32>;
    @group(0) @binding(1) var<storage, read_write> sorted: array<u32>;
    @group(0) @binding(2) var<storage, read_write> places: array<u32>;
    @group(0) @binding(3) var<uniform> turn: Pass;
    const BLOCK = 64u;
    var<workgroup> digits: array<u32, BLOCK>;
    var<workgroup> counts: array<atomic<u32>, 16>;

    // How often each digit is in each block, by digit and then by block.
    @compute @workgroup_size(BLOCK)
    fn count(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
             @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
        if id.x < arrayLength(&keys) { atomicAdd(&counts[(keys[id.x] >> turn.shift) & 15u], 1u); }
        workgroupBarrier();
        if local < 16u { places[local * groups.x + group.x] = atomicLoad(&counts[local]); }
    }

    // To each key its place: that of its block and digit, and behind the equal digits before it in the block.
    @compute @workgroup_size(BLOCK)
    fn scatter(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
               @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
        var digit = 16u;
        if id.x < arrayLength(&keys) { digit = (keys[id.x] >> turn.shift) & 15u; }
        digits[local] = digit;
        workgroupBarrier();
        if digit == 16u { return; }
        var before = 0u;
        for (var i = 0u; i < local; i++) { before += select(0u, 1u, digits[i] == digit); }
        sorted[places[digit * groups.x + group.x] + before] = keys[id.x];
    }";

#[test]
fn radix_sort() {
    let (runtime, orchestrator) = both();
    let mut random = Random(22);
    let len = 1000;
    let mut keys: Vec<u32> = (0..len).map(|_| random.next()).collect();
    let (a, b) = (runtime.buffer(&keys).unwrap(), runtime.buffer(&keys).unwrap());
    let groups = groups_for(len, 64);
    let places = runtime.buffer(&vec![0u32; 16 * groups[0] as usize]).unwrap();
    let turn = runtime.buffer(&[0u32]).unwrap();
    let count = orchestrator.kernel(RADIX, "count").unwrap().bind("places", &places).bind("turn", &turn);
    let scatter = orchestrator.kernel(RADIX, "scatter").unwrap().bind("places", &places).bind("turn", &turn);
    for pass in 0..8 {
        let (from, to) = if pass % 2 == 0 { (&a, &b) } else { (&b, &a) };
        turn.write(0, &[pass * 4]).unwrap();
        count.clone().bind("keys", from).dispatch(groups).unwrap();
        // The few sums are quickly made here.
        let mut sum = 0;
        let starts = places
            .to_vec()
            .unwrap()
            .iter()
            .map(|count| {
                let before = sum;
                sum += count;
                before
            })
            .collect::<Vec<_>>();
        assert_eq!(sum, len as u32);
        places.write(0, &starts).unwrap();
        scatter.clone().bind("keys", from).bind("sorted", to).dispatch(groups).unwrap();
    }
    keys.sort();
    assert_eq!(a.to_vec().unwrap(), keys);
}

#[test]
fn stream_compaction() {
    let text = "
        @group(0) @binding(0) var<storage, read> values: array<i32>;
        struct Kept { count: atomic<u32>, values: array<i32> }
        @group(0) @binding(1) var<storage, read_write> kept: Kept;
        var<workgroup> ranks: array<u32, 64>;
        var<workgroup> first: u32;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
            let is_there = id.x < arrayLength(&values);
            let wanted = is_there && values[id.x] > 0;
            ranks[local] = select(0u, 1u, wanted);
            workgroupBarrier();
            if local == 0u {
                var sum = 0u;
                for (var i = 0u; i < 64u; i++) { let own = ranks[i]; ranks[i] = sum; sum += own; }
                first = atomicAdd(&kept.count, sum);
            }
            let base = workgroupUniformLoad(&first);
            if wanted { kept.values[base + ranks[local]] = values[id.x]; }
        }";
    let (runtime, orchestrator) = both();
    let mut random = Random(23);
    let values: Vec<i32> = (0..999).map(|_| random.below(100) as i32 - 50).collect();
    let of_values = runtime.buffer(&values).unwrap();
    let kept = runtime.buffer(&[0u32; 1000]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("values", &of_values).bind("kept", &kept);
    kernel.dispatch(groups_for(999, 64)).unwrap();
    let kept = kept.to_vec().unwrap();
    let count = kept[0] as usize;
    let mut found: Vec<i32> = kept[1..=count].iter().map(|word| *word as i32).collect();
    let mut expected: Vec<i32> = values.into_iter().filter(|value| *value > 0).collect();
    // Workgroups take their places in any order.
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
