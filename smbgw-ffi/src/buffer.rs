// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbgw_buffer`: a document the library made and the caller owns.

use std::ffi::c_char;

use tracing::Dispatch;

use crate::boundary::{self, Noun};

/// A document, owned by the caller; given back with smbgw_buffer_free(). It refers to nothing else: it may outlive its
/// context, be read by any thread, and in a child process.
pub struct smbgw_buffer {
    _opaque: [u8; 0],
}

impl Noun for smbgw_buffer {
    /// The text and, not counted, a NUL.
    type Body = Vec<u8>;
    const NAME: &'static str = "smbgw_buffer";
    const TAG: u64 = 0x736d_6267_775f_6266;
    const BOUND_TO_PROCESS: bool = false;

    fn dispatch(_: &Vec<u8>) -> Option<&Dispatch> {
        None
    }
}

/// A buffer with `text` in it.
pub(crate) fn new(text: String) -> *mut smbgw_buffer {
    let mut bytes = text.into_bytes();
    bytes.reserve_exact(1);
    bytes.push(0);
    boundary::handle(bytes)
}

/// A buffer with a JSON document in it.
pub(crate) fn of_json(document: &serde_json::Value) -> *mut smbgw_buffer {
    new(document.to_string())
}

/// The text, UTF-8, followed by a NUL that smbgw_buffer_len() does not count. It lives as long as the buffer; "" for NULL.
///
/// # Safety
/// `buffer` is NULL or a live buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_buffer_data(buffer: *const smbgw_buffer) -> *const c_char {
    // SAFETY: as promised by the caller.
    unsafe { boundary::read(buffer, c"".as_ptr(), |b| b.as_ptr().cast()) }
}

/// The length of the text in bytes, without the NUL behind it; 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_buffer_len(buffer: *const smbgw_buffer) -> usize {
    // SAFETY: as promised by the caller.
    unsafe { boundary::read(buffer, 0, |b| b.len().saturating_sub(1)) }
}

/// Gives a buffer back; the text goes with it. NULL is fine.
///
/// # Safety
/// `buffer` is NULL or a live buffer that is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_buffer_free(buffer: *mut smbgw_buffer) {
    // SAFETY: as promised by the caller.
    unsafe { boundary::free(buffer) }
}
