// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters of requests: read, checked against the table of operations, and stripped of secrets. It must not know what they cause.

use serde_json::Value;

use crate::error::{Error, Problem, Result};
use crate::spec::{ops, schema, section};
use crate::types::shorten;

pub(super) fn check_params(op: &str, params: &Value, effect: ops::Effect) -> Result<()> {
    let operation = ops::operation(op).filter(|o| o.effect == effect);
    let operation = operation.ok_or_else(|| {
        let kind = if effect == ops::Effect::Query { "query" } else { "run" };
        Error::property("op", format!("{:?} is no {kind} of this build", shorten(op)))
    })?;
    let Some(map) = params.as_object() else { return Err(Error::property("params", "is no object")) };
    let mut problems = Vec::new();
    for name in operation.required {
        if map.get(*name).is_none_or(Value::is_null) {
            problems.push(Problem::new(*name, "is missing"));
        }
    }
    let common: &[&str] = if effect == ops::Effect::Run { &["actor", "lock-wait-ms"] } else { &[] };
    for name in map.keys() {
        let known = operation.required.iter().chain(operation.optional).chain(common).any(|n| n == name);
        if !known {
            let why = if operation.secrets.contains(&name.as_str()) {
                "is a secret and is handed over separately, never as a parameter"
            } else {
                "is unknown"
            };
            problems.push(Problem::new(shorten(name), why));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::invalid(format!("request {op}"), problems)) }
}

/// What a request is about: a share or an account.
pub(super) fn params_target(params: &Value) -> Value {
    params.get("id").or(params.get("name")).cloned().unwrap_or_default()
}

pub(super) fn text(params: &Value, name: &str) -> Result<Option<String>> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(Value::Number(n)) => Ok(Some(n.to_string())),
        Some(_) => Err(Error::property(name, "must be text")),
    }
}

pub(super) fn required(params: &Value, name: &str) -> Result<String> {
    text(params, name)?.filter(|t| !t.is_empty()).ok_or_else(|| Error::property(name, "is missing"))
}

pub(super) fn number(params: &Value, name: &str) -> Result<Option<i64>> {
    match text(params, name)? {
        None => Ok(None),
        Some(t) => t.parse().map(Some).map_err(|_| Error::property(name, "must be a whole number")),
    }
}

pub(super) fn flag(params: &Value, name: &str) -> Result<bool> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        Some(v) => {
            let t = v.as_str().map(str::to_owned).unwrap_or_else(|| v.to_string());
            section::parse_bool(&t).ok_or_else(|| Error::property(name, "must be yes or no"))
        }
    }
}

/// Whether smbd is told of new shares by somebody who has more of them to come.
pub(super) fn reload_later(params: &Value) -> Result<bool> {
    match text(params, "reload")?.as_deref() {
        None => Ok(false),
        Some("later") => Ok(true),
        Some(other) => Err(Error::property("reload", format!("{} is not \"later\"", shorten(other)))),
    }
}

/// Parameters as they may be written down: a sensitive property in a section is taken out, whoever put it there.
pub(super) fn without_secrets(params: &Value) -> Value {
    let mut p = params.clone();
    if let Some(s) = p.get_mut("section").and_then(Value::as_object_mut) {
        s.retain(|k, _| schema::property(k).is_none_or(|p| !p.sensitive));
    }
    p
}

/// What the journal keeps: the sections of everybody else are not this operation's.
pub(super) fn slim(params: &Value) -> Value {
    let mut p = without_secrets(params);
    if let Some(m) = p.as_object_mut() {
        m.remove("sections");
        m.remove("lock-wait-ms");
        m.remove("actor");
    }
    p
}
