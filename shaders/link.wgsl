// The link pass: brings what the messages of one kernel's round emitted into the round of the kernel at the link's end.
//
// It runs between the two, in the same submission, as one workgroup, for any two kernels: it knows memory, and no types.
// Values go over up to the first message that was not handled, packed, in the order of their messages; what is behind
// that message goes through the host, which finds the same message by the same records.

// The source's records, and the words of its round.
@group(0) @binding(0) var<storage, read> rt_records: array<u32>;
@group(0) @binding(1) var<storage, read> rt_source: array<u32>;
// The words of the next round, and behind them its messages.
@group(0) @binding(2) var<storage, read_write> rt_sink: array<u32>;
// The size of its dispatch.
@group(0) @binding(3) var<storage, read_write> rt_size: array<u32>;

const RT_LANES: u32 = 64u;
const RT_NONE: u32 = 0xffffffffu;

// Where the next round's words say where the parameters are (in a round without links of instances nothing else is).
const RT_PARAMETERS: u32 = 3u;

// The parameters; `src/backend/wgpu/link.rs` writes them. Offsets and strides are in words.
struct RtLink {
    // The first record, and from one to the next.
    first: u32,
    stride: u32,
    // How many there are; RT_NONE if the words of their round say so, at `count_at`.
    count: u32,
    count_at: u32,
    // The status of a message that was handled.
    done: u32,
    // In a record: how many values there are, at most `most`, and where.
    values: u32,
    items: u32,
    item_stride: u32,
    item_size: u32,
    most: u32,
    // In the next round: where its messages are, and where the words say how many.
    messages: u32,
    message_stride: u32,
    messages_at: u32,
    workgroup: u32,
}

var<workgroup> rt_link: RtLink;
var<workgroup> rt_count: u32;
var<workgroup> rt_stop: atomic<u32>;
var<workgroup> rt_sums: array<u32, RT_LANES>;

@compute @workgroup_size(RT_LANES)
fn rt_main(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        let at = rt_sink[RT_PARAMETERS];
        rt_link = RtLink(
            rt_sink[at], rt_sink[at + 1u], rt_sink[at + 2u], rt_sink[at + 3u], rt_sink[at + 4u],
            rt_sink[at + 5u], rt_sink[at + 6u], rt_sink[at + 7u], rt_sink[at + 8u], rt_sink[at + 9u],
            rt_sink[at + 10u], rt_sink[at + 11u], rt_sink[at + 12u], rt_sink[at + 13u],
        );
        rt_count = rt_link.count;
        if rt_count == RT_NONE {
            rt_count = rt_source[rt_link.count_at];
        }
        atomicStore(&rt_stop, RT_NONE);
    }
    workgroupBarrier();
    let link = rt_link;
    let count = rt_count;
    var before = 0u;
    for (var tile = 0u; tile < count; tile += RT_LANES) {
        let message = tile + lane;
        let record = link.first + message * link.stride;
        var values = 0u;
        if message < count {
            if rt_records[record] == link.done {
                values = min(rt_records[record + link.values], link.most);
            } else {
                atomicMin(&rt_stop, message);
            }
        }
        workgroupBarrier();
        let stop = atomicLoad(&rt_stop);
        if message >= stop {
            values = 0u;
        }
        rt_sums[lane] = values;
        workgroupBarrier();
        // Hillis and Steele's scan: afterwards each sum has those before it in it.
        for (var distance = 1u; distance < RT_LANES; distance <<= 1u) {
            var sum = rt_sums[lane];
            if lane >= distance {
                sum += rt_sums[lane - distance];
            }
            workgroupBarrier();
            rt_sums[lane] = sum;
            workgroupBarrier();
        }
        var to = link.messages + (before + rt_sums[lane] - values) * link.message_stride;
        var source = record + link.items;
        for (var value = 0u; value < values; value += 1u) {
            for (var word = 0u; word < link.item_size; word += 1u) {
                rt_sink[to + word] = rt_records[source + word];
            }
            to += link.message_stride;
            source += link.item_stride;
        }
        before += rt_sums[RT_LANES - 1u];
        // Before the next tile's sums.
        workgroupBarrier();
        if stop < tile + RT_LANES {
            break;
        }
    }
    if lane == 0u {
        rt_sink[link.messages_at] = before;
        rt_size[0] = (before + link.workgroup - 1u) / link.workgroup;
        rt_size[1] = 1u;
        rt_size[2] = 1u;
    }
}
