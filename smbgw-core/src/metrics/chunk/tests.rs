// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was packed comes back to the bit, whatever it was; what was not packed by us comes back as nothing, and neither panics nor grows.

use super::*;
use proptest::prelude::*;

/// Doubles of any bits, and of the kinds that the codec has ways for.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000i64..1000).prop_map(|n| n as f64),
        (any::<i64>()).prop_map(|n| n as f64),
        (0i64..100_000).prop_map(|n| n as f64 / 1000.0),
        Just(-0.0),
        Just(0.0),
    ]
}

fn slots() -> impl Strategy<Value = Vec<Option<f64>>> {
    let one = prop_oneof![3 => value().prop_map(Some), 1 => Just(None)];
    let steady = (value(), 0usize..400).prop_map(|(v, n)| vec![Some(v); n]);
    let kind = prop_oneof![
        prop::collection::vec(one, 0..400),
        steady,
        // A counter with stretches in which nothing happens.
        (any::<u32>(), prop::collection::vec(prop_oneof![4 => Just(0u32), 1 => any::<u32>()], 1..400)).prop_map(
            |(first, steps)| {
                let mut now = f64::from(first);
                let step = |s: u32| {
                    now += f64::from(s) * 512.0;
                    Some(now)
                };
                steps.into_iter().map(step).collect()
            }
        ),
    ];
    (kind, prop::collection::vec((0usize..400, 0usize..50), 0..4)).prop_map(|(mut slots, gaps)| {
        for (from, len) in gaps {
            let n = slots.len();
            slots[from.min(n)..(from + len).min(n)].fill(None);
        }
        slots
    })
}

fn bits(slots: &[Option<f64>]) -> Vec<Option<u64>> {
    slots.iter().map(|v| v.map(f64::to_bits)).collect()
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let part = -1e12f64..1e12;
    (part.clone(), part.clone(), part, 1u32..500, any::<bool>()).prop_map(|(a, b, c, count, whole)| {
        let f = |v: f64| if whole { v.trunc() } else { v };
        let mut v = [f(a), f(b), f(c)];
        v.sort_by(f64::total_cmp);
        Bucket { start: 0, min: v[0], mean: v[1], max: v[2], count }
    })
}

/// Bytes with the check sum that says they are a chunk: the decoder behind it must stand alone.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = sum(&bytes);
    bytes.extend(end);
    bytes
}

/// All decoders on bytes; what they give is no larger than asked for.
fn decode_all(bytes: &[u8], slots: usize) {
    assert!(decode(bytes, slots).is_none_or(|v| v.len() == slots));
    assert!(decode_times(bytes).is_none_or(|t| t.len() <= LIMIT));
    assert!(decode_buckets(bytes, slots, i64::MAX - 5, 60_000).is_none_or(|b| b.len() <= slots));
    assert!(row_values(bytes).is_none_or(|v| v.len() <= PART));
    row_value(bytes, slots % PART);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn values_come_back_to_the_bit(slots in slots()) {
        let chunk = encode(&slots);
        let back = decode(&chunk, slots.len()).expect("own chunk");
        prop_assert_eq!(bits(&back), bits(&slots));
        // However bad the luck, little more than the values themselves.
        prop_assert!(chunk.len() <= 24 + slots.len() * 9);
        prop_assert!(decode(&chunk, LIMIT + 1).is_none());
    }

    #[test]
    fn times_come_back(first in any::<i64>(), steps in prop::collection::vec(any::<i32>(), 0..500)) {
        let mut now = first;
        let times: Vec<i64> = steps.iter().map(|s| { now = now.wrapping_add(i64::from(*s)); now }).collect();
        prop_assert_eq!(decode_times(&encode_times(&times)), Some(times));
    }

    #[test]
    fn buckets_come_back_as_exact_as_is_said(found in prop::collection::vec(prop::option::of(bucket()), 0..200), rates in any::<bool>()) {
        let (start, length) = (1_790_553_600_000, 60_000);
        let back = decode_buckets(&encode_buckets(&found, rates), found.len(), start, length).expect("own chunk");
        let wanted: Vec<(usize, Bucket)> = found.iter().enumerate().filter_map(|(i, b)| Some((i, (*b)?))).collect();
        prop_assert_eq!(back.len(), wanted.len());
        let near = |a: f64, b: f64| (a - b).abs() <= b.abs() / 16_384.0;
        for (b, (slot, w)) in back.iter().zip(wanted) {
            prop_assert!(b.start == start + slot as i64 * length && b.count == w.count && b.min <= b.mean && b.mean <= b.max);
            prop_assert!(near(b.min, w.min) && near(b.max, w.max), "{:?} {:?}", b, w);
            // A mean is put between extremes that were rounded.
            prop_assert!(near(b.mean, w.mean) || b.mean == b.min || b.mean == b.max, "{:?} {:?}", b, w);
            prop_assert!(rates || (b.min.to_bits(), b.max.to_bits()) == (w.min.to_bits(), w.max.to_bits()));
        }
    }

    #[test]
    fn rows_come_back_to_the_bit(values in prop::collection::vec(prop::option::of(value()), PART..=PART)) {
        let row = encode_row(&values);
        let mut back = vec![None; PART];
        row_values(&row).expect("own row").into_iter().for_each(|(i, v)| back[i] = Some(v));
        prop_assert_eq!(bits(&back), bits(&values));
        for i in [0, 1, 100, PART - 1] {
            prop_assert_eq!(row_value(&row, i).map(f64::to_bits), values[i].map(f64::to_bits));
        }
    }

    #[test]
    fn hostile_bytes_are_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300), slots in prop_oneof![0usize..500, Just(LIMIT)]) {
        decode_all(&bytes, slots);
        decode_all(&seal(bytes), slots);
    }

    #[test]
    fn changed_chunks_are_nothing_or_bounded(slots in slots(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(), more in 0usize..3) {
        let good = encode(&slots);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= 1 << bit;
        // One bit is always noticed.
        prop_assert!(decode(&bad, slots.len()).is_none());
        decode_all(&bad, slots.len() + more);
        decode_all(&good[..cut.index(good.len())], slots.len());
        // And with a sum that fits.
        bad.truncate(bad.len() - 2);
        decode_all(&seal(bad.clone()), slots.len() + more);
        bad.truncate(cut.index(bad.len() + 1));
        decode_all(&seal(bad), slots.len());
    }
}

#[test]
fn what_stands_still_costs_nothing() {
    assert!(encode(&[Some(0.0); 360]).len() <= 5);
    assert!(encode(&[Some(123_456_789.0); 360]).len() <= 9);
    let times: Vec<i64> = (0..360).map(|i| 1_790_553_600_000 + i * 10_000).collect();
    assert!(encode_times(&times).len() <= 20);
    assert_eq!(decode(&encode(&[]), 0), Some(Vec::new()));
    assert_eq!(decode(&encode(&[None, None]), 2), Some(vec![None, None]));
    assert_eq!(decode_times(&encode_times(&[])), Some(Vec::new()));
}
