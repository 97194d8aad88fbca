//! What Ringwork sets itself, each against what was measured in the same run, at the same placement.

use crate::harness::Unit;
use crate::summary::View;

const FRAMEWORKS: [&str; 3] = ["actix", "ractor", "kameo"];

enum Goal {
    Below(f64),
    AtMost(f64),
    AtLeast(f64),
}
use Goal::*;

enum Value {
    /// Of the measured thing to the one it is held against.
    Ratio,
    Plain(Unit),
}
use Value::*;

struct Target {
    text: &'static str,
    goal: Goal,
    value: Value,
    measure: fn(&View) -> Option<f64>,
}

const fn target(text: &'static str, goal: Goal, value: Value, measure: fn(&View) -> Option<f64>) -> Target {
    Target { text, goal, value, measure }
}

const TARGETS: [Target; 21] = [
    target("native ask p50 to ring ping-pong p50, in runs", Below(1.0), Ratio, |view| {
        Some(view.median("ask", "ringwork native", 2)? / view.median("ask", "ring ping-pong", 2)?)
    }),
    target("native ask p99 to ring ping-pong p99", AtMost(1.3), Ratio, |view| {
        Some(view.median("ask", "ringwork native", 1)? / view.median("ask", "ring ping-pong", 1)?)
    }),
    target("native ask p50 in runs (aim)", AtMost(150.0), Plain(Unit::Nanoseconds), |view| {
        view.median("ask", "ringwork native", 2)
    }),
    target("best framework's ask p50 to native ask p50 in runs", AtLeast(10.0), Ratio, |view| {
        Some(least(view, "ask")? / view.median("ask", "ringwork native", 2)?)
    }),
    target("host ask p50 to ring ping-pong p50, a core free", AtMost(2.0), Ratio, |view| {
        Some(view.median("ask", "ringwork host", 0)? / view.median("ask", "ring ping-pong", 0)?)
    }),
    target("64 in flight to the ring pair", AtLeast(0.7), Ratio, |view| {
        Some(view.median("in-flight", "ringwork native", 0)? / view.median("in-flight", "ring pair", 0)?)
    }),
    target("64 in flight to the best framework", AtLeast(3.0), Ratio, |view| {
        Some(view.median("in-flight", "ringwork native", 0)? / most(view, "in-flight", &FRAMEWORKS)?)
    }),
    target("one sender to the better flume", AtLeast(1.5), Ratio, |view| {
        let flume = most(view, "one-way", &["flume bounded", "flume unbounded"])?;
        Some(view.median("one-way", "ringwork send", 0)? / flume)
    }),
    target("one sender (aim)", AtLeast(8e6), Plain(Unit::PerSecond), |view| {
        view.median("one-way", "ringwork send", 0)
    }),
    target("batches of 32 (aim)", AtLeast(40e6), Plain(Unit::PerSecond), |view| {
        view.median("one-way", "ringwork send_many", 0)
    }),
    target("100,000 instances to the counting sort", AtMost(3.0), Ratio, |view| {
        Some(view.median("instances", "ringwork", 0)? / view.median("instances", "counting sort", 0)?)
    }),
    target("best framework's 100,000 actors to 100,000 instances", AtLeast(10.0), Ratio, |view| {
        Some(least(view, "instances")? / view.median("instances", "ringwork", 0)?)
    }),
    target("wgsl ask mean to native ask mean", AtMost(1.2), Ratio, |view| {
        Some(view.median("ask", "ringwork wgsl", 3)? / view.median("ask", "ringwork native", 3)?)
    }),
    target("wgsl ask p50 to native ask p50, in runs", AtMost(1.2), Ratio, |view| {
        Some(view.median("ask", "ringwork wgsl", 2)? / view.median("ask", "ringwork native", 2)?)
    }),
    target("native to wgsl, 64 in flight", AtMost(1.2), Ratio, |view| {
        Some(view.median("in-flight", "ringwork native", 0)? / view.median("in-flight", "ringwork wgsl", 0)?)
    }),
    target("native to wgsl, one sender", AtMost(1.2), Ratio, |view| {
        Some(view.median("one-way", "ringwork send", 0)? / view.median("one-way", "ringwork wgsl send", 0)?)
    }),
    target("native to wgsl, batches of 32", AtMost(1.2), Ratio, |view| {
        let native = view.median("one-way", "ringwork send_many", 0)?;
        Some(native / view.median("one-way", "ringwork wgsl send_many", 0)?)
    }),
    target("wgsl to native, 100,000 instances", AtMost(1.2), Ratio, |view| {
        Some(view.median("instances", "ringwork wgsl", 0)? / view.median("instances", "ringwork", 0)?)
    }),
    target("an idle kernel beyond its slots", AtMost(4096.0), Plain(Unit::Bytes), |view| {
        view.median("idle", "ringwork", 0)
    }),
    target("allocations per ask", AtMost(0.0), Plain(Unit::Count), |view| {
        view.median("allocations", "ringwork", 0)
    }),
    target("growth of resident memory from 10 M to 50 M messages", AtMost(1e6), Plain(Unit::Bytes), |view| {
        view.median("resident", "ringwork", 0)
    }),
];

fn frameworks(view: &View, group: &str) -> impl Iterator<Item = f64> {
    let all = view.medians(group, 0);
    all.into_iter().filter(|(name, _)| FRAMEWORKS.contains(name)).map(|(_, value)| value)
}

fn least(view: &View, group: &str) -> Option<f64> {
    frameworks(view, group).min_by(f64::total_cmp)
}

fn most(view: &View, group: &str, names: &[&str]) -> Option<f64> {
    names.iter().filter_map(|name| view.median(group, name, 0)).max_by(f64::total_cmp)
}

/// The targets as a Markdown table.
pub fn table(view: &View) -> String {
    let mut text = String::from("\n### Targets\n\n| target | goal | measured | |\n|---|---:|---:|---|\n");
    for Target { text: name, goal, value, measure } in &TARGETS {
        let show = |number: f64| match value {
            Ratio => format!("{number:.2} ×"),
            Plain(unit) => unit.show(number),
        };
        let (sign, bound) = match *goal {
            Below(bound) => ("<", bound),
            AtMost(bound) => ("≤", bound),
            AtLeast(bound) => ("≥", bound),
        };
        let measured = measure(view);
        let verdict = measured.map_or("not measured", |measured| {
            let met = match *goal {
                Below(bound) => measured < bound,
                AtMost(bound) => measured <= bound,
                AtLeast(bound) => measured >= bound,
            };
            if met { "met" } else { "**missed**" }
        });
        let measured = measured.map_or("-".into(), show);
        text += &format!("| {name} | {sign} {} | {measured} | {verdict} |\n", show(bound));
    }
    text
}
