// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures of a series: a line of blocks for a terminal, and a line chart as SVG that needs neither script nor server. It knows how
//! buckets are drawn; it must not know what they mean, or where they are from.
//!
//! What is not known is a gap, in both: never a line from one end to the other, and never zero.

use std::fmt::Write as _;

use super::export::Answer;
use super::when::{DAY, HOUR, MINUTE, SECOND, Zone};
use super::{Bucket, Kind, Unit, quantity};

// ---- for a terminal ----------------------------------------------------------------------------------------------------------

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ',', '-', '~', '=', '+', '#'];

/// A line of `width` blocks, each the highest value of its stretch, with the lowest, highest and last value behind it. Where nothing is known it
/// has `·`; in plain ASCII `?`.
pub fn sparkline(answer: &Answer, width: usize, ascii: bool) -> String {
    let (levels, gap) = if ascii { (ASCII, '?') } else { (BLOCKS, '·') };
    let width = width.clamp(1, 1000);
    let mut columns: Vec<Option<f64>> = vec![None; width];
    let buckets = drawable(answer);
    for b in &buckets {
        for column in span_of(answer, b, width) {
            if let Some(c) = columns.get_mut(column) {
                *c = Some(c.map_or(b.max, |v| v.max(b.max)));
            }
        }
    }
    let (low, high) = bounds(answer, &buckets, &[]);
    let top = levels.len() - 1;
    let mut out: String = columns
        .iter()
        .map(|c| match c {
            None => gap,
            // A cast saturates; a line that is level all along is drawn in the middle.
            Some(_) if high <= low => levels[top / 2],
            Some(v) => levels[(((v - low) / (high - low) * top as f64).round() as usize).min(top)],
        })
        .collect();
    match (extremes(&buckets), buckets.last()) {
        (Some((min, max)), Some(last)) => {
            let _ = write!(out, "  min {}, max {}, last {}", answer.show(min), answer.show(max), answer.show(last.mean));
        }
        _ => out.push_str("  no figures"),
    }
    if ascii { out.replace('µ', "u") } else { out }
}

/// The columns whose middle lies in the bucket, and the one that has the bucket's middle.
fn span_of(answer: &Answer, b: &Bucket, width: usize) -> impl Iterator<Item = usize> + use<> {
    let span = i128::from(answer.to) - i128::from(answer.from);
    let width = width as i128;
    // Twice the place, in columns, so that halves are whole.
    let place = |ms: i128| if span <= 0 { 0 } else { ((ms - i128::from(answer.from)) * 2 * width).div_euclid(span) };
    let (start, length) = (i128::from(b.start), i128::from(answer.resolution_ms.max(0)));
    let middle = place(start + length / 2).div_euclid(2);
    let first = place(start).div_euclid(2) + place(start).rem_euclid(2);
    let last = (place(start + length) + 1).div_euclid(2) - 1;
    let (first, last) = (first.min(middle).clamp(0, width), last.max(middle).clamp(-1, width - 1));
    (first..=last).filter_map(|c| usize::try_from(c).ok())
}

// ---- what both need ----------------------------------------------------------------------------------------------------------

/// Buckets that can be drawn: of numbers.
fn drawable(answer: &Answer) -> Vec<Bucket> {
    let sane = |v: f64| v.is_finite() && v.abs() < 1e300;
    answer.buckets.iter().filter(|b| sane(b.min) && sane(b.max) && sane(b.mean)).copied().collect()
}

fn extremes(buckets: &[Bucket]) -> Option<(f64, f64)> {
    let min = buckets.iter().map(|b| b.min).reduce(f64::min)?;
    let max = buckets.iter().map(|b| b.max).reduce(f64::max)?;
    Some((min, max))
}

/// What the picture reaches from and to: from zero, but where bytes that are kept hardly change, which could not be seen from there.
fn bounds(answer: &Answer, buckets: &[Bucket], marks: &[Mark]) -> (f64, f64) {
    let Some((min, max)) = extremes(buckets) else { return (0.0, 1.0) };
    let max = marks.iter().map(|m| m.value).filter(|v| v.is_finite() && *v < 1e300).fold(max, f64::max);
    let level = answer.unit == Unit::Bytes && answer.kind == Kind::Gauge && max - min < max * 0.1;
    (if min >= 0.0 && !level { 0.0 } else { min }, max)
}

// ---- SVG -----------------------------------------------------------------------------------------------------------------------

