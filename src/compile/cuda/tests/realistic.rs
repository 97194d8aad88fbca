//! Handlers as people write them, against their twins in Rust: replies, states, emitted values and tables.

use super::engine::{HostHandler, build, has_compiler};
use crate::compile::speed::program;
use crate::compile::speed::realistic::{
    Fir, Fraud, KMeans, MonteCarlo, OrderBook, PageRank, Realistic, Table,
};
use crate::compile::tests::words;
use crate::compile::{Executable, Frame, Limits, Outcome, Program, StopCheck, TableView};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The six, each with its name.
pub fn programs() -> Vec<(&'static str, Arc<Program>)> {
    vec![
        (Fir::NAME, Arc::new(program::<Fir>())),
        (Fraud::NAME, Arc::new(program::<Fraud>())),
        (KMeans::NAME, Arc::new(program::<KMeans>())),
        (MonteCarlo::NAME, Arc::new(program::<MonteCarlo>())),
        (OrderBook::NAME, Arc::new(program::<OrderBook>())),
        (PageRank::NAME, Arc::new(program::<PageRank>())),
    ]
}

fn matches_twin<R: Realistic>(program: &Program, engine: &HostHandler) {
    let tables = R::tables();
    let mut bound = R::bound(&tables);
    let views: Vec<_> = program
        .tables
        .iter()
        .map(|used| {
            let table: &mut Table = bound.iter_mut().find(|t| t.name == used.name).expect("it is bound");
            TableView { data: table.words.as_mut_ptr().cast(), bytes: 4 * table.words.len() }
        })
        .collect();
    let instances = R::INSTANCES.map_or(1, |(count, _)| count as usize);
    let (mut states, mut twins) =
        (vec![R::State::default(); instances], vec![R::State::default(); instances]);
    let mut privates = vec![0u32; program.privates_size as usize / 4];
    let word = AtomicU32::new(0);
    for (number, message) in R::messages(2000).into_iter().enumerate() {
        let mut reply = <R::Out as bytemuck::Zeroable>::zeroed();
        let instance = R::instance(&message);
        let outcome = engine.run(Frame {
            message: bytemuck::bytes_of(&message),
            state: bytemuck::bytes_of_mut(&mut states[instance]),
            reply: bytemuck::bytes_of_mut(&mut reply),
            privates: bytemuck::cast_slice_mut(&mut privates),
            tables: &views,
            stop: &StopCheck::new(&word, &Limits::NONE),
        });
        assert_eq!(outcome, Outcome::Done);
        let mut emitted = Vec::new();
        let expected = R::twin(message, &mut twins[instance], &tables, &mut emitted);
        let at = format!("{}, message {number}", R::NAME);
        assert_eq!(words(bytemuck::bytes_of(&reply)), words(bytemuck::bytes_of(&expected)), "{at}");
        assert_eq!(states[instance], twins[instance], "{at}");
        if let Some(slot) = program.emits.first() {
            let got: Vec<_> = slot.values(bytemuck::cast_slice(&privates)).map(<[u8]>::to_vec).collect();
            let emitted: Vec<_> = emitted.iter().map(|value| bytemuck::bytes_of(value).to_vec()).collect();
            assert_eq!(got, emitted, "{at}");
        }
    }
    assert_eq!(bound, R::bound(&tables), "{}", R::NAME);
}

#[test]
fn realistic_handlers_do_what_their_twins_do() {
    if !has_compiler() {
        return;
    }
    let programs = programs();
    let built = build(&programs).unwrap_or_else(|error| panic!("{error}"));
    let runs = [
        matches_twin::<Fir>,
        matches_twin::<Fraud>,
        matches_twin::<KMeans>,
        matches_twin::<MonteCarlo>,
        matches_twin::<OrderBook>,
        matches_twin::<PageRank>,
    ];
    for ((run, (_, program)), handler) in runs.iter().zip(&programs).zip(&built) {
        run(program, handler);
    }
}
