//! What the language promises: built-in values, memory that begins with zeros, indices in range, control flow around
//! barriers; and what is said of dispatches.

use super::both;

#[test]
fn all_built_in_values() {
    let text = "
        struct In {
            @builtin(local_invocation_id) local: vec3<u32>,
            @builtin(workgroup_id) group: vec3<u32>,
        }
        struct Seen { global: vec3<u32>, index: u32, local: vec3<u32>, pad: u32, group: vec3<u32>, pad2: u32, groups: vec4<u32> }
        @group(3) @binding(9) var<storage, read_write> seen: array<Seen>;
        const X = 3u; const Y = 2u; const Z = 2u;
        @compute @workgroup_size(X, Y, Z)
        fn main(given: In, @builtin(num_workgroups) groups: vec3<u32>, @builtin(global_invocation_id) global: vec3<u32>,
                @builtin(local_invocation_index) index: u32) {
            let group = given.group.x + groups.x * (given.group.y + groups.y * given.group.z);
            seen[group * X * Y * Z + index] =
                Seen(global, index, given.local, 0u, given.group, 0u, vec4(groups, 5u));
        }";
    const SIZE: [u32; 3] = [3, 2, 2];
    const GROUPS: [u32; 3] = [2, 3, 2];
    let (runtime, orchestrator) = both();
    let seen = runtime.buffer(&[[9u32; 16]; 12 * 12]).unwrap();
    orchestrator.kernel(text, "main").unwrap().bind("seen", &seen).dispatch(GROUPS).unwrap();
    let place = |n: u32, of: [u32; 3]| [n % of[0], n / of[0] % of[1], n / of[0] / of[1]];
    for (seen, n) in seen.to_vec().unwrap().iter().zip(0u32..) {
        let (local, group) = (place(n % 12, SIZE), place(n / 12, GROUPS));
        let global: [u32; 3] = std::array::from_fn(|axis| group[axis] * SIZE[axis] + local[axis]);
        assert_eq!(seen[..4], [global[0], global[1], global[2], n % 12]);
        assert_eq!(seen[4..7], local);
        assert_eq!(seen[8..11], group);
        assert_eq!(seen[12..], [2, 3, 2, 5]);
    }
}

#[test]
fn memory_begins_with_zeros_and_its_own_values() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>>;
        var<workgroup> shared_words: array<u32, 40>;
        var<workgroup> counter: atomic<u32>;
        var<private> own = vec2<u32>(3u, 4u);
        var<private> table: array<u32, 4>;
        fn touch(by: u32) -> u32 { own.x += by; table[by % 4u] += 1u; return own.x + table[by % 4u]; }
        @compute @workgroup_size(20)
        fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) g: vec3<u32>) {
            var local: array<u32, 3>;
            let first = shared_words[i] + atomicLoad(&counter) + local[i % 3u];
            workgroupBarrier();
            local[i % 3u] = touch(i);
            shared_words[i] = 77u;
            atomicAdd(&counter, 1u);
            workgroupBarrier();
            out[g.x * 20u + i] = vec4(first, local[0] + local[1] + local[2], atomicLoad(&counter), own.x + own.y);
        }";
    let (runtime, orchestrator) = both();
    let out = runtime.buffer(&[[9u32; 4]; 60]).unwrap();
    orchestrator.kernel(text, "main").unwrap().bind("out", &out).dispatch([3, 1, 1]).unwrap();
    for (found, n) in out.to_vec().unwrap().iter().zip(0u32..) {
        assert_eq!(*found, [0, 3 + n % 20 + 1, 20, 3 + n % 20 + 4]);
    }
}

