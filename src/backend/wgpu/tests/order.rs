//! Rounds behind each other, and messages that came to their end while one before them, of another instance, did not.

use super::kit::{Kernel, Launch, deadline, own_device, words};
use crate::backend::wgpu::lane::Lane;
use crate::backend::{Completion, Limits, Progress, Shape, Until};
use crate::compile::{Handler, HandlerSource, compile};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

const fn word(name: &'static str, offset: u32) -> Field {
    Field { name, offset, kind: FieldKind::Scalar(Scalar::U32) }
}

const TURNS: &Layout =
    &Layout { name: "Turns", size: 8, align: 4, fields: &[word("to", 0), word("count", 4)] };
const TOTAL: &Layout = &Layout { name: "Total", size: 4, align: 4, fields: &[word("turns", 0)] };

fn handler(text: &str) -> Arc<Handler> {
    let source = HandlerSource {
        name: "turns.wgsl",
        text,
        input: TURNS,
        output: TOTAL,
        state: Some(TOTAL),
        outputs: &[],
        tables: &[],
        loop_budget: 1 << 20,
        instance_at: None,
    };
    Arc::new(Handler::new(compile(&source).unwrap(), None))
}

#[test]
fn a_round_begins_behind_another_one_if_nothing_in_that_can_fault() {
    // Of its own, as below.
    let Some(device) = own_device() else { return };
    const PLAIN: &str = "fn on_message(m: Turns, s: ptr<function, Total>) -> Total {
        (*s).turns = (*s).turns * 3u + m.count;
        return *s;
    }";
    const LOOPS: &str = "fn on_message(m: Turns, s: ptr<function, Total>) -> Total {
        for (var i = 0u; i < 2u; i++) { (*s).turns += m.count; }
        return *s;
    }";
    let plain: fn(&mut u32, u32) = |turns, count| *turns = turns.wrapping_mul(3).wrapping_add(count);
    let loops: fn(&mut u32, u32) = |turns, count| *turns = turns.wrapping_add(2 * count);
    let shapes = [Shape::Serial, Shape::Instances { count: 2, field_offset: 0 }];
    for (shape, (text, twin, wanted)) in
        shapes.into_iter().flat_map(|shape| [(shape, (PLAIN, plain, 2)), (shape, (LOOPS, loops, 1))])
    {
        let handler = handler(text);
        let launch = Launch {
            handler: &handler,
            shape,
            message_words: 2,
            reply_words: 1,
            state: &[0],
            tables: Vec::new(),
        };
        let mut kernel = Kernel::launch(&*device, launch).unwrap();
        let port = kernel.port();
        let lane: Arc<dyn Any + Send + Sync> = port.inlet().expect("it has one");
        let lane = lane.downcast::<Lane>().unwrap_or_else(|_| panic!("it is the kernel itself"));
        let by = deadline();
        let limits = Limits { deadline: Some(by), slice: None };
        let until = Until { token: None, limits, patience: Some(&|| false) };
        let (mut next, mut most, mut states) = (0u32, 0, [0u32; 2]);
        let all = device.capabilities().longest_loop.map_or(1 << 16, |longest| longest as usize - 8);
        assert_eq!(port.free(), if shape == Shape::Serial { all } else { 1 << 15 });
        // Where this thread is held up, the device is through with the first round before the second one is there.
        for turn in 0.. {
            let mut expected = Vec::new();
            for _ in 0..2 {
                let messages: Vec<[u32; 2]> = (next..next + 3).map(|number| [number % 2, number]).collect();
                let tokens = u64::from(next) + 1..;
                port.push(&mut tokens.zip(messages.iter().map(|message| bytemuck::cast_slice(message))));
                port.begin();
                most = most.max(lane.lock().rounds);
                next += 3;
                expected.extend(messages.iter().map(|[to, count]| {
                    let state = &mut states[if shape == Shape::Serial { 0 } else { *to as usize }];
                    twin(state, *count);
                    *state
                }));
            }
            let mut replies = Vec::new();
            while replies.len() < expected.len() {
                assert_eq!(port.progress(&until), Progress::Done);
                port.pop(&mut |completion| match completion {
                    Completion::Handled { reply, .. } => replies.extend(words(reply)),
                    _ => panic!("something else than a reply"),
                });
            }
            assert_eq!(replies, expected, "{shape:?}, {text}");
            assert!(most <= wanted, "{shape:?}, {text}");
            if turn >= 20 && most == wanted {
                break;
            }
            assert!(Instant::now() < by, "{most} rounds at once, {shape:?}, {text}");
        }
    }
}

#[test]
fn what_ran_beside_a_message_that_has_to_run_again_is_told() {
    // Of its own: where others are at the pump, what was given to it may not have begun.
    let Some(device) = own_device() else { return };
    let Some(longest) = device.capabilities().longest_loop else {
        return println!("SKIPPED: the device ends no loops");
    };
    let handler = handler(
        "fn on_message(m: Turns, s: ptr<function, Total>) -> Total {
            for (var i = 0u; i < m.count; i++) { (*s).turns += 1u; }
            return *s;
        }",
    );
    let launch = Launch {
        handler: &handler,
        shape: Shape::Instances { count: 2, field_offset: 0 },
        message_words: 2,
        reply_words: 1,
        state: &[0],
        tables: Vec::new(),
    };
    let mut kernel = Kernel::launch(&*device, launch).unwrap();
    // The second is ended in the middle: the first has had its turns already.
    let most = longest - longest / 4;
    let messages = [[0, most], [0, most], [1, 3]];
    let port = kernel.port();
    port.push(&mut (1..).zip(messages.iter().map(|message| bytemuck::cast_slice(message))));
    assert!(port.begin());
    assert!(port.recall(Some(deadline())));
    let mut handled = Vec::new();
    let mut sink = |completion: Completion<'_>| match completion {
        Completion::Handled { token, .. } => handled.push(token),
        _ => panic!("something else than a reply"),
    };
    port.pop(&mut sink);
    assert!(!port.is_cut_short(), "nothing of the second has taken effect");
    assert_eq!(port.ran_beside(), [1], "the third, counted from the second");
    let limits = Limits { deadline: Some(deadline()), slice: None };
    let until = Until { token: None, limits, patience: Some(&|| false) };
    assert_eq!(port.progress(&until), Progress::Done);
    port.pop(&mut sink);
    assert!(port.ran_beside().is_empty());
    assert_eq!(handled, [1, 2, 3]);
    assert_eq!(kernel.states(), [2 * most, 3]);
}
