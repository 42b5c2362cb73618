// SPDX-License-Identifier: MIT OR Apache-2.0
//! What queries answer, as schemas in the form of Proxmox's API (JSON Schema with `optional` at the value itself; `null` counts as absent).
//! The API module and its reference are made from it, and tests hold real answers against it. It must not know where answers come from.

use serde_json::{Map, Value, json};

fn of(kind: &str, text: &str) -> Value {
    json!({"type": kind, "description": text})
}

fn text(t: &str) -> Value {
    of("string", t)
}

fn number(t: &str) -> Value {
    of("integer", t)
}

fn flag(t: &str) -> Value {
    of("boolean", t)
}

fn word(values: &[&str], t: &str) -> Value {
    json!({"type": "string", "enum": values, "description": t})
}

/// Absent or `null` where it is not so.
fn maybe(mut schema: Value) -> Value {
    schema["optional"] = json!(1);
    schema
}

fn list(items: Value, t: &str) -> Value {
    json!({"type": "array", "items": items, "description": t})
}

fn object(fields: &[(&str, Value)], t: &str) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": 0, "description": t})
}

/// Whose keys are names of the administrator's.
fn map(t: &str) -> Value {
    of("object", t)
}

fn gateway() -> (&'static str, Value) {
    ("gateway", text("The gateway."))
}

fn container() -> Value {
    object(
        &[
            ("vmid", maybe(number("Its number."))),
            ("running", flag("It runs.")),
            ("stopped", flag("It was stopped on purpose.")),
            ("unprivileged", flag("Its root is nobody on the node.")),
            ("template", maybe(text("What it was made from."))),
            ("memory", maybe(text("MiB."))),
            ("cores", maybe(text("Processors."))),
            ("net", maybe(text("Its interface, as in its configuration."))),
            ("hostname", maybe(text("Its host name."))),
            ("pending", list(text("A setting."), "What waits for its next start.")),
        ],
        "The container, in mode lxc.",
    )
}

fn directory() -> Value {
    object(
        &[
            ("domain", text("DNS name.")),
            ("workgroup", text("NetBIOS name of the domain.")),
            ("computer", text("The gateway's name in it.")),
            ("range", text("Numbers of its accounts, FIRST-LAST.")),
            ("state", word(&["found", "joined", "left"], "How far it is.")),
            ("healthy", maybe(flag("Absent while nobody has looked."))),
            ("reason", maybe(text("The code of what is wrong."))),
            ("evidence", text("What was seen of it.")),
            ("since", number("Since when, milliseconds since the epoch.")),
            ("looked", number("When somebody looked last.")),
            ("attempts", map("Repairs that were tried, by code.")),
            ("remarks", list(text("A remark."), "What is worth a word and no trouble.")),
            ("fallback", maybe(map("Local users may log in: since when, and whether somebody said so."))),
        ],
        "The membership of a domain.",
    )
}

fn limit() -> Vec<(&'static str, Value)> {
    vec![
        ("limit", maybe(number("Bytes."))),
        ("means", maybe(text("By what: a project, qgroup, dataset, directory, device."))),
        ("object", maybe(text("Which one."))),
        ("used", maybe(number("Bytes; absent if unknown."))),
        ("free", maybe(number("Bytes; absent if unknown."))),
        ("files", maybe(number("Files; absent where the file system does not count them."))),
        ("at", number("When it was looked at, milliseconds since the epoch.")),
        ("lag-ms", number("How old the figures of the file system are at most.")),
    ]
}

