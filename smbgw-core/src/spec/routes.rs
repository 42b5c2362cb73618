// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where operations are in Proxmox's API, below `/nodes/{node}/smbgateway`, and what their parameters are: the API module, its reference and
//! its tests are made from these tables. It must not know how an operation is carried out.

use serde_json::{Value, json};

/// On which object of Proxmox's permissions an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// `/storage/ID`
    Share,
    /// `/storage`
    Storage,
    /// `/nodes/NODE`
    Node,
}

/// An operation in the API.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The operation.
    pub op: &'static str,
    /// GET, POST, PUT, DELETE.
    pub method: &'static str,
    /// Below `/nodes/{node}/smbgateway`. `{word=parameter}`: the word stands in the path for that parameter of the operation.
    pub path: &'static str,
    /// What the privilege is asked on.
    pub at: At,
    /// In Proxmox's words.
    pub privilege: &'static str,
}

const AUDIT: &str = "Datastore.Audit";
const ALLOCATE: &str = "Datastore.Allocate";

const fn get(op: &'static str, path: &'static str) -> Route {
    Route { op, method: "GET", path, at: At::Storage, privilege: AUDIT }
}

const fn post(op: &'static str, path: &'static str) -> Route {
    Route { op, method: "POST", path, at: At::Storage, privilege: ALLOCATE }
}

const fn delete(op: &'static str, path: &'static str) -> Route {
    Route { op, method: "DELETE", path, at: At::Storage, privilege: ALLOCATE }
}

const fn of_share(route: Route) -> Route {
    Route { at: At::Share, ..route }
}

const fn of_node(route: Route, privilege: &'static str) -> Route {
    Route { at: At::Node, privilege, ..route }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    get("list", "shares"),
    post("share.create", "shares"),
    of_share(get("status", "shares/{id}")),
    // As in Proxmox's own storage API: whoever changes or removes a definition needs the privilege on all of them.
    Route { op: "share.update", method: "PUT", path: "shares/{id}", at: At::Storage, privilege: ALLOCATE },
    delete("share.delete", "shares/{id}"),
    post("share.repair", "shares/{id}/repair"),
    post("share.limits", "shares/{id}/limits"),
    post("plan", "plan"),
    get("quota", "quota"),
    get("gateways", "gateways"),
    post("gateway.start", "gateways/{gateway=name}/start"),
    post("gateway.stop", "gateways/{gateway=name}/stop"),
    post("gateway.restart", "gateways/{gateway=name}/restart"),
    post("gateway.upgrade", "gateways/{gateway=name}/upgrade"),
    post("gateway.adopt", "gateways/{gateway=name}/adopt"),
    get("users", "gateways/{gateway}/users"),
    post("user.create", "gateways/{gateway}/users"),
    delete("user.remove", "gateways/{gateway}/users/{user=name}"),
    post("user.password", "gateways/{gateway}/users/{user=name}/password"),
    post("user.disable", "gateways/{gateway}/users/{user=name}/disable"),
    post("user.enable", "gateways/{gateway}/users/{user=name}/enable"),
    get("groups", "gateways/{gateway}/groups"),
    post("group.create", "gateways/{gateway}/groups"),
    delete("group.remove", "gateways/{gateway}/groups/{group=name}"),
    post("group.add-member", "gateways/{gateway}/groups/{group=name}/members"),
    delete("group.remove-member", "gateways/{gateway}/groups/{group=name}/members/{user}"),
    get("sessions", "gateways/{gateway}/sessions"),
    post("session.close", "gateways/{gateway}/sessions/close"),
    get("files", "gateways/{gateway}/files"),
    get("ad.check", "gateways/{gateway}/ad/check"),
    get("ad.report", "gateways/{gateway}/ad/report"),
    get("ad.users", "gateways/{gateway}/ad/users"),
    get("ad.groups", "gateways/{gateway}/ad/groups"),
    get("ad.whoami", "gateways/{gateway}/ad/whoami"),
    post("ad.join", "gateways/{gateway}/ad/join"),
    post("ad.leave", "gateways/{gateway}/ad/leave"),
    post("ad.test-user", "gateways/{gateway}/ad/test-user"),
    post("ad.repair", "gateways/{gateway}/ad/repair"),
    post("ad.fallback", "gateways/{gateway}/ad/fallback"),
    of_node(get("templates", "templates"), "Sys.Audit"),
    of_node(post("template.build", "templates"), "Sys.Modify"),
    of_node(post("template.prune", "templates/prune"), "Sys.Modify"),
    of_node(post("tree.shift", "shift"), "Sys.Modify"),
    of_node(get("audit", "audit"), "Sys.Audit"),
    of_node(get("doctor", "doctor"), "Sys.Audit"),
    of_node(post("reconcile", "reconcile"), "Sys.Modify"),
    of_node(get("schema", "schema"), "Sys.Audit"),
    get("metrics", "metrics"),
    of_share(get("metrics.share", "shares/{id}/metrics")),
    get("metrics.export", "metrics/export"),
    of_node(get("openmetrics", "openmetrics"), "Sys.Audit"),
    of_node(get("report", "report"), "Sys.Audit"),
    of_node(get("retention", "metrics/retention"), "Sys.Audit"),
    of_node(Route { method: "PUT", ..post("retention.set", "metrics/retention") }, "Sys.Modify"),
    of_node(delete("retention.reset", "metrics/retention"), "Sys.Modify"),
    of_node(get("alerts", "alerts"), "Sys.Audit"),
    of_node(post("alert.silence", "alerts/silences"), "Sys.Modify"),
    of_node(Route { method: "PUT", ..post("alert.rules", "alerts/rules") }, "Sys.Modify"),
    of_node(delete("alert.unsilence", "alerts/silences/{silence}"), "Sys.Modify"),
];

