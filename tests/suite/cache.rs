//! Compiled handlers are kept: what is compiled once, what is counted, and where from outside one can say no.

use crate::common::{LONG, Numbered, runtime};
use crate::errors::{ECHO, Reply, Total, active, refused};
use ringwork::{BackendKind, CacheSettings, CacheStatistics, Error, RingKernel, Runtime};
use std::process::Command;
use std::sync::Barrier;

fn echo(name: &str) -> RingKernel<Reply, Reply> {
    RingKernel::wgsl(name, ECHO)
}

/// A runtime that keeps so many handlers.
fn keeping(handlers: usize) -> Runtime {
    let settings = CacheSettings::new().memory_capacity(handlers).without_disk();
    Runtime::builder().cache(settings).build().expect("good settings")
}

/// Hits, misses, evictions, entries.
fn counted(runtime: &Runtime) -> (u64, u64, u64, usize) {
    let CacheStatistics { hits, misses, evictions, entries, .. } = runtime.cache_statistics();
    (hits, misses, evictions, entries)
}

#[test]
fn a_handler_is_compiled_once_however_many_kernels_have_it() {
    let runtime = runtime();
    assert_eq!(counted(&runtime), (0, 0, 0, 0));
    let kernels: Vec<_> = (0..200).map(|number| active(&runtime, echo(&format!("k{number}")))).collect();
    assert_eq!(counted(&runtime), (199, 1, 0, 1));
    for (kernel, r) in kernels.iter().zip(0..) {
        assert_eq!(kernel.ask(Reply { r }, LONG).unwrap().r, r);
    }
    // Launched again under a name that has become free, too.
    kernels[0].terminate(LONG).unwrap();
    assert_eq!(active(&runtime, echo("k0")).ask(Reply { r: 7 }, LONG).unwrap().r, 7);
    assert_eq!(counted(&runtime), (200, 1, 0, 1));
    assert_eq!(counted(&self::runtime()), (0, 0, 0, 0), "every runtime has a cache of its own");
}

#[test]
fn ten_thousand_kernels_share_one_handler_and_keep_their_own_state() {
    let text = "fn on_message(m: Reply, s: ptr<function, Total>) -> Total { (*s).sum += m.r; return *s; }";
    let runtime = keeping(1);
    let kernels: Vec<_> = (0..10_000)
        .map(|number| {
            let kernel = RingKernel::<Reply, Total>::wgsl(format!("k{number}"), text);
            active(&runtime, kernel.initial_state(Total { sum: number }))
        })
        .collect();
    assert_eq!(counted(&runtime), (9999, 1, 0, 1));
    for (kernel, number) in kernels.iter().zip(0..).step_by(97) {
        assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().sum, number + 1);
        assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().sum, number + 2);
    }
    assert_eq!(kernels[1].read_state::<Total>().unwrap().sum, 1);
}

#[test]
fn what_differs_in_more_than_its_name_is_compiled() {
    let runtime = keeping(100);
    runtime.launch(echo("one")).unwrap();
    // The loop budget is part of the code; a queue is not.
    runtime.launch(echo("two").loop_budget(5)).unwrap();
    runtime.launch(echo("three").queue_capacity(5)).unwrap();
    assert_eq!(counted(&runtime), (1, 2, 0, 2));
    let text = "fn on_message(m: Numbered) {}";
    runtime.launch(RingKernel::<Numbered, ()>::wgsl("four", text)).unwrap();
    runtime.launch(RingKernel::<Numbered, ()>::wgsl("five", text).output::<Reply>("out")).unwrap();
    assert_eq!(counted(&runtime), (1, 4, 0, 4));
    // Native kernels have nothing to compile.
    runtime.launch(RingKernel::<Reply, Reply>::native("six", |m: Reply, _: &mut ()| m)).unwrap();
    assert_eq!(counted(&runtime), (1, 4, 0, 4));
}

