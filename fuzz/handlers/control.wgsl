fn find(a: array<u32, 8>, wanted: u32) -> i32 {
    var copy = a;
    for (var i = 0; i < 8; i++) {
        switch copy[i] {
            case 77u: { return -7; }
            default: { if copy[i] == wanted { return i; } }
        }
    }
    return -1;
}
fn on_message(m: In, s: ptr<function, State>) -> Out {
    var r = m.a;
    var i = 0u;
    loop {
        if i > m.a[0] { break; }
        switch m.a[i] % 5u {
            case 0u: { i += 2u; continue; }
            default: { r[i] ^= i; }
            case 1u, 3u: { if r[1] < m.a[2] { break; } r[2] += 1u; }
            case 4u: { while r[3] < m.a[3] { r[3] = r[3] * 2u + 1u; if (r[3] & 64u) != 0u { break; } } }
        }
        continuing {
            i += 1u;
            loop { r[4] += 1u; continuing { break if r[4] % 3u == 0u; } }
            break if i > 1000u;
        }
    }
    for (var k = bitcast<i32>(m.a[5]); k != 0; k /= 2) {
        if k < 0 && find(m.a, r[6]) > 0 || k > 100 { emit_alerts(Alert(u32(k), 1.0)); }
    }
    s.n += i;
    s.kept[find(r, m.a[6])] += 1;
    return Out(r);
}