/// Operations that are in no API, and why.
pub const INTERNAL: &[(&str, &str)] = &[
    ("refresh", "for the agent, between two looks"),
    ("turns", "for the agent: whose turn it is"),
    ("check", "what it finds, create, update and plan say as well"),
    ("render", "for tests and support: the configuration as it would be written"),
    ("alert.delivered", "for the agent, after telling"),
    ("scrape", "for the agent, every ten seconds; what it finds is in `metrics`"),
    ("gateway.reload", "for whoever creates several shares, at the end of them"),
    ("sections", "for `repair --restore`, which is root's alone"),
];

/// What a parameter takes.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`.
    pub kind: &'static str,
    /// The only values, if there is a list of them.
    pub values: &'static [&'static str],
    /// For people.
    pub text: &'static str,
}

const fn text(name: &'static str, text: &'static str) -> Parameter {
    Parameter { name, kind: "string", values: &[], text }
}

const fn number(name: &'static str, text: &'static str) -> Parameter {
    Parameter { name, kind: "integer", values: &[], text }
}

const fn flag(name: &'static str, text: &'static str) -> Parameter {
    Parameter { name, kind: "boolean", values: &[], text }
}

const fn word(name: &'static str, values: &'static [&'static str], text: &'static str) -> Parameter {
    Parameter { name, kind: "string", values, text }
}

/// What requests can have beside the properties of a section, in the order of their names. Where two operations mean different things by one
/// name, the operation stands before it.
pub const PARAMETERS: &[Parameter] = &[
    word("ad.check:what", &["check", "dns", "kerberos", "time"], "What is looked at; default: everything."),
    text("ad.test-user:name", "The user, as DOMAIN\\name or name."),
    text("ad.whoami:name", "The account, as DOMAIN\\name or name."),
    flag("all-nodes", "For all nodes that have nothing of their own; default: for this node."),
    flag("back", "Take the numbers back."),
    word("by", &["password", "ticket", "offline-join"], "What the join is done with; default: password."),
    text("code", "Only this code, or a pattern with * and ?."),
    text("comment", "Why."),
    text("domain", "The domain, by its DNS name; default: the one that the gateway is, or shall be, in."),
    flag("fresh", "Look now; otherwise the last snapshot."),
    text("from", "From when: now-1h, 7d, 2026-11-01, 2026-11-01T08:00Z, or seconds or milliseconds since the epoch."),
    text("gateway", "The gateway."),
    text("group", "The group."),
    text("group.create:name", "The group."),
    text("hours", "How long what became of each hour is kept: 2y, 730d."),
    text("id", "The storage id of a share."),
    text("ids", "Only these shares, separated by commas."),
    number("keep", "How many of the newest stay; default: 1."),
    flag("keep-account", "The computer account stays, disabled."),
    number("limit", "At most so many; default: 200."),
    text("match", "Only names with this in them; * stands for any text."),
    text("metric", "One metric, by its name."),
    word("metrics.export:form", &["csv", "json"], "Default: csv."),
    text("minutes", "How long what became of each minute is kept: 30d, 6w."),
    text("mirror", "Debian's mirror; default: that of the node."),
    text("name", "The name."),
    flag("ntlm", "By NTLM instead of Kerberos."),
    text("object", "Only this object, or a pattern; share:, gateway: or node: before it means one kind."),
    text("offline-join", "What net offlinejoin provision or djoin wrote, as one line of base64."),
    flag("on", "Let them log in, or not any more."),
    word(
        "openmetrics:form",
        &["openmetrics", "node-exporter"],
        "For Prometheus, or a file for its node exporter; default: openmetrics.",
    ),
    flag("overwrite", "Put back what was changed by hand."),
    text("password", "The password."),
    text("path", "The tree."),
    number("points", "At most so many points; default: 300."),
    text("raw", "How long each value is kept: 12h, 7d."),
    word("report:form", &["text", "json", "html"], "Default: text."),
    text("rules", "The whole document of rules, as JSON; docs/ALERTS.md says how. Without a command."),
    text("session.close:id", "The session, as the list of sessions names it."),
    text("session.close:user", "All sessions of this user."),
    text("share", "One share; default: all of the gateway."),
    text("silence", "The silence, as the list of alerts names it."),
    number("since", "Only what began after this moment, in milliseconds since the epoch."),
    text("smbgw-ad-dns", "Whether the gateway registers its addresses in the domain's DNS."),
    text("smbgw-ad-ou", "Where the computer account is made, as Servers/Files."),
    text("smbgw-idmap", "Numbers of the domain's accounts, as FIRST-LAST."),
    text("storage", "Where the template is kept; default: the first storage for templates."),
    text("suite", "Debian's release; default: that of the node."),
    text("template", "The template; default: the newest."),
    text("template.build:name", "Its name; default: version and date."),
    text("ticket", "A Kerberos credentials cache, as one line of base64."),
    text("to", "Until when, as from; default: now."),
    text("until", "Until when: 30m, 2h, 7d from now, or a date."),
    text("user", "The user."),
    text("user.create:name", "The user."),
    text("username", "The account of the domain that may do it."),
    number("vmid", "The number that the container has now."),
    word("what", &["keytab", "rotate", "names"], "What is put right."),
];

/// Parameters that the one who calls puts together himself: sections of the storage configuration, and what is between hooks, worker and us.
pub const ASSEMBLED: &[&str] =
    &["section", "sections", "defer", "worker", "params", "op", "create", "restore", "reload", "outcomes", "actor", "after"];

/// A parameter of an operation.
pub fn parameter(op: &str, name: &str) -> Option<&'static Parameter> {
    let own = format!("{op}:{name}");
    PARAMETERS.iter().find(|p| p.name == own).or_else(|| PARAMETERS.iter().find(|p| p.name == name))
}