#[test]
fn indices_are_kept_in_range() {
    let text = "
        @group(0) @binding(0) var<storage, read> source: array<i32>;
        @group(0) @binding(1) var<storage, read_write> to: array<i32>;
        struct Tail { head: vec2<u32>, words: array<u32> }
        @group(0) @binding(2) var<storage, read_write> tail: Tail;
        var<workgroup> tile: array<i32, 8>;
        @compute @workgroup_size(8)
        fn main(@builtin(local_invocation_index) i: u32) {
            tile[i] = source[i];
            workgroupBarrier();
            to[i] = tile[source[i]] + source[i * 100u];
            if i == 7u { to[1000] = 5; tail.words[99] = arrayLength(&tail.words); }
        }";
    let (runtime, orchestrator) = both();
    let values = [-5, 2, 7, 8, 100, i32::MIN, i32::MAX, 0];
    let (from, to) = (runtime.buffer(&values).unwrap(), runtime.buffer(&[0i32; 9]).unwrap());
    let tail = runtime.buffer(&[1u32, 2, 3, 4, 5]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("source", &from).bind("to", &to);
    kernel.bind("tail", &tail).dispatch([1, 1, 1]).unwrap();
    let expected = (0..8usize).map(|i| {
        let tile = values[values[i].clamp(0, 7) as usize];
        tile.wrapping_add(values[(i * 100).min(7)])
    });
    assert_eq!(to.to_vec().unwrap(), expected.chain([5]).collect::<Vec<_>>());
    assert_eq!(tail.to_vec().unwrap(), [1, 2, 3, 4, 3]);
}

/// Values, variables and pointers that live across barriers, in every kind of control flow that may be around one.
#[test]
fn control_flow_around_barriers() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> out: array<u32>;
        @group(0) @binding(1) var<uniform> given: array<vec4<u32>, 2>;
        var<workgroup> tile: array<u32, 16>;
        struct Pair { a: vec3<f32>, b: array<u32, 2> }
        fn raise(p: ptr<function, u32>, by: u32) -> u32 { *p += by; return *p * 2u; }
        @compute @workgroup_size(4, 4)
        fn main(@builtin(local_invocation_index) i: u32, @builtin(local_invocation_id) id: vec3<u32>,
                @builtin(workgroup_id) g: vec3<u32>) {
            // Across barriers: a condition, a vector of them, a struct, an element behind a pointer.
            let is_odd = i % 2u == 1u;
            let both = id.xy > vec2(1u);
            var pair = Pair(vec3(f32(i), 0.5, 2.0), array(i, 7u));
            let element = &pair.b[i % 2u];
            var sum = i;
            let doubled = raise(&sum, 1u);
            tile[i] = sum;
            workgroupBarrier();
            switch given[0].x + g.x {
                case 0u: { sum += tile[15u - i]; workgroupBarrier(); tile[i] = sum; }
                case 1u, 2u: {
                    for (var k = 0u; k < given[0].y; k++) {
                        workgroupBarrier();
                        let left = tile[(i + 15u) % 16u];
                        if k == 1u { workgroupBarrier(); continue; }
                        workgroupBarrier();
                        tile[i] += left;
                        if given[1].z == k { break; }
                    }
                }
                default: { if given[1].w == 1u { out[g.x * 16u + i] = 5u; return; } }
            }
            workgroupBarrier();
            var n = 0u;
            loop {
                *element += tile[(i + n) % 16u];
                workgroupBarrier();
                continuing {
                    n++;
                    break if n >= 3u;
                }
            }
            // The last segment: some return.
            if is_odd && i > 8u { out[g.x * 16u + i] = doubled; return; }
            let flags = select(0u, 100u, is_odd) + select(0u, 1000u, all(both));
            out[g.x * 16u + i] = pair.b[0] + pair.b[1] + u32(pair.a.x * pair.a.y * pair.a.z) + flags + sum;
        }";
    let (runtime, orchestrator) = both();
    let out = runtime.buffer(&[0u32; 80]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("out", &out);
    for given in [[[0u32, 4, 0, 0], [0, 0, 2, 1]], [[1, 3, 0, 0], [0, 0, 9, 0]]] {
        let of_given = runtime.buffer(&given).unwrap();
        kernel.clone().bind("given", &of_given).dispatch([5, 1, 1]).unwrap();
        let expected: Vec<u32> = (0..5).flat_map(|group| one_group(group, given)).collect();
        assert_eq!(out.to_vec().unwrap(), expected, "{given:?}");
    }
}

/// The same as above, for one workgroup, in plain Rust.
fn one_group(group: u32, given: [[u32; 4]; 2]) -> [u32; 16] {
    let each = |f: &dyn Fn(usize) -> u32| -> [u32; 16] { std::array::from_fn(f) };
    let mut sum = each(&|i| i as u32 + 1);
    let mut tile = sum;
    match given[0][0] + group {
        0 => {
            sum = each(&|i| sum[i] + tile[15 - i]);
            tile = sum;
        }
        1 | 2 => {
            for k in 0..given[0][1] {
                let before = tile;
                if k == 1 {
                    continue;
                }
                tile = each(&|i| before[i] + before[(i + 15) % 16]);
                if given[1][2] == k {
                    break;
                }
            }
        }
        _ if given[1][3] == 1 => return [5; 16],
        _ => {}
    }
    each(&|i| {
        let index = i as u32;
        let (is_odd, all_both) = (i % 2 == 1, i % 4 > 1 && i / 4 > 1);
        if is_odd && i > 8 {
            return (index + 1) * 2;
        }
        let element: u32 = (0..3).map(|n| tile[(i + n) % 16]).sum();
        let flags = u32::from(is_odd) * 100 + u32::from(all_both) * 1000;
        index + 7 + element + index + flags + sum[i]
    })
}

#[test]
fn several_atomics() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> of_all: array<atomic<i32>, 6>;
        @group(0) @binding(1) var<storage, read_write> won: array<u32>;
        var<workgroup> lock: atomic<u32>;
        @compute @workgroup_size(16)
        fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) g: vec3<u32>) {
            let n = i32(g.x * 16u + i);
            atomicAdd(&of_all[0], n);
            atomicSub(&of_all[1], n);
            atomicMin(&of_all[2], 5 - n);
            atomicMax(&of_all[3], n);
            atomicOr(&of_all[4], 1 << u32(n % 30));
            atomicXor(&of_all[5], n);
            let result = atomicCompareExchangeWeak(&lock, 0u, i + 1u);
            if result.exchanged { atomicStore(&lock, 100u); }
            workgroupBarrier();
            if i == 0u { won[g.x] = atomicExchange(&lock, 3u); }
        }";
    let (runtime, orchestrator) = both();
    let of_all = runtime.buffer(&[0i32; 6]).unwrap();
    let won = runtime.buffer(&[0u32; 5]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("of_all", &of_all).bind("won", &won);
    kernel.dispatch([5, 1, 1]).unwrap();
    let sum: i32 = (0..80).sum();
    let xor = (0..80).fold(0, |a, b| a ^ b);
    assert_eq!(of_all.to_vec().unwrap(), [sum, -sum, -74, 79, (1 << 30) - 1, xor]);
    assert_eq!(won.to_vec().unwrap(), [100; 5]);
}

