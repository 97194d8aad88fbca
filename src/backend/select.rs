//! Which accelerator a text means: an index, a UUID, or a part of a name.

use super::DeviceOptions;
use super::accelerator::Accelerator;
use crate::error::{Error, ErrorKind, Result};
use uuid::Uuid;

/// The position of the one that the options name, if they name one.
///
/// A number is an index and nothing else, so that what it means does not depend on the names there are. A name that is
/// given whole goes before those it is a part of.
///
/// # Errors
///
/// `Unavailable` if none is meant, `Invalid` if several are; each with what there is.
pub(super) fn select(options: &DeviceOptions, there: &[Accelerator]) -> Result<Option<usize>> {
    let Some(text) = options.adapter.as_deref() else { return Ok(None) };
    let wanted = text.trim();
    let setting = options.adapter_setting;
    let list = |positions: &mut dyn Iterator<Item = usize>| {
        let names = positions.map(|position| {
            let Accelerator { index, name, api, .. } = &there[position];
            format!("{index} `{name}` ({api})")
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let nothing = |what: &str| {
        let all = list(&mut (0..there.len()));
        Error::new(ErrorKind::Unavailable, format!("{setting} is `{wanted}`, but {what}; there is {all}"))
    };
    if !wanted.is_empty() && wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        let index = wanted.parse::<usize>().ok();
        let found = there.iter().position(|accelerator| Some(accelerator.index) == index);
        return found.map(Some).ok_or_else(|| nothing("there is none with this index"));
    }
    let matches: Vec<usize> = if let Ok(uuid) = wanted.parse::<Uuid>() {
        (0..there.len()).filter(|position| there[*position].uuid == Some(uuid)).collect()
    } else {
        let lower = wanted.to_lowercase();
        let named = |is_meant: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let position = |(position, accelerator): (usize, &Accelerator)| {
                is_meant(&accelerator.name.to_lowercase()).then_some(position)
            };
            there.iter().enumerate().filter_map(position).collect()
        };
        let whole = named(&|name| name == lower);
        if whole.is_empty() { named(&|name| name.contains(&lower)) } else { whole }
    };
    match matches[..] {
        [] if wanted.parse::<Uuid>().is_ok() => Err(nothing("there is none with this UUID")),
        [] => Err(nothing("there is none with this in its name")),
        [first, ..] if one_by_several_ways(there, &matches) => Ok(Some(first)),
        _ => {
            let text = format!(
                "{setting} is `{wanted}`, which means several: {}; take an index",
                list(&mut matches.iter().copied())
            );
            Err(Error::new(ErrorKind::Invalid, text))
        }
    }
}

/// Is this one adapter, or one that several interfaces lead to, as Vulkan and Direct3D do on Windows?
fn one_by_several_ways(there: &[Accelerator], matches: &[usize]) -> bool {
    matches.iter().enumerate().all(|(rank, one)| {
        matches[..rank]
            .iter()
            .all(|other| there[*one].name == there[*other].name && there[*one].api != there[*other].api)
    })
}

#[cfg(test)]
mod tests {
    use super::super::accelerator::AcceleratorKind;
    use super::super::{BackendKind, cpu};
    use super::*;

    fn machine(adapters: &[(&str, &str)]) -> Vec<Accelerator> {
        let adapter = |(index, (name, api)): (usize, &(&str, &str))| Accelerator {
            backend: BackendKind::Wgpu,
            index,
            name: (*name).to_owned(),
            uuid: Some(Uuid::from_u128(index as u128 + 10)),
            kind: AcceleratorKind::Discrete,
            api: (*api).to_owned(),
            ..cpu::accelerator()
        };
        adapters.iter().enumerate().map(adapter).collect()
    }

    fn chosen(wanted: &str, there: &[Accelerator]) -> Result<Option<usize>> {
        let options = DeviceOptions { adapter: Some(wanted.to_owned()), ..DeviceOptions::default() };
        select(&options, there)
    }

    const TWO_SORTS: [(&str, &str); 4] = [
        ("Radeon Pro 7", "Vulkan"),
        ("Radeon Pro 70", "Vulkan"),
        ("GeForce 5", "Vulkan"),
        ("GeForce 5", "Vulkan"),
    ];

    #[test]
    fn an_index_a_uuid_and_a_part_of_a_name_each_mean_one() {
        let there = machine(&TWO_SORTS);
        for (wanted, position) in [
            ("0", 0),
            (" 3 ", 3),
            ("02", 2),
            ("0000000000000000000000000000000c", 2),
            ("00000000-0000-0000-0000-00000000000D", 3),
            ("pro 70", 1),
            ("RADEON PRO 7", 0),
        ] {
            assert_eq!(chosen(wanted, &there).unwrap(), Some(position), "{wanted}");
        }
        assert_eq!(select(&DeviceOptions::default(), &there).unwrap(), None);
    }

    #[test]
    fn what_means_none_is_an_error_that_lists_all() {
        let there = machine(&TWO_SORTS[1..]);
        for (wanted, reason) in [
            ("3", "there is none with this index"),
            // It is in a name, too; a number is an index all the same.
            ("70", "there is none with this index"),
            ("99999999999999999999999999", "there is none with this index"),
            ("00000000-0000-0000-0000-0000000000ff", "there is none with this UUID"),
            ("arc", "there is none with this in its name"),
            ("-1", "there is none with this in its name"),
        ] {
            let error = chosen(wanted, &there).unwrap_err();
            assert!(error.is_unavailable(), "{error:?}");
            let list = "0 `Radeon Pro 70` (Vulkan), 1 `GeForce 5` (Vulkan), 2 `GeForce 5` (Vulkan)";
            assert_eq!(error.to_string(), format!("adapter is `{wanted}`, but {reason}; there is {list}"));
        }
    }

    #[test]
    fn what_means_several_is_an_error_that_lists_them() {
        let there = machine(&TWO_SORTS);
        let error = chosen("geforce", &there).unwrap_err();
        assert!(error.is_invalid(), "{error:?}");
        let list = "2 `GeForce 5` (Vulkan), 3 `GeForce 5` (Vulkan)";
        assert_eq!(
            error.to_string(),
            format!("adapter is `geforce`, which means several: {list}; take an index")
        );
        assert!(chosen("radeon", &there).unwrap_err().is_invalid());
        assert!(chosen("GeForce 5", &there).unwrap_err().is_invalid());
    }

    #[test]
    fn one_that_two_interfaces_lead_to_is_not_two() {
        let there = machine(&[("Arc", "Vulkan"), ("GeForce 5", "Vulkan"), ("GeForce 5", "Dx12")]);
        assert_eq!(chosen("geforce", &there).unwrap(), Some(1));
        let there = machine(&[("GeForce 5", "Vulkan"), ("GeForce 5", "Dx12"), ("GeForce 5", "Dx12")]);
        assert!(chosen("geforce", &there).unwrap_err().is_invalid());
    }
}
