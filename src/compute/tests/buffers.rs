//! A buffer beside a model that keeps both sides as arrays, and what is dirty as one flag for each element.

use crate::backend::cpu::CpuDevice;
use crate::compute::{Access, BoundTable, BufferState, Lease, UnifiedBuffer};
use crate::error::{Error, Result};
use proptest::prelude::*;
use std::ops::Range;
use std::time::{Duration, Instant};

const LEN: usize = 6;

#[derive(Clone, Debug)]
enum Operation {
    Host,
    /// A view of these elements is written; whether the kernel of this number runs meanwhile.
    HostMut(Range<usize>, u32, Option<usize>),
    Read(Range<usize>),
    Write(Range<usize>, u32),
    CopyFrom(u32),
    EnsureOnDevice,
    ReleaseHost,
    KeepHost,
    KeepDevice,
    Bind(Access),
    Unbind(usize),
    /// The kernel of this number writes an element.
    Run(usize, usize, u32),
}

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let range = || (0..=LEN, 0..=LEN).prop_map(|(a, b)| a.min(b)..a.max(b));
    let access = prop::sample::select(vec![
        Access::Read,
        Access::Atomic,
        Access::Write,
        Access::Write,
        Access::SharedWrite,
    ]);
    prop_oneof![
        3 => Just(Host),
        5 => (range(), any::<u32>(), prop::option::of(0..3usize)).prop_map(|(r, v, k)| HostMut(r, v, k)),
        2 => range().prop_map(Read),
        4 => (range(), any::<u32>()).prop_map(|(r, v)| Write(r, v)),
        2 => any::<u32>().prop_map(CopyFrom),
        2 => Just(EnsureOnDevice),
        1 => Just(ReleaseHost),
        1 => Just(KeepHost),
        1 => Just(KeepDevice),
        3 => access.prop_map(Bind),
        2 => (0..3usize).prop_map(Unbind),
        4 => (0..3usize, 0..LEN, any::<u32>()).prop_map(|(k, i, v)| Run(k, i, v)),
    ]
}

/// How an operation may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NoValues,
    Conflict,
}

#[derive(Default)]
struct Model {
    host: Option<[u32; LEN]>,
    device: [u32; LEN],
    device_has_values: bool,
    dirty: [bool; LEN],
    device_is_newer: bool,
    kernels: Vec<Access>,
    to_device: (u64, u64),
    to_host: (u64, u64),
}

impl Model {
    fn is_stale(&self) -> bool {
        self.device_has_values && self.device_is_newer
    }

    fn is_current(&self) -> bool {
        self.host.is_some() && !self.is_stale()
    }

    fn is_dirty(&self) -> bool {
        self.dirty.contains(&true)
    }

    fn check(&self) -> Result<(), Refused> {
        if self.is_dirty() && self.is_stale() {
            return Err(Refused::Conflict);
        }
        if self.host.is_none() && !self.device_has_values { Err(Refused::NoValues) } else { Ok(()) }
    }

    fn state(&self) -> BufferState {
        match (self.host.is_some(), self.device_has_values) {
            (false, false) => BufferState::Uninitialized,
            (true, false) => BufferState::HostOnly,
            (false, true) => BufferState::DeviceOnly,
            _ if self.is_dirty() => BufferState::HostDirty,
            _ if self.device_is_newer => BufferState::DeviceDirty,
            _ => BufferState::Synchronized,
        }
    }

    fn refresh(&mut self) -> Result<(), Refused> {
        self.check()?;
        if !self.is_current() {
            self.host = Some(self.device);
            self.device_is_newer = false;
            self.to_host.0 += 1;
            self.to_host.1 += 4 * LEN as u64;
        }
        Ok(())
    }

