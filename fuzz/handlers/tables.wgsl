@group(1) @binding(2) var<storage, read_write> words: array<u32>;
@group(1) @binding(0) var<storage, read_write> cells: array<vec3<f32>>;
@group(1) @binding(7) var<storage, read_write> counts: array<atomic<u32>, 2>;
fn on_message(m: In) -> Out {
    var r = m.a;
    let i = bitcast<i32>(m.a[0]);
    let last = arrayLength(&words) - 1u;
    words[i] = words[last] + words[m.a[1]] * 3u;
    words[4000000000u] ^= m.a[2];
    let c = &cells[i];
    (*c)[m.a[3]] = f32(i);
    cells[m.a[1]] = cells[i].zxy + cells[arrayLength(&cells)];
    for (var n = 0u; n <= m.a[4]; n += 1u + (words[n] & 3u)) {
        r[n] = atomicAdd(&counts[n], words[n]);
        r[1] ^= atomicExchange(&counts[i], n);
        let old = atomicCompareExchangeWeak(&counts[m.a[5]], r[1], n);
        if old.exchanged { emit_alerts(Alert(old.old_value, cells[n].y)); }
    }
    atomicStore(&counts[m.a[6]], atomicLoad(&counts[1]) + atomicOr(&counts[0], 1u));
    return Out(r);
}
