// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moments and stretches of time as people write them: dates of the calendar, `7d`, `now-30d`, ranges of a request. It knows the calendar
//! and no clock: now is a parameter, and so is the offset from UTC. It must not know what is asked for in a range.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Problem, Result};
use crate::types::shorten;

/// A second, in milliseconds.
pub const SECOND: i64 = 1000;
/// A minute.
pub const MINUTE: i64 = 60 * SECOND;
/// An hour.
pub const HOUR: i64 = 60 * MINUTE;
/// A day.
pub const DAY: i64 = 24 * HOUR;

/// Points of an answer when nothing is said.
pub const POINTS: u32 = 300;
/// And the most that can be asked for.
pub const MOST_POINTS: u32 = 5000;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A moment as a clock on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999.
    pub milli: u16,
    /// 0 is Monday.
    pub weekday: u8,
}

/// A small number of something that was divided.
fn small<T: TryFrom<i64> + Default>(n: i64) -> T {
    T::try_from(n).unwrap_or_default()
}

impl Civil {
    /// Of milliseconds since the epoch (proleptic Gregorian; eras of 400 years, years that begin in March).
    pub fn of(ms: i64) -> Self {
        let (days, rest) = (ms.div_euclid(DAY), ms.rem_euclid(DAY));
        let z = days + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Self {
            year: yoe + era * 400 + i64::from(month <= 2),
            month: small(month),
            day: small(doy - (153 * mp + 2) / 5 + 1),
            hour: small(rest / HOUR),
            minute: small(rest / MINUTE % 60),
            second: small(rest / SECOND % 60),
            milli: small(rest % SECOND),
            weekday: small((days + 3).rem_euclid(7)),
        }
    }

    /// `Sat`.
    pub fn weekday_name(&self) -> &'static str {
        WEEKDAYS.get(usize::from(self.weekday)).copied().unwrap_or("")
    }

    /// `Nov`.
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month.wrapping_sub(1))).copied().unwrap_or("")
    }
}

/// The beginning of a day of the calendar; `None` if there is no such day.
fn day(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let ms = (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468) * DAY;
    let back = Civil::of(ms);
    (i64::from(back.month) == month && i64::from(back.day) == day).then_some(ms)
}

/// ISO 8601 in UTC: `2026-11-28T04:45:35Z`, with milliseconds where there are any.
pub fn iso(ms: i64) -> String {
    let c = Civil::of(ms);
    let fraction = if c.milli == 0 { String::new() } else { format!(".{:03}", c.milli) };
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// The zone that moments are shown in: a fixed offset from UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Zone(
    /// Minutes east of UTC.
    pub i32,
);

impl Zone {
    /// The moment on its clocks.
    pub fn civil(self, ms: i64) -> Civil {
        Civil::of(ms.saturating_add(self.offset()))
    }

    /// In milliseconds.
    pub fn offset(self) -> i64 {
        i64::from(self.0) * MINUTE
    }

    /// `UTC`, `UTC+01:00`.
    pub fn name(self) -> String {
        let m = self.0.unsigned_abs();
        match self.0 {
            0 => "UTC".to_owned(),
            n => format!("UTC{}{:02}:{:02}", if n < 0 { '-' } else { '+' }, m / 60, m % 60),
        }
    }

    /// `2026-11-28`.
    pub fn date(self, ms: i64) -> String {
        let c = self.civil(ms);
        format!("{:04}-{:02}-{:02}", c.year, c.month, c.day)
    }

    /// `2026-11-28 04:45`.
    pub fn minute(self, ms: i64) -> String {
        let c = self.civil(ms);
        format!("{:04}-{:02}-{:02} {:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute)
    }
}

/// A stretch of time for a sentence, of at most two units: `3 h 20 min`, `7 days`, `12 s`.
pub fn stretch(ms: i64) -> String {
    let plural = |n: i64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    let (s, sign) = (ms.unsigned_abs() / 1000, if ms < 0 { "-" } else { "" });
    let s = i64::try_from(s).unwrap_or(i64::MAX);
    let (d, h, m) = (s / 86_400, s / 3600 % 24, s / 60 % 60);
    let text = match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) if s % 60 == 0 || m >= 10 => format!("{m} min"),
        (0, 0, _) => format!("{m} min {} s", s % 60),
        (0, _, 0) => format!("{h} h"),
        (0, ..) => format!("{h} h {m} min"),
        (_, 0, _) => plural(d, "day"),
        _ if d >= 10 => plural(d, "day"),
        _ => format!("{} {h} h", plural(d, "day")),
    };
    format!("{sign}{text}")
}

/// Reads `90s`, `15m`, `1h`, `7d`, `2w`, `1y` (365 days): a whole number and one unit.
pub fn duration(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        "y" => 365 * DAY,
        _ => return None,
    };
    digits(number)?.checked_mul(unit)
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// What a text says: a moment, or a whole day, which has a beginning and an end.
enum Said {
    Moment(i64),
    Day(i64),
}

