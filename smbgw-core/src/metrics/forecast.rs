// SPDX-License-Identifier: MIT OR Apache-2.0
//! How what is used of a share grows, and when it is full; and what was used, as a table. It knows arithmetic on buckets; it must not know
//! where they are kept, nor the clock.
//!
//! Growth is the Theil–Sen slope over daily means: the median of the slopes between all pairs of days. Least squares would follow a single
//! large copy or removal for weeks; a median does not as long as fewer than three days in ten are odd. Daily means, because within a day use
//! follows office hours. Its confidence is Sen's: the ranks of the slopes between which, by Kendall's statistic, the true one lies in nineteen
//! of twenty cases. Where that reaches down to nothing there is no growth to foretell anything by.
//!
//! A level that jumps (an archive moved in at one night, a limit that from then on counts the tree where before the whole file system was
//! counted) would tilt every pair across it. A jump is taken out if it is a tenth of what is used and ten times an ordinary day's change, and
//! if there is no more than one such for each two weeks: what comes more often is how the share grows.

use serde::{Deserialize, Serialize};

use super::Bucket;

/// A day, in milliseconds.
pub const DAY_MS: i64 = 86_400_000;

/// So many days with figures are needed.
pub const LEAST_DAYS: usize = 7;

/// Days that are looked at: what was earlier says little about now.
pub const MOST_DAYS: usize = 60;

/// A day further away than this is not named (ten years).
pub const FAR_DAYS: f64 = 3650.0;

/// Why there is no growth, or no day when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Too few days have figures.
    History,
    /// Nobody knows what fits in.
    NoRoom,
    /// It does not grow, or not clearly.
    Flat,
    /// It is full in more than ten years.
    Far,
}

impl Why {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Why::History => "not enough history: seven days with figures are needed",
            Why::NoRoom => "what the share can hold is not known",
            Why::Flat => "it does not grow, or not clearly",
            Why::Far => "it is full in more than ten years",
        }
    }
}

/// How a share grows. What cannot be known is absent, with the reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forecast {
    /// Days with figures that it is made from.
    pub days: u32,
    /// Bytes that are added each day (removed, if negative).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<f64>,
    /// The true growth lies between these in nineteen of twenty cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(f64, f64)>,
    /// Days until it is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_in_days: Option<f64>,
    /// When that is, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at: Option<i64>,
    /// The earliest such day by the same confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at_earliest: Option<i64>,
    /// Jumps that were taken out.
    #[serde(default)]
    pub jumps: u32,
    /// Why something of it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// One line of a table of use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Beginning of the hour or day, in milliseconds since the epoch (UTC).
    pub start: i64,
    /// Smallest, largest and mean use in it, in bytes.
    pub min: f64,
    /// See `min`.
    pub max: f64,
    /// See `min`.
    pub mean: f64,
    /// How much the mean is larger than that of the hour or day just before; absent where that has no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<f64>,
}

/// Merges buckets into stretches of `step_ms`; they need not be in order. Pieces count by their number of values.
pub fn merge(buckets: &[Bucket], step_ms: i64) -> Vec<Bucket> {
    let mut sorted: Vec<Bucket> = buckets.iter().copied().filter(|b| b.count > 0 && b.mean.is_finite()).collect();
    sorted.sort_by_key(|b| b.start);
    let mut merged: Vec<Bucket> = Vec::new();
    for b in sorted {
        let start = b.start - b.start.rem_euclid(step_ms.max(1));
        match merged.last_mut().filter(|m| m.start == start) {
            Some(m) => {
                let (old, new) = (f64::from(m.count), f64::from(b.count));
                m.mean = (m.mean * old + b.mean * new) / (old + new);
                m.min = m.min.min(b.min);
                m.max = m.max.max(b.max);
                m.count = m.count.saturating_add(b.count);
            }
            None => merged.push(Bucket { start, ..b }),
        }
    }
    merged
}

/// A table for reports: by hour (`3_600_000`) or day ([`DAY_MS`]).
pub fn table(buckets: &[Bucket], step_ms: i64) -> Vec<Row> {
    let merged = merge(buckets, step_ms);
    let before = std::iter::once(None).chain(merged.iter().map(Some));
    let row = |(b, before): (&Bucket, Option<&Bucket>)| Row {
        start: b.start,
        min: b.min,
        max: b.max,
        mean: b.mean,
        change: before.filter(|p| p.start + step_ms == b.start).map(|p| b.mean - p.mean),
    };
    merged.iter().zip(before).map(row).collect()
}

/// What a share can hold, from its current figures: its limit, or less where its file system has less room.
pub fn room(used: Option<f64>, available: Option<f64>, limit: Option<f64>) -> Option<f64> {
    match (used.zip(available).map(|(u, a)| u + a), limit) {
        (Some(sum), Some(limit)) => Some(sum.min(limit)),
        (sum, limit) => sum.or(limit),
    }
}