/// A value that a chart has a line for, such as a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where.
    pub value: f64,
    /// What it is.
    pub text: String,
}

/// How a chart looks.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// Unique within a document.
    pub id: &'a str,
    /// What is over it.
    pub title: &'a str,
    /// Clock of the time axis.
    pub zone: Zone,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Lines across it.
    pub marks: &'a [Mark],
    /// A file of its own has its style in it; in a document that has [`STYLE`] once it is left out.
    pub standalone: bool,
}

/// What charts look like: dark on light or light on dark, as the reader likes it.
pub const STYLE: &str = "\
.smbgw-chart{--ink:#1f2933;--faint:#7b8794;--rule:#d5dbe1;--line:#1769aa;--band:#1769aa;--gap:#8a94a0;--mark:#b3261e;max-width:100%;height:auto}
.smbgw-chart text{font:11px system-ui,sans-serif;fill:var(--faint)}
.smbgw-chart .t{font-size:13px;font-weight:600;fill:var(--ink)}
.smbgw-chart .r{stroke:var(--rule);stroke-width:1}
.smbgw-chart .l{stroke:var(--line);stroke-width:1.5;fill:none;stroke-linejoin:round}
.smbgw-chart .p{fill:var(--line)}
.smbgw-chart .b{fill:var(--band);opacity:.2}
.smbgw-chart .g{fill:var(--gap);opacity:.12}
.smbgw-chart .m{stroke:var(--mark);stroke-width:1;stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){.smbgw-chart{--ink:#e4e7eb;--faint:#9aa5b1;--rule:#3e4c59;--line:#62b0e8;--band:#62b0e8;--gap:#9aa5b1;--mark:#ff8a80}}
@media print{.smbgw-chart{--ink:#000;--faint:#333;--rule:#bbb;--line:#000;--band:#555;--gap:#777;--mark:#000}}
";

/// Text inside a document of XML or HTML, also inside quotation marks. What XML cannot have is replaced.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A line chart: the mean as a line, from lowest to highest as a band, axes with units, gaps as gaps.
pub fn svg(answer: &Answer, look: &Look) -> String {
    let buckets = drawable(answer);
    let (width, height) = (f64::from(look.width.clamp(200, 4000)), f64::from(look.height.clamp(100, 4000)));
    let frame = Frame { left: 76.0, right: width - 14.0, top: 30.0, bottom: height - 24.0 };
    let ticks = value_ticks(answer, bounds(answer, &buckets, look.marks));
    let (low, high) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
    let (from, to) = (answer.from as f64, (answer.to as f64).max(answer.from as f64 + 1.0));
    let x = |ms: f64| frame.left + ((ms - from) / (to - from)).clamp(0.0, 1.0) * (frame.right - frame.left);
    let y = |v: f64| {
        let part = if high > low { (v - low) / (high - low) } else { 0.5 };
        frame.bottom - part.clamp(0.0, 1.0) * (frame.bottom - frame.top)
    };
    let id: String = look.id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"smbgw-chart\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n<title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n",
        escape(look.title),
        escape(&description(answer, &buckets, look)),
    );
    if look.standalone {
        // Its characters are none that XML would mind.
        let _ = writeln!(out, "<style>{STYLE}</style>");
    }
    let _ = writeln!(out, "<text class=\"t\" x=\"{:.0}\" y=\"18\">{}</text>", 4.0, escape(look.title));
    for v in &ticks {
        let at = y(*v);
        let _ = writeln!(
            out,
            "<line class=\"r\" x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            frame.left,
            frame.right,
            frame.left - 6.0,
            at + 4.0,
            escape(&answer.show(*v))
        );
    }
    for (at, label) in time_ticks(answer.from, answer.to, look.zone) {
        let _ = writeln!(
            out,
            "<line class=\"r\" x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\"/><text x=\"{0:.1}\" y=\"{3:.1}\" text-anchor=\"{4}\">{5}</text>",
            x(at as f64),
            frame.bottom,
            frame.bottom + 4.0,
            frame.bottom + 17.0,
            // A label at the edge would be cut.
            if frame.right - x(at as f64) < 16.0 { "end" } else { "middle" },
            escape(&label)
        );
    }
    let _ = writeln!(out, "<text x=\"{:.1}\" y=\"18\" text-anchor=\"end\">{}</text>", frame.right, escape(&look.zone.name()));
    let length = answer.resolution_ms.max(1) as f64;
    for (a, b) in gaps(answer, &buckets) {
        let (a, b) = (x(a as f64), x(b as f64));
        if b - a >= 0.05 {
            let _ = writeln!(
                out,
                "<rect class=\"g\" x=\"{a:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                frame.top,
                b - a,
                frame.bottom - frame.top
            );
        }
    }
    for run in runs(answer, &buckets) {
        let at = |b: &Bucket| x(b.start as f64 + length / 2.0);
        if let [b] = run {
            let _ = writeln!(
                out,
                "<rect class=\"b\" x=\"{:.1}\" y=\"{:.1}\" width=\"2\" height=\"{:.1}\"/><circle class=\"p\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.5\"/>",
                at(b) - 1.0,
                y(b.max),
                (y(b.min) - y(b.max)).max(0.0),
                at(b),
                y(b.mean)
            );
            continue;
        }
        let point = |out: &mut String, b: &Bucket, v: f64| {
            let _ = write!(out, "{:.1},{:.1} ", at(b), y(v));
        };
        let (mut band, mut line) = (String::new(), String::new());
        run.iter().for_each(|b| point(&mut band, b, b.max));
        run.iter().rev().for_each(|b| point(&mut band, b, b.min));
        run.iter().for_each(|b| point(&mut line, b, b.mean));
        let _ = writeln!(
            out,
            "<polygon class=\"b\" points=\"{}\"/><polyline class=\"l\" points=\"{}\"/>",
            band.trim_end(),
            line.trim_end()
        );
    }
    for m in look.marks.iter().filter(|m| m.value >= low && m.value <= high) {
        let at = y(m.value);
        let _ = writeln!(
            out,
            "<line class=\"m\" x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            frame.left,
            frame.right,
            frame.right - 4.0,
            at + 13.0,
            escape(&m.text)
        );
    }
    if buckets.is_empty() {
        let (x, y) = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">no figures in this period</text>");
    }
    out.push_str("</svg>\n");
    out
}

struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// The picture in words, for those who do not see it.
fn description(answer: &Answer, buckets: &[Bucket], look: &Look) -> String {
    let period = format!("From {} to {} {}.", look.zone.minute(answer.from), look.zone.minute(answer.to), look.zone.name());
    let Some((min, max)) = extremes(buckets) else { return format!("{period} No figures.") };
    let (sum, n) = buckets.iter().fold((0.0, 0.0), |(s, n), b| (s + b.mean * f64::from(b.count), n + f64::from(b.count)));
    let mean = if n > 0.0 { format!(", mean {}", answer.show(sum / n)) } else { String::new() };
    let gaps = gaps(answer, buckets).len();
    let missing = match gaps {
        0 => String::new(),
        1 => " Figures are missing once.".to_owned(),
        n => format!(" Figures are missing {n} times."),
    };
    let marks: String = look.marks.iter().map(|m| format!(" {}: {}.", m.text, answer.show(m.value))).collect();
    format!("{period} Lowest {}, highest {}{mean}.{marks}{missing}", answer.show(min), answer.show(max))
}

/// Stretches without figures, as (beginning, end); half a bucket at the ends of the range is none.
pub fn gaps(answer: &Answer, buckets: &[Bucket]) -> Vec<(i64, i64)> {
    let length = answer.resolution_ms.max(1);
    let mut found = Vec::new();
    let mut known_to = answer.from;
    for b in buckets {
        if b.start.saturating_sub(known_to) >= length {
            found.push((known_to, b.start));
        }
        known_to = known_to.max(b.start.saturating_add(length));
    }
    if answer.to.saturating_sub(known_to) >= length {
        found.push((known_to, answer.to));
    }
    found
}

/// Buckets one after the other, without a gap between them.
fn runs<'a>(answer: &Answer, buckets: &'a [Bucket]) -> Vec<&'a [Bucket]> {
    let length = answer.resolution_ms.max(1);
    buckets.chunk_by(|a, b| b.start.saturating_sub(a.start) <= length.saturating_add(length / 2)).collect()
}