/// The route of an operation as a document, `null` where it has none.
pub fn route(op: &str) -> Value {
    let Some(r) = ROUTES.iter().find(|r| r.op == op) else { return Value::Null };
    let at = match r.at {
        At::Share => "share",
        At::Storage => "storage",
        At::Node => "node",
    };
    json!([r.method, r.path, at, r.privilege])
}

/// The parameters as a document.
pub fn document() -> Value {
    let list = PARAMETERS.iter().map(|p| {
        let mut doc = json!({"name": p.name, "type": p.kind, "description": p.text});
        if !p.values.is_empty() {
            doc["enum"] = json!(p.values);
        }
        doc
    });
    Value::Array(list.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ops::OPERATIONS;
    use crate::spec::schema;

    /// Parameters in a path, as (word in the path, parameter).
    fn in_path(path: &str) -> Vec<(&str, &str)> {
        let words = path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
        words.map(|w| w.split_once('=').unwrap_or((w, w))).collect()
    }

    #[test]
    fn every_operation_has_one_route_or_a_reason() {
        for o in OPERATIONS {
            let routes = ROUTES.iter().filter(|r| r.op == o.name).count();
            let internal = INTERNAL.iter().filter(|(op, _)| *op == o.name).count();
            assert_eq!(routes + internal, 1, "{}", o.name);
        }
        for op in ROUTES.iter().map(|r| r.op).chain(INTERNAL.iter().map(|(op, _)| *op)) {
            assert!(OPERATIONS.iter().any(|o| o.name == op), "{op} is no operation");
        }
    }

    #[test]
    fn every_query_of_the_api_says_what_it_answers() {
        for r in ROUTES {
            let o = OPERATIONS.iter().find(|o| o.name == r.op).expect("an operation");
            let query = o.effect == crate::spec::ops::Effect::Query;
            assert_eq!(crate::spec::results::schema(r.op).is_some(), query, "{}", r.op);
        }
    }

    #[test]
    fn every_parameter_is_described_and_those_in_paths_exist() {
        for r in ROUTES {
            let o = OPERATIONS.iter().find(|o| o.name == r.op).expect("an operation");
            let all: Vec<&str> = o.required.iter().chain(o.optional).chain(o.secrets).copied().collect();
            for (_, parameter) in in_path(r.path) {
                assert!(all.contains(&parameter), "{} has no {parameter}", r.op);
            }
            for name in all.iter().filter(|n| !ASSEMBLED.contains(n)) {
                assert!(parameter(r.op, name).is_some(), "{}: {name}", r.op);
            }
        }
        for p in PARAMETERS {
            let (op, name) = p.name.split_once(':').map_or((None, p.name), |(op, name)| (Some(op), name));
            let used = |o: &&crate::spec::ops::Operation| {
                op.is_none_or(|op| o.name == op) && o.required.iter().chain(o.optional).chain(o.secrets).any(|n| *n == name)
            };
            let word = ROUTES.iter().any(|r| in_path(r.path).iter().any(|(w, _)| *w == name));
            assert!(OPERATIONS.iter().any(|o| used(&o)) || word, "{} is nobody's", p.name);
        }
        let mut names: Vec<&str> = PARAMETERS.iter().map(|p| p.name).collect();
        names.sort_unstable();
        assert_eq!(names, PARAMETERS.iter().map(|p| p.name).collect::<Vec<_>>());
    }

    /// What Proxmox's REST handler refuses at registration: one place in a path with two names, or with a name and a fixed word.
    #[test]
    fn paths_can_be_registered_together() {
        let mut seen: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        let mut leaves = Vec::new();
        for r in ROUTES {
            let mut at = String::new();
            for part in r.path.split('/') {
                let word = part.split(['{', '=', '}']).find(|p| !p.is_empty()).expect("a word").to_owned();
                let place = if part.starts_with('{') { format!("{{{word}}}") } else { "fixed".to_owned() };
                let known = seen.entry(at.clone()).or_insert_with(|| place.clone());
                assert_eq!(*known, place, "{}", r.path);
                at.push('/');
                at.push_str(&if part.starts_with('{') { place } else { word });
            }
            leaves.push(format!("{} {at}", r.method));
        }
        let all = leaves.len();
        leaves.sort();
        leaves.dedup();
        assert_eq!(leaves.len(), all, "two routes are the same");
    }

    #[test]
    fn properties_keep_their_words() {
        for p in PARAMETERS.iter().filter(|p| p.name.starts_with("smbgw-")) {
            assert!(schema::property(p.name).is_some(), "{}", p.name);
        }
    }
}