    /// One transfer for each row of elements that are dirty.
    fn send_dirty(&mut self) {
        let Some(host) = self.host else { return };
        for (index, value) in host.into_iter().enumerate() {
            if self.dirty[index] {
                self.to_device.0 += u64::from(index == 0 || !self.dirty[index - 1]);
                self.to_device.1 += 4;
                self.device[index] = value;
                if !self.device_has_values {
                    self.device_is_newer = false;
                }
            }
        }
        self.device_has_values |= self.is_dirty();
        self.dirty = [false; LEN];
    }

    fn flush(&mut self) -> Result<(), Refused> {
        if self.is_dirty() && self.is_stale() {
            return Err(Refused::Conflict);
        }
        self.send_dirty();
        Ok(())
    }

    fn write(&mut self, range: Range<usize>, value: u32) -> Result<(), Refused> {
        if range.is_empty() {
            return Ok(());
        }
        let is_whole = range.len() == LEN;
        let into_copy = self.is_current() || is_whole && (self.host.is_some() || !self.device_has_values);
        if !is_whole {
            self.check()?;
        }
        if !into_copy {
            self.device[range.clone()].fill(value);
            self.to_device.0 += 1;
            self.to_device.1 += 4 * range.len() as u64;
            return Ok(());
        }
        self.host.get_or_insert_default()[range.clone()].fill(value);
        self.dirty[range].fill(true);
        if is_whole {
            self.device_is_newer = false;
        }
        if !self.kernels.is_empty() {
            self.send_dirty();
        }
        Ok(())
    }

    fn run(&mut self, kernel: usize, index: usize, value: u32) -> bool {
        let runs = self.kernels.get(kernel).is_some_and(|access| access.may_write());
        if runs {
            self.device[index] = value;
            self.device_has_values = true;
            self.device_is_newer = true;
        }
        runs
    }

    fn bind(&mut self, access: Access) -> Result<(), Refused> {
        let alone = |access| access == Access::Write;
        if self.kernels.iter().any(|other| alone(*other)) || alone(access) && !self.kernels.is_empty() {
            return Err(Refused::Conflict);
        }
        if self.host.is_none() && !self.device_has_values && !access.may_write() {
            return Err(Refused::NoValues);
        }
        self.flush()?;
        self.kernels.push(access);
        Ok(())
    }
}

/// The buffer with its kernels, which are played: they do what a port with leases does.
struct Played {
    buffer: UnifiedBuffer<u32>,
    leases: Vec<Lease>,
}

/// A kernel writes an element.
fn run(buffer: &UnifiedBuffer<u32>, lease: &Lease, index: usize, value: u32) {
    lease.begin();
    let storage = BoundTable::of(buffer).storage;
    let deadline = Instant::now() + Duration::from_secs(1);
    storage.write(4 * index, bytemuck::bytes_of(&value), deadline).unwrap();
    lease.end();
}

fn refused(error: &Error) -> Refused {
    assert!(error.is_conflict() || error.is_invalid(), "{error:?}");
    if error.is_conflict() { Refused::Conflict } else { Refused::NoValues }
}