fn said(text: &str, now: i64) -> Option<Said> {
    let text = text.trim();
    if text == "now" {
        return Some(Said::Moment(now));
    }
    let back = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')).unwrap_or(text);
    if let Some(d) = duration(back) {
        return Some(Said::Moment(now.saturating_sub(d)));
    }
    if let Some(n) = digits(text) {
        // Seconds since the epoch, as `date +%s` prints them, or milliseconds, as our own documents have them: no date of one kind after
        // 1973 and before 5138 is one of the other.
        return match text.len() {
            9..=11 => Some(Said::Moment(n * SECOND)),
            12..=14 => Some(Said::Moment(n)),
            _ => None,
        };
    }
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((d, t)) => (d, Some(t)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (y, m, d) = (parts.next()?, parts.next()?, parts.next()?);
    if y.len() != 4 || m.len() != 2 || d.len() != 2 || parts.next().is_some() {
        return None;
    }
    let begin = day(digits(y)?, digits(m)?, digits(d)?)?;
    let Some(time) = time else { return Some(Said::Day(begin)) };
    Some(Said::Moment(begin + time_of_day(time)?))
}

/// `04:45`, `04:45:35`, `04:45:35.123`, each with nothing or `Z` (UTC) or an offset behind it.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset) = match text.find(['Z', '+', '-']) {
        Some(at) => match text.split_at(at) {
            (clock, "Z") => (clock, 0),
            (clock, offset) => {
                let sign = if offset.starts_with('-') { -1 } else { 1 };
                let (h, m) = offset[1..].split_once(':')?;
                (clock, sign * (two(h, 23)? * HOUR + two(m, 59)? * MINUTE))
            }
        },
        None => (text, 0),
    };
    let mut parts = clock.split(':');
    let (h, m, s) = (parts.next()?, parts.next()?, parts.next().unwrap_or("00"));
    if parts.next().is_some() {
        return None;
    }
    let (s, fraction) = match s.split_once('.') {
        Some((s, f)) if f.len() <= 9 => {
            digits(f)?;
            (s, digits(format!("{f:0<3}").get(..3)?)?)
        }
        Some(_) => return None,
        None => (s, 0),
    };
    Some(two(h, 23)? * HOUR + two(m, 59)? * MINUTE + two(s, 59)? * SECOND + fraction - offset)
}

fn two(text: &str, most: i64) -> Option<i64> {
    digits(text).filter(|n| text.len() == 2 && *n <= most)
}

/// What is asked for: from a moment (included) to a moment (not included), in at most so many points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its beginning, in milliseconds since the epoch.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// The most points of the answer.
    pub points: u32,
}

/// Reads `from`, `to` and `points` of a request; nothing said is the last hour in 300 points. All that is wrong is said at once.
///
/// A moment is `now`, a stretch before now (`1h`, `-1h`, `now-1h`), a date or date and time of ISO 8601 (UTC, or with an offset), or
/// seconds or milliseconds since the epoch. A day alone is its beginning in `from` and its end in `to`: `from=2026-11-01 to=2026-11-07` is seven
/// days. What lies in the future is left out.
pub fn range(params: &Value, now: i64) -> Result<Range> {
    let mut problems = Vec::new();
    let from = moment(params, "from", now, false, &mut problems).unwrap_or(now - HOUR);
    let to = moment(params, "to", now, true, &mut problems).unwrap_or(now).min(now);
    let points = match said_text(params, "points", &mut problems) {
        None => POINTS,
        Some(t) => match t.trim().parse::<u32>() {
            Ok(n) if (1..=MOST_POINTS).contains(&n) => n,
            _ => {
                problems.push(Problem::new("points", format!("must be a whole number from 1 to {MOST_POINTS}")));
                POINTS
            }
        },
    };
    if problems.is_empty() && from >= now {
        problems.push(Problem::new("from", "lies in the future"));
    } else if problems.is_empty() && from >= to {
        problems.push(Problem::new("to", "is not after from"));
    }
    if problems.is_empty() { Ok(Range { from, to, points }) } else { Err(Error::invalid("range", problems)) }
}

/// Reads one moment, as [`range`] does; a day alone is its end if `end` is true.
pub fn moment_of(text: &str, now: i64, end: bool) -> Option<i64> {
    let at = match said(text, now)? {
        Said::Moment(at) => at,
        Said::Day(begin) if end => begin + DAY,
        Said::Day(begin) => begin,
    };
    (at >= 0).then_some(at)
}

fn moment(params: &Value, name: &str, now: i64, end: bool, problems: &mut Vec<Problem>) -> Option<i64> {
    let text = said_text(params, name, problems)?;
    let at = moment_of(&text, now, end);
    if at.is_none() {
        let why = "is no moment: write a stretch before now (30m, 1h, 7d, now-30d), a date (2026-11-28, 2026-11-28T04:45Z), or seconds since 1970";
        problems.push(Problem::new(name, format!("{:?} {why}", shorten(&text))));
    }
    at
}

