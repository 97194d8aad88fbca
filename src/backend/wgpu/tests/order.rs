//! Messages that came to their end while one before them, of another instance, did not.

use super::kit::{Kernel, Launch, deadline, own_device};
use crate::backend::{Completion, Limits, Progress, Shape, Until};
use crate::compile::{Handler, HandlerSource, compile};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::sync::Arc;

const fn word(name: &'static str, offset: u32) -> Field {
    Field { name, offset, kind: FieldKind::Scalar(Scalar::U32) }
}

const TURNS: &Layout =
    &Layout { name: "Turns", size: 8, align: 4, fields: &[word("to", 0), word("count", 4)] };
const TOTAL: &Layout = &Layout { name: "Total", size: 4, align: 4, fields: &[word("turns", 0)] };

#[test]
fn what_ran_beside_a_message_that_has_to_run_again_is_told() {
    // Of its own: where others are at the pump, what was given to it may not have begun.
    let Some(device) = own_device() else { return };
    let Some(longest) = device.capabilities().longest_loop else {
        return println!("SKIPPED: the device ends no loops");
    };
    let source = HandlerSource {
        name: "turns.wgsl",
        text: "fn on_message(m: Turns, s: ptr<function, Total>) -> Total {
            for (var i = 0u; i < m.count; i++) { (*s).turns += 1u; }
            return *s;
        }",
        input: TURNS,
        output: TOTAL,
        state: Some(TOTAL),
        outputs: &[],
        tables: &[],
        loop_budget: 1 << 20,
        instance_at: None,
    };
    let handler = Arc::new(Handler::new(compile(&source).unwrap(), None));
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
