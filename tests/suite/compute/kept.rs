//! What an invocation has is its own, and is the same behind a barrier; and who leaves early is not waited for.

use super::both;

/// Each of these bools is set by the number of the invocation, and each is asked for behind a barrier.
const BOOLS: &str = "
    struct Pair { a: bool, b: bool }
    struct Deep { number: u32, lists: array<Pair, 2>, wide: vec3<f32>, flags: vec3<bool>, last: bool }
    struct One { on: bool }
    var<private> own_list: array<bool, 4>;
    var<private> own_pair: Pair;
    var<private> own_one = One(true);
    @group(0) @binding(0) var<storage, read_write> seen: array<u32>;
    fn bit(i: u32, n: u32) -> bool { return (((i * 37u + 11u) >> (n % 8u)) & 1u) == 1u; }
    fn number(value: bool, at: u32) -> u32 { return select(0u, 1u << at, value); }
    @compute @workgroup_size(8)
    fn main(@builtin(local_invocation_index) i: u32) {
        var list: array<bool, 4>;
        var pair = Pair(bit(i, 0u), bit(i, 1u));
        var one = One(bit(i, 2u));
        var deep: Deep;
        for (var n = 0u; n < 4u; n++) {
            list[n] = bit(i, n);
            own_list[n] = bit(i, n + 4u);
        }
        own_pair = Pair(bit(i, 3u), bit(i, 5u));
        own_one.on = own_one.on && bit(i, 6u);
        deep = Deep(i, array(pair, own_pair), vec3(f32(i)), vec3(bit(i, 7u), bit(i, 1u), bit(i, 2u)), bit(i, 4u));
        let value = Deep(i, array(own_pair, pair), vec3(f32(i)), vec3(list[0], list[1], list[2]), one.on);
        workgroupBarrier();
        var bits = 0u;
        for (var n = 0u; n < 4u; n++) {
            bits |= number(list[n], n) | number(own_list[n], n + 4u);
        }
        bits |= number(pair.a, 8u) | number(pair.b, 9u) | number(own_pair.a, 10u) | number(own_pair.b, 11u);
        bits |= number(one.on, 12u) | number(own_one.on, 13u);
        bits |= number(deep.lists[0].a, 14u) | number(deep.lists[i & 1u].b, 15u) | number(deep.lists[1].a, 16u);
        bits |= number(deep.flags.x, 17u) | number(deep.flags.z, 18u) | number(deep.last, 19u);
        bits |= number(value.lists[0].a, 20u) | number(value.lists[1].b, 21u) | number(value.flags.y, 22u);
        bits |= number(value.last, 23u);
        if deep.number != i || any(deep.wide != vec3(f32(i))) || value.number != i { bits |= 1u << 31u; }
        seen[i] = bits;
    }";

#[test]
fn bools_inside_of_what_is_kept() {
    let (runtime, orchestrator) = both();
    let seen = runtime.buffer(&[0u32; 8]).unwrap();
    orchestrator.kernel(BOOLS, "main").unwrap().bind("seen", &seen).dispatch([1, 1, 1]).unwrap();
    let expected = (0..8u32).map(|i| {
        let bit = |n: u32| (i * 37 + 11) >> n & 1;
        let second = if i & 1 == 0 { 1 } else { 5 };
        let order = [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 3, 5, 2, 6, 0, second], [3, 7, 2, 4, 3, 1, 1, 2]];
        order.as_flattened().iter().zip(0u32..).fold(0, |bits, (n, at)| bits | bit(*n) << at)
    });
    let expected: Vec<u32> = expected.collect();
    let found = seen.to_vec().unwrap();
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "invocation {i}: {found:#026b} instead of {expected:#026b}");
    }
}

#[test]
fn a_loop_with_a_barrier_that_only_a_return_leaves() {
    let texts = [
        "var n = 0u; loop { n += 1u; if n > 4u { x[i] = n; return; } workgroupBarrier(); }",
        // Around another one, and inside of `continuing`, where nothing can return.
        "var n = 0u; loop { loop { n += 1u; if n > 4u { x[i] = n; return; } workgroupBarrier(); } }",
        "var n = 0u; loop { n += 1u; if n > 4u { x[i] = n; return; }
           continuing { for (var k = 0u; k < 2u; k++) { workgroupBarrier(); } } }",
    ];
    let (runtime, orchestrator) = both();
    for text in texts {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
             @compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
                 let i = id.x;
                 {text}
             }}"
        );
        let x = runtime.buffer(&[0u32; 24]).unwrap();
        let kernel = orchestrator.kernel(&text, "main").unwrap().bind("x", &x).loop_budget(20);
        kernel.dispatch([3, 1, 1]).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(x.to_vec().unwrap(), [5; 24], "{text}");
    }
    // The budget still ends one that nobody leaves.
    let text = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(8) fn main(@builtin(local_invocation_index) i: u32) {
            var n = 0u;
            loop { n += 1u; if n > 40u { x[i] = n; return; } workgroupBarrier(); }
        }";
    let x = runtime.buffer(&[0u32; 8]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("x", &x).loop_budget(20);
    assert!(kernel.dispatch([1, 1, 1]).is_err_and(|error| error.is_failed()));
}
