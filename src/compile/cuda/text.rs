//! C++ in the making, line by line, each with its place in the user's WGSL.

use naga::Span;

/// The text so far.
pub(super) struct Text {
    out: String,
    /// The file's name as a C++ string.
    file: String,
    /// Where each line of the user's text begins.
    line_starts: Vec<u32>,
    /// Bytes of the user's text.
    user_length: u32,
    /// The line that a C++ compiler takes the next one for, if that is one of the user's.
    next_line: Option<u32>,
    depth: usize,
}

/// Where the library's text begins that is appended to the user's.
const LIBRARY: &str = "\nvar<private> rt_fault: u32;";

impl Text {
    pub fn new(program_text: &str, source_name: &str) -> Self {
        let user_length = program_text.rfind(LIBRARY).unwrap_or(program_text.len());
        let breaks = program_text[..user_length].match_indices('\n').map(|(at, _)| at as u32 + 1);
        let file = source_name.chars().map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => "_".to_owned(),
            c => c.to_string(),
        });
        Self {
            out: String::new(),
            file: file.collect(),
            line_starts: std::iter::once(0).chain(breaks).collect(),
            user_length: user_length as u32,
            next_line: None,
            depth: 0,
        }
    }

    /// The user's line that a span begins in.
    fn place(&self, span: Span) -> Option<u32> {
        let start = span.to_range()?.start as u32;
        let is_users = span.is_defined() && start < self.user_length;
        is_users.then(|| self.line_starts.partition_point(|begin| *begin <= start) as u32)
    }

    /// A line that was made from what stands at `span`. If that is not known, messages about it name the lines around
    /// it.
    pub fn line(&mut self, span: Span, line: impl AsRef<str>) {
        let line = line.as_ref();
        debug_assert!(!line.contains('\n'));
        if let Some(place) = self.place(span)
            && self.next_line != Some(place)
        {
            self.out += &format!("#line {place} \"{}\"\n", self.file);
            self.next_line = Some(place);
        }
        (0..self.depth).for_each(|_| self.out.push_str("    "));
        self.out += line;
        self.out.push('\n');
        self.next_line = self.next_line.map(|line| line + 1);
    }

    /// A line that is the library's own.
    pub fn own(&mut self, line: impl AsRef<str>) {
        self.line(Span::UNDEFINED, line);
    }

    /// What follows was made from what stands at `span`, if anywhere in the user's text.
    pub fn begin(&mut self, span: Span) {
        if self.next_line.is_some() && self.place(span).is_none() {
            self.leave_source();
        }
    }

    /// What follows belongs to no line of the user's.
    pub fn leave_source(&mut self) {
        self.out += "#line 1 \"ringwork\"\n";
        self.next_line = None;
    }

    pub fn indent(&mut self) {
        self.depth += 1;
    }

    pub fn outdent(&mut self) {
        self.depth -= 1;
    }

    pub fn finish(mut self) -> String {
        self.leave_source();
        self.out
    }
}