/// Foretells from buckets of `used_bytes` (hourly or daily ones), what is used now and what fits in.
pub fn forecast(buckets: &[Bucket], used: Option<f64>, room: Option<f64>, now_ms: i64) -> Forecast {
    let days: Vec<Bucket> = merge(buckets, DAY_MS).into_iter().filter(|d| d.start <= now_ms).collect();
    let from = days.len().saturating_sub(MOST_DAYS);
    let Some(days) = days.get(from..).filter(|d| d.len() >= LEAST_DAYS) else {
        return Forecast { days: days.len() as u32, why: Some(Why::History), ..Forecast::default() };
    };
    let mut points: Vec<(f64, f64)> = days.iter().map(|d| (d.start as f64 / DAY_MS as f64, d.mean)).collect();
    let jumps = without_jumps(&mut points);
    let (per_day, low, high) = theil_sen(&points);
    let mut f =
        Forecast { days: days.len() as u32, per_day: Some(per_day), between: Some((low, high)), jumps, ..Forecast::default() };
    let used = used.or(days.last().map(|d| d.mean));
    let Some((used, room)) = used.zip(room) else {
        f.why = Some(Why::NoRoom);
        return f;
    };
    let left = (room - used).max(0.0);
    // What is full is full, whether or not it grows.
    if left > 0.0 && (low <= 0.0 || per_day <= 0.0) {
        f.why = Some(Why::Flat);
        return f;
    }
    let until = |speed: f64| if left > 0.0 { left / speed } else { 0.0 };
    let at = |days: f64| now_ms.saturating_add((days * DAY_MS as f64) as i64);
    if until(per_day) > FAR_DAYS {
        f.why = Some(Why::Far);
        return f;
    }
    f.full_in_days = Some(until(per_day));
    f.full_at = Some(at(until(per_day)));
    f.full_at_earliest = Some(at(until(high)));
    f
}

