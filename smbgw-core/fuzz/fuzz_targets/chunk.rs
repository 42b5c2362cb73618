// SPDX-License-Identifier: MIT OR Apache-2.0
//! The codec of the store of figures. Of any bytes it makes values or nothing; what it was given to pack comes out as it went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smbgw_core::metrics::Bucket;
use smbgw_core::metrics::chunk;

/// Slots out of bytes: nine for each, the first saying whether it is there and whether it is small.
fn slots(bytes: &[u8]) -> Vec<Option<f64>> {
    let slot = |b: &[u8]| {
        let word = u64::from_le_bytes(b[1..9].try_into().ok()?);
        match b[0] % 4 {
            0 => None,
            1 => Some(f64::from_bits(word)).filter(|v| v.is_finite()),
            2 => Some((word % 100_000) as f64),
            _ => Some((word % 1_000_000) as f64 / 1000.0),
        }
    };
    bytes.chunks_exact(9).take(400).map(slot).collect()
}

fn same(a: Option<f64>, b: Option<f64>) -> bool {
    a.map(f64::to_bits) == b.map(f64::to_bits) || a == b
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&n, rest)) = bytes.split_first() else { return };
    let count = usize::from(n) * 2;
    // Anything.
    let _ = chunk::decode(rest, count);
    let _ = chunk::decode_times(rest);
    let _ = chunk::decode_buckets(rest, count, 0, 60_000);
    let _ = chunk::row_value(rest, count);
    let _ = chunk::row_values(rest);

    // There and back.
    let values = slots(rest);
    let packed = chunk::encode(&values);
    let back = chunk::decode(&packed, values.len()).expect("what was packed can be unpacked");
    assert!(values.iter().zip(&back).all(|(a, b)| same(*a, *b)), "{values:?} became {back:?}");

    let row = chunk::encode_row(&values);
    assert!(values.iter().enumerate().all(|(i, v)| same(*v, chunk::row_value(&row, i))), "{values:?}");

    let mut times: Vec<i64> = rest.chunks_exact(4).map(|b| i64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(chunk::decode_times(&chunk::encode_times(&times)), Some(times));

    for rates in [false, true] {
        let buckets: Vec<Option<Bucket>> = values
            .chunks(3)
            .enumerate()
            .map(|(i, c)| {
                let mut of: Vec<f64> = c.iter().copied().flatten().collect();
                of.sort_by(f64::total_cmp);
                let (min, max) = (*of.first()?, *of.last()?);
                let mean = (min / 2.0 + max / 2.0).clamp(min, max);
                Some(Bucket { start: i as i64 * 60_000, min, max, mean, count: of.len() as u32 })
            })
            .collect();
        let packed = chunk::encode_buckets(&buckets, rates);
        let back = chunk::decode_buckets(&packed, buckets.len(), 0, 60_000).expect("what was packed can be unpacked");
        let there: Vec<Bucket> = buckets.into_iter().flatten().collect();
        assert_eq!(back.len(), there.len());
        assert!(back.iter().zip(&there).all(|(a, b)| (a.start, a.count) == (b.start, b.count)), "{there:?} became {back:?}");
    }
});