fn status() -> Value {
    let space = [("total", number("Bytes.")), ("avail", number("Bytes.")), ("used", number("Bytes."))];
    object(
        &[
            ("schema", number("1.")),
            ("id", text("The storage id.")),
            ("share", text("The name that clients see.")),
            ("node", text("The node that serves it.")),
            ("mode", word(&["native", "lxc"], "Where Samba runs.")),
            gateway(),
            (
                "state",
                word(
                    &[
                        "ready",
                        "building",
                        "provisioning",
                        "failed",
                        "deleting",
                        "disabled",
                        "offline",
                        "degraded",
                        "vanished",
                        "stuck",
                    ],
                    "See the manual.",
                ),
            ),
            ("active", flag("The tree can be reached and is the recorded one.")),
            ("served", flag("Our configuration has the share.")),
            ("smbd", object(&[("running", flag("It runs."))], "The server.")),
            ("at", number("When it was looked at, milliseconds since the epoch.")),
            ("age-ms", maybe(number("How long ago."))),
            ("path", text("The tree.")),
            ("local", flag("Its file system is local ext4, XFS or btrfs.")),
            ("fsid", text("Its number in hex; 0 if it has none that lasts.")),
            ("space", maybe(object(&space, "Of the file system, or of the limit."))),
            ("quota", maybe(object(&limit(), "The limit."))),
            ("growth", maybe(map("How it grows: days, per-day, between, full-in-days, full-at, full-at-earliest, jumps, why."))),
            ("limited", maybe(map("What the storage status needs of it."))),
            ("security", maybe(text("The security profile."))),
            ("profile", maybe(text("The option set."))),
            (
                "access",
                list(
                    object(&[("who", text("User or group.")), ("level", text("ro, rw or full."))], "An entry."),
                    "Who may what.",
                ),
            ),
            ("committed", flag("The section has been seen once.")),
            ("in-config", maybe(flag("It was there at the last reconcile."))),
            ("operation", maybe(map("What is going on: operation, since when, at which step."))),
            ("stuck", maybe(map("What could be neither finished nor taken back, and what finishes it."))),
            ("error", maybe(map("Why it could not be built."))),
            ("directory", maybe(directory())),
            ("container", maybe(container())),
            ("mount", maybe(map("Which mount point the tree is, and whose numbers are on the disk."))),
            ("drift", list(text("A difference."), "What was changed by somebody else.")),
            ("effective-drift", maybe(list(text("A difference."), "The same, of Samba's effective configuration."))),
            ("warnings", list(text("A warning."), "What is worth a word.")),
        ],
        "The state of a share.",
    )
}

fn checks() -> Value {
    let one = object(
        &[
            ("check", text("What was looked at.")),
            ("ok", flag("It is as it must be.")),
            ("did", text("What was done.")),
            ("saw", text("What was seen.")),
            ("means", text("What that means.")),
            ("reason", maybe(text("The code."))),
            ("remedy", maybe(text("What helps."))),
        ],
        "One look.",
    );
    list(one, "Look by look.")
}

fn ad_check() -> Vec<(&'static str, Value)> {
    let controller = object(
        &[
            ("name", text("Its name.")),
            ("address", maybe(text("Its address."))),
            ("good", flag("Every port that is needed answers.")),
        ],
        "A domain controller.",
    );
    vec![
        gateway(),
        ("ok", flag("Nothing is in the way.")),
        ("checks", checks()),
        ("workgroup", maybe(text("NetBIOS name of the domain, where it was asked for."))),
        ("site", maybe(text("The site that the domain takes the machine to be in."))),
        ("offset-s", maybe(number("How far the clocks are apart, in seconds."))),
        ("controllers", list(controller, "Domain controllers that were looked at.")),
        ("member", maybe(map("The membership as it is recorded."))),
    ]
}

fn account() -> Vec<(&'static str, Value)> {
    vec![
        ("name", text("DOMAIN\\name.")),
        ("sid", text("Its SID.")),
        ("number", maybe(number("uid or gid; absent if it lies outside of the range."))),
    ]
}

fn report() -> Value {
    let mut all = ad_check();
    let mut one = account();
    one.push(("group", flag("It is a group.")));
    let share =
        object(&[("id", text("The storage id.")), ("access", maybe(text("Who may what, as in the section.")))], "A share.");
    all.extend([
        ("directory", directory()),
        ("accounts", list(object(&one, "An account."), "Accounts that shares name.")),
        ("numbers", map("Ranges of numbers: of the domain, and of built-in groups.")),
        ("shares", list(share, "Shares of the gateway.")),
        ("fallback-users", list(text("A user."), "Local users that may log in during an outage.")),
    ]);
    object(&all, "Everything about a membership.")
}