#[test]
fn invocations_behind_the_end_of_a_table_are_told_from_others() {
    let bodies = [
        "fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&out) { out[id.x] = a[id.x] * 1000u + b[id.x]; } }",
        "fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x >= arrayLength(&out) { return; } out[id.x] = a[id.x] * 1000u + b[id.x]; }",
        "struct Ids { @builtin(workgroup_id) group: vec3<u32>, @builtin(global_invocation_id) all: vec3<u32> }
         fn main(ids: Ids) { let i = ids.all.x;
            if arrayLength(&out) > i && ids.group.y == 0u { out[i] = a[i] * 1000u + b[i]; } }",
        "fn main(@builtin(num_workgroups) n: vec3<u32>, @builtin(global_invocation_id) id: vec3<u32>) {
            if arrayLength(&out) <= id.x || n.y != 1u { return; } let x = id.x; out[x] = a[x] * 1000u + b[x]; }",
        // Compared with other things, too.
        "struct Own { v: vec3<u32> }
         fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
            let own = Own(id + local); let i = own.v.x - local.x;
            if id.x < 1000u && local.x < arrayLength(&out) + 32u && i < arrayLength(&out) && id.x < arrayLength(&out) {
                out[id.x] = a[id.x] * 1000u + b[i]; } }",
        // Not compared: who is behind the end has the last element.
        "fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let i = id.x; out[i] = a[min(i, arrayLength(&out) - 1u)] * 1000u + b[min(i, arrayLength(&out) - 1u)]; }",
    ];
    let (runtime, orchestrator) = both();
    for body in bodies {
        let text = format!(
            "@group(0) @binding(0) var<storage, read> a: array<u32>;
             @group(0) @binding(1) var<storage, read> b: array<u32>;
             @group(0) @binding(2) var<storage, read_write> out: array<u32>;
             {}",
            body.replace("fn main", "@compute @workgroup_size(32) fn main")
        );
        let kernel = orchestrator.kernel(&text, "main").unwrap();
        for [a, b, out] in
            [[1, 1, 1], [31, 32, 33], [64, 64, 64], [100, 70, 65], [96, 95, 97], [128, 129, 127]]
        {
            let values = |len: usize| -> Vec<u32> { (0..len as u32).map(|index| index * 7 % 101).collect() };
            let (a, b) = (values(a), values(b));
            let buffers = [&a, &b, &vec![u32::MAX; out]].map(|values| runtime.buffer(values).unwrap());
            let bound = kernel.clone().bind("a", &buffers[0]).bind("b", &buffers[1]).bind("out", &buffers[2]);
            bound.dispatch([5, 1, 1]).unwrap();
            let at = |values: &[u32], index: usize| values[index.min(values.len() - 1)];
            let expected: Vec<u32> = (0..out).map(|index| at(&a, index) * 1000 + at(&b, index)).collect();
            assert_eq!(buffers[2].to_vec().unwrap(), expected, "{body}");
        }
    }
}

