// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbgw_run`: one operation that changes something, taken step by step.

use std::ffi::c_char;
use std::mem;

use serde_json::Value;
use smbgw_core::gateway::{Progress, Run};
use tracing::Dispatch;

use crate::boundary::{self, Noun, Out, Text};
use crate::buffer::{self, smbgw_buffer};
use crate::context::smbgw_context;
use crate::error::smbgw_error;
use crate::log::Log;

/// State of a run: there is more to do, call smbgw_run_step() again.
pub const SMBGW_RUN_WORKING: u32 = 0;
/// State of a run: everything is done; the last event carries the result.
pub const SMBGW_RUN_DONE: u32 = 1;
/// State of a run: it failed and what it had done was undone, as far as that went; the error says why.
pub const SMBGW_RUN_FAILED: u32 = 2;

/// An operation under way. It may outlive its context. Given back with smbgw_run_free(). It belongs to the process that
/// made it: in a child every call answers SMBGW_E_FORKED.
pub struct smbgw_run {
    _opaque: [u8; 0],
}

/// What is behind the handle.
pub(crate) struct Body {
    run: Run,
    log: Log,
}

impl Noun for smbgw_run {
    type Body = Body;
    const NAME: &'static str = "smbgw_run";
    const TAG: u64 = 0x736d_6267_775f_7275;
    const BOUND_TO_PROCESS: bool = true;

    fn dispatch(body: &Body) -> Option<&Dispatch> {
        Some(body.log.dispatch())
    }

    fn abandon(body: Body) {
        // Locks, journal and child processes are the parent's.
        let _never_dropped = mem::ManuallyDrop::new(body.run);
    }
}

/// Prepares an operation. `op` is a mutating operation of the operations table (see smbgw_schema()), for example
/// "share.create"; `params` is a JSON object with its parameters; NULL with length 0 is the empty object. A secret
/// never goes here: see smbgw_run_secret().
///
/// On success *out is a run; step it with smbgw_run_step() until it is done or failed, and free it with
/// smbgw_run_free(). Errors: SMBGW_E_INVALID (with problems by property), SMBGW_E_BUSY, SMBGW_E_STUCK,
/// SMBGW_E_NOT_FOUND, SMBGW_E_CONFLICT, SMBGW_E_UNSUPPORTED, SMBGW_E_IO.
///
/// # Safety
/// `context` is NULL or a live context; texts point to as many bytes as said; `out` and `err` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_begin(
    context: *mut smbgw_context,
    op: *const c_char,
    op_len: usize,
    params: *const c_char,
    params_len: usize,
    out: *mut *mut smbgw_run,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let out = Out::handle("out", out);
        boundary::call_on("smbgw_run_begin", context.cast_const(), err, |context| {
            let out = out.ready()?;
            let op = Text::new("op", op, op_len).name()?;
            let params = Text::new("params", params, params_len).object()?;
            let run = context.gateway.begin(op, &Value::Object(params))?;
            out.put(boundary::handle(Body { run, log: context.log.clone() }));
            Ok(())
        })
    }
}

/// Takes up an interrupted operation where its journal ends; `opid` is the `opid` of its events and of the audit trail.
///
/// On success *out is a run as from smbgw_run_begin(); its secrets have to be given again.
/// Errors: SMBGW_E_NOT_FOUND, SMBGW_E_BUSY (it is still being worked on), SMBGW_E_CORRUPT.
///
/// # Safety
/// `context` is NULL or a live context; `opid` points to `opid_len` bytes; `out` and `err` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_resume(
    context: *mut smbgw_context,
    opid: *const c_char,
    opid_len: usize,
    out: *mut *mut smbgw_run,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let out = Out::handle("out", out);
        boundary::call_on("smbgw_run_resume", context.cast_const(), err, |context| {
            let out = out.ready()?;
            let run = context.gateway.resume(Text::new("opid", opid, opid_len).name()?)?;
            out.put(boundary::handle(Body { run, log: context.log.clone() }));
            Ok(())
        })
    }
}

