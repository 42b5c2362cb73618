// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of metrics as people read them: 3.1 MiB/s, 1.2 ms, 12 %. It knows units; it must not know which metrics there are.

use super::{Kind, Unit};
use crate::types::human;

/// A value of a series. Of a counter it is a rate per second: processor seconds per second are a part of one processor.
pub fn show(value: f64, unit: Unit, kind: Kind) -> String {
    if !value.is_finite() {
        return "not known".to_owned();
    }
    match (unit, kind) {
        (Unit::Bytes, Kind::Gauge) => bytes(value),
        (Unit::Bytes, Kind::Counter) => format!("{}/s", bytes(value)),
        (Unit::Seconds, Kind::Gauge) => seconds(value),
        (Unit::Seconds, Kind::Counter) => percent(value),
        (Unit::Count, Kind::Gauge) => count(value),
        (Unit::Count, Kind::Counter) => format!("{}/s", count(value)),
        (Unit::State, _) if value == 1.0 => "yes".to_owned(),
        (Unit::State, _) if value == 0.0 => "no".to_owned(),
        (Unit::State, _) => format!("{} of the time", percent(value)),
    }
}

/// The unit of the values of a series, for the head of a table: `bytes`, `bytes_per_second`.
pub fn unit_name(unit: Unit, kind: Kind) -> &'static str {
    match (unit, kind) {
        (Unit::Bytes, Kind::Gauge) => "bytes",
        (Unit::Bytes, Kind::Counter) => "bytes_per_second",
        (Unit::Seconds, Kind::Gauge) => "seconds",
        (Unit::Seconds, Kind::Counter) => "seconds_per_second",
        (Unit::Count, Kind::Gauge) => "count",
        (Unit::Count, Kind::Counter) => "count_per_second",
        (Unit::State, _) => "state",
    }
}

/// A number of bytes, also a negative one (what went away).
pub fn bytes(value: f64) -> String {
    // A cast saturates: more than 2^64 bytes are that many.
    let whole = human(value.abs().round() as u64);
    if value <= -0.5 { format!("-{whole}") } else { whole }
}

/// Seconds, with the unit that suits them.
pub fn seconds(value: f64) -> String {
    match value.abs() {
        0.0 => "0 s".to_owned(),
        v if v < 1e-3 => format!("{} µs", count(value * 1e6)),
        v if v < 1.0 => format!("{} ms", count(value * 1e3)),
        v if v < 120.0 => format!("{} s", count(value)),
        _ => super::when::stretch((value * 1e3) as i64),
    }
}

/// A part of one, in percent.
pub fn percent(value: f64) -> String {
    format!("{} %", count(value * 100.0))
}

/// A number: three figures are enough below a thousand, above it has groups of three.
pub fn count(value: f64) -> String {
    let v = value.abs();
    let decimals = if v < 9.995 {
        2
    } else if v < 99.95 {
        1
    } else {
        0
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |d| ("-", d));
    let mut out = String::from(if digits == "0" { "" } else { sign });
    let whole = digits.find('.').unwrap_or(digits.len());
    for (i, c) in digits.char_indices() {
        if i > 0 && i < whole && (whole - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        let (g, c) = (Kind::Gauge, Kind::Counter);
        for (value, unit, kind, want) in [
            (0.0, Unit::Bytes, g, "0 bytes"),
            (3.3e6, Unit::Bytes, c, "3.1 MiB/s"),
            (1.2e-3, Unit::Seconds, g, "1.2 ms"),
            (3.5e-5, Unit::Seconds, g, "35 µs"),
            (2.5, Unit::Seconds, g, "2.5 s"),
            (7200.0, Unit::Seconds, g, "2 h"),
            (0.123, Unit::Seconds, c, "12.3 %"),
            (12.0, Unit::Count, g, "12"),
            (1.0 / 3.0, Unit::Count, c, "0.33/s"),
            (1_234_567.8, Unit::Count, g, "1,234,568"),
            (99.96, Unit::Count, g, "100"),
            (-0.001, Unit::Count, g, "0"),
            (1.0, Unit::State, g, "yes"),
            (0.5, Unit::State, g, "50 % of the time"),
            (f64::NAN, Unit::Bytes, g, "not known"),
            (1e300, Unit::Bytes, g, "16383 PiB"),
        ] {
            assert_eq!(show(value, unit, kind), want, "{value}");
        }
        assert_eq!(bytes(-2048.0), "-2 KiB");
    }
}