fn whoami() -> Value {
    let group = object(&[("sid", text("Its SID.")), ("name", maybe(text("Its name, if it is one of the domain.")))], "A group.");
    let share = object(
        &[
            ("id", text("The storage id.")),
            ("share", text("Its name.")),
            ("level", maybe(text("ro, rw or full; absent: no access."))),
            ("by", list(text("An entry."), "By which entries of its access list.")),
        ],
        "A share.",
    );
    let mut all = account();
    all.extend([
        gateway(),
        ("kind", word(&["user", "group"], "What it is.")),
        ("disabled", flag("It is disabled in the domain.")),
        ("groups", list(group, "Groups that count when it logs in.")),
        ("shares", list(share, "All shares of the gateway.")),
    ]);
    object(&all, "Who an account is.")
}

fn quota() -> Value {
    let user = object(
        &[
            ("name", text("The user.")),
            ("uid", number("Its number.")),
            ("limit", number("Bytes.")),
            ("used", maybe(number("Bytes; absent if unknown."))),
        ],
        "A user with a limit.",
    );
    let mut one = limit();
    one.extend([
        ("id", text("The storage id.")),
        gateway(),
        ("path", text("The tree.")),
        ("file-system", text("Its type.")),
        ("reachable", flag("It is there.")),
        ("users", list(user, "Limits of users.")),
    ]);
    object(&[("node", text("The node.")), ("shares", list(object(&one, "A share."), "Shares of the node."))], "Limits.")
}

fn users() -> Value {
    let one = object(
        &[
            ("name", text("The user.")),
            ("uid", number("Its number.")),
            ("rid", number("The last part of its SID.")),
            ("disabled", flag("It cannot log in.")),
            ("password", flag("It has one.")),
            ("groups", list(text("A group."), "Its groups.")),
        ],
        "A user.",
    );
    object(&[gateway(), ("node", text("The node.")), ("users", list(one, "All of them."))], "Local users.")
}

fn groups() -> Value {
    let one = object(
        &[
            ("name", text("The group.")),
            ("unix", text("Its name for the system.")),
            ("gid", number("Its number.")),
            ("members", list(text("A user."), "Its members.")),
        ],
        "A group.",
    );
    object(&[gateway(), ("node", text("The node.")), ("groups", list(one, "All of them."))], "Local groups.")
}

fn gateways() -> Value {
    let one = object(
        &[
            gateway(),
            ("mode", word(&["native", "lxc"], "Where Samba runs.")),
            ("node", text("The node that it is on.")),
            ("uuid", text("What marks what belongs to it.")),
            ("shares", list(text("A storage id."), "Its shares.")),
            ("users", number("How many local users it has.")),
            ("container", maybe(container())),
            ("samba-running", maybe(flag("smbd runs, where it can be looked at."))),
        ],
        "A gateway.",
    );
    object(&[("node", text("The node.")), ("gateways", list(one, "All of the cluster."))], "Gateways.")
}

fn templates() -> Value {
    let one = object(
        &[
            ("name", text("Its name.")),
            ("schema", number("1.")),
            ("archive", text("The file.")),
            ("path", maybe(text("Where it is."))),
            ("present", flag("It is there.")),
            ("storage", text("The storage.")),
            ("suite", text("Debian's release.")),
            ("arch", text("The architecture.")),
            ("samba", text("The version of Samba in it.")),
            ("version", text("Of the product that built it.")),
            ("hand", maybe(text("Which smbgw-guest is in it."))),
            ("sha256", text("Of the archive.")),
            ("built-ms", number("When, milliseconds since the epoch.")),
            ("built-on", text("Where.")),
            ("in-use", flag("A gateway was made from it.")),
        ],
        "A template.",
    );
    object(&[("node", text("The node.")), ("templates", list(one, "Those of the node."))], "Templates for containers.")
}

