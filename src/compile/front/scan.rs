//! The words of a WGSL text with their places, for what naga's module no longer knows: where a struct member or an
//! attribute stands.

/// An identifier or keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub text: &'a str,
    /// Byte offset of its first character.
    pub at: usize,
    /// The last character before it that is not a blank (`@` for an attribute), if any.
    pub before: Option<char>,
}

/// The words of a text.
#[derive(Default)]
pub(super) struct Scan<'a> {
    pub words: Vec<Word<'a>>,
    /// Where a block comment begins that never ends.
    pub open_comment: Option<usize>,
}

/// Splits a text into words, leaving out comments and numbers.
pub(super) fn scan(text: &str) -> Scan<'_> {
    let Scan { mut words, mut open_comment } = Scan::default();
    let mut before = None;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find(ends_line).unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let length = comment_length(rest);
            open_comment = length.is_none().then_some(at);
            at += length.unwrap_or(rest.len());
        } else if c.is_alphabetic() || c == '_' || c.is_ascii_digit() {
            let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            if !c.is_ascii_digit() {
                words.push(Word { text: &rest[..length], at, before });
            }
            before = Some(c);
            at += length;
        } else {
            if !c.is_whitespace() {
                before = Some(c);
            }
            at += c.len_utf8();
        }
    }
    Scan { words, open_comment }
}

/// Where a character is, from `from` on and outside of comments.
pub(super) fn find_outside(text: &str, from: usize, wanted: char) -> Option<usize> {
    let mut at = from;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find(ends_line).unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += comment_length(rest).unwrap_or(rest.len());
        } else if c == wanted {
            return Some(at);
        } else {
            at += c.len_utf8();
        }
    }
    None
}

/// Is this one of [WGSL's line breaks](https://www.w3.org/TR/WGSL/#line-break), which end a line comment? If naga saw text
/// where the scan sees a comment, what stands there would pass every check of words.
fn ends_line(c: char) -> bool {
    matches!(c, '\u{a}'..='\u{d}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Bytes of the block comment that `text` begins with, if it ends; WGSL's comments nest.
fn comment_length(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += c.len_utf8();
        }
    }
    None
}

/// The place of the name in `keyword name`, as in `struct Request`.
pub(super) fn declaration(words: &[Word<'_>], keyword: &str, name: &str) -> Option<usize> {
    words.windows(2).find(|w| w[0].text == keyword && w[1].text == name).map(|w| w[1].at)
}

/// The place of a member of a struct: its name, and the struct's if the member is not there.
pub(super) fn member(words: &[Word<'_>], structure: &str, name: &str) -> Option<usize> {
    let start = declaration(words, "struct", structure)?;
    words
        .iter()
        .skip_while(|w| w.at <= start)
        .take_while(|w| !matches!(w.text, "struct" | "fn" | "alias"))
        .find(|w| w.text == name && matches!(w.before, Some('{' | ',' | ')')))
        .map_or(Some(start), |w| Some(w.at))
}

/// The place of a parameter of a function: its name, and the function's if the parameter is not there.
pub(super) fn parameter(words: &[Word<'_>], function: &str, name: &str) -> Option<usize> {
    let start = declaration(words, "fn", function)?;
    words
        .iter()
        .skip_while(|w| w.at <= start)
        .take_while(|w| w.text != "fn")
        .find(|w| w.text == name && matches!(w.before, Some('(' | ',')))
        .map_or(Some(start), |w| Some(w.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_skip_comments_and_numbers() {
        let text = "a // b\n/* c /* d */ e */ @f(1.0f) 0xg _h.i1";
        let found: Vec<_> = scan(text).words.iter().map(|w| (w.text, w.before)).collect();
        assert_eq!(found, [("a", None), ("f", Some('@')), ("_h", Some('0')), ("i1", Some('.'))]);
        assert_eq!(scan("a /* /* b */ never ended").open_comment, Some(2));
    }

    #[test]
    fn a_line_comment_ends_where_naga_ends_it() {
        for end in ["\n", "\u{b}", "\u{c}", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}"] {
            let text = format!("// a;{end}b;");
            let found: Vec<_> = scan(&text).words.iter().map(|word| word.text).collect();
            assert_eq!(found, ["b"], "{end:?}");
            assert_eq!(find_outside(&text, 0, ';'), Some(text.len() - 1), "{end:?}");
            let module = naga::front::wgsl::parse_str(&format!("// a{end}fn b() {{}}")).unwrap();
            assert_eq!(module.functions.len(), 1, "{end:?}");
        }
        for other in ["\u{b2}", "\u{1c}", "\u{a0}", "\u{200e}", "\t"] {
            assert!(scan(&format!("// a{other}b")).words.is_empty(), "{other:?}");
            let module = naga::front::wgsl::parse_str(&format!("// a{other}fn b() {{}}")).unwrap();
            assert_eq!(module.functions.len(), 0, "{other:?}");
        }
    }

    #[test]
    fn members_are_found_where_they_stand() {
        let Scan { words, .. } = scan("struct A { x: f32, @size(16) y: B, } struct B { x: u32 }");
        assert_eq!(member(&words, "A", "y"), Some(29));
        assert_eq!(member(&words, "B", "x"), Some(48));
        assert_eq!(member(&words, "B", "y"), Some(44));
        assert_eq!(member(&words, "C", "y"), None);
    }
}