#[test]
fn one_entry_point_reads_what_another_ones_function_writes() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> a: array<u32>;
        @group(0) @binding(1) var<storage, read_write> o: array<u32>;
        fn put(by: u32) { a[0] += by; }
        @compute @workgroup_size(1) fn first() { put(5u); }
        @compute @workgroup_size(1) fn second() { o[0] = a[0]; }";
    let (runtime, orchestrator) = both();
    let [a, o] = [3u32, 0].map(|value| runtime.buffer(&[value]).unwrap());
    orchestrator.kernel(text, "first").unwrap().bind("a", &a).dispatch([1, 1, 1]).unwrap();
    orchestrator.kernel(text, "second").unwrap().bind("a", &a).bind("o", &o).dispatch([1, 1, 1]).unwrap();
    assert_eq!(o.to_vec().unwrap(), [8]);
}

#[test]
fn atomics_in_workgroup_memory_give_what_was_there() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> out: array<i32>;
        var<workgroup> word: atomic<u32>;
        var<workgroup> numbers: array<atomic<i32>, 3>;
        @compute @workgroup_size(1)
        fn main() {
            out[0] = i32(atomicAdd(&word, 0xf0u));
            out[1] = i32(atomicSub(&word, 1u));
            out[2] = i32(atomicAnd(&word, 0xfcu));
            out[3] = i32(atomicOr(&word, 3u));
            out[4] = i32(atomicXor(&word, 0xffffff00u));
            out[5] = i32(atomicMin(&word, 7u));
            out[6] = i32(atomicMax(&word, 0x80000000u));
            out[7] = i32(atomicExchange(&word, 9u) >> 4u);
            let differs = atomicCompareExchangeWeak(&word, 8u, 1u);
            out[8] = select(i32(differs.old_value), -1, differs.exchanged);
            atomicStore(&numbers[i32(atomicLoad(&word)) - 8], -5);
            out[9] = atomicMin(&numbers[1], 4);
            out[10] = atomicMax(&numbers[1], 4);
            var tries = 0;
            for (; tries < 1000; tries++) {
                let same = atomicCompareExchangeWeak(&numbers[1], 4, 6);
                if same.exchanged { out[11] = same.old_value; break; }
            }
            out[12] = atomicLoad(&numbers[1]);
            out[13] = atomicLoad(&numbers[0]) + atomicLoad(&numbers[2]);
        }";
    let (runtime, orchestrator) = both();
    let out = runtime.buffer(&[77i32; 14]).unwrap();
    orchestrator.kernel(text, "main").unwrap().bind("out", &out).dispatch([1, 1, 1]).unwrap();
    let high = 0xffff_ffef_u32 as i32;
    assert_eq!(out.to_vec().unwrap(), [0, 0xf0, 0xef, 0xec, 0xef, high, 7, 0x0800_0000, 9, -5, -5, 4, 6, 0]);
}

#[test]
fn what_is_said_of_dispatches() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(32) fn first(@builtin(global_invocation_id) id: vec3<u32>) { out[id.x] = id.x; }
        @compute @workgroup_size(8, 2) fn second(@builtin(global_invocation_id) id: vec3<u32>) { out[id.y] = id.x; }";
    let (runtime, orchestrator) = both();
    let out = runtime.buffer(&[0u32; 100]).unwrap();
    orchestrator.set_history_capacity(3);
    let first = orchestrator.kernel(text, "first").unwrap().bind("out", &out);
    let second = orchestrator.kernel(text, "second").unwrap().bind("out", &out);
    for groups in 1..=3 {
        first.dispatch([groups, 1, 1]).unwrap();
    }
    let last = second.dispatch([1, 2, 3]).unwrap();
    let history = orchestrator.history();
    assert_eq!(history.len(), 3);
    assert_eq!(history[2], last);
    assert_eq!(
        (history[0].entry.as_str(), history[0].groups, history[0].invocations),
        ("first", [2, 1, 1], 64)
    );
    assert_eq!((last.entry.as_str(), last.groups, last.invocations), ("second", [1, 2, 3], 96));
    assert!(history.iter().all(|dispatch| !dispatch.duration.is_zero() && dispatch.engine == last.engine));
    orchestrator.set_history_capacity(1);
    assert_eq!(orchestrator.history(), [last]);
    orchestrator.set_history_capacity(0);
    first.dispatch([1, 1, 1]).unwrap();
    assert_eq!(orchestrator.history(), []);
    assert!(runtime.cache_statistics().entries >= 2);
}

