// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long figures are kept, as administrators say it: three lengths of time, read, checked and printed. It must not know where they are
//! written, nor what is removed by them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Problem;
use crate::metrics::when::{self, DAY, HOUR};
use crate::types::shorten;

/// How long values are kept, in milliseconds, and what counts as a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Retention {
    /// Each value.
    pub raw_ms: i64,
    /// What became of each minute.
    pub minute_ms: i64,
    /// What became of each hour.
    pub hour_ms: i64,
    /// Between two samples of a counter that are farther apart there is no rate.
    pub gap_ms: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { raw_ms: 7 * DAY, minute_ms: 30 * DAY, hour_ms: 730 * DAY, gap_ms: 60_000 }
    }
}

/// The lengths by name, from the shortest on: each is made from the one before.
pub const NAMES: [&str; 3] = ["raw", "minutes", "hours"];

impl Retention {
    /// Nothing may be kept for less: a block of values on disk is an hour.
    pub const LEAST_MS: i64 = HOUR;
    /// Nor for more.
    pub const MOST_MS: i64 = 3650 * DAY;

    /// With which nothing that is there is too old: for where nobody knows what is wanted.
    pub fn longest() -> Self {
        Self { raw_ms: Self::MOST_MS, minute_ms: Self::MOST_MS, hour_ms: Self::MOST_MS, ..Self::default() }
    }

    /// The lengths in the order of [`NAMES`].
    pub fn lengths(&self) -> [i64; 3] {
        [self.raw_ms, self.minute_ms, self.hour_ms]
    }