/// The step of 1, 2 or 5 times a power of ten that is not below `least`.
fn nice(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|f| f * power).find(|s| *s >= least * 0.999_999).unwrap_or(10.0 * power)
}

/// Values that the axis names, at most about six; the first and last are the ends of the axis.
fn value_ticks(answer: &Answer, (low, high): (f64, f64)) -> Vec<f64> {
    if answer.unit == Unit::State {
        return vec![0.0, 1.0];
    }
    let high = if high > low { high } else { low + low.abs().max(1.0) };
    // Bytes are counted in powers of 1024.
    let unit = match answer.unit {
        Unit::Bytes => 1024_f64.powf((high.abs().max(1.0).ln() / 1024_f64.ln()).floor()),
        _ => 1.0,
    };
    let whole = answer.kind == Kind::Gauge && matches!(answer.unit, Unit::Bytes | Unit::Count) && unit == 1.0;
    let least = (high - low) / unit / 5.0;
    let step = nice(if whole { least.max(1.0) } else { least }) * unit;
    if !step.is_normal() {
        return vec![low, high];
    }
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    // Twenty are more than come about; where numbers are so close to each other that floating point loses them, it is an end.
    let count = (last - first).clamp(1.0, 20.0) as usize;
    (0..=count).map(|i| (first + i as f64) * step).collect()
}

