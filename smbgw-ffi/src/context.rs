// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbgw_context`: the paths and options of one installation, and its log.

use std::ffi::c_char;

use smbgw_core::error::{Error, Kind, Result};
use smbgw_core::gateway::{Context, Options};
use tracing::Dispatch;

use crate::boundary::{self, Noun, Out, Text};
use crate::buffer::{self, smbgw_buffer};
use crate::error::smbgw_error;
use crate::log::Log;

/// The options of one installation. Making one opens, starts and locks nothing. Given back with smbgw_context_free(); runs and
/// documents made from it may outlive it. It belongs to the process that made it: in a child every call answers SMBGW_E_FORKED.
pub struct smbgw_context {
    _opaque: [u8; 0],
}

/// What is behind the handle.
pub(crate) struct Body {
    /// The facade.
    pub(crate) gateway: Context,
    /// Where its events go.
    pub(crate) log: Log,
}

impl Noun for smbgw_context {
    type Body = Body;
    const NAME: &'static str = "smbgw_context";
    const TAG: u64 = 0x736d_6267_775f_6374;
    const BOUND_TO_PROCESS: bool = true;

    fn dispatch(body: &Body) -> Option<&Dispatch> {
        Some(body.log.dispatch())
    }
}

/// The options without the library's own, and the log they ask for.
fn split(text: &Text<'_>) -> Result<(Options, Log)> {
    let mut options = text.object()?;
    let log = Log::new(options.remove("log"))?;
    let rest = serde_json::Value::Object(options).to_string();
    Ok((Options::from_json(&rest)?, log))
}

/// Makes a context. `options` is a JSON object; NULL with length 0 means all defaults. Keys, all optional:
///
///   `state-dir` (/var/lib/smbgw), `run-dir` (/run/smbgw), `record-dir` (/etc/pve/priv/smbgw/gateways on Proxmox VE, otherwise gateways
///   in the state directory), `smb-conf` (/etc/samba/smb.conf), `own-conf` (/etc/samba/smbgw.conf), `node` (the host name): where things are;
///
///   `log`: {`to`: "auto" (default: journald, or else syslog, or else none), "journald", "syslog", "file", "buffer" or "none";
///   `path`: the file, or another socket; `level`: "error", "warn", "info" (default), "debug" or "trace"}. The tag is pve-smbgw. A log that
///   cannot be written never makes a call fail or wait.
///
/// On success *out is a context that the caller frees with smbgw_context_free().
/// Errors: SMBGW_E_ARGUMENT (not JSON), SMBGW_E_INVALID (unknown key, bad value).
///
/// # Safety
/// `options` is NULL or points to `options_len` bytes; `out` and `err` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_context_new(
    options: *const c_char,
    options_len: usize,
    out: *mut *mut smbgw_context,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: the pointers are as the caller promises.
    unsafe {
        let out = Out::handle("out", out);
        boundary::call("smbgw_context_new", err, || {
            let out = out.ready()?;
            let (options, log) = split(&Text::new("options", options, options_len))?;
            let gateway = tracing::dispatcher::with_default(log.dispatch(), || Context::new(options))?;
            out.put(boundary::handle(Body { gateway, log }));
            Ok(())
        })
    }
}

/// Takes the text that a context with `log`: {`to`: "buffer"} and its runs have logged since the last take: one line
/// per event, at most the last 256 KiB. On success *out is a buffer that the caller frees. Errors: SMBGW_E_INVALID if
/// the context logs elsewhere.
///
/// # Safety
/// `context` is NULL or a live context; `out` and `err` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_log_take(
    context: *mut smbgw_context,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: the pointers are as the caller promises.
    unsafe {
        let out = Out::handle("out", out);
        boundary::call_on("smbgw_log_take", context.cast_const(), err, |context| {
            let out = out.ready()?;
            let text = context.log.take().ok_or_else(|| {
                Error::new(Kind::Invalid, "the context does not log to a buffer")
                    .remedy("make it with the option \"log\": {\"to\": \"buffer\"}")
            })?;
            out.put(buffer::new(text));
            Ok(())
        })
    }
}

/// Gives a context back. NULL is fine. In a child process it releases memory and touches nothing else.
///
/// # Safety
/// `context` is NULL or a live context that is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_context_free(context: *mut smbgw_context) {
    // SAFETY: as promised by the caller.
    unsafe { boundary::free(context) }
}
