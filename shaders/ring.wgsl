// The ring driver: runs a round of messages through a handler.
//
// Appended to the handler's text, behind a head that is made for each handler and declares
//
//   rt_Message, rt_State    the handler's types (u32 where it has none)
//   rt_Record               what comes back of a message: a status, the reply, the emitted values; or only the reply
//   rt_states, rt_input, rt_out, rt_round   what the host fills and reads
//   rt_settle(message, code, status)   enters the status, or only that of a message that was not handled
//   rt_run(message, state)  runs the handler on a message and fills its record but for the status
//   rt_SHAPE, rt_WORKGROUP, rt_FAULTS, rt_CANARY   the shape, the workgroup's size, whether the handler may fault, and
//                           whether loops have to be watched
//
// An invocation has an *item*: in a stateless round a message; otherwise a chain of messages that share a state, which
// it runs one after the other. The host makes sure that no two chains share one. Nothing here is written by the host
// while a round runs, and nothing that a round writes is read before it is over. Nobody checks the indices and loops of
// this text and of the head once more: neither are they lowered, nor does wgpu put bounds into them.

// What became of a message, in the low bits of its record's status; above them is the round's stamp, so that what an
// earlier round left behind is never taken for a result. Faults have the codes of the handler contract, 1 and 2.
const rt_STATUS_BITS: u32 = 3u;
// The device ended loops before they were over: nothing of the message took effect, and it may run again.
const rt_CUT_SHORT: u32 = 3u;
const rt_DONE: u32 = 4u;

const rt_STATELESS: u32 = 0u;
const rt_SERIAL: u32 = 1u;
const rt_INSTANCES: u32 = 2u;

// Words of `rt_round`: how many items there are, the stamp, how often the canary has to sing, where the chains' links
// begin, and how many messages came over a link; then the items.
const rt_ITEMS: u32 = 0u;
const rt_STAMP: u32 = 1u;
const rt_TRIPS: u32 = 2u;
const rt_LINKS: u32 = 3u;
const rt_FIRST_ITEM: u32 = 5u;

// Words of an item: its first message, one behind its last (rt_NONE in a chain that has links), its state, and the
// state that replaces it when a message faults (rt_NONE: it stays as it was before that message).
const rt_ITEM_WORDS: u32 = 4u;
const rt_NONE: u32 = 0xffffffffu;

// What is the same for all messages of an invocation is read once, and what is rare is kept out of the loop over them:
// where invocations run in lockstep, all of them take the time of what one of them might do.

// Do loops still run? Some drivers end all loops of an invocation, silently, once it has made so many iterations; what
// was computed since then is wrong. The bound comes from a buffer, so that no compiler knows it. A handler without
// loops needs none: nothing is wrong in the messages that a chain comes to.
fn rt_sings() -> bool {
    if !rt_CANARY {
        return true;
    }
    var trips = 0u;
    for (var i = 0u; i < rt_round[rt_TRIPS]; i += 1u) {
        trips += 1u;
    }
    return trips == rt_round[rt_TRIPS];
}

// Says that not every message of the round was handled. All that say it write the same.
fn rt_complain(stamp: u32) {
    atomicStore(&rt_out.trouble, stamp);
}

// Runs one message on a copy of the state, and commits if all went well. The code it was settled with.
fn rt_message(message: u32, state: ptr<function, rt_State>, stamp: u32) -> u32 {
    // Nothing can go wrong. Copies of large states take drivers long to compile.
    if !rt_FAULTS && !rt_CANARY {
        rt_run(message, state);
        rt_settle(message, rt_DONE, (stamp << rt_STATUS_BITS) | rt_DONE);
        return rt_DONE;
    }
    var copy = *state;
    rt_run(message, &copy);
    var code = rt_fault;
    if code == 0u {
        code = rt_DONE;
    }
    // Before the fault counts: it may be a consequence.
    if !rt_sings() {
        code = rt_CUT_SHORT;
    }
    if code == rt_DONE {
        *state = copy;
    }
    rt_settle(message, code, (stamp << rt_STATUS_BITS) | code);
    return code;
}

fn rt_next(message: u32, links: u32) -> u32 {
    if rt_SHAPE == rt_INSTANCES {
        return rt_round[links + message];
    }
    return message + 1u;
}

// Runs a chain, and says nothing of the messages it does not come to: their records keep an old stamp.
fn rt_chain(item: u32, stamp: u32) {
    let at = rt_FIRST_ITEM + item * rt_ITEM_WORDS;
    let place = rt_round[at + 2u];
    let links = rt_round[rt_LINKS];
    var message = rt_round[at];
    var end = rt_NONE;
    if rt_SHAPE == rt_SERIAL {
        end = rt_round[at + 1u];
    }
    var state = rt_states[place];
    var is_smooth = true;
    loop {
        var code = rt_DONE;
        while message != end {
            code = rt_message(message, &state, stamp);
            if code != rt_DONE {
                break;
            }
            message = rt_next(message, links);
        }
        if message == end {
            break;
        }
        is_smooth = false;
        // Left by a device that ends loops, or a message was.
        if code == rt_DONE || code == rt_CUT_SHORT || !rt_FAULTS {
            break;
        }
        let fallback = rt_round[at + 3u];
        if fallback != rt_NONE {
            state = rt_states[fallback];
        }
        // A serial kernel may fail by this fault; its later messages must not have run then.
        if rt_SHAPE == rt_SERIAL {
            break;
        }
        message = rt_next(message, links);
    }
    // Also where the loop itself was ended.
    if !is_smooth || message != end {
        rt_complain(stamp);
    }
    rt_states[place] = state;
}

@compute @workgroup_size(rt_WORKGROUP)
fn rt_main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= rt_round[rt_ITEMS] {
        return;
    }
    let stamp = rt_round[rt_STAMP];
    if rt_SHAPE == rt_STATELESS {
        var none: rt_State;
        if rt_message(id.x, &none, stamp) != rt_DONE {
            rt_complain(stamp);
        }
    } else {
        rt_chain(id.x, stamp);
    }
}
