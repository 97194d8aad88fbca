//! All that may stand between and around barriers: loops, `switch`, `continue`, atomics, built-in values in a struct.

use super::both;

/// In an entry point with barriers, and in a function that becomes a part of it.
#[test]
fn control_flow_between_barriers() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> results: array<vec4<u32>>;
        var<workgroup> tile: array<atomic<u32>, 16>;
        struct Ids {
            @builtin(local_invocation_index) local: u32,
            @builtin(workgroup_id) group: vec3<u32>,
        }
        fn wander(local: u32) -> u32 {
            var sum = 0u;
            for (var i = 0u; i < 12u; i++) {
                if i % 3u == local % 3u { continue; }
                switch i % 4u {
                    case 0u: { sum += 1u; continue; }
                    case 1u, 2u: { sum += 10u; }
                    default: { if local == 3u { break; } sum += 100u; }
                }
                sum += 1000u;
            }
            loop {
                let old = atomicLoad(&tile[local]);
                if atomicCompareExchangeWeak(&tile[local], old, old + sum).exchanged { break; }
            }
            workgroupBarrier();
            let other = atomicLoad(&tile[15u - local]);
            workgroupBarrier();
            return atomicExchange(&tile[local], other) - local;
        }
        @compute @workgroup_size(16)
        fn main(ids: Ids) {
            // The first step is the group's.
            switch 2u {
                case 1u: { workgroupBarrier(); }
                default: { atomicStore(&tile[ids.local], ids.local * 7u); workgroupBarrier(); }
            }
            let found = wander(ids.local);
            var trail = 0u;
            for (var round = 0u; round < 6u; round++) {
                if round == ids.group.x % 4u { continue; }
                workgroupBarrier();
                switch round {
                    case 1u: { trail = trail * 10u + 1u; }
                    case 2u, 3u: { if ids.local % 2u == 0u { break; } trail = trail * 10u + round; }
                    default: {
                        for (var i = 0u; i < 5u; i++) { if i == ids.local % 5u { continue; } trail += i; }
                    }
                }
                atomicAdd(&tile[(ids.local + round) % 16u], trail);
            }
            workgroupBarrier();
            if all(ids.group == vec3(3u, 0u, 0u)) { workgroupBarrier(); trail += 5000u; }
            if any(ids.group.xy > vec2(ids.group.z + 5u)) { workgroupBarrier(); trail += 7000u; }
            results[ids.group.x * 16u + ids.local] =
                vec4(found, trail, atomicLoad(&tile[ids.local]), ids.group.x);
        }";
    fn wander(local: u32) -> u32 {
        let mut sum = 0;
        for i in (0..12).filter(|i| i % 3 != local % 3) {
            match i % 4 {
                0 => {
                    sum += 1;
                    continue;
                }
                1 | 2 => sum += 10,
                _ if local == 3 => {}
                _ => sum += 100,
            }
            sum += 1000;
        }
        sum
    }
    fn group(number: u32) -> Vec<[u32; 4]> {
        let before: Vec<u32> = (0..16).map(|local| local * 7 + wander(local)).collect();
        let mut tile: Vec<u32> = before.iter().rev().copied().collect();
        let mut trails = [0u32; 16];
        for round in (0..6).filter(|round| *round != number % 4) {
            for (trail, local) in trails.iter_mut().zip(0u32..) {
                match round {
                    1 => *trail = *trail * 10 + 1,
                    2 | 3 if local % 2 == 0 => {}
                    2 | 3 => *trail = *trail * 10 + round,
                    _ => *trail += 10 - local % 5,
                }
                tile[((local + round) % 16) as usize] += *trail;
            }
        }
        let more = if number == 3 { 5000 } else { 0 } + if number > 5 { 7000 } else { 0 };
        let of = |local: usize| [before[local] - local as u32, trails[local] + more, tile[local], number];
        (0..16).map(of).collect()
    }
    let (runtime, orchestrator) = both();
    let results = runtime.buffer(&[[0u32; 4]; 16 * 8]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    kernel.bind("results", &results).dispatch([8, 1, 1]).unwrap();
    assert_eq!(results.to_vec().unwrap(), (0..8).flat_map(group).collect::<Vec<_>>());
}

/// A loop whose `continuing` has barriers, and a condition of its own around one of them.
#[test]
fn barriers_in_a_continuing() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> results: array<u32>;
        var<workgroup> tile: array<u32, 8>;
        @compute @workgroup_size(8)
        fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
            tile[local] = local + 1u;
            workgroupBarrier();
            var sum = 0u;
            var i = 0u;
            loop {
                sum = sum * 3u + tile[(local + i) % 8u];
                continuing {
                    workgroupBarrier();
                    if group.x > 1u { tile[local] += i; workgroupBarrier(); }
                    i += 1u;
                    break if i > group.x + 1u;
                }
            }
            results[group.x * 8u + local] = sum;
        }";
    fn group(number: u32) -> Vec<u32> {
        let (mut tile, mut sums): (Vec<u32>, _) = ((1..=8).collect(), vec![0u32; 8]);
        for i in 0..number + 2 {
            for (sum, local) in sums.iter_mut().zip(0u32..) {
                *sum = *sum * 3 + tile[((local + i) % 8) as usize];
            }
            if number > 1 {
                tile.iter_mut().for_each(|value| *value += i);
            }
        }
        sums
    }
    let (runtime, orchestrator) = both();
    let results = runtime.buffer(&[0u32; 8 * 5]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    kernel.bind("results", &results).dispatch([5, 1, 1]).unwrap();
    assert_eq!(results.to_vec().unwrap(), (0..5).flat_map(group).collect::<Vec<_>>());
}

/// Where nothing meets, each invocation begins with its own.
#[test]
fn private_variables_without_barriers() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> results: array<vec2<u32>>;
        var<private> own = vec2<u32>(3u, 4u);
        var<private> table: array<u32, 4>;
        var<private> scale = -1.5;
        fn touch(by: u32) -> u32 {
            own.x += by;
            table[by % 4u] += 1u;
            scale *= 2.0;
            return own.x * 100u + table[by % 4u];
        }
        @compute @workgroup_size(10)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let first = touch(id.x);
            results[id.x] = vec2(first + touch(id.x), own.y + u32(-scale));
        }";
    let (runtime, orchestrator) = both();
    let results = runtime.buffer(&[[9u32; 2]; 30]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    kernel.bind("results", &results).dispatch([3, 1, 1]).unwrap();
    let expected = (0..30).map(|id| [(3 + id) * 100 + 1 + (3 + 2 * id) * 100 + 2, 4 + 6]);
    assert_eq!(results.to_vec().unwrap(), expected.collect::<Vec<_>>());
}