fn audit() -> Value {
    let undo = object(
        &[
            ("step", text("Which.")),
            ("at", number("When.")),
            ("result", text("undone, nothing to undo, or failed.")),
            ("error", maybe(text("Why it failed."))),
        ],
        "A step that was taken back.",
    );
    let one = object(
        &[
            ("opid", text("The operation.")),
            ("op", text("What it was.")),
            gateway(),
            ("target", text("What it was about.")),
            ("actor", text("Who asked.")),
            ("at", number("When it began, milliseconds since the epoch.")),
            ("until", maybe(number("When it ended."))),
            ("result", text("done, undone, stuck or open.")),
            ("error", maybe(text("What failed."))),
            ("changed", list(text("A step."), "What was changed.")),
            ("undo", list(undo, "What was taken back.")),
            ("resumed", list(map("Who, when."), "Who took it up again.")),
        ],
        "An operation.",
    );
    object(&[("entries", list(one, "The latest first."))], "Who did what, when, with which result.")
}

fn plan() -> Value {
    let step = object(
        &[
            ("id", text("Its name.")),
            ("title", text("For people.")),
            ("place", text("Where it acts.")),
            ("class", word(&["quick", "long"], "How long it may take.")),
            ("effect", text("What is done.")),
            ("undo", text("How that is taken back, or why not.")),
        ],
        "A step.",
    );
    let phase = object(&[("name", text("Its name.")), ("steps", list(step, "Its steps."))], "A phase.");
    object(
        &[
            ("op", text("The operation.")),
            ("target", maybe(text("What it is about."))),
            ("phases", list(phase, "In this order.")),
            ("warnings", list(text("A warning."), "What is worth a word.")),
            ("text", text("The same for people.")),
        ],
        "What would be done.",
    )
}

fn protection(t: &str) -> Value {
    object(&[("degree", word(&["none", "partial", "full"], "How far.")), ("cipher", maybe(text("By what.")))], t)
}

fn not_running() -> (&'static str, Value) {
    ("not-running", list(text("A gateway."), "Those whose Samba does not run, or cannot be looked at."))
}

fn sessions() -> Value {
    let share = object(
        &[
            ("share", text("Its name.")),
            ("id", maybe(text("The storage id, if it is one of ours."))),
            ("since", maybe(text("When, by the gateway's clock."))),
            ("encryption", protection("Encryption.")),
            ("signing", protection("Signing.")),
        ],
        "A share in use.",
    );
    let one = object(
        &[
            gateway(),
            ("id", text("The session.")),
            ("pid", number("The process that serves its connection.")),
            ("user", text("As Samba names it.")),
            ("uid", maybe(number("Its number."))),
            ("domain", maybe(text("NetBIOS name of its domain."))),
            ("account", maybe(text("Its name there."))),
            ("machine", text("The client.")),
            ("address", maybe(text("Its address."))),
            ("port", maybe(number("Its port."))),
            ("dialect", text("The dialect of SMB.")),
            ("encryption", protection("Encryption of the session.")),
            ("signing", protection("Signing of the session.")),
            ("since", maybe(text("When, by the gateway's clock."))),
            ("shares", list(share, "Shares in use.")),
        ],
        "A session.",
    );
    object(
        &[
            ("node", text("The node.")),
            ("sessions", list(one, "Sessions of our shares and users.")),
            ("foreign", number("How many more there are of foreign shares.")),
            not_running(),
        ],
        "Who is connected.",
    )
}

