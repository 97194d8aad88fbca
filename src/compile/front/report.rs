//! Where an error is and how it is worded: `<name>:LINE:COL: what is wrong; what to write instead`.

use crate::error::{Error, ErrorKind};
use naga::Span;
use std::fmt::Display;

/// The text that spans point into.
pub(super) struct Reporter<'a> {
    name: &'a str,
    text: &'a str,
    user_len: usize,
}

impl<'a> Reporter<'a> {
    /// `text` begins with `user_len` bytes of the user's.
    pub fn new(name: &'a str, text: &'a str, user_len: usize) -> Self {
        Self { name, text, user_len }
    }

    /// The name that stands for the file.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The text that spans point into.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Is this place in the user's text?
    pub fn is_user(&self, span: Span) -> bool {
        span.to_range().is_some_and(|r| r.start <= self.user_len)
    }

    /// An error about a byte of the user's text.
    pub fn at(&self, offset: usize, what: impl Display) -> Error {
        Error::new(ErrorKind::Rejected, format!("{}: {what}", self.place_at(offset)))
    }

    /// Where a byte is, as `file:line:column`.
    fn place_at(&self, offset: usize) -> String {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    /// Where a span begins, as `file:line:column`.
    pub fn place(&self, span: Span) -> String {
        self.place_at(span.to_range().map_or(0, |range| range.start))
    }

    /// An error about a span; one in the appended text has no line of the user's to show.
    pub fn span(&self, span: Span, what: impl Display) -> Error {
        match span.to_range() {
            Some(range) if range.start <= self.user_len => self.at(range.start, what),
            Some(_) => self.appended(what),
            None => self.whole(what),
        }
    }

    /// An error about the handler as a whole.
    pub fn whole(&self, what: impl Display) -> Error {
        self.at(0, what)
    }

    /// An error in the declarations that the library appended.
    pub fn appended(&self, what: impl Display) -> Error {
        let name = self.name;
        Error::new(
            ErrorKind::Rejected,
            format!(
                "{name}: in the declarations added for the Rust types and outputs of this handler: {what}"
            ),
        )
    }
}
