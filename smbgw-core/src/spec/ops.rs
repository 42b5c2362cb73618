// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one table of operations: what can be asked, with which parameters, by whom. The facade, the command and the API read
//! it. It must not know how an operation is carried out.

use serde_json::{Value, json};

/// Whether an operation changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only looks.
    Query,
    /// It is a run: begun, stepped, journalled.
    Run,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// Whether it changes something.
    pub effect: Effect,
    /// Required parameters.
    pub required: &'static [&'static str],
    /// Optional parameters.
    pub optional: &'static [&'static str],
    /// Secrets it can take.
    pub secrets: &'static [&'static str],
    /// Privilege in Proxmox's words, on `/storage/ID` or `/storage`.
    pub privilege: &'static str,
    /// For people.
    pub text: &'static str,
}

const fn query(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    text: &'static str,
) -> Operation {
    Operation { name, effect: Effect::Query, required, optional, secrets: &[], privilege: "Datastore.Audit", text }
}

const fn run(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    text: &'static str,
) -> Operation {
    Operation { name, effect: Effect::Run, required, optional, secrets: &[], privilege: "Datastore.Allocate", text }
}

const PASSWORD: &[&str] = &["password"];

/// All operations. Every run also takes `actor` (who asked) and `lock-wait-ms`.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        secrets: PASSWORD,
        ..run("share.create", &["id", "section"], &["sections"], "Create a share and prove it by a login.")
    },
    Operation {
        secrets: PASSWORD,
        ..run("share.update", &["id", "section"], &["sections"], "Bring a share to a changed section.")
    },
    run("share.delete", &["id"], &[], "Stop serving a share and remove what was made for it; never its data."),
    run(
        "share.repair",
        &[],
        &["id", "overwrite", "restore", "sections"],
        "Finish or undo what is stuck or interrupted; put back drift.",
    ),
    Operation { secrets: PASSWORD, ..run("user.create", &["name"], &["gateway"], "Create a local user.") },
    Operation { secrets: PASSWORD, ..run("user.password", &["name"], &["gateway"], "Give a local user another password.") },
    run("user.disable", &["name"], &["gateway"], "Disable a local user and end its sessions."),
    run("user.enable", &["name"], &["gateway"], "Enable a disabled user."),
    run("user.remove", &["name"], &["gateway"], "Remove a local user; its files stay."),
    run("group.create", &["name"], &["gateway"], "Create a local group."),
    run("group.remove", &["name"], &["gateway"], "Remove a local group."),
    run("group.add-member", &["name", "user"], &["gateway"], "Put a user into a group."),
    run("group.remove-member", &["name", "user"], &["gateway"], "Take a user out of a group and end its sessions."),
    run("reconcile", &["sections"], &["ids"], "Bring this node to the wanted state and refresh the status snapshots."),
    query("check", &["id", "section"], &["sections", "create"], "All problems of a section, and what it would mean."),
    query("plan", &["op", "params"], &[], "What a run would do."),
    query("render", &["sections"], &[], "The Samba configuration that sections would give."),
    query("status", &["id"], &["fresh"], "The state of a share."),
    query("list", &[], &[], "All shares of this node."),
    query("users", &[], &["gateway"], "Local users."),
    query("groups", &[], &["gateway"], "Local groups."),
    query("audit", &[], &["id", "since", "limit"], "Who did what, when, with which result."),
    query("schema", &[], &[], "The tables of properties and operations."),
    query("sections", &[], &[], "The sections kept in the gateway record."),
];

/// Looks an operation up.
pub fn operation(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|o| o.name == name)
}

/// The table as a document: `[{name, effect, required, optional, secrets, privilege, description}]`.
pub fn document() -> Value {
    let list = OPERATIONS.iter().map(|o| {
        json!({
            "name": o.name, "effect": if o.effect == Effect::Run { "run" } else { "query" }, "required": o.required,
            "optional": o.optional, "secrets": o.secrets, "privilege": o.privilege, "description": o.text,
        })
    });
    Value::Array(list.collect())
}