fn files() -> Value {
    let one = object(
        &[
            gateway(),
            ("id", text("The storage id.")),
            ("path", text("Within the tree.")),
            ("tree", text("The tree, where Samba runs.")),
            ("user", maybe(text("Who has it open, if his session is known."))),
            ("uid", number("His number.")),
            ("pid", number("The process that serves his connection.")),
            ("sessions", list(text("A session."), "Sessions of that connection.")),
            ("machine", maybe(text("The client."))),
            ("access", text("As Samba says it.")),
            ("access-mask", text("In hex.")),
            ("share-mode", text("What is denied to others.")),
            ("caching", text("Oplock or lease.")),
            ("since", text("When, by the gateway's clock.")),
        ],
        "An open file.",
    );
    object(
        &[
            ("node", text("The node.")),
            ("files", list(one, "Open files.")),
            ("total", number("How many there are.")),
            ("more", flag("Not all are listed.")),
            not_running(),
        ],
        "What is open.",
    )
}

fn doctor() -> Value {
    let one = object(
        &[
            ("check", text("What was looked at.")),
            ("code", text("ok, or the code of what was found.")),
            ("severity", word(&["ok", "note", "warning", "error"], "How bad it is.")),
            ("saw", text("What was seen.")),
            ("means", text("What that means.")),
            ("remedy", maybe(text("What helps."))),
        ],
        "A finding.",
    );
    object(
        &[("node", text("The node.")), ("ok", flag("Nothing is worse than a note.")), ("findings", list(one, "Look by look."))],
        "What shares of the node need, and whether it is there.",
    )
}

fn silence() -> Value {
    object(
        &[
            ("id", text("Its name.")),
            ("code", text("Codes, or a pattern.")),
            ("object", text("Objects, or a pattern.")),
            ("from", number("From when, in milliseconds since the epoch.")),
            ("until", number("Until when.")),
            ("by", text("Who.")),
            ("comment", text("Why.")),
        ],
        "A silence.",
    )
}

fn alerts() -> Value {
    let alert = "An alert: code, scope, object, severity, since, seen, value, unit, text, silenced, told, means, remedy.";
    object(
        &[
            ("node", text("The node.")),
            ("at", maybe(number("When it was last judged, in milliseconds since the epoch."))),
            ("settling", flag("The record was damaged: for ten minutes nothing is told singly.")),
            ("alerts", list(map(alert), "The worst first.")),
            ("silences", list(silence(), "Those that hold.")),
            ("waiting", number("Events on their way.")),
            ("sinks", map("How each way to people does: sent, lost, why, since.")),
            ("ended", list(map("An alert that is over: code, scope, object, since, until, severity, how."), "The last hundred.")),
            ("rules", map("The rules in effect.")),
            ("rules-file", text("Where an administrator writes rules.")),
            ("warnings", list(text("A warning."), "What is wrong with rules or record.")),
        ],
        "Alerts of this node.",
    )
}

fn figures() -> Value {
    let source = object(
        &[
            ("source", text("Which.")),
            ("gateway", maybe(text("Of which gateway."))),
            ("at", maybe(number("When it last answered, in milliseconds since the epoch."))),
            ("took-ms", number("How long it took.")),
            ("why", maybe(text("Why it did not answer."))),
        ],
        "A source of figures.",
    );
    let float = |t: &str| of("number", t);
    let figure = object(
        &[
            ("scope", word(&["share", "gateway", "node"], "What it is about.")),
            ("object", text("Storage id, gateway or node.")),
            ("metric", text("Its name.")),
            ("kind", word(&["gauge", "counter"], "Whether it grows.")),
            ("unit", word(&["bytes", "seconds", "count", "state"], "What it counts.")),
            ("value", float("The value.")),
            ("rate", maybe(float("Of a counter, per second since the look before."))),
        ],
        "A figure.",
    );
    let bucket = object(
        &[
            ("start", number("Its beginning, in milliseconds since the epoch.")),
            ("min", float("Smallest value.")),
            ("max", float("Largest value.")),
            ("mean", float("Mean.")),
            ("count", number("How many values.")),
        ],
        "What became of a stretch of time: of a gauge its values, of a counter its rates.",
    );
    object(
        &[
            ("node", text("The node.")),
            ("at", maybe(number("When they were taken, in milliseconds since the epoch."))),
            ("age-ms", maybe(number("How old they are."))),
            ("took-ms", maybe(number("How long it took to take them."))),
            ("figures", maybe(list(figure, "As they are now."))),
            ("sources", maybe(list(source, "How the sources did."))),
            ("warnings", maybe(list(text("A warning."), "What makes them doubtful."))),
            ("schema", maybe(number("Of a series: version of its form."))),
            ("metric", maybe(text("Of a series: its metric."))),
            ("scope", maybe(text("Of a series: what it is about."))),
            ("object", maybe(text("Of a series: storage id, gateway or node."))),
            ("kind", maybe(text("Of a series: gauge or counter."))),
            ("unit", maybe(text("Of a series: what it counts."))),
            ("from", maybe(number("Of a series: its beginning."))),
            ("to", maybe(number("Of a series: its end."))),
            ("resolution-ms", maybe(number("Of a series: the length of a bucket."))),
            ("buckets", maybe(list(bucket, "Of a series: in the order of time; a stretch without values has none."))),
            ("sparkline", maybe(text("Of a series: drawn in a line of text."))),
        ],
        "Figures as they are now, or one series.",
    )
}