fn said_text(params: &Value, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
    match params.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(s)) if s.trim().is_empty() => None,
        Some(Value::String(s)) => Some(s.clone()),
        Some(Value::Number(n)) => Some(n.to_string()),
        Some(_) => {
            problems.push(Problem::new(name, "must be text"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    // 2026-11-28T04:45:35Z, a Saturday.
    const NOW: i64 = 1_795_841_135_000;

    #[test]
    fn the_calendar() {
        assert_eq!(iso(NOW), "2026-11-28T04:45:35Z");
        assert_eq!(Civil::of(NOW).weekday_name(), "Sat");
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(Zone(330).minute(NOW), "2026-11-28 10:15");
        assert_eq!((Zone(330).name(), Zone(-90).name()), ("UTC+05:30".to_owned(), "UTC-01:30".to_owned()));
        // Nothing overflows at the ends of time.
        for ms in [i64::MIN, i64::MAX] {
            assert!(iso(ms).ends_with('Z') && Zone(1).minute(ms).len() > 10);
        }
    }

    #[test]
    fn moments_as_people_write_them() {
        let at = |text: &str| moment_of(text, NOW, false).map(iso);
        for (text, want) in [
            ("now", "2026-11-28T04:45:35Z"),
            ("1h", "2026-11-28T03:45:35Z"),
            ("-1h", "2026-11-28T03:45:35Z"),
            ("now-30d", "2026-10-29T04:45:35Z"),
            ("2w", "2026-11-14T04:45:35Z"),
            ("1y", "2025-11-28T04:45:35Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01 12:30", "2026-11-01T12:30:00Z"),
            ("2026-11-01T12:30:15.5Z", "2026-11-01T12:30:15.500Z"),
            ("2026-11-01T12:30+05:30", "2026-11-01T07:00:00Z"),
            ("1795841135", "2026-11-28T04:45:35Z"),
            ("1795841135123", "2026-11-28T04:45:35.123Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(want), "{text}");
        }
        for text in [
            "",
            "h",
            "1",
            "1 h",
            "1.5h",
            "yesterday",
            "now+1h",
            "--1h",
            "2026-02-30",
            "2026-13-01",
            "26-11-01",
            "2026-11-01T",
            "2026-11-01T25:00",
            "2026-11-01T12:30:61",
            "2026-11-01T12:30Zjunk",
            "2026-11-01T12:30:15.",
            "99999999999999999999d",
            "9999y",
            "12é",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
        assert_eq!(moment_of("2026-11-07", NOW, true).map(iso).as_deref(), Some("2026-11-08T00:00:00Z"));
    }

    #[test]
    fn ranges_of_requests() {
        assert_eq!(range(&json!({}), NOW).expect("default"), Range { from: NOW - HOUR, to: NOW, points: 300 });
        let r = range(&json!({"from": "2026-11-01", "to": "2026-11-07", "points": "50"}), NOW).expect("days");
        assert_eq!((r.to - r.from, r.points), (7 * DAY, 50));
        // Today is not over.
        assert_eq!(range(&json!({"from": "7d", "to": "2026-11-28", "points": 7}), NOW).expect("today").to, NOW);
        let e = range(&json!({"from": "x", "to": [], "points": 0}), NOW).expect_err("all wrong");
        let named: Vec<_> = e.problems().iter().map(|p| p.property.as_str()).collect();
        assert_eq!(named, ["from", "to", "points"]);
        for (params, property) in [
            (json!({"from": "2030-01-01"}), "from"),
            (json!({"from": "1h", "to": "2h"}), "to"),
            (json!({"points": 5001}), "points"),
        ] {
            assert_eq!(range(&params, NOW).expect_err("wrong").problems()[0].property, property, "{params}");
        }
    }

    #[test]
    fn stretches() {
        for (ms, want) in [
            (12_300, "12 s"),
            (60_000, "1 min"),
            (95_000, "1 min 35 s"),
            (12 * MINUTE + 5000, "12 min"),
            (HOUR, "1 h"),
            (3 * HOUR + 20 * MINUTE, "3 h 20 min"),
            (7 * DAY, "7 days"),
            (DAY + 2 * HOUR, "1 day 2 h"),
            (-HOUR, "-1 h"),
        ] {
            assert_eq!(stretch(ms), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(ms in 0..253_402_300_800_000_i64) {
            prop_assert_eq!(moment_of(&iso(ms), 0, false), Some(ms));
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,30}", params in "[0-9TZ:+. -]{0,30}") {
            let _ = moment_of(&text, NOW, true);
            let _ = moment_of(&params, NOW, false);
        }
    }
}
