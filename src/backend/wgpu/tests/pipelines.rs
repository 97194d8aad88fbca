//! What is kept of pipelines is looked at by wgpu before it is used.

use crate::backend::wgpu::adapter::choose;
use crate::backend::wgpu::gpu::Gpu;
use crate::backend::wgpu::shader::{Shader, cache_key};
use crate::backend::{DeviceOptions, Shape};
use crate::compile::{Handler, HandlerSource, KeyBuilder, Store, compile};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;

const WORD: &Layout = &Layout {
    name: "Word",
    size: 4,
    align: 4,
    fields: &[Field { name: "value", offset: 0, kind: FieldKind::Scalar(Scalar::U32) }],
};

#[test]
fn data_that_are_no_pipeline_cache_are_made_anew() {
    let Ok(found) = choose(&DeviceOptions::default(), false) else { return println!("SKIPPED: no adapter") };
    let gpu = Gpu::open(&found, None, found.adapter.limits()).unwrap();
    let Some(adapter) = gpu.pipeline_caches.clone() else {
        return println!("SKIPPED: the driver gives nothing out");
    };
    let folder = std::env::temp_dir().join(format!("ringwork-garbage-{}", uuid::Uuid::new_v4().simple()));
    let store = Arc::new(Store::new(Ok(folder.clone()), 1 << 20));
    let source = HandlerSource {
        name: "echo.wgsl",
        text: "fn on_message(m: Word) -> Word { return m; }",
        input: WORD,
        output: WORD,
        state: None,
        outputs: &[],
        tables: &[],
        loop_budget: 1,
        instance_at: None,
    };
    let own = KeyBuilder::new("a handler of this test").finish();
    let handler = Handler::new(compile(&source).unwrap(), Some((store.clone(), own)));
    let key = cache_key(&adapter, &own, [0, 64, 0]);
    let is_kept = |wanted: &mut dyn FnMut(&[u8])| {
        let found = Cell::new(false);
        let load = |bytes: &[u8]| {
            wanted(bytes);
            found.set(true);
            Some(())
        };
        let _ = store.get_or_build(&key, load, || Ok::<_, Infallible>(((), b"nothing".to_vec())));
        found.get()
    };
    // Whole as far as the folder can tell: it was written under this key, and the sum is right.
    for garbage in [&b""[..], b"garbage", &[0x5a; 4096]] {
        store.clear().unwrap();
        store.get_or_build(&key, |_| None, || Ok::<_, Infallible>(((), garbage.to_vec()))).unwrap();
        for _ in 0..2 {
            Shader::new(&gpu, &handler, Shape::Stateless, false).unwrap();
            assert!(!gpu.is_lost());
        }
        let mut kept = Vec::new();
        assert!(is_kept(&mut |bytes| kept = bytes.to_vec()));
        assert!(kept != garbage && kept.starts_with(b"WGPUPLCH"), "{} bytes", kept.len());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
