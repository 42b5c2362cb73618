// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long it takes to plan one more share, by the number of shares that are there: it must grow no faster than they do. It measures
//! decisions only, on facts that are at hand; looking at a machine is the price of Samba's tools and not measured here.
#![allow(clippy::disallowed_methods)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use smbgw_core::journal::event::{Event, Line};
use smbgw_core::plan;

fn create(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan: create beside shares");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for count in [1, 100, 1000] {
        let facts = common::node_with(count);
        let intent = common::create_one_more(&facts);
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, _| {
            b.iter(|| plan::ahead(black_box(&intent), black_box(&facts)).expect("a plan"));
        });
    }
    group.finish();
}

/// A line of the journal with all steps of the phase that touches Samba: the longest that is written before a step may act.
fn journal(c: &mut Criterion) {
    let facts = common::node_with(100);
    let intent = common::create_one_more(&facts);
    let phases = plan::ahead(&intent, &facts).expect("a plan").phases;
    let samba = phases.into_iter().find(|p| p.name == "samba").expect("a phase");
    let line = Line { at: facts.now_ms, event: Event::Planned { phase: samba.name, first: 0, steps: samba.steps } };
    let text = line.encode();
    let mut group = c.benchmark_group("journal: the plan of a phase beside 100 shares");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("encode", |b| b.iter(|| black_box(&line).encode()));
    group.bench_function("decode", |b| b.iter(|| Line::decode(black_box(text.trim_end())).expect("a good line")));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    create(&mut criterion);
    journal(&mut criterion);
    criterion.final_summary();
}
