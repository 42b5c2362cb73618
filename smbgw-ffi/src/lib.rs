// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C ABI of smbgw. It knows how values, errors and panics cross the border between C and Rust; it must not know anything
//! about shares: everything it answers comes from [`smbgw_core::gateway`].
//!
//! One C noun per file. `boundary` is the only way to write an exported function; `include/smbgw.h` is generated from the
//! comments here and is the manual of the C API.

#![allow(non_camel_case_types)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::todo, clippy::unimplemented)
)]

mod boundary;
mod log;

pub mod buffer;
pub mod context;
pub mod error;
pub mod query;
pub mod run;
pub mod usage;
pub mod version;

#[cfg(test)]
mod panics;
