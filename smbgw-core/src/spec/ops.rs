// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one table of operations: what can be asked, with which parameters, by whom. The facade, the command and the API read
//! it. It must not know how an operation is carried out.

use serde_json::{Value, json};

use super::{results, routes};

/// Whether an operation changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only looks, or keeps a note that changes nothing of a share.
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
/// What a gateway is joined by: one of them, named by the parameter `by`.
const JOIN: &[&str] = &["password", "ticket", "offline-join"];

/// All operations. Every run also takes `actor` (who asked) and `lock-wait-ms`. With `defer`, what takes longer than a hook has is recorded
/// and left to the worker. With `reload` = `later` what only comes in addition is there for whoever connects, and smbd is not told to
/// read its configuration for sessions that are open: `gateway.reload` does that for all of it, or the worker after 30 s.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        secrets: PASSWORD,
        ..run("share.create", &["id", "section"], &["sections", "defer", "reload"], "Create a share and prove it by a login.")
    },
    Operation {
        secrets: PASSWORD,
        ..run("share.update", &["id", "section"], &["sections", "defer", "reload"], "Bring a share to a changed section.")
    },
    run("share.delete", &["id"], &["defer"], "Stop serving a share and remove what was made for it; never its data."),
    run(
        "share.repair",
        &[],
        &["id", "gateway", "overwrite", "restore", "sections"],
        "Finish or undo what is stuck or interrupted; put back drift.",
    ),
    run("share.limits", &["id"], &[], "Set the limits of a share again where somebody changed them."),
    Operation { secrets: PASSWORD, ..run("user.create", &["name"], &["gateway", "reload"], "Create a local user.") },
    Operation { secrets: PASSWORD, ..run("user.password", &["name"], &["gateway"], "Give a local user another password.") },
    run("user.disable", &["name"], &["gateway"], "Disable a local user and end its sessions."),
    run("user.enable", &["name"], &["gateway"], "Enable a disabled user."),
    run("user.remove", &["name"], &["gateway"], "Remove a local user; its files stay."),
    run("group.create", &["name"], &["gateway", "reload"], "Create a local group."),
    run("group.remove", &["name"], &["gateway"], "Remove a local group."),
    run("group.add-member", &["name", "user"], &["gateway"], "Put a user into a group."),
    run("group.remove-member", &["name", "user"], &["gateway"], "Take a user out of a group and end its sessions."),
    run(
        "session.close",
        &[],
        &["id", "user", "gateway"],
        "End one session, or all of a user, with the connection they came by; whoever may, can connect again.",
    ),
    run("gateway.start", &["name"], &[], "Start a gateway's container, after looking at its trees."),
    run("gateway.stop", &["name"], &[], "Stop a gateway's container until somebody starts it."),
    run("gateway.restart", &["name"], &[], "Stop and start a gateway's container: what waits for the next start takes effect."),
    run(
        "gateway.reload",
        &["name"],
        &[],
        "Make a gateway's smbd read its configuration, where shares left that to the end of all.",
    ),
    run(
        "gateway.upgrade",
        &["name"],
        &["template"],
        "Replace a gateway's container by one from a newer template; users, SID and data stay.",
    ),
    run("gateway.adopt", &["name", "vmid"], &[], "Take the number that an administrator gave a gateway's container."),
    run("template.build", &[], &["suite", "storage", "mirror", "name"], "Build a template for containers."),
    run("template.prune", &[], &["keep"], "Remove templates that no gateway uses, the newest excepted."),
    run(
        "tree.shift",
        &["path"],
        &["back"],
        "Give everything in a tree the numbers of an unprivileged container, or take them back.",
    ),
    Operation {
        secrets: JOIN,
        ..run(
            "ad.join",
            &[],
            &["gateway", "username", "by", "domain", "smbgw-ad-ou", "smbgw-idmap", "smbgw-ad-dns"],
            "Make a gateway a member of a domain, or one again; the account is used once and not kept.",
        )
    },
    Operation {
        secrets: JOIN,
        ..run(
            "ad.leave",
            &["username"],
            &["gateway", "by", "keep-account"],
            "Take a gateway out of its domain and delete its computer account.",
        )
    },
    Operation {
        secrets: PASSWORD,
        ..run(
            "ad.test-user",
            &["name"],
            &["gateway", "share", "ntlm"],
            "Let a user of the domain log in to the shares of a gateway with a ticket (or by NTLM), to see whether he can.",
        )
    },
    run(
        "ad.repair",
        &["what"],
        &["gateway"],
        "Put a part of a membership right again: keytab, rotate (the computer's password) or names.",
    ),
    run(
        "ad.fallback",
        &["on"],
        &["gateway", "worker"],
        "Let the local users of smbgw-ad-fallback log in, or not any more; the worker ends only what it began.",
    ),
    run(
        "reconcile",
        &["sections"],
        &["ids", "gateway", "reload"],
        "Bring this node, some shares or one gateway to the wanted state and refresh the status snapshots.",
    ),
    run(
        "refresh",
        &["gateway", "mark"],
        &[],
        "Refresh the status snapshots of a gateway, if nothing of it has changed since a reconcile gave the mark.",
    ),
    query("check", &["id", "section"], &["sections", "create"], "All problems of a section, and what it would mean."),
    query("plan", &["op", "params"], &[], "What a run would do."),
    query("render", &["sections"], &["gateway"], "The Samba configuration that sections would give."),
    query("status", &["id"], &["fresh"], "The state of a share."),
    query("list", &[], &[], "All shares of this node."),
    query("quota", &[], &["id"], "Limits of shares, and what is used of them."),
    query("users", &[], &["gateway"], "Local users."),
    query("groups", &[], &["gateway"], "Local groups."),
    query("sessions", &[], &["gateway", "id", "user"], "Who is connected: sessions, and the shares they use."),
    query("files", &[], &["gateway", "id", "user", "limit"], "Open files; on demand only: Samba goes through all that are open."),
    query("gateways", &[], &[], "All gateways, and the containers of this node's."),
    query("turns", &[], &["sections"], "The gateways that a reconcile of this node goes through."),
    query("scrape", &[], &[], "Look at the figures of all gateways of this node, keep and judge them."),
    query(
        "metrics",
        &[],
        &["gateway", "metric", "from", "to", "points", "after"],
        "Figures of this node or of a gateway as they are now, or what became of one of them in a range of time.",
    ),
    query(
        "metrics.share",
        &["id"],
        &["metric", "from", "to", "points", "after"],
        "Figures of a share as they are now, or what became of one of them in a range of time.",
    ),
    query(
        "metrics.export",
        &["metric"],
        &["id", "gateway", "from", "to", "points", "form"],
        "A series of figures as CSV or JSON, as one text.",
    ),
    query("openmetrics", &[], &["form"], "All figures of this node as they are now, as Prometheus reads them."),
    query("report", &[], &["from", "to", "form"], "The report of this node: use, growth, traffic, alerts; a week, unless asked."),
    query("retention", &[], &[], "For how long figures are kept on this node, and who said so."),
    query(
        "retention.set",
        &[],
        &["raw", "minutes", "hours", "all-nodes", "actor"],
        "Keep figures for other lengths of time; what is older goes, and nothing that is gone comes back.",
    ),
    query("retention.reset", &[], &["all-nodes", "actor"], "Keep figures as is said for all nodes, or by default."),
    query("alerts", &[], &[], "Alerts of this node, silences, the ways by which they are told, and the rules."),
    query(
        "alert.silence",
        &["until"],
        &["code", "object", "comment", "actor"],
        "Keep alerts to oneself until a time; they are judged all the same.",
    ),
    query("alert.rules", &["rules"], &["actor"], "Judge by other rules; a command that is told stays as it is."),
    query("alert.unsilence", &["silence"], &["actor"], "End a silence before its time."),
    query("alert.delivered", &["outcomes"], &[], "What came of telling alerts."),
    query("templates", &[], &[], "Templates for containers on this node."),
    query(
        "ad.check",
        &[],
        &["gateway", "domain", "what"],
        "Whether a domain can be joined, or a membership is good: each look with what it did, saw and means.",
    ),
    query("ad.users", &[], &["gateway", "match", "limit"], "Users of the domain."),
    query("ad.groups", &[], &["gateway", "match", "limit"], "Groups of the domain."),
    query("ad.whoami", &["name"], &["gateway"], "Who an account of the domain is, and which shares it may use and why."),
    query("ad.report", &[], &["gateway"], "Everything about a gateway's membership in one document."),
    query(
        "doctor",
        &[],
        &["gateway", "sections"],
        "Look at everything that shares of this node need: each finding with a code, what it means and what helps.",
    ),
    query("audit", &[], &["id", "since", "limit"], "Who did what, when, with which result."),
    query("schema", &[], &[], "The tables of properties and operations."),
    query("sections", &[], &[], "The sections kept in the gateway record."),
];

/// Looks an operation up.
pub fn operation(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|o| o.name == name)
}

/// The table as a document: `[{name, effect, required, optional, secrets, privilege, description, api,
/// returns}]`; `returns` is what a query answers, `api` is method, path,
/// what the privilege is asked on (`share`, `storage` or `node`), and the privilege.
pub fn document() -> Value {
    let list = OPERATIONS.iter().map(|o| {
        json!({
            "name": o.name, "effect": if o.effect == Effect::Run { "run" } else { "query" }, "required": o.required,
            "optional": o.optional, "secrets": o.secrets, "privilege": o.privilege, "description": o.text,
            "api": routes::route(o.name), "returns": results::schema(o.name),
        })
    });
    Value::Array(list.collect())
}
