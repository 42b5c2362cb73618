// SPDX-License-Identifier: MIT OR Apache-2.0
//! The knowledge of smbgw: how a directory becomes an SMB share and stays right.
//!
//! The layers, from the bottom up; a module names only modules of lower layers (`tests/layers.rs` holds us to it):
//!
//! | layer | modules | may touch the machine |
//! |---|---|---|
//! | L0 vocabulary | [`error`], [`types`] | no |
//! | L1 data | [`format`](mod@format), [`spec`], [`effect`], [`quota`], [`net`], [`facts`], [`metrics`] | no |
//! | L2 decisions and the boundary | [`plan`], [`journal`], [`host`], [`series`] | only `host`, and `series` its file |
//! | L3 looking | [`status`], [`observe`], [`directory`], [`doctor`], [`collect`] | through `host` |
//! | L4 doing | [`run`] | through `host` |
//! | L5 facade | [`gateway`] | through `host` |

pub mod collect;
pub mod directory;
pub mod doctor;
pub mod effect;
pub mod error;
pub mod facts;
pub mod format;
#[cfg(feature = "series")]
pub mod gateway;
pub mod host;
pub mod journal;
pub mod metrics;
pub mod net;
pub mod observe;
pub mod plan;
pub mod quota;
pub mod run;
#[cfg(feature = "series")]
pub mod series;
pub mod spec;
pub mod status;
pub mod types;
