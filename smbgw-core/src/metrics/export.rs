// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer to a question about one series, and its forms for other programs: JSON and CSV (RFC 4180). It knows how an answer is written; it
//! must not know where the figures are kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Bucket, Kind, Metric, Scope, Unit, quantity, when};

/// Version of the JSON form. Keys may be added; a known key keeps its meaning.
pub const SCHEMA: u32 = 1;

/// What became of one series in a stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the metric, within its scope.
    pub metric: String,
    /// What it is about.
    pub scope: Scope,
    /// Storage id, gateway or node.
    pub object: String,
    /// A gauge has its values in the buckets, a counter its rates per second.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// The beginning, in milliseconds since the epoch.
    pub from: i64,
    /// The end, not included.
    pub to: i64,
    /// Length of a bucket, in milliseconds.
    pub resolution_ms: i64,
    /// In order; a stretch without figures has none.
    pub buckets: Vec<Bucket>,
}

impl Answer {
    /// An answer about a metric of the table.
    pub fn new(metric: &Metric, object: &str, (from, to): (i64, i64), resolution_ms: i64, buckets: Vec<Bucket>) -> Self {
        Self {
            schema: SCHEMA,
            metric: metric.name.to_owned(),
            scope: metric.scope,
            object: object.to_owned(),
            kind: metric.kind,
            unit: metric.unit,
            from,
            to,
            resolution_ms,
            buckets,
        }
    }

    /// A value of it, as people read it.
    pub fn show(&self, value: f64) -> String {
        quantity::show(value, self.unit, self.kind)
    }

    /// `office: read_bytes`.
    pub fn title(&self) -> String {
        format!("{}: {}", self.object, self.metric)
    }
}

/// As a document.
pub fn json(answer: &Answer) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

/// As a table with a head, a line for each bucket: its beginning in ISO 8601 (UTC), then what it is about and its values. Lines end in CR LF.
pub fn csv(answer: &Answer) -> String {
    let unit = quantity::unit_name(answer.unit, answer.kind);
    let mut out = format!("time,scope,object,metric,min_{unit},max_{unit},mean_{unit},samples\r\n");
    let about = [answer.scope.name(), &answer.object, &answer.metric].map(field).join(",");
    for b in &answer.buckets {
        // A number that is none has no digits.
        let [min, max, mean] = [b.min, b.max, b.mean].map(|v| if v.is_finite() { v.to_string() } else { String::new() });
        out.push_str(&format!("{},{about},{min},{max},{mean},{}\r\n", when::iso(b.start), b.count));
    }
    out
}

/// A field of RFC 4180: in quotation marks where it has to be.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::by_name;

    fn answer() -> Answer {
        let metric = by_name(Scope::Share, "read_bytes").expect("in the table");
        let bucket = |start, mean| Bucket { start, min: 0.0, max: 1e6, mean, count: 6 };
        let buckets = vec![bucket(1_795_841_100_000, 0.1), bucket(1_795_841_220_000, 1e-7)];
        Answer::new(metric, "office", (1_795_841_100_000, 1_795_841_280_000), 60_000, buckets)
    }

    #[test]
    fn as_csv() {
        assert_eq!(
            csv(&answer()),
            "time,scope,object,metric,min_bytes_per_second,max_bytes_per_second,mean_bytes_per_second,samples\r\n\
             2026-11-28T04:45:00Z,share,office,read_bytes,0,1000000,0.1,6\r\n\
             2026-11-28T04:47:00Z,share,office,read_bytes,0,1000000,0.0000001,6\r\n"
        );
        let hostile = Answer { object: "a,\"b\"\n".into(), ..answer() };
        assert!(csv(&hostile).contains(",share,\"a,\"\"b\"\"\n\",read_bytes,"));
    }

    #[test]
    fn as_json() {
        let doc = json(&answer());
        assert_eq!(doc["schema"], 1);
        assert_eq!((&doc["metric"], &doc["unit"], &doc["kind"]), (&"read_bytes".into(), &"bytes".into(), &"counter".into()));
        assert_eq!((&doc["resolution-ms"], &doc["buckets"][1]["count"]), (&60_000.into(), &6.into()));
        assert_eq!(serde_json::from_value::<Answer>(doc).expect("reads back"), answer());
    }
}
