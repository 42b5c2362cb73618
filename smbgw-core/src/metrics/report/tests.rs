// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report in its three forms, and the figures in it from series.

use super::*;
use crate::metrics::Scope;
use proptest::prelude::*;

const FROM: i64 = 1_795_219_200_000; // 2026-11-21T00:00:00Z, a Saturday
const TO: i64 = FROM + 7 * DAY;

fn series(scope: Scope, name: &str, object: &str, resolution: i64, values: &[(i64, f64, u32)]) -> Answer {
    let metric = by_name(scope, name).expect("in the table");
    let bucket =
        |(at, v, count): &(i64, f64, u32)| Bucket { start: FROM + at, min: v / 2.0, max: v * 2.0, mean: *v, count: *count };
    Answer::new(metric, object, (FROM, TO), resolution, values.iter().map(bucket).collect())
}

fn week(scope: Scope, name: &str, object: &str, value: impl Fn(i64) -> f64) -> Answer {
    // The third day is missing.
    let hours: Vec<_> = (0..168).filter(|h| h / 24 != 2).map(|h| (h * HOUR, value(h), 360)).collect();
    series(scope, name, object, HOUR, &hours)
}

fn report() -> Report {
    let daily = |h: i64| if (8..18).contains(&(h % 24)) { 1e6 + h as f64 * 1e4 } else { 2e3 };
    let now = [
        week(Scope::Share, "used_bytes", "office", |h| 4e11 + h as f64 * 1e8),
        week(Scope::Share, "limit_bytes", "office", |_| 536_870_912_000.0),
        week(Scope::Share, "available_bytes", "office", |_| 1e11),
        week(Scope::Share, "read_bytes", "office", daily),
        week(Scope::Share, "written_bytes", "office", |h| daily(h) / 4.0),
        week(Scope::Share, "operations", "office", |_| 20.0),
        week(Scope::Share, "sessions", "office", |h| if h == 100 { 17.0 } else { 3.0 }),
        week(Scope::Share, "read_latency", "office", |h| if h % 24 == 3 { 0.04 } else { 0.0012 }),
        week(Scope::Gateway, "up", "native", |_| 0.5),
        week(Scope::Gateway, "failed_logins", "native", |_| 1.0 / 3600.0),
        week(Scope::Gateway, "sessions", "native", |_| 20.0),
    ];
    let before =
        [week(Scope::Share, "read_bytes", "office", |h| daily(h) / 1.5), week(Scope::Share, "written_bytes", "office", daily)];
    let mut office = Share::from_series("office", Some("native"), &now, &before, 10_000, Zone(60));
    office.growth_per_day = Some(2.4e9);
    office.full_at = Some(TO + 40 * DAY);
    Report {
        schema: SCHEMA,
        node: "pve1".into(),
        from: FROM,
        to: TO,
        made_at: TO + HOUR,
        utc_offset_minutes: Zone(60),
        shares: vec![Share::from_series("lab", None, &now, &before, 10_000, Zone(60)), office],
        gateways: vec![Gateway::from_series("native", &now, &before, 10_000)],
        alerts: vec![
            Alert {
                severity: "warning".into(),
                code: "share-usage".into(),
                object: "office".into(),
                text: "80 % of the limit are used, and a sentence goes on until it does not fit into a line".into(),
                raised: FROM + DAY,
                cleared: Some(FROM + 2 * DAY),
            },
            Alert {
                severity: "error".into(),
                code: "source-stale".into(),
                object: "native".into(),
                text: "profile does not answer".into(),
                raised: FROM + 2 * DAY,
                cleared: None,
            },
        ],
        missing: vec![Missing {
            gateway: Some("native".into()),
            source: Source::Profile,
            missing_ms: DAY,
            why: Some("smbd profiling level is off".into()),
        }],
    }
}

#[test]
fn as_text() {
    let want = "\
Weekly report of node pve1
2026-11-21 01:00 to 2026-11-28 01:00 UTC+01:00
Made 2026-11-28 02:00 UTC+01:00

Trend
-----
share                     used      limit growth a day  full             traffic
office                 388 GiB    500 GiB     +2.2 GiB  2027-01-07         -25 %
lab                  not known       none    not known  not known      not known

Alerts
------
  2026-11-22 01:00, cleared 2026-11-23 01:00  warning  office: 80 % of the limit
  are used, and a sentence goes on until it does not fit into a line
  2026-11-23 01:00, still raised  error  native: profile does not answer

Missing figures
---------------
  native, profile: for 1 day (smbd profiling level is off)

Share lab
---------
used            not known
available       not known
growth          not known
full            not known
read            not known
written         not known
operations      not known
sessions        not known
read time       not known
write time      not known

Share office (gateway native)
-----------------------------
used            388 GiB of 500 GiB (78 %)
available       93.1 GiB
growth          +2.2 GiB a day
full            2027-01-07
";
    let text = text(&report());
    let got: String = text.lines().take(want.lines().count()).map(|l| format!("{l}\n")).collect();
    assert_eq!(got, want, "{text}");
    for line in [
        "operations      10,368,000",
        "sessions        at most 34, Wed 2026-11-25 05:00",
        "read time       95 % within 1.2 ms, at most 80 ms",
        "smbd ran        50 % of the time",
        "failed log-ins  144",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    // The busiest hour is the last one of the working day at the end, on the clock of the reader.
    assert!(text.contains("busiest         Fri 2026-11-27 18:00-19:00 ("), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= COLUMNS));
}

