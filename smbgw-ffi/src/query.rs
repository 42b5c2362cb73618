// SPDX-License-Identifier: MIT OR Apache-2.0
//! Documents: questions that change nothing and are answered in JSON.

use std::ffi::c_char;

use serde_json::Value;

use crate::boundary::{self, Out, Text};
use crate::buffer::{self, smbgw_buffer};
use crate::context::smbgw_context;
use crate::error::smbgw_error;

/// All document functions: the operation is ours or the caller's, everything else is the same.
///
/// # Safety
/// The pointers are as the exported functions say.
unsafe fn document(
    function: &'static str,
    context: *const smbgw_context,
    op: &Text<'_>,
    params: &Text<'_>,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let out = Out::handle("out", out);
        boundary::call_on(function, context, err, |context| {
            let out = out.ready()?;
            let answer = context.gateway.query(op.name()?, &Value::Object(params.object()?))?;
            out.put(buffer::of_json(&answer));
            Ok(())
        })
    }
}

/// Text of our own.
fn fixed(op: &'static str) -> Text<'static> {
    Text::fixed("op", op)
}

/// Asks anything: `op` is a query of the operations table (see smbgw_schema()), `params` a JSON object with its
/// parameters; NULL with length 0 is the empty object. On success *out is a buffer with a JSON document that the caller
/// frees with smbgw_buffer_free(). Errors: SMBGW_E_INVALID (no such query, or its parameters are wrong),
/// SMBGW_E_NOT_FOUND, and what the query itself meets.
///
/// # Safety
/// `context` is NULL or a live context; texts point to as many bytes as said; `out` and `err` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_query(
    context: *const smbgw_context,
    op: *const c_char,
    op_len: usize,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_query", context, &Text::new("op", op, op_len), &Text::new("params", params, params_len), out, err) }
}

/// Checks a section without changing anything. `params`: {`id`, `section`: {property: text}, `sections`?: all sections
/// by id, `create`?: bool}. *out: {`problems`: [{`property`, `message`}], `warnings`: [text], `effective`: {property:
/// value}}; a wrong section is an answer, not an error. Otherwise as smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_spec_check(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_spec_check", context, &fixed("check"), &Text::new("params", params, params_len), out, err) }
}

/// Renders the Samba configuration that sections would give. `params`: {`sections`: all sections by id}. *out: {`text`}. Otherwise as
/// smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_config_render(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_config_render", context, &fixed("render"), &Text::new("params", params, params_len), out, err) }
}

/// Says what an operation would do, step by step, and does nothing. `params`: {`op`, `params`: the parameters of that
/// operation}. *out: {`op`, `target`, `phases`: [{`name`, `steps`: [{`id`, `title`, `place`, `effect`, `undo`,
/// `class`}]}], `text`: the same for a human}. Otherwise as smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_plan(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_plan", context, &fixed("plan"), &Text::new("params", params, params_len), out, err) }
}

/// The status of a share: as last observed, or with `fresh` observed now. `params`: {`id`, `fresh`?: bool}. *out: the
/// status document; its `schema` number changes when a key changes its meaning. Errors: SMBGW_E_NOT_FOUND,
/// SMBGW_E_CORRUPT. Otherwise as smbgw_query(). For totals alone, every few seconds, use smbgw_usage_read().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_status(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_status", context, &fixed("status"), &Text::new("params", params, params_len), out, err) }
}

/// The limits of shares and what is used of them, asked now; of no share a process is started for it. `params`: {`id`?}. *out: {`node`, `shares`:
/// [{`id`, `gateway`, `path`, `file-system`, `reachable`, `limit` (bytes, null: none), `means` ("project", "qgroup", "refquota", "cephfs",
/// "volume"), `object` (the means in the file system's own words), `used`, `free` (bytes), `files` (inodes, null where the mechanism does not count them), `at`
/// (milliseconds since 1970), `lag-ms` (how much older than `at` the figures may be), `users`: [{`name`, `uid` (on the disk), `limit`, `used` (null
/// on ZFS)}]}]}. Errors: SMBGW_E_NOT_FOUND. Otherwise as smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_quota(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_quota", context, &fixed("quota"), &Text::new("params", params, params_len), out, err) }
}

/// The users of a gateway. `params`: {`gateway`?: its name; default: the node's own, or the only one}. Otherwise as smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_users(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_users", context, &fixed("users"), &Text::new("params", params, params_len), out, err) }
}

/// Who did what, when, and with what result. `params`: {`id`?, `since`?, `limit`?}. Otherwise as smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_audit(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_audit", context, &fixed("audit"), &Text::new("params", params, params_len), out, err) }
}

/// The properties of a section and all operations and queries, with types, limits, defaults and texts. `params` may be
/// NULL with length 0. *out: {`properties`: […], `operations`: […]}. Otherwise as smbgw_query().
///
/// # Safety
/// As smbgw_query().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_schema(
    context: *const smbgw_context,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { document("smbgw_schema", context, &fixed("schema"), &Text::new("params", params, params_len), out, err) }
}