fn median(sorted: &[f64]) -> f64 {
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// Takes out what is no growth but a jump of level; see the head. How many.
fn without_jumps(points: &mut [(f64, f64)]) -> u32 {
    let steps: Vec<f64> = points.windows(2).map(|w| w[1].1 - w[0].1).collect();
    let mut sizes: Vec<f64> = steps.iter().map(|s| s.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let usual = median(&sizes);
    let is_jump = |i: &usize| {
        let size = steps[*i].abs();
        size > 10.0 * usual && size > 0.1 * points[*i].1.max(points[i + 1].1)
    };
    let jumps: Vec<usize> = (0..steps.len()).filter(is_jump).collect();
    if jumps.len() > (points.len() / 14).max(1) {
        return 0;
    }
    let mut sorted = steps.clone();
    sorted.sort_by(f64::total_cmp);
    // In place of the jump stands an ordinary day.
    let ordinary = median(&sorted);
    for i in &jumps {
        points[i + 1..].iter_mut().for_each(|p| p.1 -= steps[*i] - ordinary);
    }
    jumps.len() as u32
}

/// The median slope and its bounds.
fn theil_sen(points: &[(f64, f64)]) -> (f64, f64, f64) {
    let n = points.len();
    let mut slopes = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for (i, a) in points.iter().enumerate() {
        slopes.extend(points[i + 1..].iter().filter(|b| b.0 > a.0).map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    slopes.sort_by(f64::total_cmp);
    let Some(last) = slopes.len().checked_sub(1) else { return (0.0, 0.0, 0.0) };
    // 1.96 standard deviations of Kendall's statistic.
    let n = n as f64;
    let wide = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let rank = |r: f64| (r.max(0.0) as usize).min(last);
    let all = slopes.len() as f64;
    (median(&slopes), slopes[rank(((all - wide) / 2.0).floor())], slopes[rank(((all + wide) / 2.0).ceil())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: f64 = 1_073_741_824.0;
    const T0: i64 = 1_790_000_000_000 - 1_790_000_000_000 % DAY_MS;

    /// Hourly buckets of so many days.
    fn history(days: i64, used: impl Fn(f64) -> f64) -> Vec<Bucket> {
        let bucket = |h: i64| {
            let mean = used(h as f64 / 24.0);
            Bucket { start: T0 + h * 3_600_000, min: mean, max: mean, mean, count: 360 }
        };
        (0..days * 24).map(bucket).collect()
    }

    fn near(got: Option<f64>, want: f64, error: f64) {
        let got = got.expect("there is a value");
        assert!((got - want).abs() <= error, "{got} is not {want} ± {error}");
    }

    #[test]
    fn steady_growth_ends_at_the_right_day() {
        let f = forecast(&history(30, |d| (100.0 + 2.0 * d) * GIB), Some(160.0 * GIB), Some(200.0 * GIB), T0 + 30 * DAY_MS);
        near(f.per_day, 2.0 * GIB, 0.001 * GIB);
        near(f.full_in_days, 20.0, 0.01);
        assert_eq!((f.days, f.why), (30, None));
        assert!((f.full_at.expect("a day") - (T0 + 50 * DAY_MS)).abs() < DAY_MS / 24);
    }

    #[test]
    fn one_large_copy_and_office_hours_do_not_matter() {
        // 1 GiB a day, more by day than by night, and 500 GiB moved in on the 20th.
        let used = |d: f64| {
            let night = if (8.0..18.0).contains(&((d * 24.0) % 24.0)) { 5.0 } else { 0.0 };
            (100.0 + d + night + if d >= 20.0 { 500.0 } else { 0.0 }) * GIB
        };
        let f = forecast(&history(30, used), Some(630.0 * GIB), Some(700.0 * GIB), T0 + 30 * DAY_MS);
        near(f.per_day, GIB, 0.05 * GIB);
        assert_eq!(f.jumps, 1);
        near(f.full_in_days, 70.0, 4.0);
        // Least squares would say ten times as much: this is what the median is for.
        let days = merge(&history(30, used), DAY_MS);
        let (mx, my) = (14.5, days.iter().map(|d| d.mean).sum::<f64>() / 30.0);
        let ls = days.iter().enumerate().map(|(i, d)| (i as f64 - mx) * (d.mean - my)).sum::<f64>()
            / (0..30).map(|i| (f64::from(i) - mx).powi(2)).sum::<f64>();
        assert!(ls > 10.0 * GIB);
    }

    #[test]
    fn a_weekly_backup_is_growth_and_no_jump() {
        let f = forecast(&history(56, |d| (100.0 + 70.0 * (d / 7.0).floor()) * GIB), None, Some(2000.0 * GIB), T0 + 56 * DAY_MS);
        assert_eq!(f.jumps, 0);
        near(f.per_day, 10.0 * GIB, GIB);
    }

    #[test]
    fn what_cannot_be_known_is_absent_and_says_why() {
        let f = forecast(&history(6, |d| d * GIB), Some(6.0 * GIB), Some(10.0 * GIB), T0 + 6 * DAY_MS);
        assert_eq!((f.days, f.per_day, f.full_at, f.why), (6, None, None, Some(Why::History)));
        let f = forecast(&[], None, None, 0);
        assert_eq!((f.days, f.why), (0, Some(Why::History)));
        let f = forecast(&history(10, |d| d * GIB), Some(10.0 * GIB), None, T0 + 10 * DAY_MS);
        assert!(f.per_day.is_some() && f.full_at.is_none() && f.why == Some(Why::NoRoom));
        let wobble = |d: f64| (50.0 + f64::from((d.floor() as i32 * 7) % 5)) * GIB;
        let f = forecast(&history(30, wobble), Some(50.0 * GIB), Some(60.0 * GIB), T0 + 30 * DAY_MS);
        assert!(f.full_at.is_none() && f.why == Some(Why::Flat), "{f:?}");
        let f = forecast(&history(30, |d| (50.0 - d) * GIB), Some(20.0 * GIB), Some(60.0 * GIB), T0 + 30 * DAY_MS);
        assert!(f.per_day.expect("known") < 0.0 && f.why == Some(Why::Flat));
        let f = forecast(&history(30, |d| (50.0 + 0.001 * d) * GIB), None, Some(60.0 * GIB), T0 + 30 * DAY_MS);
        assert_eq!((f.full_at, f.why), (None, Some(Why::Far)));
        let f = forecast(&history(30, |_| 60.0 * GIB), Some(60.0 * GIB), Some(60.0 * GIB), T0 + 30 * DAY_MS);
        assert_eq!((f.full_in_days, f.why), (Some(0.0), None), "full is full");
    }

    #[test]
    fn rooms() {
        assert_eq!(room(Some(3.0), Some(4.0), Some(10.0)), Some(7.0));
        assert_eq!(room(Some(3.0), Some(40.0), Some(10.0)), Some(10.0));
        assert_eq!(room(Some(3.0), None, Some(10.0)), Some(10.0));
        assert_eq!(room(Some(3.0), None, None), None);
    }

    #[test]
    fn tables_have_changes_between_neighbours_only() {
        let mut all = history(4, |d| d * GIB);
        all.retain(|b| b.start < T0 + DAY_MS || b.start >= T0 + 2 * DAY_MS);
        let rows = table(&all, DAY_MS);
        assert_eq!(rows.iter().map(|r| (r.start - T0) / DAY_MS).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!((rows[0].change, rows[1].change), (None, None));
        near(rows[2].change, GIB, 1.0);
        assert_eq!(table(&all, 3_600_000).len(), 72);
        assert!(rows[0].min < rows[0].mean && rows[0].mean < rows[0].max);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_said_is_finite(
            values in prop::collection::vec((0i64..200, 0.0..1e15f64, 1u32..9), 0..120), room in prop::option::of(0.0..1e15f64)
        ) {
            let all: Vec<Bucket> =
                values.iter().map(|(d, v, n)| Bucket { start: T0 + d * DAY_MS / 2, min: *v, max: *v, mean: *v, count: *n }).collect();
            let f = forecast(&all, None, room, T0 + 200 * DAY_MS);
            prop_assert!(f.full_at.is_some() == f.full_in_days.is_some());
            prop_assert!(f.full_at.is_some() || f.why.is_some());
            let (low, high) = f.between.unwrap_or_default();
            let slope = f.per_day.unwrap_or_default();
            prop_assert!(low <= slope && slope <= high && f.full_in_days.is_none_or(|d| d.is_finite() && d >= 0.0));
        }
    }
}