#[test]
fn the_handlers_used_last_are_kept() {
    let runtime = keeping(2);
    let launch = |name: &str, budget| runtime.launch(echo(name).loop_budget(budget)).map(drop).unwrap();
    launch("a", 1);
    launch("b", 2);
    launch("c", 1);
    launch("d", 3);
    assert_eq!(counted(&runtime), (1, 3, 1, 2));
    launch("e", 1);
    assert_eq!(counted(&runtime), (2, 3, 1, 2));
    launch("f", 2);
    assert_eq!(counted(&runtime), (2, 4, 2, 2));

    let none = Runtime::builder().cache(CacheSettings::disabled()).build().unwrap();
    for name in ["a", "b"] {
        none.launch(echo(name)).unwrap();
    }
    assert_eq!(counted(&none), (0, 2, 0, 0));
    assert_eq!(none.cache_statistics().capacity, 0);
}

#[test]
fn threads_that_launch_one_handler_at_once_compile_it_once() {
    let runtime = keeping(10);
    let start = Barrier::new(8);
    crate::threads::scope(|scope| {
        for number in 0..8 {
            let (runtime, start) = (&runtime, &start);
            scope.spawn(move || {
                start.wait();
                let kernel = active(runtime, echo(&format!("k{number}")));
                assert_eq!(kernel.ask(Reply { r: number }, LONG).unwrap().r, number);
            });
        }
    });
    assert_eq!(counted(&runtime), (7, 1, 0, 1));
}

#[test]
fn what_does_not_compile_is_not_kept_and_each_error_names_its_kernel() {
    let runtime = keeping(10);
    for name in ["first", "second"] {
        let kernel = RingKernel::<Reply, Reply>::wgsl(name, "fn on_message(m: Reply) -> Reply { return n; }");
        let error = runtime.launch(kernel).unwrap_err();
        assert!(error.is_rejected() && error.to_string().starts_with(&format!("{name}:1:")), "{error}");
    }
    assert_eq!(counted(&runtime), (0, 2, 0, 0));
}

#[test]
fn clearing_forgets_handlers_and_leaves_kernels_alone() {
    let runtime = keeping(10);
    let kernel = active(&runtime, echo("one"));
    runtime.clear_cache().unwrap();
    assert_eq!(counted(&runtime), (0, 1, 0, 0));
    assert_eq!(kernel.ask(Reply { r: 4 }, LONG).unwrap().r, 4);
    runtime.launch(echo("two")).unwrap();
    assert_eq!(counted(&runtime), (0, 2, 0, 1));
}

#[test]
fn settings_out_of_bounds_are_refused_when_the_runtime_is_built() {
    let refused = |settings: CacheSettings, wanted: &str| {
        refused(Runtime::builder().cache(settings).build(), Error::is_invalid, wanted);
    };
    let new = || CacheSettings::new().without_disk();
    refused(new().memory_capacity(1_048_577), "cache memory_capacity is 1048577, but must be 0 to 1048576");
    refused(new().disk_capacity(65_535), "cache disk_capacity is 65535, but must be 65536 to 1099511627776");
    refused(CacheSettings::new().disk_folder(""), "cache disk_folder is empty, but must be a folder");
}

#[test]
fn a_folder_that_cannot_be_used_is_reported_and_nothing_else() {
    // Under a file there is no folder, whoever asks for one.
    let file = std::env::current_exe().unwrap();
    let settings = CacheSettings::new().disk_folder(file.join("below"));
    let runtime = Runtime::builder().cache(settings).build().unwrap();
    let kernel = active(&runtime, echo("one"));
    assert_eq!(kernel.ask(Reply { r: 4 }, LONG).unwrap().r, 4);
    let told = runtime.cache_statistics();
    assert_eq!((told.misses, told.disk_hits, told.disk_writes), (1, 0, 0));
    runtime.clear_cache().unwrap();
}