/// Gives the run a secret, before its first step. `name` is for example "password"; `data` are `data_len` bytes, any
/// but for what the operation refuses. The library copies them, overwrites its copy when the run ends, and writes them
/// to no argument list, environment, journal, log or plan. The caller's memory stays the caller's.
///
/// # Safety
/// `run` is NULL or a live run; `name` and `data` point to as many bytes as said; `err` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_secret(
    run: *mut smbgw_run,
    name: *const c_char,
    name_len: usize,
    data: *const c_char,
    data_len: usize,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        boundary::call_on_mut("smbgw_run_secret", run, err, |run| {
            run.run.secret(Text::new("name", name, name_len).name()?, Text::new("data", data, data_len).bytes()?)
        })
    }
}

/// Works on the run for at most about a second. *state becomes one of SMBGW_RUN_*; *event becomes a buffer that the
/// caller frees, with {`events`: [{`event`: …}, …], `result`?: {…}}; the list is empty when the second passed inside a
/// step.
///
/// Events: `planned` {`phase`, `steps`}, `begun` {`step`, `title`}, `done` {`step`, `changed`, `ms`}, `failed` {`step`,
/// `error`}, `undo-begun`, `undo-done`, `undo-failed` {`step`, …}, `finished` {`result`}.
///
/// Returns SMBGW_OK while it works and when it is done. When the run failed (and was unwound), it returns the code of
/// that failure with *state SMBGW_RUN_FAILED, *event the last events, and *err why: the only case in which a pointer
/// output is set beside an error. Any other error says that this call could not be made: *state is 0, *event NULL, and
/// the run is as it was.
///
/// # Safety
/// `run` is NULL or a live run; `state`, `event` and `err` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_step(
    run: *mut smbgw_run,
    state: *mut u32,
    event: *mut *mut smbgw_buffer,
    err: *mut *mut smbgw_error,
) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let state = Out::number("state", state);
        let event = Out::handle("event", event);
        boundary::call_on_mut("smbgw_run_step", run, err, |run| {
            let (state, event) = (state.ready()?, event.ready()?);
            let (now, document, failure) = match run.run.step()? {
                Progress::Working(document) => (SMBGW_RUN_WORKING, document, None),
                Progress::Done(document) => (SMBGW_RUN_DONE, document, None),
                Progress::Failed(document, error) => (SMBGW_RUN_FAILED, document, Some(error)),
            };
            event.put(buffer::of_json(&document));
            state.put(now);
            failure.map_or(Ok(()), Err)
        })
    }
}

/// Asks the run to stop and to undo what it has done. It returns at once; the undoing is done by the smbgw_run_step()
/// calls that follow, until the state is SMBGW_RUN_FAILED.
///
/// # Safety
/// `run` is NULL or a live run; `err` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_unwind(run: *mut smbgw_run, err: *mut *mut smbgw_error) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { boundary::call_on_mut("smbgw_run_unwind", run, err, |run| run.run.unwind()) }
}

/// Stops where it is: ends the program that is running, records `interrupted` in the journal. For a process that has to
/// end, on SIGTERM for example. The operation waits for smbgw_run_resume(), which may be called in another process.
///
/// # Safety
/// `run` is NULL or a live run; `err` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_interrupt(run: *mut smbgw_run, err: *mut *mut smbgw_error) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { boundary::call_on_mut("smbgw_run_interrupt", run, err, |run| run.run.interrupt()) }
}

/// Gives a run back. NULL is fine. A run that was neither done nor failed is left as a crash would leave it: it can be resumed.
/// In a child process it releases memory and touches nothing else: no journal, no lock, no process.
///
/// # Safety
/// `run` is NULL or a live run that is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smbgw_run_free(run: *mut smbgw_run) {
    // SAFETY: as promised by the caller.
    unsafe { boundary::free(run) }
}
