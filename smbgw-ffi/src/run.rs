// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbgw_run`: one operation that changes something, taken step by step.

use std::ffi::c_char;

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
/// caller frees, with {`opid`?, `events`: [{`event`: …}, …], `result`?: {…}}; the list is empty when the second passed
/// inside a step. `opid` names the operation under way, for smbgw_run_resume().
///
/// Events: `planned` {`phase`, `steps`}, `replanned` {`phase`, `because`}, `warning` {`text`}, `begun` {`step`, `title`},
/// `done` {`step`, `title`, `changed`, `ms`}, `failed` {`step`?, `error`}, `undo-begun` {`step`, `title`}, `undo-done` {`step`,
/// `title`, `ms`}, `undo-failed` {`step`, `error`}, `finished` {`result`}. More may come.
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
            let before = run.run.opid().map(str::to_owned);
            let (now, mut document, failure) = match run.run.step()? {
                Progress::Working(document) => (SMBGW_RUN_WORKING, document, None),
                Progress::Done(document) => (SMBGW_RUN_DONE, document, None),
                Progress::Failed(document, error) => (SMBGW_RUN_FAILED, document, Some(error)),
            };
            if let (Some(opid), Value::Object(document)) = (before.as_deref().or(run.run.opid()), &mut document) {
                document.entry("opid").or_insert_with(|| opid.into());
            }
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