/// Moments that the time axis names: at most about nine.
fn time_ticks(from: i64, to: i64, zone: Zone) -> Vec<(i64, String)> {
    const STEPS: [i64; 22] = [
        SECOND,
        10 * SECOND,
        30 * SECOND,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        15 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        2 * DAY,
        7 * DAY,
        14 * DAY,
        28 * DAY,
        91 * DAY,
        182 * DAY,
        365 * DAY,
    ];
    let span = to.saturating_sub(from);
    if span <= 0 {
        return Vec::new();
    }
    let step = STEPS
        .into_iter()
        .find(|s| span / s <= 8)
        .unwrap_or_else(|| (span / (7 * 365 * DAY)).saturating_add(1).saturating_mul(365 * DAY));
    // Weeks begin on Mondays; the epoch was a Thursday.
    let shift = if step % (7 * DAY) == 0 { 4 * DAY } else { 0 } - zone.offset();
    let first = from.saturating_sub(shift).saturating_add(step - 1).div_euclid(step).saturating_mul(step).saturating_add(shift);
    let mut out = Vec::new();
    let mut at = first;
    while at <= to && out.len() < 12 {
        let c = zone.civil(at);
        let day = format!("{} {}", c.day, c.month_name());
        out.push((
            at,
            match step {
                s if s >= 91 * DAY => format!("{} {}", c.month_name(), c.year),
                s if s >= DAY => day,
                _ if (c.hour, c.minute, c.second) == (0, 0, 0) => day,
                s if s < MINUTE => format!("{:02}:{:02}:{:02}", c.hour, c.minute, c.second),
                _ => format!("{:02}:{:02}", c.hour, c.minute),
            },
        ));
        match at.checked_add(step) {
            Some(next) => at = next,
            None => break,
        }
    }
    out
}

