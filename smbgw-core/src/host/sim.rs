// SPDX-License-Identifier: MIT OR Apache-2.0
//! See the head of `host/mod.rs`.
