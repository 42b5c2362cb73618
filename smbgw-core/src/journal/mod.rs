// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done, written down before and after it is done. [`event`] is the vocabulary, [`fold`] turns events into the state of an operation (pure,
//! and an illegal order is an error, not a guess), [`store`] appends, reads and retires the files.

pub mod event;
pub mod fold;
pub mod store;

pub use event::{Event, Line, Outcome};
pub use fold::{OpState, StepState};