/// Stops where it is, for good as far as this run goes: ends the program that is running, records `interrupted` in the journal. For a process that has to
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

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::rc::Rc;

    use serde_json::json;
    use smbgw_core::gateway::{Context, Options};
    use smbgw_core::host::sim::SimHost;

    use super::*;
    use crate::buffer::{smbgw_buffer_data, smbgw_buffer_free, smbgw_buffer_len};
    use crate::context::{self, smbgw_context_free, smbgw_log_take};
    use crate::error::{SMBGW_E_ARGUMENT, SMBGW_E_INTERRUPTED, SMBGW_E_INVALID, SMBGW_OK, smbgw_error_code, smbgw_error_free};
    use crate::query::{smbgw_query, smbgw_status};
    use crate::usage::{smbgw_usage, smbgw_usage_read};

    const CREATE: &str = r#"{"id": "office", "actor": "anna", "section": {"type": "smbgateway", "path": "/srv/office",
        "smbgw-mode": "native", "nodes": "node", "username": "anna"}}"#;
    const OFFICE: &str = r#"{"id": "office"}"#;

    /// A program that uses the C API on a simulated node. All its calls go through the exported functions.
    struct Program {
        host: SimHost,
        context: *mut smbgw_context,
    }

    impl Program {
        fn on(host: SimHost) -> Self {
            let options = Options { node: Some("node".into()), ..Options::default() };
            let gateway = Context::with_host(options, Rc::new(host.clone())).expect("a context");
            let log = Log::new(Some(json!({"to": "buffer", "level": "trace"}))).expect("a log");
            Self { host, context: boundary::handle(context::Body { gateway, log }) }
        }

        fn begin(&self, op: &str, params: &str) -> *mut smbgw_run {
            let (mut run, mut err) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: live handles, texts and places, here and in all tests below.
            let code = unsafe {
                let (op_text, text) = (op.as_ptr().cast(), params.as_ptr().cast());
                smbgw_run_begin(self.context, op_text, op.len(), text, params.len(), &raw mut run, &raw mut err)
            };
            assert_eq!(code, SMBGW_OK, "{op}");
            assert!(!run.is_null() && err.is_null());
            run
        }

        fn resume(&self, opid: &str) -> *mut smbgw_run {
            let mut run = ptr::null_mut();
            // SAFETY: as above.
            let code = unsafe { smbgw_run_resume(self.context, opid.as_ptr().cast(), opid.len(), &raw mut run, ptr::null_mut()) };
            assert_eq!(code, SMBGW_OK, "{opid}");
            run
        }

        fn log(&self) -> String {
            let mut out = ptr::null_mut();
            // SAFETY: as above.
            assert_eq!(unsafe { smbgw_log_take(self.context, &raw mut out, ptr::null_mut()) }, SMBGW_OK);
            take(out)
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            // SAFETY: made by `on`, and nobody has freed it.
            unsafe { smbgw_context_free(self.context) }
        }
    }

    fn take(buffer: *mut smbgw_buffer) -> String {
        // SAFETY: a live buffer, which nobody uses afterwards.
        unsafe {
            let bytes = std::slice::from_raw_parts(smbgw_buffer_data(buffer).cast::<u8>(), smbgw_buffer_len(buffer));
            let text = std::str::from_utf8(bytes).expect("UTF-8").to_owned();
            smbgw_buffer_free(buffer);
            text
        }
    }

    fn secret(run: *mut smbgw_run, text: &str) -> i32 {
        // SAFETY: a live run, live texts.
        unsafe { smbgw_run_secret(run, c"password".as_ptr(), 8, text.as_ptr().cast(), text.len(), ptr::null_mut()) }
    }

    /// One step: code, state, document.
    fn step(run: *mut smbgw_run) -> (i32, u32, Value) {
        let (mut state, mut event, mut err) = (7, ptr::null_mut(), ptr::null_mut());
        // SAFETY: a live run, live places.
        unsafe {
            let code = smbgw_run_step(run, &raw mut state, &raw mut event, &raw mut err);
            assert_eq!(smbgw_error_code(err), code);
            smbgw_error_free(err);
            let document = if event.is_null() { Value::Null } else { serde_json::from_str(&take(event)).expect("JSON") };
            (code, state, document)
        }
    }

    /// To the end, or to the first event of that name: code, state, last document, and all names of events.
    fn drive(run: *mut smbgw_run, until: &str) -> (i32, u32, Value, Vec<String>) {
        let mut names = Vec::new();
        for _ in 0..2000 {
            let (code, state, document) = step(run);
            for event in document["events"].as_array().into_iter().flatten() {
                names.push(event["event"].as_str().expect("a name").to_owned());
            }
            if state != SMBGW_RUN_WORKING || code != SMBGW_OK || names.iter().any(|name| name == until) {
                return (code, state, document, names);
            }
        }
        panic!("no end: {names:?}");
    }

    fn finish(run: *mut smbgw_run) -> (i32, u32, Value, Vec<String>) {
        let end = drive(run, "no such event");
        // SAFETY: a live run that nobody uses afterwards.
        unsafe { smbgw_run_free(run) };
        end
    }

    fn create(program: &Program) -> (i32, u32, Value, Vec<String>) {
        let run = program.begin("share.create", CREATE);
        assert_eq!(secret(run, "correct horse"), SMBGW_OK);
        finish(run)
    }

    #[test]
    fn a_share_is_made_asked_about_and_removed() {
        let program = Program::on(SimHost::debian());
        let (code, state, document, names) = create(&program);
        assert_eq!((code, state), (SMBGW_OK, SMBGW_RUN_DONE), "{document}");
        assert_eq!(document["result"]["id"], "office", "{document}");
        assert!(["planned", "begun", "done"].iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");

        let (mut out, mut usage) = (ptr::null_mut(), smbgw_usage { size: size_of::<smbgw_usage>(), ..Default::default() });
        // SAFETY: a live context, live texts and places.
        unsafe {
            let code = smbgw_status(program.context, OFFICE.as_ptr().cast(), OFFICE.len(), &raw mut out, ptr::null_mut());
            assert_eq!(code, SMBGW_OK);
            let code = smbgw_usage_read(program.context, c"office".as_ptr(), 6, &raw mut usage, ptr::null_mut());
            assert_eq!(code, SMBGW_OK);
        }
        let status: Value = serde_json::from_str(&take(out)).expect("JSON");
        assert_eq!((status["schema"].as_u64(), usage.active), (Some(1), 1), "{status}");
        assert!(usage.total > 0 && usage.total >= usage.avail, "{usage:?}");

        let (code, state, document, _) = finish(program.begin("share.delete", OFFICE));
        assert_eq!((code, state), (SMBGW_OK, SMBGW_RUN_DONE), "{document}");
        assert!(!program.log().contains("correct horse"));
        assert!(!program.host.commands().iter().any(|line| line.contains("correct horse")));
    }

    #[test]
    fn a_failed_run_tells_its_last_events_and_why() {
        let program = Program::on(SimHost::debian());
        program.host.change(|world| world.installed.remove(&smbgw_core::effect::Program::Useradd));
        let (code, state, document, _) = create(&program);
        assert_ne!(code, SMBGW_OK);
        assert_eq!(state, SMBGW_RUN_FAILED);
        assert!(document["events"].is_array(), "{document}");
        let over = program.begin("share.create", CREATE);
        let _ = drive(over, "no such event");
        let (code, state, document) = step(over);
        assert_eq!((code, state, document), (SMBGW_E_ARGUMENT, SMBGW_RUN_WORKING, Value::Null), "a run ends once");
        // SAFETY: a live run.
        unsafe { smbgw_run_free(over) };
    }

    #[test]
    fn unwinding_leaves_nothing() {
        let program = Program::on(SimHost::debian());
        let before = program.host.world().without(&["/var/lib/smbgw", "/run/smbgw"]);
        let run = program.begin("share.create", CREATE);
        assert_eq!(secret(run, "correct horse"), SMBGW_OK);
        let (_, state, document, names) = drive(run, "done");
        assert_eq!(state, SMBGW_RUN_WORKING, "{document} {names:?}");
        // SAFETY: a live run.
        assert_eq!(unsafe { smbgw_run_unwind(run, ptr::null_mut()) }, SMBGW_OK);
        let (code, state, document, _) = finish(run);
        assert_eq!((code, state), (SMBGW_E_INTERRUPTED, SMBGW_RUN_FAILED), "{document}");
        let after = program.host.world().without(&["/var/lib/smbgw", "/run/smbgw"]);
        assert_eq!(before.differences(&after), Vec::<String>::new());
    }

    #[test]
    fn an_interrupted_run_is_resumed_by_its_id() {
        let program = Program::on(SimHost::debian());
        let run = program.begin("share.create", CREATE);
        assert_eq!(secret(run, "correct horse"), SMBGW_OK);
        let (_, _, document, _) = drive(run, "done");
        let opid = document["opid"].as_str().expect("an id").to_owned();
        // SAFETY: a live run.
        unsafe {
            assert_eq!(smbgw_run_interrupt(run, ptr::null_mut()), SMBGW_OK);
            smbgw_run_free(run);
        }
        let run = program.resume(&opid);
        assert_eq!(secret(run, "correct horse"), SMBGW_OK);
        let (code, state, document, _) = finish(run);
        assert_eq!((code, state), (SMBGW_OK, SMBGW_RUN_DONE), "{document}");
    }

    #[test]
    fn a_run_outlives_its_context() {
        let program = Program::on(SimHost::debian());
        let run = program.begin("share.create", CREATE);
        assert_eq!(secret(run, "correct horse"), SMBGW_OK);
        drop(program);
        assert_eq!(finish(run).1, SMBGW_RUN_DONE);
    }

    #[test]
    fn a_bad_secret_is_refused_and_the_run_goes_on() {
        let program = Program::on(SimHost::debian());
        let run = program.begin("share.create", CREATE);
        for bad in ["", "two\nlines", "nul\0inside"] {
            assert_eq!(secret(run, bad), SMBGW_E_INVALID, "{bad:?}");
        }
        assert_eq!(secret(run, "correct horse"), SMBGW_OK);
        assert_eq!(finish(run).1, SMBGW_RUN_DONE);
    }

    #[test]
    fn every_query_of_the_table_has_an_answer_or_an_error() {
        let program = Program::on(SimHost::debian());
        for op in smbgw_core::spec::ops::OPERATIONS {
            let (mut out, mut err) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: a live context, live texts and places.
            let code = unsafe {
                let name = op.name.as_ptr().cast();
                smbgw_query(program.context, name, op.name.len(), ptr::null(), 0, &raw mut out, &raw mut err)
            };
            // SAFETY: an error object or NULL.
            unsafe {
                assert_eq!(smbgw_error_code(err), code, "{}", op.name);
                smbgw_error_free(err);
            }
            assert_eq!(out.is_null(), code != SMBGW_OK, "{}", op.name);
            if !out.is_null() {
                serde_json::from_str::<Value>(&take(out)).expect("JSON");
            }
        }
    }
}
