// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbgw_error`: an owned error object, and the stable codes.

use std::ffi::{CStr, CString, c_char};

use smbgw_core::error::{Error, Kind};
use tracing::Dispatch;

use crate::boundary::{self, Noun, Slot};

/// The call did what it says.
pub const SMBGW_OK: i32 = 0;
/// The request is wrong: bad value, impossible mix, unknown name. The detail lists the problems by property.
pub const SMBGW_E_INVALID: i32 = 1;
/// The named share, user, group or operation does not exist.
pub const SMBGW_E_NOT_FOUND: i32 = 2;
/// It exists already, or something that is not ours is in the way.
pub const SMBGW_E_CONFLICT: i32 = 3;
/// Somebody else holds the lock; the message names the holder. Try again later.
pub const SMBGW_E_BUSY: i32 = 4;
/// An earlier operation could not be undone; nothing is changed until `share.repair`.
pub const SMBGW_E_STUCK: i32 = 5;
/// This build or this machine cannot do that.
pub const SMBGW_E_UNSUPPORTED: i32 = 6;
/// A program or the whole operation ran out of time.
pub const SMBGW_E_TIMEOUT: i32 = 7;
/// A managed thing was changed by somebody else since it was written.
pub const SMBGW_E_DRIFT: i32 = 8;
/// A program of the machine said no, or a service does not answer.
pub const SMBGW_E_SERVICE: i32 = 9;
/// The operating system said no: input and output, permission, space.
pub const SMBGW_E_IO: i32 = 10;
/// One of the library's own records cannot be read; it was set aside.
pub const SMBGW_E_CORRUPT: i32 = 11;
/// The run was interrupted and can be resumed.
pub const SMBGW_E_INTERRUPTED: i32 = 12;
/// A security setting could not be applied or verified; nothing is served.
pub const SMBGW_E_UNSAFE: i32 = 13;
/// The handle belongs to another process: it was made before a fork.
pub const SMBGW_E_FORKED: i32 = 14;
/// The caller broke the contract of this header: NULL, bad UTF-8, NUL inside, wrong size, wrong handle.
pub const SMBGW_E_ARGUMENT: i32 = 15;
/// A bug of the library. The message is worth a report.
pub const SMBGW_E_INTERNAL: i32 = 16;

// The numbers are written out above because the header is generated from them; here they are held against their source.
const _: () = {
    assert!(SMBGW_E_INVALID == Kind::Invalid as i32);
    assert!(SMBGW_E_NOT_FOUND == Kind::NotFound as i32);
    assert!(SMBGW_E_CONFLICT == Kind::Conflict as i32);
    assert!(SMBGW_E_BUSY == Kind::Busy as i32);
    assert!(SMBGW_E_STUCK == Kind::Stuck as i32);
    assert!(SMBGW_E_UNSUPPORTED == Kind::Unsupported as i32);
    assert!(SMBGW_E_TIMEOUT == Kind::Timeout as i32);
    assert!(SMBGW_E_DRIFT == Kind::Drift as i32);
    assert!(SMBGW_E_SERVICE == Kind::Service as i32);
    assert!(SMBGW_E_IO == Kind::Io as i32);
    assert!(SMBGW_E_CORRUPT == Kind::Corrupt as i32);
    assert!(SMBGW_E_INTERRUPTED == Kind::Interrupted as i32);
    assert!(SMBGW_E_UNSAFE == Kind::Unsafe as i32);
    assert!(SMBGW_E_FORKED == Kind::Forked as i32);
    assert!(SMBGW_E_ARGUMENT == Kind::Argument as i32);
    assert!(SMBGW_E_INTERNAL == Kind::Internal as i32);
};

/// Why a call failed. Owned by the caller from the moment a function stores it in `*err`; given back with smbgw_error_free().
/// It refers to nothing else: it may outlive its context, be read by any thread, and in a child process.
pub struct smbgw_error {
    _opaque: [u8; 0],
}

