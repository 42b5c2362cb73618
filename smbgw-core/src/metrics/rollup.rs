// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stretches of time: samples become points (of a counter its rates), points become buckets, buckets become longer ones. Everything that
//! shortens keeps the smallest and the largest value, so a peak survives any resolution. It must not know where samples are kept.

use super::{Bucket, Kind};

/// A minute, the first tier of roll-ups, in milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// An hour, the second.
pub const HOUR_MS: i64 = 3_600_000;

/// What is judged and drawn of samples in the order of their times: of a gauge the values, of a counter the rate per second since the sample
/// before, at the time of the later one. There is no rate over a decrease (the collector began anew: what was counted between is not known) or
/// over more than `gap_ms`.
pub fn points(kind: Kind, samples: &[(i64, f64)], gap_ms: i64) -> Vec<(i64, f64)> {
    match kind {
        Kind::Gauge => samples.iter().copied().filter(|(_, v)| v.is_finite()).collect(),
        Kind::Counter => samples.windows(2).filter_map(|w| rate(w[0], w[1], gap_ms).map(|r| (w[1].0, r))).collect(),
    }
}

/// The rate per second from one sample of a counter to the next, where there is one.
pub fn rate((t0, v0): (i64, f64), (t1, v1): (i64, f64), gap_ms: i64) -> Option<f64> {
    let passed = t1.checked_sub(t0).filter(|d| *d > 0 && *d <= gap_ms)?;
    // Not "less than 0": nothing grows to or from what is no number.
    (v1 >= v0).then(|| (v1 - v0) * 1000.0 / passed as f64).filter(|r| r.is_finite())
}

/// Gathers values of one stretch.
#[derive(Debug, Clone, Copy)]
struct Gather {
    start: i64,
    min: f64,
    max: f64,
    sum: f64,
    /// The sum of values so small that it stays finite where `sum` does not.
    small: f64,
    count: u32,
}

/// A power of two, so that nothing is lost but what is too small to matter beside a sum that is not finite.
const SMALL: f64 = 1.0 / (1u64 << 40) as f64;

impl Gather {
    fn new(start: i64) -> Self {
        Self { start, min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, small: 0.0, count: 0 }
    }

    fn add(&mut self, min: f64, max: f64, mean: f64, count: u32) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.sum += mean * f64::from(count);
        self.small += mean * SMALL * f64::from(count);
        self.count = self.count.saturating_add(count);
    }

    fn bucket(&self) -> Option<Bucket> {
        let n = f64::from(self.count);
        let mean = if self.sum.is_finite() { self.sum / n } else { self.small / n / SMALL };
        // A sum is rounded; a mean is never outside of what it is the mean of.
        (self.count > 0).then(|| Bucket {
            start: self.start,
            min: self.min,
            max: self.max,
            mean: mean.max(self.min).min(self.max),
            count: self.count,
        })
    }
}

/// The beginning of the stretch of this length that a time is in.
pub fn floor(at: i64, length: i64) -> i64 {
    at.div_euclid(length).saturating_mul(length)
}

/// The first beginning of a stretch of this length that is not before a time.
pub fn ceil(at: i64, length: i64) -> i64 {
    let start = floor(at, length);
    if start < at { start.saturating_add(length) } else { start }
}

fn gather(parts: impl Iterator<Item = Bucket>, length: i64) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = Vec::new();
    let mut open: Option<Gather> = None;
    for b in parts {
        let start = floor(b.start, length);
        match &mut open {
            Some(g) if g.start == start => g.add(b.min, b.max, b.mean, b.count),
            _ => {
                all.extend(open.as_ref().and_then(Gather::bucket));
                let mut g = Gather::new(start);
                g.add(b.min, b.max, b.mean, b.count);
                open = Some(g);
            }
        }
    }
    all.extend(open.as_ref().and_then(Gather::bucket));
    all
}

/// Buckets of a length from points in the order of their times; what has no point has no bucket.
pub fn buckets(points: &[(i64, f64)], length: i64) -> Vec<Bucket> {
    gather(points.iter().map(|&(start, v)| Bucket { start, min: v, max: v, mean: v, count: 1 }), length.max(1))
}

/// Longer buckets from shorter ones in their order; the length is a multiple of theirs.
pub fn merge(shorter: &[Bucket], length: i64) -> Vec<Bucket> {
    gather(shorter.iter().copied(), length.max(1))
}

/// The shortest length, a multiple of `unit`, with which `from..to` is at most so many buckets.
pub fn length_for(from: i64, to: i64, points: u32, unit: i64) -> i64 {
    let (unit, points) = (unit.max(1), i64::from(points.max(1)));
    let span = to.saturating_sub(from).max(1);
    let mut length = (span / points / unit).max(1).saturating_mul(unit);
    // Aligned buckets at both ends: one more than the span alone would need.
    while (ceil(to, length).saturating_sub(floor(from, length))) / length > points && length < span.saturating_mul(2).max(unit) {
        length = length.saturating_add(((length / 64) / unit).max(1).saturating_mul(unit));
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_counter_has_rates_but_not_over_resets_and_gaps() {
        let samples = [(0, 5.0), (10_000, 15.0), (20_000, 3.0), (30_000, 3.0), (95_000, 100.0), (105_000, 101.0)];
        assert_eq!(points(Kind::Counter, &samples, 60_000), [(10_000, 1.0), (30_000, 0.0), (105_000, 0.1)]);
        assert_eq!(points(Kind::Gauge, &samples, 60_000), samples);
        assert_eq!(points(Kind::Counter, &[(5, 1.0), (5, 2.0)], 60_000), []);
    }

    #[test]
    fn peaks_survive_and_means_are_weighted() {
        let short = buckets(&[(0, 1.0), (500, 1.0), (1_000, 9.0)], 1_000);
        assert_eq!(short.len(), 2);
        let long = merge(&short, 10_000);
        assert_eq!(long, [Bucket { start: 0, min: 1.0, max: 9.0, mean: 11.0 / 3.0, count: 3 }]);
        let huge = buckets(&[(0, f64::MAX), (1, f64::MAX)], 10);
        assert_eq!((huge[0].mean, huge[0].count), (f64::MAX, 2));
    }

    proptest! {
        #[test]
        fn a_length_gives_no_more_buckets_than_asked(from in -1i64 << 45..1i64 << 45, span in 1i64..1 << 40, n in 1u32..2000, unit in 0usize..3) {
            let unit = [1, MINUTE_MS, HOUR_MS][unit];
            // One bucket cannot hold what lies on both sides of a boundary; two can.
            let n = n.max(2);
            let length = length_for(from, from + span, n, unit);
            prop_assert!(length % unit == 0 && (ceil(from + span, length) - floor(from, length)) / length <= i64::from(n));
        }

        #[test]
        fn merging_in_steps_is_merging_at_once(values in prop::collection::vec((0i64..100_000, -1e6f64..1e6), 1..200)) {
            let mut points = values;
            points.sort_by_key(|p| p.0);
            let (steps, once) = (merge(&buckets(&points, 1_000), 10_000), buckets(&points, 10_000));
            prop_assert_eq!(steps.len(), once.len());
            for (a, b) in steps.iter().zip(&once) {
                prop_assert!(a.start == b.start && a.count == b.count && a.min == b.min && a.max == b.max);
                prop_assert!((a.mean - b.mean).abs() <= 1e-6, "{} {}", a.mean, b.mean);
            }
        }
    }
}
