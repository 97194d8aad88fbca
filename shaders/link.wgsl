// The link pass: brings what the messages of one kernel's round emitted into the round of the kernel at the link's end.
//
// It runs between the two, in the same submission, as one workgroup, for any two kernels: it knows memory, and no types.
// Values go over up to the first message that was not handled, packed, in the order of their messages; what is behind
// that message goes through the host, which finds the same message by the same records. A value for an instance that the
// next kernel does not have is the host's, too, and ends what goes over in the same way.
//
// For a kernel with instances the pass makes the chains of the next round as well: each instance's messages in the order
// in which they were emitted. It needs neither a sort nor a look at messages more than once: an instance's end, which it
// keeps from tile to tile, is the one before the first of the next tile, and inside of a tile bits say who is next.

// The source's records, and the words of its round.
@group(0) @binding(0) var<storage, read> rt_records: array<u32>;
@group(0) @binding(1) var<storage, read> rt_source: array<u32>;
// The words of the next round, and behind them its messages.
@group(0) @binding(2) var<storage, read_write> rt_sink: array<u32>;
// The size of its dispatch.
@group(0) @binding(3) var<storage, read_write> rt_size: array<u32>;
// By instance: `base` and its last message; less than `base` if it has none in this round.
@group(0) @binding(4) var<storage, read_write> rt_ends: array<atomic<u32>>;

const rt_WORKGROUP: u32 = 64u;
const rt_NONE: u32 = 0xffffffffu;

// Words of a round, as in `shaders/ring.wgsl`. Until the pass has run, the parameters are where the chains' links will be
// said to be.
const rt_ITEMS: u32 = 0u;
const rt_LINKS: u32 = 3u;
const rt_PARAMETERS: u32 = 3u;
const rt_FIRST_ITEM: u32 = 5u;
const rt_ITEM_WORDS: u32 = 4u;

// The parameters; `src/backend/wgpu/link.rs` writes them. Offsets and strides are in words.
struct RtLink {
    // The first record, and from one to the next.
    first: u32,
    stride: u32,
    // How many there are; rt_NONE if the words of their round say so, at `count_at`.
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
    // How many instances there are (0: no such kernel), where a message says which one it is for, the state of the first
    // one, and the first of those that replace them, or rt_NONE.
    instances: u32,
    instance_at: u32,
    place: u32,
    fallback: u32,
    // Where the words have the chains' links.
    links: u32,
    base: u32,
}

var<workgroup> rt_link: RtLink;
var<workgroup> rt_count: u32;
var<workgroup> rt_stop: atomic<u32>;
var<workgroup> rt_sums: array<u32, rt_WORKGROUP>;
// Which of a tile's messages emitted something, where none emits more than one value.
var<workgroup> rt_bits: array<atomic<u32>, 2>;
var<workgroup> rt_chains: atomic<u32>;
// Of the last message of an instance in a tile: which lanes have messages for that instance, in two words.
var<workgroup> rt_same: array<atomic<u32>, 2u * rt_WORKGROUP>;

// Is one of these values for an instance that is not there?
fn rt_is_astray(at: u32, values: u32) -> bool {
    var is_astray = false;
    if rt_link.instances != 0u {
        for (var value = 0u; value < values; value += 1u) {
            let instance = rt_records[at + value * rt_link.item_stride + rt_link.instance_at];
            is_astray = is_astray || instance >= rt_link.instances;
        }
    }
    return is_astray;
}

// Brings the values over; how many there are.
fn rt_bring(lane: u32) -> u32 {
    if lane == 0u {
        let at = rt_sink[rt_PARAMETERS];
        rt_link = RtLink(
            rt_sink[at], rt_sink[at + 1u], rt_sink[at + 2u], rt_sink[at + 3u], rt_sink[at + 4u],
            rt_sink[at + 5u], rt_sink[at + 6u], rt_sink[at + 7u], rt_sink[at + 8u], rt_sink[at + 9u],
            rt_sink[at + 10u], rt_sink[at + 11u], rt_sink[at + 12u], rt_sink[at + 13u], rt_sink[at + 14u],
            rt_sink[at + 15u], rt_sink[at + 16u], rt_sink[at + 17u], rt_sink[at + 18u], rt_sink[at + 19u],
        );
        rt_count = rt_link.count;
        if rt_count == rt_NONE {
            rt_count = rt_source[rt_link.count_at];
        }
        atomicStore(&rt_stop, rt_NONE);
        atomicStore(&rt_bits[0], 0u);
        atomicStore(&rt_bits[1], 0u);
    }
    workgroupBarrier();
    let link = rt_link;
    let count = rt_count;
    var before = 0u;
    for (var tile = 0u; tile < count; tile += rt_WORKGROUP) {
        let message = tile + lane;
        let record = link.first + message * link.stride;
        var values = 0u;
        if message < count {
            if rt_records[record] == link.done {
                values = min(rt_records[record + link.values], link.most);
            }
            if rt_records[record] != link.done || rt_is_astray(record + link.items, values) {
                atomicMin(&rt_stop, message);
            }
        }
        workgroupBarrier();
        let stop = atomicLoad(&rt_stop);
        if message >= stop {
            values = 0u;
        }
        // How many come before this message's, in the tile; and how many the tile has.
        var earlier = 0u;
        var all = 0u;
        if link.most == 1u {
            atomicOr(&rt_bits[lane / 32u], values << (lane % 32u));
            workgroupBarrier();
            let low = atomicLoad(&rt_bits[0]);
            let high = atomicLoad(&rt_bits[1]);
            let below = (1u << (lane % 32u)) - 1u;
            earlier = select(countOneBits(low & below), countOneBits(low) + countOneBits(high & below), lane >= 32u);
            all = countOneBits(low) + countOneBits(high);
        } else {
            rt_sums[lane] = values;
            workgroupBarrier();
            // Hillis and Steele's scan: afterwards each sum has those before it in it.
            for (var distance = 1u; distance < rt_WORKGROUP; distance <<= 1u) {
                var sum = rt_sums[lane];
                if lane >= distance {
                    sum += rt_sums[lane - distance];
                }
                workgroupBarrier();
                rt_sums[lane] = sum;
                workgroupBarrier();
            }
            earlier = rt_sums[lane] - values;
            all = rt_sums[rt_WORKGROUP - 1u];
        }
        var to = link.messages + (before + earlier) * link.message_stride;
        var source = record + link.items;
        for (var value = 0u; value < values; value += 1u) {
            for (var word = 0u; word < link.item_size; word += 1u) {
                rt_sink[to + word] = rt_records[source + word];
            }
            to += link.message_stride;
            source += link.item_stride;
        }
        before += all;
        // Before the next tile's sums.
        workgroupBarrier();
        if lane < 2u {
            atomicStore(&rt_bits[lane], 0u);
        }
        if stop < tile + rt_WORKGROUP {
            break;
        }
    }
    if lane == 0u {
        rt_sink[link.messages_at] = before;
    }
    return before;
}

