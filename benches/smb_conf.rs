// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast our configuration file is printed and read, with 500 shares in it. Printing includes reading each line back, which is what
//! keeps a name from becoming an option.
#![allow(clippy::disallowed_methods)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use smbgw_core::format::smb_conf::{SmbConf, print};

const SHARES: u32 = 500;

fn main() {
    let facts = common::node_with(SHARES);
    let text = common::own_text(&facts);
    let blocks = SmbConf::parse(text).blocks();
    assert!(blocks.len() >= SHARES as usize, "all shares are in the file");

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("smb.conf: 500 shares");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("print", |b| b.iter(|| print(black_box(&blocks)).expect("printable")));
    group.bench_function("parse", |b| b.iter(|| SmbConf::parse(black_box(text))));
    group.finish();
    criterion.final_summary();
}
