//! Which accelerator a text means: an index, a UUID, a PCI address, or a part of a name.

use super::DeviceOptions;
use super::accelerator::Accelerator;
use crate::error::{Error, ErrorKind, Result};
use uuid::Uuid;

/// Those with this name, whatever the case, or else those with it as a part of theirs.
fn named(wanted: &str, there: &[Accelerator]) -> Vec<usize> {
    let lower = wanted.to_lowercase();
    let meant = |is_meant: &dyn Fn(&str) -> bool| -> Vec<usize> {
        let position = |(position, accelerator): (usize, &Accelerator)| {
            is_meant(&accelerator.name.to_lowercase()).then_some(position)
        };
        there.iter().enumerate().filter_map(position).collect()
    };
    let whole = meant(&|name| name == lower);
    if whole.is_empty() { meant(&|name| name.contains(&lower)) } else { whole }
}

/// The one with this name, or this as a part of its name. Of one that several interfaces lead to, the first.
///
/// # Errors
///
/// `Unavailable` if none is meant, `Invalid` if several are; each with what there is.
pub(super) fn by_name<'a>(wanted: &str, there: &'a [Accelerator]) -> Result<&'a Accelerator> {
    let list = |positions: &[usize]| {
        let names = positions.iter().map(|position| {
            let Accelerator { backend, index, name, .. } = &there[*position];
            format!("{backend} {index} `{name}`")
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let matches = if wanted.trim().is_empty() { Vec::new() } else { named(wanted.trim(), there) };
    match matches[..] {
        [] => {
            let all: Vec<_> = (0..there.len()).collect();
            let text =
                format!("there is no accelerator with `{wanted}` in its name; there is {}", list(&all));
            Err(Error::new(ErrorKind::Unavailable, text))
        }
        [first, ..] if one_by_several_ways(there, &matches) => Ok(&there[first]),
        _ => {
            let text =
                format!("`{wanted}` means several accelerators: {}; take a UUID or an index", list(&matches));
            Err(Error::new(ErrorKind::Invalid, text))
        }
    }
}

/// The position of the one that the options name, if they name one.
///
/// A number is an index and nothing else, so that what it means does not depend on the names there are. A name that is
/// given whole goes before those it is a part of.
///
/// # Errors
///
/// `Unavailable` if none is meant, `Invalid` if several are; each with what there is.
#[cfg_attr(
    not(any(feature = "cuda", feature = "wgpu", test)),
    expect(dead_code, reason = "without a GPU's backend there is one accelerator")
)]
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
    let at_address = |accelerator: &Accelerator| {
        accelerator.pci_address.as_ref().is_some_and(|address| address.eq_ignore_ascii_case(wanted))
    };
    if let Some(found) = there.iter().position(at_address) {
        return Ok(Some(found));
    }
    let matches: Vec<usize> = if let Ok(uuid) = wanted.parse::<Uuid>() {
        (0..there.len()).filter(|position| there[*position].uuid == Some(uuid)).collect()
    } else {
        named(wanted, there)
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
    fn a_pci_address_means_the_one_that_has_it() {
        let mut there = machine(&TWO_SORTS);
        there[3].pci_address = Some("0000:e5:00.0".to_owned());
        assert_eq!(chosen("0000:E5:00.0", &there).unwrap(), Some(3));
        assert!(chosen("0000:e6:00.0", &there).unwrap_err().is_unavailable());
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
    fn a_name_means_one_of_all_backends() {
        let mut there = machine(&TWO_SORTS);
        // The first two are one GPU that CUDA and Vulkan lead to.
        there[0] = Accelerator { backend: BackendKind::Cuda, api: "CUDA".to_owned(), ..there[0].clone() };
        there[1].name = there[0].name.clone();
        assert_eq!(by_name("radeon pro", &there).unwrap().backend, BackendKind::Cuda);
        let error = by_name("geforce", &there).unwrap_err();
        assert!(error.is_invalid(), "{error:?}");
        let list = "wgpu 2 `GeForce 5`, wgpu 3 `GeForce 5`";
        assert_eq!(
            error.to_string(),
            format!("`geforce` means several accelerators: {list}; take a UUID or an index")
        );
        for nothing in ["arc", "", " "] {
            let error = by_name(nothing, &there[2..]).unwrap_err();
            assert!(error.is_unavailable(), "{error:?}");
            let text = format!("there is no accelerator with `{nothing}` in its name; there is {list}");
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn one_that_two_interfaces_lead_to_is_not_two() {
        let there = machine(&[("Arc", "Vulkan"), ("GeForce 5", "Vulkan"), ("GeForce 5", "Dx12")]);
        assert_eq!(chosen("geforce", &there).unwrap(), Some(1));
        let there = machine(&[("GeForce 5", "Vulkan"), ("GeForce 5", "Dx12"), ("GeForce 5", "Dx12")]);
        assert!(chosen("geforce", &there).unwrap_err().is_invalid());
    }
}
