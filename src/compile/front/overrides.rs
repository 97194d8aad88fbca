//! `override` constants become `const` with the value that was set for them, or else their own: in the text, so that all
//! that may depend on them, sizes of arrays and workgroups too, is constant for whoever reads it next.

use super::report::Reporter;
use super::scan::{Word, find_outside};
use crate::compile::compute::ComputeSource;
use crate::error::{Error, ErrorKind, Result};
use naga::{Module, ScalarKind, TypeInner};

/// The text with its overrides resolved, where no line moves; and whether a value is missing, for a draft, which has
/// `stand_in` there.
pub(super) fn resolve(
    module: &Module,
    source: &ComputeSource<'_>,
    stand_in: f64,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<(String, bool)> {
    let ComputeSource { text, constants, .. } = *source;
    let mut is_draft = false;
    for (index, (name, _)) in constants.iter().enumerate() {
        let Some((_, declared)) = module.overrides.iter().find(|(_, o)| is_named(o, name)) else {
            return Err(report.whole(format_args!(
                "there is no `override {name}`, for which a constant is set; declare it, or remove the constant"
            )));
        };
        // By its name or its number.
        let twin = constants[..index].iter().find(|(other, _)| is_named(declared, other));
        if let Some((other, _)) = twin {
            return Err(if other == name {
                report.whole(format_args!("the constant `{name}` is set twice; set it once"))
            } else {
                report.whole(format_args!(
                    "the constants `{other}` and `{name}` are one `override`, which is set twice; set it once"
                ))
            });
        }
    }
    let mut resolved = text.to_string();
    // From the end on, so that earlier places stay where they are.
    for (index, word) in words.iter().enumerate().rev().filter(|(_, word)| word.text == "override") {
        let Some(name) = words.get(index + 1) else { continue };
        let found = module.overrides.iter().find(|(_, o)| o.name.as_deref() == Some(name.text));
        let Some((_, declared)) = found else { continue };
        let end = find_outside(text, word.at, ';').unwrap_or(text.len());
        let constant =
            constants.iter().find(|(wanted, _)| is_named(declared, wanted)).map(|(_, value)| *value);
        let is_missing = constant.is_none() && declared.init.is_none() && source.draft;
        is_draft |= is_missing;
        match constant.or(is_missing.then_some(stand_in)) {
            Some(value) => {
                let kind = match module.types[declared.ty].inner {
                    TypeInner::Scalar(scalar) => scalar.kind,
                    _ => unreachable!("validated: an override is a scalar"),
                };
                let value = literal(name.text, kind, value)?;
                resolved
                    .replace_range(name.at + name.text.len()..end, &lines_kept(&text[name.at..end], value));
            }
            None if declared.init.is_none() => {
                return Err(report.at(
                    word.at,
                    format_args!(
                        "the override `{0}` has no value; call `.constant(\"{0}\", …)` or write one here",
                        name.text
                    ),
                ));
            }
            None => {}
        }
        resolved.replace_range(word.at..word.at + word.text.len(), "const   ");
        if let Some(id) = index.checked_sub(1).map(|before| words[before])
            && id.text == "id"
            && id.before == Some('@')
            && let (Some(start), Some(close)) = (text[..id.at].rfind('@'), text[id.at..word.at].find(')'))
        {
            let end = id.at + close + 1;
            let blank: String = text[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            resolved.replace_range(start..end, &blank);
        }
    }
    Ok((resolved, is_draft))
}

fn is_named(declared: &naga::Override, wanted: &str) -> bool {
    declared.name.as_deref() == Some(wanted) || declared.id.is_some_and(|id| wanted == id.to_string())
}

/// The type and value to write, with as many line breaks as were there.
fn lines_kept(old: &str, value: String) -> String {
    value + &"\n".repeat(old.matches('\n').count())
}

/// A value in the type of its override.
fn literal(name: &str, kind: ScalarKind, value: f64) -> Result<String> {
    let wrong = |ty: &str| {
        let text = format!("the constant `{name}` is {value}, which is no `{ty}`; set one that is");
        Err(Error::new(ErrorKind::Invalid, text))
    };
    let is_between = |least: f64, most: f64| value.fract() == 0.0 && (least..=most).contains(&value);
    Ok(match kind {
        ScalarKind::Uint if is_between(0.0, u32::MAX.into()) => format!(": u32 = {}u", value as u32),
        ScalarKind::Uint => return wrong("u32"),
        ScalarKind::Sint if is_between(i32::MIN.into(), i32::MAX.into()) => {
            format!(": i32 = i32({})", value as i32)
        }
        ScalarKind::Sint => return wrong("i32"),
        ScalarKind::Float if (value as f32).is_finite() => format!(": f32 = f32({:e})", value as f32),
        ScalarKind::Float => return wrong("f32"),
        _ => format!(": bool = {}", value != 0.0),
    })
}
