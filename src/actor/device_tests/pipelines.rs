//! What a driver makes of a handler is kept on disk, where drivers give it out.

use super::{ADD, LONG, Number, Sum, runtime};
use crate::{BackendKind, CacheSettings, CacheStatistics, RingKernel, RuntimeBuilder};
use std::time::Instant;

/// Runs a kernel in a runtime with these settings; what its cache says then.
fn statistics(settings: &CacheSettings) -> CacheStatistics {
    let builder = RuntimeBuilder::default().backend(BackendKind::Wgpu).cache(settings.clone());
    let runtime = builder.build().unwrap();
    runtime.capabilities().unwrap();
    let begun = Instant::now();
    let kernel = RingKernel::<Number, Sum>::wgsl("adder", ADD).initial_state(Sum::default());
    let kernel = runtime.launch(kernel).unwrap();
    println!("launched in {:?}", begun.elapsed());
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Number { value: 4 }, LONG).unwrap().sum, 4);
    let statistics = runtime.cache_statistics();
    assert_eq!(statistics.disk_unwritten, 0, "{statistics}");
    statistics
}

#[test]
fn a_second_device_starts_with_what_the_driver_made_for_the_first() {
    let Some(runtime) = runtime() else { return };
    if !runtime.device().keeps_pipelines() {
        return println!("not run: the driver gives nothing out");
    }
    let folder = std::env::temp_dir().join(format!("ringwork-pipelines-{}", crate::Uuid::new_v4().simple()));
    let on = CacheSettings::new().disk_folder(&folder);
    let counts =
        |told: CacheStatistics| (told.disk_hits, told.disk_misses, told.disk_writes, told.disk_rejected);
    assert_eq!(counts(statistics(&CacheSettings::new().without_disk())), (0, 0, 0, 0));
    assert!(!folder.exists());
    assert_eq!(counts(statistics(&on)), (0, 1, 1, 0));
    assert_eq!(counts(statistics(&on)), (1, 0, 0, 0));
    let files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("one pipeline, one file: {files:?}") };
    println!("{} bytes", file.metadata().unwrap().len());
    // Damaged ones are made again.
    let mut bytes = std::fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(counts(statistics(&on)), (0, 1, 1, 1));
    assert_eq!(counts(statistics(&on)), (1, 0, 0, 0));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn what_it_gains() {
    if runtime().is_none() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("ringwork-gain-{}", crate::Uuid::new_v4().simple()));
    let (off, on) = (CacheSettings::new().without_disk(), CacheSettings::new().disk_folder(&folder));
    for (name, settings) in [("off", &off), ("cold", &on), ("warm", &on), ("off", &off), ("warm", &on)] {
        let builder = RuntimeBuilder::default().backend(BackendKind::Wgpu).cache(settings.clone());
        let runtime = builder.build().unwrap();
        runtime.capabilities().unwrap();
        let mut times: Vec<_> = (0..30)
            .map(|number| {
                let text = ADD.replace("+= m.value", &format!("+= m.value * {number}u"));
                let kernel = RingKernel::<Number, Sum>::wgsl(format!("k{number}"), text);
                let begun = Instant::now();
                runtime.launch(kernel.initial_state(Sum::default())).unwrap();
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!(
            "{name}: a new handler is launched in {:?} (median), {:?} to {:?}",
            times[15], times[1], times[28]
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
