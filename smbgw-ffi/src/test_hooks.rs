// SPDX-License-Identifier: MIT OR Apache-2.0
//! An export that fails as badly as an export can; only with the feature `test-hooks`, never in a shipped library.

use std::ffi::c_char;

use crate::boundary::{self, Text};
use crate::error::smbgw_error;

/// A panic payload that panics again when it is dropped: the worst that can be thrown at the boundary.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a second panic, from the payload of the first"));
    }
}

/// Panics with `text` as message, or, when `text` is `bomb`, with a payload that panics when it is dropped.
///
/// # Safety
/// As for every export: `text` points to `text_len` bytes, `err` is NULL or points to a pointer.
#[unsafe(no_mangle)]
#[allow(clippy::panic)]
pub unsafe extern "C" fn smbgw_test_panic(text: *const c_char, text_len: usize, err: *mut *mut smbgw_error) -> i32 {
    // SAFETY: the pointers are as the caller of this function promises.
    unsafe {
        boundary::call("smbgw_test_panic", err, || {
            let text = Text::new("text", text, text_len).required()?;
            if text == "bomb" {
                std::panic::resume_unwind(Box::new(Bomb));
            }
            panic!("{text}")
        })
    }
}