/// A value as [`Answer::show`], for a mark.
pub fn mark(answer: &Answer, what: &str, value: f64) -> Mark {
    Mark { value, text: format!("{what} {}", quantity::show(value, answer.unit, answer.kind)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Scope, by_name};
    use proptest::prelude::*;

    const FROM: i64 = 1_795_824_000_000; // 2026-11-28T00:00:00Z

    fn answer(scope: Scope, name: &str, means: &[Option<f64>]) -> Answer {
        let metric = by_name(scope, name).expect("in the table");
        let buckets = means.iter().zip(0..).filter_map(|(m, i)| {
            m.map(|mean| Bucket { start: FROM + i * HOUR, min: mean / 2.0, max: mean * 1.5, mean, count: 360 })
        });
        let end = FROM + i64::try_from(means.len()).expect("small") * HOUR;
        Answer::new(metric, "office", (FROM, end), HOUR, buckets.collect())
    }

    fn look<'a>() -> Look<'a> {
        Look { id: "c1", title: "Read <office>", zone: Zone(0), width: 720, height: 200, marks: &[], standalone: false }
    }

    #[test]
    fn a_line_of_blocks() {
        let a = answer(Scope::Share, "read_bytes", &[Some(0.0), Some(1024.0), None, Some(4096.0), Some(2048.0), None]);
        assert_eq!(sparkline(&a, 6, false), "▁▃·█▅·  min 0 bytes/s, max 6 KiB/s, last 2 KiB/s");
        assert_eq!(sparkline(&a, 6, true), "_,?#~?  min 0 bytes/s, max 6 KiB/s, last 2 KiB/s");
        // Wider than there are buckets; narrower: the peak stays.
        assert_eq!(sparkline(&a, 12, false).split("  ").next(), Some("▁▁▃▃··██▅▅··"));
        assert_eq!(sparkline(&a, 2, false).split("  ").next(), Some("▃█"));
        let none = answer(Scope::Share, "read_bytes", &[None, None]);
        assert_eq!(sparkline(&none, 4, true), "????  no figures");
        let latency = answer(Scope::Share, "read_latency", &[Some(2e-5)]);
        assert_eq!(sparkline(&latency, 1, true), "#  min 10 us, max 30 us, last 20 us");
    }

    #[test]
    fn a_level_line_is_in_the_middle() {
        let mut a = answer(Scope::Share, "used_bytes", &[Some(4096.0), Some(4096.0)]);
        a.buckets.iter_mut().for_each(|b| (b.min, b.max) = (b.mean, b.mean));
        assert_eq!(sparkline(&a, 2, false), "▄▄  min 4 KiB, max 4 KiB, last 4 KiB");
    }

    #[test]
    fn a_chart() {
        let a = answer(Scope::Share, "read_bytes", &[Some(0.0), Some(1024.0), None, Some(4096.0), Some(2048.0), Some(1.0)]);
        let svg = svg(&a, &look());
        let count = |what: &str| svg.matches(what).count();
        assert_eq!((count("<polyline"), count("<polygon"), count("class=\"g\"")), (2, 2, 1), "{svg}");
        assert!(svg.contains("<title id=\"c1-t\">Read &lt;office&gt;</title>"));
        assert!(svg.contains("From 2026-11-28 00:00 to 2026-11-28 06:00 UTC. Lowest 0 bytes/s, highest 6 KiB/s, mean 1.4 KiB/s. Figures are missing once."), "{svg}");
        for label in [">0 bytes/s<", ">2 KiB/s<", ">6 KiB/s<", ">28 Nov<", ">05:00<", ">UTC<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
        assert!(!svg.contains("<script") && !svg.contains("href") && !svg.contains("<style"));
    }

    #[test]
    fn marks_widen_the_chart() {
        let a = answer(Scope::Share, "used_bytes", &[Some(1e9), Some(2e9)]);
        let marks = [mark(&a, "limit", 4e9)];
        let svg = svg(&a, &Look { marks: &marks, standalone: true, ..look() });
        assert!(svg.contains(">limit 3.7 GiB<") && svg.contains(">4 GiB<") && svg.contains("prefers-color-scheme"), "{svg}");
    }

    #[test]
    fn alone_in_its_run_a_bucket_is_a_point() {
        let a = answer(Scope::Share, "sessions", &[None, Some(3.0), None]);
        let svg = svg(&a, &look());
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"g\"").count()), (1, 2), "{svg}");
        assert!(svg.contains(">1<") && !svg.contains(">0.5<"));
        let none = answer(Scope::Share, "sessions", &[]);
        assert!(super::svg(&none, &look()).contains("no figures in this period"));
    }

    #[test]
    fn time_axes() {
        let labels =
            |span: i64, zone: i32| time_ticks(FROM, FROM + span, Zone(zone)).into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(labels(HOUR, 0), ["28 Nov", "00:10", "00:20", "00:30", "00:40", "00:50", "01:00"]);
        assert_eq!(labels(DAY, 60), ["03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "29 Nov"]);
        assert_eq!(labels(7 * DAY, 0).len(), 8);
        assert_eq!(labels(30 * DAY, 0), ["30 Nov", "7 Dec", "14 Dec", "21 Dec", "28 Dec"]);
        assert!(labels(2 * 365 * DAY, 0)[0].ends_with("2027"));
    }

    proptest! {
        #[test]
        fn no_figures_are_too_much(
            title in ".{0,20}",
            from in proptest::num::i64::ANY,
            span in -10..i64::MAX,
            resolution in proptest::num::i64::ANY,
            buckets in proptest::collection::vec((proptest::num::i64::ANY, proptest::num::f64::ANY, proptest::num::f64::ANY, proptest::num::f64::ANY), 0..20),
            number in 0..crate::metrics::METRICS.len(),
            width in 0..200_usize,
        ) {
            let buckets = buckets.into_iter().map(|(start, min, max, mean)| Bucket { start, min, max, mean, count: 1 }).collect();
            let a = Answer::new(&crate::metrics::METRICS[number], "x", (from, from.saturating_add(span)), resolution, buckets);
            let line = sparkline(&a, width, true);
            prop_assert!(line.is_ascii());
            let drawn = svg(&a, &Look { title: &title, ..look() });
            prop_assert!(!drawn.contains("NaN") && !drawn.contains("inf\""));
        }
    }
}
