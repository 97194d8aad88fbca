//! What is asked of a runtime before there is one: by the program, and from outside of it.

use super::dead_letters::{self, DeadLetterLog};
use super::runtime::Runtime;
use crate::backend::{self, Accelerator, BackendKind, Choice, DeviceOptions};
use crate::compile::{CACHE_VARIABLE, Cache, CacheSettings};
use crate::error::{Error, ErrorKind, Result};

/// Names the backend from outside.
const BACKEND_VARIABLE: &str = "RINGWORK_BACKEND";
/// Names the adapter from outside.
const ADAPTER_VARIABLE: &str = "RINGWORK_ADAPTER";

/// An environment variable, if it is set.
fn variable(name: &str) -> Result<Option<String>> {
    let text = |value: std::ffi::OsString| {
        value.into_string().map_err(|value| {
            let text = format!("{name} is `{}`, which is not Unicode", value.to_string_lossy());
            Error::new(ErrorKind::Invalid, text)
        })
    };
    std::env::var_os(name).map(text).transpose()
}

/// Configures a [`Runtime`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct RuntimeBuilder {
    backend: BackendKind,
    adapter: Option<String>,
    cache: CacheSettings,
    dead_letters: usize,
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        Self {
            backend: BackendKind::default(),
            adapter: None,
            cache: CacheSettings::default(),
            dead_letters: dead_letters::CAPACITY,
        }
    }
}

impl RuntimeBuilder {
    /// The backend that runs device kernels. [`BackendKind::Auto`], the default, can be replaced from outside by
    /// the environment variable `RINGWORK_BACKEND` (`cpu`, `wgpu`, `cuda`); any other choice stands.
    pub fn backend(mut self, kind: BackendKind) -> Self {
        self.backend = kind;
        self
    }

    /// The adapter that a GPU backend opens: its [index](crate::Accelerator::index), its
    /// [UUID](crate::Accelerator::uuid), its [PCI address](crate::Accelerator::pci_address), or a part of its name,
    /// whatever the case; `examples/doctor.rs` lists them.
    /// Unless set, the environment variable `RINGWORK_ADAPTER` says it, or else it is the best one there is.
    ///
    /// With [`Auto`](BackendKind::Auto) it is this adapter or an error, and never the CPU; it may be a software
    /// rasteriser. The [CPU](BackendKind::Cpu) takes no notice of it.
    ///
    /// A number is an index. A part of a name has to be of one adapter's name, or be the whole name of one; an adapter
    /// that several interfaces lead to (Vulkan and Direct3D) counts as one.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{BackendKind, Runtime};
    ///
    /// let builder = Runtime::builder().backend(BackendKind::Wgpu).adapter("no such adapter");
    /// println!("{}", builder.choice().unwrap_err()); // what there is instead
    /// assert!(Runtime::builder().adapter("").build().is_err_and(|error| error.is_invalid()));
    /// ```
    pub fn adapter(mut self, which: impl Into<String>) -> Self {
        self.adapter = Some(which.into());
        self
    }

    /// The accelerator that device kernels run on, unless one of them [says otherwise](crate::RingKernel::on): sets
    /// [`backend`](Self::backend) and [`adapter`](Self::adapter).
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, Runtime};
    ///
    /// for accelerator in Accelerator::all() {
    ///     let chosen = Runtime::builder().on(&accelerator).choice()?.accelerator;
    ///     assert_eq!((chosen.backend, chosen.index), (accelerator.backend, accelerator.index));
    /// }
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn on(self, accelerator: &Accelerator) -> Self {
        let builder = self.backend(accelerator.backend);
        // Two interfaces may lead to one accelerator, which then has one UUID: the index says which.
        builder.adapter(accelerator.index.to_string())
    }

    /// How compiled handlers are kept; [`CacheSettings`] says how unless set.
    pub fn cache(mut self, settings: CacheSettings) -> Self {
        self.cache = settings;
        self
    }

    /// Dead letters that are kept until they are [taken](Runtime::take_dead_letters), from 0 to 1,048,576; unless set, 256.
    /// Each keeps its message. All are [counted](crate::Telemetry::dead_letters), whatever this is.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::Runtime;
    ///
    /// let runtime = Runtime::builder().dead_letter_capacity(10_000).build()?;
    /// for letter in runtime.take_dead_letters() {
    ///     println!("{} of {}: {}", letter.id, letter.kernel, letter.cause);
    /// }
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn dead_letter_capacity(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }

    /// What device kernels of this runtime would run on, and why. No device is opened: one that is chosen here may
    /// still turn out not to open.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{BackendKind, Runtime};
    ///
    /// let choice = Runtime::builder().backend(BackendKind::Cpu).choice()?;
    /// assert_eq!(choice.accelerator.backend, BackendKind::Cpu);
    /// println!("{} ({})", choice.accelerator, choice.why);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if `RINGWORK_BACKEND` is set to something else than a backend's name, or for an
    /// [adapter](Self::adapter) that is empty, or means several; [unavailable](Error::is_unavailable), with the
    /// reason and the remedy, if the backend or the adapter is not there.
    pub fn choice(&self) -> Result<Choice> {
        let (wanted, options) = self.resolve()?;
        backend::choose(wanted, &options)
    }

    /// What is asked for, by the program and from outside.
    fn resolve(&self) -> Result<(BackendKind, DeviceOptions)> {
        let mut wanted = self.backend;
        if wanted == BackendKind::Auto
            && let Some(name) = variable(BACKEND_VARIABLE)?
        {
            wanted = name.parse()?;
        }
        backend::check(wanted)?;
        let options = match &self.adapter {
            Some(adapter) => DeviceOptions { adapter: Some(adapter.clone()), ..DeviceOptions::default() },
            None => DeviceOptions { adapter: variable(ADAPTER_VARIABLE)?, adapter_setting: ADAPTER_VARIABLE },
        };
        if options.adapter.as_ref().is_some_and(|adapter| adapter.trim().is_empty()) {
            let setting = options.adapter_setting;
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{setting} is empty, but must be an index, a UUID, a PCI address, or a part of a name"
                ),
            ));
        }
        Ok((wanted, options))
    }

    /// Makes the runtime. Devices are opened at the first device kernel or buffer, and an adapter that is not there is
    /// found missing then.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if `RINGWORK_BACKEND` is set to something else than a backend's name, if the
    /// [adapter](Self::adapter) or `RINGWORK_CACHE` is empty, or for a setting out of its bounds (the error names it, its
    /// value and its bound); [unavailable](Error::is_unavailable) if this build does not have the backend.
    pub fn build(self) -> Result<Runtime> {
        let (wanted, options) = self.resolve()?;
        let bounds = dead_letters::CAPACITIES;
        if !bounds.contains(&self.dead_letters) {
            let (found, least, most) = (self.dead_letters, bounds.start(), bounds.end());
            let text = format!("dead_letter_capacity is {found}, but must be {least} to {most}");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let cache = Cache::new(&self.cache, std::env::var_os(CACHE_VARIABLE).as_deref())?;
        Ok(Runtime::assemble(wanted, options, cache, DeadLetterLog::new(self.dead_letters)))
    }
}
