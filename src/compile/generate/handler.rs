//! A generated handler: its text, and all that running it takes.

use super::shapes::Shapes;
use crate::compile::{HandlerSource, OutputDecl, Program, TableDecl, compile};
use crate::error::Result;

/// A handler and a series of messages for it.
#[derive(Clone)]
pub(crate) struct GeneratedHandler {
    /// WGSL; the message is `In`, the reply `Out` if that is declared, the state `State`.
    pub text: String,
    pub loop_budget: u32,
    /// Name, type, most per message.
    pub outputs: Vec<(String, String, u32)>,
    /// Words of each message, in WGSL's layout.
    pub messages: Vec<Vec<u32>>,
    /// Words of the first state; none without a state.
    pub state: Vec<u32>,
    /// Names and first contents.
    pub tables: Vec<(String, Vec<u32>)>,
    pub shapes: Shapes,
}

impl GeneratedHandler {
    /// Compiles it, as a kernel would.
    pub fn compile(&self) -> Result<Program> {
        self.compile_for(None)
    }

    /// … for a kernel with instances, whose number is at this byte of a message.
    pub fn compile_for(&self, instance_at: Option<u32>) -> Result<Program> {
        let layout = |name: &str| self.shapes.layout(name);
        let outputs: Vec<_> = self
            .outputs
            .iter()
            .filter_map(|(name, ty, most)| {
                Some(OutputDecl { name: name.clone(), layout: layout(ty)?, max_per_message: *most })
            })
            .collect();
        let tables: Vec<_> = self
            .tables
            .iter()
            .map(|(name, words)| {
                let shape = self.shapes.tables.iter().find(|table| table.name == *name);
                let words_each = shape.map_or(1, |table| table.element.words);
                TableDecl {
                    name: name.clone(),
                    element_size: 4 * words_each,
                    element_name: "Element",
                    len: words.len() / words_each as usize,
                }
            })
            .collect();
        // The Rust side may leave the state's type to the handler, and has to where it has a matrix.
        let state = if self.state.is_empty() { None } else { layout("State") };
        compile(&HandlerSource {
            name: "generated.wgsl",
            text: &self.text,
            input: layout("In").expect("a message has no matrix"),
            output: layout("Out").expect("a reply has no matrix"),
            state,
            outputs: &outputs,
            tables: &tables,
            loop_budget: self.loop_budget,
            instance_at,
        })
    }

    /// What running it takes besides the text, a line each: a file that [`read`](Self::read) reads.
    pub fn data(&self) -> String {
        let hex = |words: &[u32]| words.iter().map(|word| format!(" {word:x}")).collect::<String>();
        let mut text = format!("budget {}\n", self.loop_budget);
        for (name, ty, most) in &self.outputs {
            text += &format!("output {name} {ty} {most}\n");
        }
        for (name, words) in &self.tables {
            text += &format!("table {name}{}\n", hex(words));
        }
        if !self.state.is_empty() {
            text += &format!("state{}\n", hex(&self.state));
        }
        for message in &self.messages {
            text += &format!("message{}\n", hex(message));
        }
        text
    }

    /// A handler from its two files.
    pub fn read(text: &str, data: &str) -> Self {
        let mut handler = Self {
            text: text.to_string(),
            loop_budget: 0,
            outputs: Vec::new(),
            messages: Vec::new(),
            state: Vec::new(),
            tables: Vec::new(),
            shapes: Shapes::of(text),
        };
        for line in data.lines() {
            let mut parts = line.split(' ');
            let head = parts.next().unwrap_or_default();
            let mut next = || parts.next().unwrap_or_default().to_string();
            match head {
                "budget" => handler.loop_budget = next().parse().expect("a number"),
                "output" => handler.outputs.push((next(), next(), next().parse().expect("a number"))),
                "table" => {
                    let name = next();
                    handler.tables.push((name, words(parts)));
                }
                "state" => handler.state = words(parts),
                "message" => handler.messages.push(words(parts)),
                other => panic!("`{other}` is nothing that a handler has"),
            }
        }
        handler
    }
}

fn words<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<u32> {
    parts.map(|part| u32::from_str_radix(part, 16).expect("hexadecimal words")).collect()
}

impl std::fmt::Debug for GeneratedHandler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}\n{}", self.text, self.data())
    }
}
