// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the administrator wants: a storage.cfg section becomes a typed [`ShareSpec`], or a list of everything that is wrong
//! with it. Pure: it knows properties, names and rules; it must not look at the machine.

pub mod access;
pub mod domain;
pub mod guest;
pub mod ops;

pub mod record;
pub mod results;
pub mod routes;
pub mod schema;
pub mod section;
pub mod settings;

pub use access::{Access, Level, Who};
pub use domain::{DomainSpec, IdRange};
pub use guest::GuestSpec;
pub use record::Record;
pub use section::{Mode, Profile, Section, Sections, Security, ShareSpec, Surroundings};
