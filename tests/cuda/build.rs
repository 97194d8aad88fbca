//! Builds the emulated driver and NVRTC, for the tests that run on them. Included by path.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// How the reason begins when the emulation does not compile.
pub const REFUSED: &str = "g++ refuses";

/// The folder with `libcuda.so`, `libnvrtc.so` and `libnvidia-ml.so.1`, beside this program; built anew if their sources have changed.
pub fn emulation() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // More options for g++, for all that it makes: see `ci/tsan.sh`. What was made with others lies elsewhere.
    let flags = std::env::var("RINGWORK_EMULATION_FLAGS").unwrap_or_default();
    let name =
        if flags.is_empty() { "emulation".to_owned() } else { format!("emulation-{:016x}", hash(&flags)) };
    let folder = own.parent().expect("a program is in a folder").join(name);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    // One at a time: a library that is replaced when somebody has it loaded would be a second driver to whoever comes later.
    let lock = std::fs::File::create(folder.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let header = sources.join("device.h");
    let copy = folder.join("device.h");
    if changed(&copy) < changed(&header) {
        put(&copy, |to| std::fs::copy(&header, to).map(drop).map_err(|error| error.to_string()))?;
    }
    for (source, library) in
        [("driver.cpp", "libcuda.so"), ("nvrtc.cpp", "libnvrtc.so"), ("nvml.cpp", "libnvidia-ml.so.1")]
    {
        let newest = changed(&sources.join(source)).max(changed(&sources.join("fibers.h")));
        let library_path = folder.join(library);
        if changed(&library_path) >= newest {
            continue;
        }
        put(&library_path, |to| {
            // `_GLIBCXX_ASSERTIONS`: a mistake of the emulation shows as one.
            let options =
                "-std=c++17 -O2 -g1 -shared -fPIC -fvisibility=hidden -Wall -Wextra -D_GLIBCXX_ASSERTIONS";
            let mut gxx = Command::new("g++");
            gxx.args(options.split(' ')).arg(format!("-Wl,-soname,{library}"));
            gxx.arg(sources.join(source)).arg("-o").arg(to).args(["-lpthread", "-ldl"]);
            gxx.args(flags.split_whitespace());
            let output = gxx.output().map_err(|error| format!("g++ does not start: {error}"))?;
            if output.status.success() {
                return Ok(());
            }
            Err(format!("{REFUSED} {source}: {}", String::from_utf8_lossy(&output.stderr)))
        })?;
    }
    Ok(folder)
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Makes a file, which is whole when it is there.
fn put(path: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let own = path.with_extension(format!("{}.new", std::process::id()));
    make(&own)?;
    std::fs::rename(&own, path).map_err(|error| error.to_string())
}

/// When a file was changed; before all others if it is not there.
fn changed(path: &Path) -> SystemTime {
    path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}
