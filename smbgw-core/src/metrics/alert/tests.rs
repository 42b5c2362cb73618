// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alerts over recorded and random series.