fn play(operation: &Operation, played: &mut Played, model: &mut Model) {
    let Played { buffer, leases } = played;
    let (result, expected) = match operation.clone() {
        Operation::Host => {
            let expected = model.refresh();
            let view = buffer.host();
            if let Ok(view) = &view {
                assert_eq!(Some(&**view), model.host.as_ref().map(|host| &host[..]));
            }
            (view.map(drop), expected)
        }
        Operation::HostMut(range, value, kernel) => {
            let expected = model.refresh();
            let view = buffer.slice(range.clone()).and_then(|slice| slice.host_mut());
            let (Ok(()), Ok(_)) = (expected, &view) else {
                assert_eq!(view.map(drop).map_err(|error| refused(&error)), expected, "{operation:?}");
                return;
            };
            let mut view = view.unwrap();
            view.fill(value);
            if let Some(kernel) = kernel
                && model.run(kernel, 0, !value)
            {
                run(buffer, &leases[kernel], 0, !value);
            }
            let host = model.host.as_mut().expect("refreshed");
            host[range.clone()].fill(value);
            model.dirty[range.clone()].fill(true);
            let expected = match (range.is_empty(), model.is_stale()) {
                (true, _) => Ok(()),
                (false, true) => Err(Refused::Conflict),
                (false, false) if model.kernels.is_empty() => Ok(()),
                _ => model.flush(),
            };
            (view.commit(), expected)
        }
        Operation::Read(range) => {
            let expected = model.check();
            let mut values = vec![0; range.len()];
            let result = buffer.read(range.start, &mut values);
            if result.is_ok() && expected.is_ok() {
                let from = if model.is_current() { model.host.unwrap() } else { model.device };
                assert_eq!(values, from[range.clone()]);
                if !model.is_current() {
                    model.to_host.0 += 1;
                    model.to_host.1 += 4 * range.len() as u64;
                }
            }
            (result, expected)
        }
        Operation::Write(range, value) => {
            let result = buffer.write(range.start, &vec![value; range.len()]);
            (result, model.write(range, value))
        }
        Operation::CopyFrom(value) => (buffer.copy_from(&[value; LEN]), model.write(0..LEN, value)),
        Operation::EnsureOnDevice => (buffer.ensure_on_device(), model.check().and_then(|()| model.flush())),
        Operation::ReleaseHost => {
            let expected = model.flush();
            if expected.is_ok() {
                model.host = None;
            }
            (buffer.release_host(), expected)
        }
        Operation::KeepHost => {
            model.send_dirty();
            (buffer.keep_host(), Ok(()))
        }
        Operation::KeepDevice => {
            let expected = if model.device_has_values { Ok(()) } else { Err(Refused::NoValues) };
            if expected.is_ok() && model.is_dirty() {
                model.dirty = [false; LEN];
                model.device_is_newer = true;
            }
            (buffer.keep_device(), expected)
        }
        Operation::Bind(access) => {
            let expected = model.bind(access);
            let taken = Lease::take(&BoundTable::of(buffer), "k", "t", access);
            (taken.map(|lease| leases.push(lease)), expected)
        }
        Operation::Unbind(kernel) => {
            if kernel < leases.len() {
                drop(leases.remove(kernel));
                model.kernels.remove(kernel);
            }
            return;
        }
        Operation::Run(kernel, index, value) => {
            if model.run(kernel, index, value) {
                run(buffer, &leases[kernel], index, value);
            }
            return;
        }
    };
    assert_eq!(result.map_err(|error| refused(&error)), expected, "{operation:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_buffer_is_what_its_model_is(
        has_values in any::<bool>(),
        history in prop::collection::vec(operations(), 1..24),
    ) {
        let device = CpuDevice::open();
        let first = [1, 2, 3, 4, 5, 6];
        let (buffer, mut model) = match has_values {
            true => {
                let to_device = (1, 4 * LEN as u64);
                let model =
                    Model { device: first, device_has_values: true, device_is_newer: true, to_device, ..Model::default() };
                (UnifiedBuffer::new(&*device, &first).unwrap(), model)
            }
            false => (UnifiedBuffer::uninitialized(&*device, LEN).unwrap(), Model::default()),
        };
        let mut played = Played { buffer, leases: Vec::new() };
        for operation in &history {
            play(operation, &mut played, &mut model);
            let transfers = played.buffer.transfers();
            prop_assert_eq!(played.buffer.state(), model.state(), "{:?}", operation);
            prop_assert_eq!((transfers.to_device, transfers.bytes_to_device), model.to_device, "{:?}", operation);
            prop_assert_eq!((transfers.to_host, transfers.bytes_to_host), model.to_host, "{:?}", operation);
        }
        // What the device has, to the last element.
        let storage = BoundTable::of(&played.buffer).storage;
        let mut device = [0u32; LEN];
        storage.read(0, bytemuck::bytes_of_mut(&mut device), Instant::now() + Duration::from_secs(1)).unwrap();
        prop_assert_eq!(device, model.device);
    }
}