/// What is behind the handle.
pub(crate) struct Body {
    code: i32,
    message: Text,
    detail: Text,
}

enum Text {
    Fixed(&'static CStr),
    Owned(CString),
}

impl Text {
    fn as_ptr(&self) -> *const c_char {
        match self {
            Text::Fixed(text) => text.as_ptr(),
            Text::Owned(text) => text.as_ptr(),
        }
    }
}

impl Noun for smbgw_error {
    type Body = Body;
    const NAME: &'static str = "smbgw_error";
    const TAG: u64 = 0x736d_6267_775f_6572;
    const BOUND_TO_PROCESS: bool = false;

    fn dispatch(_: &Body) -> Option<&Dispatch> {
        None
    }
}

static LAST_RESORT: Slot<Body> = Slot::fixed(
    boundary::fixed_tag(smbgw_error::TAG),
    Body {
        code: SMBGW_E_INTERNAL,
        message: Text::Fixed(c"internal error, and no error object could be made for it"),
        detail: Text::Fixed(
            c"{\"kind\":\"internal\",\"class\":\"infrastructure\",\"code\":16,\"message\":\"internal error, and no error object could be made for it\"}",
        ),
    },
);

/// The error for the case that making an error failed: it is static and needs no memory.
pub(crate) fn last_resort() -> *mut smbgw_error {
    (&raw const LAST_RESORT).cast_mut().cast()
}

/// An error object for `error`.
pub(crate) fn new(error: Error) -> *mut smbgw_error {
    let doc = error.to_doc();
    // JSON escapes control characters, so there is no NUL in it.
    let detail = serde_json::to_string(&doc).unwrap_or_else(|_| "{}".to_owned());
    boundary::handle(Body { code: doc.code, message: c_text(doc.message), detail: c_text(detail) })
}

/// Text for C; a NUL inside would cut it off and is shown instead.
fn c_text(text: String) -> Text {
    let text = if text.contains('\0') { text.replace('\0', "\\0") } else { text };
    match CString::new(text) {
        Ok(text) => Text::Owned(text),
        Err(_) => Text::Fixed(c"(text with a NUL inside)"),
    }
}

/// The code: one of SMBGW_E_*. SMBGW_OK for NULL, so that code == SMBGW_OK means "no error".
///
/// # Safety
/// `error` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_error_code(error: *const smbgw_error) -> i32 {
    if error.is_null() {
        return SMBGW_OK;
    }
    // SAFETY: as promised by the caller.
    unsafe { boundary::read(error, SMBGW_E_ARGUMENT, |e| e.code) }
}

/// What happened, in one line of UTF-8 for a human, ending in NUL. It lives as long as the error object; "" for NULL.
///
/// # Safety
/// `error` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_error_message(error: *const smbgw_error) -> *const c_char {
    // SAFETY: as promised by the caller.
    unsafe { boundary::read(error, c"".as_ptr(), |e| e.message.as_ptr()) }
}

/// Everything that is known, as JSON in UTF-8 ending in NUL; it lives as long as the error object; "{}" for NULL. Keys:
/// `kind` (the code as a word), `class` (configuration, resource, service, infrastructure), `code`, `message`, and
/// where they are known `remedy` (what to do), `problems` ([{`property`, `message`}]), `op`, `step`, `command`, `exit`,
/// `stderr`, `undone`. There is never a secret in it.
///
/// # Safety
/// `error` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_error_detail(error: *const smbgw_error) -> *const c_char {
    // SAFETY: as promised by the caller.
    unsafe { boundary::read(error, c"{}".as_ptr(), |e| e.detail.as_ptr()) }
}

/// Gives an error object back; its message and detail go with it. NULL is fine.
///
/// # Safety
/// `error` is NULL or a live error object that is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_error_free(error: *mut smbgw_error) {
    // SAFETY: as promised by the caller.
    unsafe { boundary::free(error) }
}