#[test]
fn what_stands_in_comments_is_no_part_of_an_override() {
    let text = "
        @group(0) @binding(998) var<storage, read_write> out: array<u32>;
        override N: u32 /* rows; /* of */ columns; */ = 4u; // ; too
        @compute @workgroup_size(1)
        fn main() { for (var i = 0u; i < N; i++) { out[0] += 1u; } }";
    let (runtime, orchestrator) = both();
    let out = runtime.buffer(&[0u32]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("out", &out);
    kernel.clone().constant("N", 8.0).dispatch([1, 1, 1]).unwrap();
    kernel.dispatch([1, 1, 1]).unwrap();
    assert_eq!(out.to_vec().unwrap(), [12]);
    let past = orchestrator.kernel(&text.replace("998", "4294967295"), "main");
    assert!(past.is_err_and(|error| error.is_rejected() && error.to_string().contains("`@binding(998)`")));
}

#[test]
fn a_dispatch_is_one_transfer_each_way() {
    let text = "
        @group(0) @binding(0) var<storage, read> source: array<u32>;
        @group(0) @binding(1) var<storage, read_write> to: array<u32>;
        @compute @workgroup_size(4)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) { to[id.x] = source[id.x] + 1u; }";
    let (runtime, orchestrator) = both();
    let from = runtime.buffer(&[1u32, 2, 3, 4]).unwrap();
    let to = runtime.buffer_uninitialized::<u32>(4).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("source", &from).bind("to", &to);
    kernel.dispatch([1, 1, 1]).unwrap();
    kernel.dispatch([1, 1, 1]).unwrap();
    for _ in 0..2 {
        assert_eq!(to.to_vec().unwrap(), [2, 3, 4, 5]);
    }
    assert_eq!((to.transfers().to_device, to.transfers().to_host), (0, 1));
    // What the host writes is there at the next dispatch, and what it had of the result is old then.
    from.write(0, &[10]).unwrap();
    kernel.dispatch([1, 1, 1]).unwrap();
    assert_eq!(to.to_vec().unwrap(), [11, 3, 4, 5]);
    assert_eq!(to.transfers().to_host, 2);
    let unwritten = runtime.buffer_uninitialized::<u32>(4).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("source", &unwritten).bind("to", &to);
    assert!(kernel.dispatch([1, 1, 1]).is_err_and(|error| error.is_invalid()));
    assert!(kernel.share("there").dispatch([1, 1, 1]).is_err_and(|error| error.is_invalid()));
}

#[test]
fn threads_share_an_orchestrator() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> out: array<u32>;
        var<workgroup> tile: array<u32, 64>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) i: u32) {
            tile[i] = out[id.x];
            workgroupBarrier();
            out[id.x] = tile[63u - i] + 1u;
        }";
    let (runtime, orchestrator) = both();
    crate::threads::scope(|scope| {
        for thread in 0..4u32 {
            let (runtime, orchestrator) = (&runtime, &orchestrator);
            scope.spawn(move || {
                let values: Vec<u32> = (0..640).map(|n| n * (thread + 1)).collect();
                let out = runtime.buffer(&values).unwrap();
                let kernel = orchestrator.kernel(text, "main").unwrap().bind("out", &out);
                (0..20).for_each(|_| _ = kernel.dispatch([10, 1, 1]).unwrap());
                let expected: Vec<u32> = values.iter().map(|value| value + 20).collect();
                assert_eq!(out.to_vec().unwrap(), expected);
            });
        }
    });
    let history = orchestrator.history();
    assert_eq!(history.len(), 80);
    // Barriers are nothing that machine code could not do.
    let is_on_cpu = std::env::var("RINGWORK_BACKEND").map_or(true, |backend| backend == "cpu");
    if cfg!(all(feature = "jit", target_arch = "x86_64")) && is_on_cpu {
        assert!(history.iter().all(|dispatch| dispatch.engine == "jit"), "{:?}", history[0]);
    }
}
