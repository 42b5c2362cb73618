// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doing: [`act`] carries out one effect, [`exec`] a whole operation under its journal, with undo and resume. It knows order and safety;
//! it must not know what a share is.

pub mod act;
pub mod exec;
pub mod reconcile;
