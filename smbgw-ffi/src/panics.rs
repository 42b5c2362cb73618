// SPDX-License-Identifier: MIT OR Apache-2.0
//! A panic inside an exported function becomes an error object, seen through C signatures. The function that panics exists only
//! in the test program: no build of the library has it.

use std::ffi::{CStr, c_char};
use std::ptr;

use crate::boundary::{self, Text};
use crate::error::{
    SMBGW_E_ARGUMENT, SMBGW_E_INTERNAL, smbgw_error, smbgw_error_code, smbgw_error_detail, smbgw_error_free, smbgw_error_message,
};

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
unsafe extern "C" fn smbgw_test_panic(text: *const c_char, text_len: usize, err: *mut *mut smbgw_error) -> i32 {
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

fn provoke(text: &[u8]) -> (i32, String, String) {
    let mut err: *mut smbgw_error = ptr::null_mut();
    // SAFETY: pointers and lengths are those of live Rust objects.
    unsafe {
        let code = smbgw_test_panic(text.as_ptr().cast::<c_char>(), text.len(), &raw mut err);
        assert_eq!(smbgw_error_code(err), code);
        let message = CStr::from_ptr(smbgw_error_message(err)).to_str().expect("UTF-8").to_owned();
        let detail = CStr::from_ptr(smbgw_error_detail(err)).to_str().expect("UTF-8").to_owned();
        smbgw_error_free(err);
        (code, message, detail)
    }
}

#[test]
fn the_text_of_a_panic_is_kept() {
    let (code, message, detail) = provoke("the tree has no root: \u{1f333}".as_bytes());
    assert_eq!(code, SMBGW_E_INTERNAL);
    assert_eq!(message, "internal error in smbgw_test_panic: the tree has no root: \u{1f333}");
    assert!(detail.contains("\"kind\":\"internal\"") && detail.contains("\"remedy\":"), "{detail}");
}

#[test]
fn a_payload_that_panics_again_is_survived() {
    let (code, message, _) = provoke(b"bomb");
    assert_eq!(code, SMBGW_E_INTERNAL);
    assert!(message.contains("a panic without text"), "{message}");
}

#[test]
fn a_nul_in_the_text_does_not_cut_the_message() {
    let (_, message, _) = provoke(b"before\0after");
    assert!(message.ends_with("before\\0after"), "{message}");
}

#[test]
fn without_a_place_for_the_error_the_code_is_returned() {
    // SAFETY: a live text; err may be NULL.
    let code = unsafe { smbgw_test_panic(c"x".as_ptr(), 1, ptr::null_mut()) };
    assert_eq!(code, SMBGW_E_INTERNAL);
    // SAFETY: text may be NULL.
    let code = unsafe { smbgw_test_panic(ptr::null(), 1, ptr::null_mut()) };
    assert_eq!(code, SMBGW_E_ARGUMENT);
}