    /// This one with what is said; what is not said is as before. Errors: everything that is wrong with it.
    pub fn with(mut self, said: &[(&'static str, String)]) -> Result<Self, Vec<Problem>> {
        let mut wrong = Vec::new();
        for (name, text) in said {
            let Some(ms) = when::duration(text.trim()) else {
                wrong.push(Problem::new(*name, format!("{:?} is no length of time: write 12h, 7d, 6w or 2y", shorten(text))));
                continue;
            };
            match *name {
                "raw" => self.raw_ms = ms,
                "minutes" => self.minute_ms = ms,
                "hours" => self.hour_ms = ms,
                other => wrong.push(Problem::new(other, format!("none of {}", NAMES.join(", ")))),
            }
        }
        if wrong.is_empty() {
            wrong = self.problems();
        }
        if wrong.is_empty() { Ok(self) } else { Err(wrong) }
    }

    /// About how many bytes that is for so many shares, by the sizes measured (docs/METRICS-STORE.md): an office's; busy shares take three times that.
    pub fn estimate(&self, shares: usize) -> u64 {
        let days = |ms: i64| u64::try_from(ms / DAY).unwrap_or(0);
        let share = 19_000 * days(self.raw_ms) + 14_000 * days(self.minute_ms) + 150_000 * days(self.hour_ms) / 365;
        share.saturating_mul(u64::try_from(shares).unwrap_or(u64::MAX))
    }

    fn problems(&self) -> Vec<Problem> {
        let lengths = self.lengths();
        let mut wrong = Vec::new();
        for (name, ms) in NAMES.into_iter().zip(lengths) {
            let bound = match ms {
                ms if ms < Self::LEAST_MS => format!("is less than the least, {}", words(Self::LEAST_MS)),
                ms if ms > Self::MOST_MS => format!("is more than the most, {}", words(Self::MOST_MS)),
                _ => continue,
            };
            wrong.push(Problem::new(name, format!("{} {bound}", words(ms))));
        }
        for i in 1..NAMES.len() {
            if lengths[i] < lengths[i - 1] {
                let (longer, shorter) = (words(lengths[i - 1]), words(lengths[i]));
                let why = format!("{shorter} is shorter than {} ({longer}), from which they are made", NAMES[i - 1]);
                wrong.push(Problem::new(NAMES[i], why));
            }
        }
        wrong
    }

    /// Reads a document as [`Retention::document`] makes it; what is not in it is as by default. A wrong one is none: nothing may be
    /// removed because of a slip of the pen.
    pub fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let doc: Value = serde_json::from_str(text).map_err(|e| vec![Problem::new("retention", format!("is no JSON: {e}"))])?;
        let Some(map) = doc.as_object() else { return Err(vec![Problem::new("retention", "is no object")]) };
        let (mut said, mut wrong) = (Vec::new(), Vec::new());
        for (key, value) in map {
            let name = NAMES.into_iter().find(|n| n == key);
            match (name, value) {
                (Some(name), Value::String(text)) => said.push((name, text.clone())),
                (Some(name), _) => wrong.push(Problem::new(name, "is no text as \"7d\"")),
                (None, v) if key == "version" && v.as_u64() == Some(1) => {}
                (None, _) if key == "version" => wrong.push(Problem::new("version", "only 1 is known")),
                (None, _) => wrong.push(Problem::new(shorten(key), format!("none of version, {}", NAMES.join(", ")))),
            }
        }
        if wrong.is_empty() { Self::default().with(&said) } else { Err(wrong) }
    }

    /// As a document: `{"version": 1, "raw": "7d", "minutes": "30d", "hours": "2y"}`.
    pub fn document(&self) -> Value {
        let mut doc = json!({"version": 1});
        for (name, ms) in NAMES.into_iter().zip(self.lengths()) {
            doc[name] = json!(words(ms));
        }
        doc
    }
}

/// A length as it is read: a whole number of the largest unit that fits.
pub fn words(ms: i64) -> String {
    let units = [("y", 365 * DAY), ("d", DAY), ("h", HOUR), ("m", when::MINUTE), ("s", when::SECOND)];
    let (unit, length) = units.into_iter().find(|(_, l)| ms >= *l && ms % l == 0).unwrap_or(("s", when::SECOND));
    format!("{}{unit}", ms / length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(r: Result<Retention, Vec<Problem>>) -> Vec<String> {
        r.expect_err("wrong").into_iter().map(|p| format!("{}: {}", p.property, p.message)).collect()
    }

    fn set(said: &[(&'static str, &str)]) -> Result<Retention, Vec<Problem>> {
        Retention::default().with(&said.iter().map(|(n, t)| (*n, (*t).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_said_changes_what_was() {
        let r = set(&[("raw", "2w"), ("hours", "5y")]).expect("good");
        assert_eq!(r, Retention { raw_ms: 14 * DAY, hour_ms: 1825 * DAY, ..Retention::default() });
        assert_eq!(r.document(), json!({"version": 1, "raw": "14d", "minutes": "30d", "hours": "5y"}));
        assert_eq!(set(&[]), Ok(Retention::default()));
        let least = set(&[("raw", "1h"), ("minutes", "1h"), ("hours", "60m")]).expect("the least");
        assert_eq!(least.lengths(), [HOUR; 3]);
        let most = set(&[("raw", "10y"), ("minutes", "10y"), ("hours", "3650d")]).expect("the most");
        assert_eq!(most, Retention::longest());
    }

    #[test]
    fn everything_wrong_is_said() {
        assert_eq!(
            wrong(set(&[("raw", "soon"), ("minutes", "-3d"), ("hours", "")])),
            [
                "raw: \"soon\" is no length of time: write 12h, 7d, 6w or 2y",
                "minutes: \"-3d\" is no length of time: write 12h, 7d, 6w or 2y",
                "hours: \"\" is no length of time: write 12h, 7d, 6w or 2y",
            ]
        );
        assert_eq!(
            wrong(set(&[("raw", "59m"), ("hours", "11y")])),
            ["raw: 59m is less than the least, 1h", "hours: 11y is more than the most, 10y"]
        );
        assert_eq!(wrong(set(&[("raw", "31d")])), ["minutes: 30d is shorter than raw (31d), from which they are made"]);
        assert_eq!(wrong(set(&[("hours", "29d")])), ["hours: 29d is shorter than minutes (30d), from which they are made"]);
        assert_eq!(wrong(set(&[("raw", "99999999999999999y")])).len(), 1);
    }

    #[test]
    fn a_document_is_taken_whole_or_not_at_all() {
        assert_eq!(Retention::read("{}"), Ok(Retention::default()));
        assert_eq!(Retention::read(r#"{"raw": "1d"}"#).map(|r| r.raw_ms), Ok(DAY));
        for text in ["", "[]", r#"{"raw": 7}"#, r#"{"raw": "1d", "minute": "2d"}"#, r#"{"version": 2}"#, r#"{"hours": "1d"}"#] {
            assert!(!wrong(Retention::read(text)).is_empty(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mut seconds in prop::array::uniform3(3600i64..=3650 * 86_400)) {
            seconds.sort_unstable();
            let [raw_ms, minute_ms, hour_ms] = seconds.map(|s| s * 1000);
            let r = Retention { raw_ms, minute_ms, hour_ms, ..Retention::default() };
            prop_assert_eq!(Retention::read(&r.document().to_string()), Ok(r));
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,60}") {
            let _ = Retention::read(&text);
            let _ = Retention::default().with(&[("raw", text)]);
        }
    }
}