#[test]
fn as_json() {
    let doc = json(&report());
    assert_eq!((&doc["schema"], &doc["node"], &doc["utc-offset-minutes"]), (&1.into(), &"pve1".into(), &60.into()));
    let office = &doc["shares"][1];
    assert_eq!(office["growth-per-day"], 2.4e9);
    assert_eq!(office["read-latency"]["p95"], 0.0012);
    assert!(office["read"]["total"].as_f64() > office["read"]["before"].as_f64());
    assert_eq!(office["busiest"].as_array().map(Vec::len), Some(3));
    // What is not known has no key.
    assert!(doc["shares"][0].get("used").is_none() && doc["alerts"][1].get("cleared").is_none());
    assert_eq!(doc["missing"][0]["source"], "profile");
}

#[test]
fn as_html() {
    let page = html(&report());
    for part in [
        "<title>Weekly report of node pve1</title>",
        "<td class=\"raised\">still raised</td>",
        "<td class=\"n unknown\">not known</td>",
        ">limit 500 GiB<",
        "prefers-color-scheme:dark",
        "@media print",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (7, 7));
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href"));
}

#[test]
fn a_total_is_of_what_was_seen() {
    // One sample of ten seconds in an hour is ten seconds of traffic.
    let a = series(Scope::Share, "read_bytes", "office", HOUR, &[(0, 100.0, 1), (HOUR, 100.0, 360), (2 * HOUR, 100.0, 400)]);
    assert_eq!(total(&a, 10_000), Some(1000.0 + 360_000.0 * 2.0));
    assert_eq!(missing_ms(&a), 165 * HOUR);
    let none = series(Scope::Share, "read_bytes", "office", HOUR, &[]);
    assert_eq!((total(&none, 10_000), latency(&none), peak(&none), part_of_time(&none)), (None, None, None, None));
    assert_eq!(missing_ms(&none), 7 * DAY);
}

#[test]
fn hours_are_those_of_the_wall() {
    let a = series(
        Scope::Share,
        "read_bytes",
        "office",
        10 * 60_000,
        &[(20 * 60_000, 1.0, 60), (40 * 60_000, 2.0, 60), (HOUR, 3.0, 60)],
    );
    // 05:30 ahead: the hour ends at half past.
    let busy = busiest(&[&a], 10_000, Zone(330), 5);
    assert_eq!(busy[0], Busy { from: FROM + HOUR / 2, to: FROM + 3 * HOUR / 2, bytes: 3000.0 });
    assert_eq!(busy[1], Busy { from: FROM - HOUR / 2, to: FROM + HOUR / 2, bytes: 600.0 });
    assert_eq!(busiest(&[&a], 10_000, Zone(0), 1).len(), 1);
}

proptest! {
    #[test]
    fn any_words_fit(node in ".{0,90}", id in ".{0,90}", why in "[a-z \\PC]{0,200}", values in proptest::collection::vec(proptest::num::f64::ANY, 8)) {
        let mut r = report();
        r.node = node;
        r.shares[0].id = id.clone();
        let s = &mut r.shares[0];
        s.gateway = Some(why.clone());
        (s.used, s.limit, s.available, s.growth_per_day) = (Some(values[0]), Some(values[1]), Some(values[2]), Some(values[3]));
        s.read = Some(Total { total: values[4], before: Some(values[5]) });
        s.sessions = Some(Peak { value: values[6], at: i64::MAX });
        s.read_latency = Some(Latency { p95: values[7], max: values[0] });
        s.full_at = Some(i64::MIN);
        r.missing[0].why = Some(why);
        r.alerts[0].text = id;
        let text = text(&r);
        for l in text.lines() {
            prop_assert!(l.chars().count() <= COLUMNS, "{:?}", l);
        }
        let _ = (html(&r), json(&r));
    }
}
