// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alerts: from scrape to scrape, what has to be told of it. Pure: the caller reads and keeps the state, gives the clock, and delivers.
//!
//! | file | what it knows |
//! |---|---|
//! | [`code`] | the one table of codes |
//! | [`config`] | thresholds, durations and sinks as people write them |
//! | [`reading`] | what a scrape says of each rule, in numbers and words |
//! | [`state`] | what is kept between scrapes: alerts, silences, what waits for its delivery |
//! | [`judge`](mod@judge) | the state machine |
//!
//! A caller does, under a lock of its own:
//!
//! 1. [`State::read`] what was kept, [`Config::read`] the document of rules, [`Config::property`] for each share;
//! 2. [`judge`](judge::judge), and keep the state;
//! 3. [`State::take`] what is due, keep the state, deliver it, [`State::delivered`], keep the state.
//!
//! Whatever happens in between, an alert is told to each sink once; only an end between a delivery and its note makes it come twice, with the
//! same id.

pub mod code;
pub mod config;
pub mod judge;
pub mod reading;
pub mod state;

pub use code::{Code, Severity};
pub use config::{Config, Sink};
pub use judge::{Seen, agent_stale, judge};
pub use state::{Event, Happening, State};

#[cfg(test)]
mod tests;