// Says how much the next dispatch has to do.
fn rt_ask_for(lane: u32, items: u32) {
    if lane == 0u {
        rt_size[0] = (items + rt_link.workgroup - 1u) / rt_link.workgroup;
        rt_size[1] = 1u;
        rt_size[2] = 1u;
    }
}

// The lane that has the next message for the same instance, or rt_NONE. `last` has the last one of the tile.
fn rt_next_lane(lane: u32, last: u32) -> u32 {
    let word = lane / 32u;
    let above = atomicLoad(&rt_same[2u * last + word]) & ~((2u << (lane % 32u)) - 1u);
    if above != 0u {
        return 32u * word + firstTrailingBit(above);
    }
    // Is `last` another one, then it is in the next word, with all that are between the two.
    if last != lane {
        return 32u + firstTrailingBit(atomicLoad(&rt_same[2u * last + 1u]));
    }
    return rt_NONE;
}

// Is there no message for the same instance before this one in the tile?
fn rt_is_first(lane: u32, last: u32) -> bool {
    let word = lane / 32u;
    let below = atomicLoad(&rt_same[2u * last + word]) & ((1u << (lane % 32u)) - 1u);
    return below == 0u && (word == 0u || atomicLoad(&rt_same[2u * last]) == 0u);
}

// Makes the chains of these messages, and the items of the next round out of them.
fn rt_chain(lane: u32, count: u32) {
    let link = rt_link;
    for (var tile = 0u; tile < count; tile += rt_WORKGROUP) {
        let message = tile + lane;
        let is_there = message < count;
        var instance = 0u;
        var end = 0u;
        if is_there {
            instance = rt_sink[link.messages + message * link.message_stride + link.instance_at];
            end = atomicLoad(&rt_ends[instance]);
        }
        atomicStore(&rt_same[2u * lane], 0u);
        atomicStore(&rt_same[2u * lane + 1u], 0u);
        storageBarrier();
        workgroupBarrier();
        if is_there {
            // Messages count up, and `base` does from round to round.
            atomicMax(&rt_ends[instance], link.base + message);
        }
        storageBarrier();
        var last = 0u;
        if is_there {
            last = atomicLoad(&rt_ends[instance]) - link.base - tile;
            atomicOr(&rt_same[2u * last + lane / 32u], 1u << (lane % 32u));
        }
        workgroupBarrier();
        if is_there {
            let next = rt_next_lane(lane, last);
            rt_sink[link.links + message] = select(tile + next, rt_NONE, next == rt_NONE);
            if rt_is_first(lane, last) {
                if end >= link.base {
                    rt_sink[link.links + end - link.base] = message;
                } else {
                    let at = rt_FIRST_ITEM + atomicAdd(&rt_chains, 1u) * rt_ITEM_WORDS;
                    rt_sink[at] = message;
                    rt_sink[at + 1u] = rt_NONE;
                    rt_sink[at + 2u] = link.place + instance;
                    rt_sink[at + 3u] = select(link.fallback + instance, rt_NONE, link.fallback == rt_NONE);
                }
            }
        }
        // Before the next tile's ends, and its first messages' links.
        storageBarrier();
        workgroupBarrier();
    }
}

@compute @workgroup_size(rt_WORKGROUP)
fn rt_main(@builtin(local_invocation_index) lane: u32) {
    rt_ask_for(lane, rt_bring(lane));
}

// As `rt_main`, for a kernel with instances.
@compute @workgroup_size(rt_WORKGROUP)
fn rt_main_chained(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        atomicStore(&rt_chains, 0u);
    }
    let count = rt_bring(lane);
    // What came over is there, and nobody needs the parameters any more, where the items go.
    storageBarrier();
    workgroupBarrier();
    rt_chain(lane, count);
    let chains = atomicLoad(&rt_chains);
    if lane == 0u {
        rt_sink[rt_ITEMS] = chains;
        rt_sink[rt_LINKS] = rt_link.links;
    }
    rt_ask_for(lane, chains);
}