#[test]
#[cfg_attr(not(feature = "jit"), ignore = "the interpreter's code is not kept on disk")]
fn machine_code_is_found_on_disk_by_the_next_runtime() {
    let folder = std::env::temp_dir().join(format!("ringwork-suite-{}", ringwork::Uuid::new_v4().simple()));
    let entries = || folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    // Machine code is what the CPU runs, whatever backend is under test.
    let cpu =
        || Runtime::builder().backend(BackendKind::Cpu).cache(CacheSettings::new().disk_folder(&folder));
    let run = || {
        let runtime = cpu().build().unwrap();
        for name in ["one", "two"] {
            let kernel = RingKernel::<Reply, Total>::wgsl(name, crate::errors::SUM);
            let kernel = active(&runtime, kernel.initial_state(Total { sum: 5 }));
            assert_eq!(kernel.ask(Reply { r: 2 }, LONG).unwrap().sum, 7);
            assert_eq!(kernel.telemetry().engine, "jit");
        }
        let told = runtime.cache_statistics();
        assert_eq!((told.misses, told.disk_problem), (1, None));
        (told.disk_hits, told.disk_misses, told.disk_writes, told.disk_rejected)
    };
    assert_eq!(run(), (0, 1, 1, 0));
    assert_eq!(run(), (1, 0, 0, 0));
    let [entry] = &entries()[..] else { panic!("one handler, one entry: {:?}", entries()) };
    let good = std::fs::read(entry).unwrap();
    for at in [0, 30, 60, 100, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(entry, bad).unwrap();
        assert_eq!(run(), (0, 1, 1, 1), "byte {at}");
        assert!(std::fs::read(entry).unwrap() == good, "byte {at}: another code was made");
    }
    cpu().build().unwrap().clear_cache().unwrap();
    assert!(entries().is_empty());
    std::fs::remove_dir(&folder).unwrap();
}

/// Prints where a runtime of this process would keep things on disk.
#[test]
#[ignore = "run by the test below, in processes with an environment of their own"]
fn tell_the_folder() {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return println!("\ntold: {error}"),
    };
    let told = runtime.cache_statistics();
    match told.disk_folder {
        Some(folder) => println!("\ntold: in {}", folder.display()),
        None => println!("\ntold: {}", told.disk_problem.unwrap_or_default()),
    }
}

#[test]
fn the_environment_names_the_folder() {
    let tell = |variables: &[(&str, &str)]| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "cache::tell_the_folder", "--ignored", "--nocapture"]);
        child.env_remove("RINGWORK_CACHE").env_remove("XDG_CACHE_HOME").env_remove("HOME");
        let output = child.envs(variables.iter().copied()).output().expect("it has run before");
        let text = String::from_utf8(output.stdout).unwrap();
        let told = text.lines().find_map(|line| line.strip_prefix("told: "));
        told.unwrap_or_else(|| panic!("nothing told: {text}")).to_owned()
    };
    let folder = std::env::temp_dir().join("ringwork-named");
    let folder = folder.to_str().unwrap();
    assert_eq!(tell(&[("RINGWORK_CACHE", folder)]), format!("in {folder}"));
    assert_eq!(tell(&[("RINGWORK_CACHE", "off")]), "RINGWORK_CACHE is `off`");
    assert_eq!(tell(&[("RINGWORK_CACHE", "")]), "RINGWORK_CACHE is empty, but must be a folder or `off`");
    let here = std::env::current_dir().unwrap();
    assert_eq!(tell(&[("RINGWORK_CACHE", "below")]), format!("in {}", here.join("below").display()));
    if cfg!(all(unix, not(target_os = "macos"))) {
        let cache = [("XDG_CACHE_HOME", "/nowhere/cache"), ("HOME", "/nowhere")];
        assert_eq!(tell(&cache), "in /nowhere/cache/ringwork");
        assert_eq!(tell(&cache[1..]), "in /nowhere/.cache/ringwork");
    }
}