fn retention() -> Value {
    object(
        &[
            ("node", text("The node.")),
            ("raw", maybe(text("How long each value is kept; absent where nobody knows: then nothing is removed."))),
            ("minutes", maybe(text("How long what became of each minute is kept."))),
            ("hours", maybe(text("How long what became of each hour is kept."))),
            ("from", maybe(word(&["default", "all-nodes", "node"], "Who said so."))),
            ("file", maybe(text("Where it is said."))),
            ("bytes", maybe(number("Size of the store."))),
            ("warnings", list(text("A warning."), "What it means for what is there.")),
        ],
        "For how long figures are kept.",
    )
}

/// What a query answers; `None` for what is in no API.
pub fn schema(op: &str) -> Option<Value> {
    Some(match op {
        "list" => object(
            &[
                ("shares", list(status(), "Shares of the node.")),
                ("warnings", maybe(list(text("A warning."), "What concerns the node."))),
            ],
            "Shares.",
        ),
        "status" => status(),
        "quota" => quota(),
        "users" => users(),
        "groups" => groups(),
        "gateways" => gateways(),
        "templates" => templates(),
        "audit" => audit(),
        "sessions" => sessions(),
        "files" => files(),
        "doctor" => doctor(),
        "metrics" | "metrics.share" => figures(),
        "metrics.export" | "openmetrics" | "report" => {
            object(&[("content-type", text("What it is, for HTTP.")), ("text", text("All of it."))], "A text for others.")
        }
        "alerts" => alerts(),
        "retention" | "retention.set" | "retention.reset" => retention(),
        "alert.rules" => object(&[("node", text("The node.")), ("rules-file", text("Where they are kept."))], "It is done."),
        "alert.silence" | "alert.unsilence" => object(&[("node", text("The node.")), ("silence", silence())], "The silence."),
        "plan" => plan(),
        "ad.check" => object(&ad_check(), "Whether a domain can be joined, or a membership is good."),
        "ad.report" => report(),
        "ad.whoami" => whoami(),
        "ad.users" | "ad.groups" => object(
            &[
                gateway(),
                ("domain", text("Its domain.")),
                ("accounts", list(object(&account(), "An account."), "In the order of their names.")),
                ("more", flag("There are more.")),
            ],
            "Accounts of the domain.",
        ),
        "schema" => object(
            &[
                ("properties", list(map("A property."), "Of a section.")),
                ("operations", list(map("An operation."), "All of them.")),
                ("parameters", list(map("A parameter."), "Of operations.")),
                ("metrics", list(map("A metric."), "What is measured.")),
                ("alerts", list(map("An alert."), "Codes and how they are judged by default.")),
                ("assembled", list(text("A parameter."), "Those that whoever calls puts together himself: in no request.")),
            ],
            "The tables.",
        ),
        _ => return None,
    })
}
