// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is judged, and who is told: the defaults of the table, over them a document of rules, over that the property `smbgw-alerts` of a
//! share. It knows how these are written and reports everything that is wrong with them; it must not know where they lie.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::Scope;
use super::code::{Code, Measure, Severity};
use crate::error::Problem;
use crate::types::shorten;

/// Thresholds of one rule at most.
pub const MOST_STEPS: usize = 3;

/// The property of a section.
pub const PROPERTY: &str = "smbgw-alerts";

/// How one code is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Whether it is judged.
    pub on: bool,
    /// Thresholds and severities, from the first to the worst.
    pub steps: Vec<(f64, Severity)>,
    /// How far on the good side of a threshold is well.
    pub margin: f64,
    /// Milliseconds that it must hold.
    pub hold_ms: i64,
    /// Milliseconds that it must be well.
    pub clear_ms: i64,
}

impl Rule {
    /// As in the table.
    pub fn of(code: Code) -> Self {
        let d = code.defaults();
        let ms = |s: u32| i64::from(s) * 1000;
        Self { on: d.on, steps: d.steps.to_vec(), margin: d.margin, hold_ms: ms(d.hold), clear_ms: ms(d.clear) }
    }
}

/// What is said of one code somewhere; what is not said is as before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    on: Option<bool>,
    at: Option<Vec<f64>>,
    severity: Option<Vec<Severity>>,
    margin: Option<f64>,
    hold_ms: Option<i64>,
    clear_ms: Option<i64>,
}

/// Changes by code.
pub type Changes = BTreeMap<Code, Change>;

impl Change {
    /// The rule with it.
    fn over(&self, rule: &mut Rule) {
        if let Some(at) = &self.at {
            let spread = spread(at.len(), &rule.steps);
            rule.steps = at.iter().copied().zip(self.severity.clone().unwrap_or(spread)).collect();
            // Thresholds without a word about on and off mean on.
            rule.on = true;
        } else if let Some(severity) = self.severity.as_ref().filter(|s| s.len() == rule.steps.len()) {
            rule.steps.iter_mut().zip(severity).for_each(|(step, s)| step.1 = *s);
        }
        rule.on = self.on.unwrap_or(rule.on);
        rule.margin = self.margin.unwrap_or(rule.margin);
        rule.hold_ms = self.hold_ms.unwrap_or(rule.hold_ms);
        rule.clear_ms = self.clear_ms.unwrap_or(rule.clear_ms);
    }
}

/// Severities for so many thresholds where there were others: the worst stays the worst of several, a single one is the first.
fn spread(n: usize, before: &[(f64, Severity)]) -> Vec<Severity> {
    let first = before.first().map_or(Severity::Warning, |s| s.1);
    let last = before.last().map_or(first, |s| s.1);
    let mut all = vec![first; n];
    if let Some(worst) = all.last_mut().filter(|_| n > 1) {
        *worst = last.max(first);
    }
    all
}

/// One way to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    /// Proxmox's notifications.
    Notify,
    /// The system's log.
    Syslog,
    /// A command.
    Command,
}

impl Sink {
    /// All of them.
    pub const ALL: [Sink; 3] = [Sink::Notify, Sink::Syslog, Sink::Command];

    /// As in documents.
    pub fn name(self) -> &'static str {
        match self {
            Sink::Notify => "notify",
            Sink::Syslog => "syslog",
            Sink::Command => "command",
        }
    }

    /// The sink of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == word)
    }
}

/// Whether and from which severity on a sink is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whether it is told at all.
    pub on: bool,
    /// From this severity on.
    pub severity: Severity,
    /// Of the command: program and arguments.
    pub argv: Vec<String>,
    /// Of the command: seconds that it may take.
    pub deadline: u32,
}

/// Everything that is judged and told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    rules: Changes,
    objects: BTreeMap<(Scope, String), Changes>,
    properties: BTreeMap<String, Changes>,
    notify: Delivery,
    syslog: Delivery,
    command: Delivery,
}

impl Default for Config {
    fn default() -> Self {
        let sink = |on, severity| Delivery { on, severity, argv: Vec::new(), deadline: 10 };
        Self {
            rules: Changes::new(),
            objects: BTreeMap::new(),
            properties: BTreeMap::new(),
            notify: sink(true, Severity::Warning),
            syslog: sink(true, Severity::Info),
            command: sink(false, Severity::Warning),
        }
    }
}

impl Config {
    /// Reads a document of rules. What is wrong is left as it would be without it, and reported, keyed by where it is
    /// (`rules.usage.at`): a collector goes on, who sets a document refuses it.
    pub fn read(text: &str) -> (Self, Vec<Problem>) {
        match serde_json::from_str::<Value>(text) {
            Ok(doc) => Self::from_document(&doc),
            Err(e) => (Self::default(), vec![Problem::new("rules", format!("the document is no JSON: {e}"))]),
        }
    }

    /// The same from a document.
    pub fn from_document(doc: &Value) -> (Self, Vec<Problem>) {
        let mut config = Self::default();
        let mut wrong = Vec::new();
        let Some(map) = doc.as_object() else {
            return (config, vec![Problem::new("rules", "the document is no object")]);
        };
        for (key, value) in map {
            match key.as_str() {
                "version" if value.as_u64() == Some(1) => {}
                "version" => wrong.push(Problem::new("version", "only 1 is known")),
                "rules" => config.rules = changes(key, value, None, &mut wrong),
                "shares" => config.objects.extend(by_object(key, value, Scope::Share, &mut wrong)),
                "gateways" => config.objects.extend(by_object(key, value, Scope::Gateway, &mut wrong)),
                "sinks" => config.read_sinks(value, &mut wrong),
                _ => wrong.push(Problem::new(key.clone(), "none of version, rules, shares, gateways, sinks")),
            }
        }
        (config, wrong)
    }

    /// Takes the property of a share in. A wrong one is reported and left out.
    pub fn property(&mut self, share: &str, text: &str) -> Vec<Problem> {
        match short(text) {
            Ok(changes) => {
                self.properties.insert(share.to_owned(), changes);
                Vec::new()
            }
            Err(list) => list.into_iter().map(|why| Problem::new(PROPERTY, format!("'{share}': {why}"))).collect(),
        }
    }

    /// How a code is judged for an object.
    pub fn rule(&self, code: Code, scope: Scope, object: &str) -> Rule {
        let mut rule = Rule::of(code);
        let special = self.objects.get(&(scope, object.to_owned()));
        let property = self.properties.get(object).filter(|_| scope == Scope::Share);
        for change in [Some(&self.rules), special, property].into_iter().flatten().filter_map(|c| c.get(&code)) {
            change.over(&mut rule);
        }
        rule
    }

    /// How a sink is told.
    pub fn sink(&self, sink: Sink) -> &Delivery {
        match sink {
            Sink::Notify => &self.notify,
            Sink::Syslog => &self.syslog,
            Sink::Command => &self.command,
        }
    }

    /// Sinks that are told of something so bad.
    pub fn sinks_for(&self, severity: Severity) -> Vec<Sink> {
        let told = |s: &Sink| self.sink(*s).on && severity >= self.sink(*s).severity;
        Sink::ALL.into_iter().filter(told).collect()
    }

    fn read_sinks(&mut self, value: &Value, wrong: &mut Vec<Problem>) {
        let Some(map) = value.as_object() else {
            return wrong.push(Problem::new("sinks", "is no object"));
        };
        for (name, value) in map {
            let at = format!("sinks.{name}");
            let Some(sink) = Sink::parse(name) else {
                wrong.push(Problem::new(at, "none of notify, syslog, command"));
                continue;
            };
            let d = match sink {
                Sink::Notify => &mut self.notify,
                Sink::Syslog => &mut self.syslog,
                Sink::Command => &mut self.command,
            };
            match value {
                Value::String(s) if s == "off" => d.on = false,
                Value::String(s) if s == "on" => d.on = true,
                Value::Object(o) => read_sink(&at, sink, o, d, wrong),
                _ => wrong.push(Problem::new(&at, "neither \"on\" nor \"off\" nor an object")),
            }
            if sink == Sink::Command && d.on && d.argv.is_empty() {
                wrong.push(Problem::new(at, "needs argv: the program with its arguments"));
                d.on = false;
            }
        }
    }

    /// The whole configuration in effect, as a document of rules that says the same.
    pub fn document(&self) -> Value {
        let rules: Map<String, Value> = Code::ALL
            .iter()
            .filter(|c| c.has_rule())
            .map(|c| {
                let mut rule = Rule::of(*c);
                self.rules.get(c).iter().for_each(|change| change.over(&mut rule));
                (c.word().to_owned(), rule_document(*c, &rule))
            })
            .collect();
        let of = |scope: Scope| -> Map<String, Value> {
            let names = self.objects.keys().filter(|(s, _)| *s == scope).map(|(_, n)| n);
            let names = names.chain(self.properties.keys().filter(|_| scope == Scope::Share));
            let one = |name: &String| {
                let special = self.objects.get(&(scope, name.clone())).into_iter().flat_map(|c| c.keys());
                let property = self.properties.get(name).filter(|_| scope == Scope::Share);
                let codes: std::collections::BTreeSet<Code> =
                    special.chain(property.into_iter().flat_map(|c| c.keys())).copied().collect();
                let rules = codes.into_iter().map(|c| (c.word().to_owned(), rule_document(c, &self.rule(c, scope, name))));
                (name.clone(), Value::Object(rules.collect()))
            };
            names.map(one).collect()
        };
        let sinks = Sink::ALL.into_iter().map(|sink| {
            let d = self.sink(sink);
            let mut doc = json!({"on": d.on, "severity": d.severity});
            if sink == Sink::Command {
                doc["argv"] = json!(d.argv);
                doc["deadline"] = json!(d.deadline);
            }
            (sink.name().to_owned(), doc)
        });
        let sinks: Map<String, Value> = sinks.collect();
        json!({"version": 1, "rules": rules, "shares": of(Scope::Share), "gateways": of(Scope::Gateway), "sinks": sinks})
    }
}

/// The rules that hold where nobody says otherwise, as a document.
pub fn defaults_document() -> Value {
    Config::default().document()
}

fn rule_document(code: Code, rule: &Rule) -> Value {
    let (at, severity): (Vec<f64>, Vec<Severity>) = rule.steps.iter().copied().unzip();
    let mut doc = json!({"on": rule.on, "severity": severity, "for": rule.hold_ms / 1000, "clear-for": rule.clear_ms / 1000});
    if code.measure() != Measure::State {
        doc["at"] = json!(at);
        doc["margin"] = json!(rule.margin);
    }
    doc
}

fn read_sink(at: &str, sink: Sink, map: &Map<String, Value>, d: &mut Delivery, wrong: &mut Vec<Problem>) {
    // A command that is named is wanted.
    d.on = map.get("argv").and_then(Value::as_array).is_some_and(|a| !a.is_empty()) || d.on;
    for (key, value) in map {
        let mut bad = |why: &str| wrong.push(Problem::new(format!("{at}.{key}"), why));
        match (key.as_str(), sink) {
            ("on", _) => match truth(value) {
                Some(b) => d.on = b,
                None => bad("neither true nor false"),
            },
            ("severity", _) => match value.as_str().and_then(Severity::parse) {
                Some(s) => d.severity = s,
                None => bad("none of info, warning, critical"),
            },
            ("deadline", Sink::Command) => match value.as_u64().filter(|n| (1..=60).contains(n)) {
                Some(n) => d.deadline = n as u32,
                None => bad("seconds from 1 to 60"),
            },
            ("argv", Sink::Command) => {
                let list = value.as_array().filter(|l| l.len() <= 64).map(|l| l.iter().map(|v| v.as_str().map(str::to_owned)));
                match list.and_then(Iterator::collect::<Option<Vec<String>>>) {
                    Some(argv) if argv.iter().any(|a| a.contains('\0')) => bad("contains NUL"),
                    Some(argv) if argv.first().is_none_or(|p| p.starts_with('/')) => d.argv = argv,
                    _ => bad("a list of texts, the first of them the absolute path of a program; no shell reads it"),
                }
            }
            _ => bad("is not known"),
        }
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => n.as_u64().filter(|n| *n < 2).map(|n| n == 1),
        Value::String(s) => match s.as_str() {
            "on" | "yes" | "true" | "1" => Some(true),
            "off" | "no" | "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn by_object(key: &str, value: &Value, scope: Scope, wrong: &mut Vec<Problem>) -> Vec<((Scope, String), Changes)> {
    let Some(map) = value.as_object() else {
        wrong.push(Problem::new(key, "is no object"));
        return Vec::new();
    };
    let mut one =
        |(name, value): (&String, &Value)| ((scope, name.clone()), changes(&format!("{key}.{name}"), value, Some(scope), wrong));
    map.iter().map(&mut one).collect()
}

fn changes(at: &str, value: &Value, scope: Option<Scope>, wrong: &mut Vec<Problem>) -> Changes {
    let mut all = Changes::new();
    let Some(map) = value.as_object() else {
        wrong.push(Problem::new(at, "is no object"));
        return all;
    };
    for (word, value) in map {
        let at = format!("{at}.{word}");
        let code = Code::parse(word).filter(|c| c.has_rule());
        match (code, scope) {
            (None, _) => wrong.push(Problem::new(at, format!("no such alert; there are {}", words(None)))),
            (Some(c), Some(s)) if !c.scopes().contains(&s) => {
                wrong.push(Problem::new(at, format!("is not about a {}", s.name())));
            }
            (Some(c), _) => match change(c, value) {
                Ok(change) => drop(all.insert(c, change)),
                Err((key, why)) => wrong.push(Problem::new(if key.is_empty() { at } else { format!("{at}.{key}") }, why)),
            },
        }
    }
    all
}

fn words(scope: Option<Scope>) -> String {
    let fits = |c: &&Code| c.has_rule() && scope.is_none_or(|s| c.scopes().contains(&s));
    Code::ALL.iter().filter(fits).map(|c| c.word()).collect::<Vec<_>>().join(", ")
}

/// What is said of a code: `"off"`, `"on"`, a threshold, several, or an object.
fn change(code: Code, value: &Value) -> Result<Change, (&'static str, String)> {
    let numbers = |list: &[Value]| list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
    let no_number = || ("at", "a number, or up to three".to_owned());
    match value {
        Value::String(text) => short_value(code, text).map_err(|why| ("", why)),
        Value::Bool(on) => Ok(Change { on: Some(*on), ..Change::default() }),
        Value::Number(n) => steps(code, vec![n.as_f64().ok_or_else(no_number)?]).map_err(|why| ("at", why)),
        Value::Array(list) => steps(code, numbers(list).ok_or_else(no_number)?).map_err(|why| ("at", why)),
        Value::Object(map) => {
            let mut c = Change::default();
            for (key, value) in map {
                match key.as_str() {
                    "on" => c.on = Some(truth(value).ok_or(("on", "neither true nor false".to_owned()))?),
                    "at" => {
                        let list = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
                        c.at = steps(code, numbers(&list).ok_or_else(no_number)?).map_err(|why| ("at", why))?.at;
                    }
                    "severity" => {
                        let list = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
                        let list: Option<Vec<_>> = list.iter().map(|v| v.as_str().and_then(Severity::parse)).collect();
                        let list = list.ok_or(("severity", "info, warning or critical, one for each threshold".to_owned()))?;
                        if list.windows(2).any(|w| w[0] > w[1]) {
                            return Err(("severity", "a worse threshold cannot be less severe".into()));
                        }
                        c.severity = Some(list);
                    }
                    "margin" => {
                        let margin = value.as_f64().filter(|m| (0.0..1e9).contains(m));
                        c.margin = Some(margin.ok_or(("margin", "a number from 0 on".to_owned()))?);
                    }
                    "for" | "clear-for" => {
                        let seconds = value.as_u64().filter(|s| *s <= 604_800);
                        let key = if key == "for" { "for" } else { "clear-for" };
                        let ms = seconds.map(|s| s as i64 * 1000).ok_or((key, "seconds, up to a week".to_owned()))?;
                        *(if key == "for" { &mut c.hold_ms } else { &mut c.clear_ms }) = Some(ms);
                    }
                    _ => return Err(("", format!("{:?} is none of on, at, severity, margin, for, clear-for", shorten(key)))),
                }
            }
            let want = c.at.as_ref().map_or(code.defaults().steps.len(), Vec::len);
            if c.severity.as_ref().is_some_and(|s| s.len() != want) {
                return Err(("severity", format!("one for each of {want} thresholds")));
            }
            Ok(c)
        }
        Value::Null => Err(("", "neither \"off\" nor a threshold nor an object".into())),
    }
}

fn steps(code: Code, at: Vec<f64>) -> Result<Change, String> {
    if code.measure() == Measure::State {
        return Err("has no threshold: it is on or off".into());
    }
    if at.is_empty() || at.len() > MOST_STEPS {
        return Err(format!("one to {MOST_STEPS} thresholds"));
    }
    let most = if code.measure() == Measure::Percent { 100.0 } else { 1e9 };
    if let Some(bad) = at.iter().find(|v| !(**v > 0.0 && **v <= most)) {
        return Err(format!("{bad} is not above 0 and up to {most}"));
    }
    let less = code.measure().less_is_worse();
    if at.windows(2).any(|w| if less { w[0] <= w[1] } else { w[0] >= w[1] }) {
        return Err(format!("each threshold must be {} than the one before", if less { "less" } else { "more" }));
    }
    Ok(Change { at: Some(at), ..Change::default() })
}

/// `off`, `on`, or thresholds as `85/92/97`.
fn short_value(code: Code, text: &str) -> Result<Change, String> {
    match text.trim() {
        "off" | "no" => Ok(Change { on: Some(false), ..Change::default() }),
        "on" | "yes" => Ok(Change { on: Some(true), ..Change::default() }),
        text => {
            let number = |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite());
            let at: Option<Vec<f64>> = text.split('/').map(number).collect();
            steps(code, at.ok_or(format!("{:?} is neither off nor on nor a number, or several as 85/92/97", shorten(text)))?)
        }
    }
}

/// Reads the property `smbgw-alerts`: `usage=85/92/97,sessions=200,latency=off`. All complaints at once.
pub fn short(text: &str) -> Result<Changes, Vec<String>> {
    let mut all = Changes::new();
    let mut wrong = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let shown = shorten(pair);
        let Some((word, value)) = pair.split_once('=') else {
            wrong.push(format!("{shown:?} is not of the form alert=threshold"));
            continue;
        };
        let word = word.trim();
        match Code::parse(word).filter(|c| c.has_rule()) {
            None => {
                wrong.push(format!("{:?} is no alert of a share; there are {}", shorten(word), words(Some(Scope::Share))));
            }
            Some(c) if !c.scopes().contains(&Scope::Share) => {
                wrong.push(format!("{word} is not about a share: it is set in the document of rules"));
            }
            Some(c) => match short_value(c, value) {
                Ok(change) => {
                    if all.insert(c, change).is_some() {
                        wrong.push(format!("{word} is named twice"));
                    }
                }
                Err(why) => wrong.push(format!("{word}: {why}")),
            },
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(rule: &Rule) -> Vec<f64> {
        rule.steps.iter().map(|s| s.0).collect()
    }

    #[test]
    fn later_words_win_and_what_they_leave_out_stays() {
        let text = r#"{"version": 1, "rules": {"usage": [70, 85], "sessions": {"on": true, "for": 5}, "latency": "off"},
            "shares": {"office": {"usage": {"margin": 1}}}, "gateways": {"native": {"logins": 5}}}"#;
        let (mut c, wrong) = Config::read(text);
        assert_eq!(wrong, []);
        let usage = c.rule(Code::Usage, Scope::Share, "office");
        assert_eq!((at(&usage), usage.margin, usage.hold_ms), (vec![70.0, 85.0], 1.0, 60_000));
        assert_eq!(usage.steps[1].1, Severity::Critical, "the worst of several is the worst");
        assert!(!c.rule(Code::Latency, Scope::Share, "office").on);
        let sessions = c.rule(Code::Sessions, Scope::Gateway, "native");
        assert!(sessions.on && sessions.hold_ms == 5000 && at(&sessions) == [200.0]);
        assert_eq!(at(&c.rule(Code::Logins, Scope::Gateway, "native")), [5.0]);
        assert_eq!(at(&c.rule(Code::Logins, Scope::Gateway, "other")), [20.0, 200.0]);
        assert_eq!(c.property("office", "usage=85/92/97, latency=on,sessions=off"), []);
        assert_eq!(at(&c.rule(Code::Usage, Scope::Share, "office")), [85.0, 92.0, 97.0]);
        assert_eq!(c.rule(Code::Usage, Scope::Share, "office").margin, 1.0);
        assert!(c.rule(Code::Latency, Scope::Share, "office").on && !c.rule(Code::Latency, Scope::Share, "plans").on);
        assert!(!c.rule(Code::Sessions, Scope::Share, "office").on);
        // The document of what is in effect says the same.
        let (again, wrong) = Config::from_document(&c.document());
        assert_eq!(wrong, []);
        for code in Code::ALL {
            for (scope, object) in [(Scope::Share, "office"), (Scope::Share, "plans"), (Scope::Gateway, "native")] {
                assert_eq!(again.rule(*code, scope, object), c.rule(*code, scope, object), "{} {object}", code.word());
            }
        }
    }

    #[test]
    fn everything_wrong_is_named_by_its_place_and_the_rest_counts() {
        let text = r#"{"version": 2, "rules": {"usage": [90, 80], "nonsense": 1, "latency": {"at": 700, "for": -1}, "gateway-down": 5,
            "growth": [3, 14], "logins": 9, "alerts-lost": "off", "space": {"severity": ["critical", "info"]}},
            "shares": {"office": {"logins": 3}}, "sinks": {"command": {"argv": ["sh"], "deadline": 90}, "mail": "on", "syslog": 3}, "x": 1}"#;
        let (c, wrong) = Config::read(text);
        let keys: Vec<&str> = wrong.iter().map(|p| p.property.as_str()).collect();
        let want = [
            "rules.alerts-lost",
            "rules.gateway-down.at",
            "rules.growth.at",
            "rules.latency.for",
            "rules.nonsense",
            "rules.space.severity",
            "rules.usage.at",
            "shares.office.logins",
            "sinks.command",
            "sinks.command.argv",
            "sinks.command.deadline",
            "sinks.mail",
            "sinks.syslog",
            "version",
            "x",
        ];
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(sorted, want);
        assert_eq!(at(&c.rule(Code::Logins, Scope::Gateway, "g")), [9.0]);
        assert_eq!(c.rule(Code::Usage, Scope::Share, "office"), Rule::of(Code::Usage));
        assert!(!c.sink(Sink::Command).on);
        assert_eq!(Config::read("[]").1[0].property, "rules");
        assert_eq!(Config::read("{").1.len(), 1);
    }

    #[test]
    fn sinks_by_severity() {
        let text =
            r#"{"sinks": {"command": {"argv": ["/usr/local/bin/tell", "--now"], "severity": "critical"}, "syslog": "off"}}"#;
        let (c, wrong) = Config::read(text);
        assert_eq!(wrong, []);
        assert_eq!(c.sinks_for(Severity::Critical), [Sink::Notify, Sink::Command]);
        assert_eq!(c.sinks_for(Severity::Warning), [Sink::Notify]);
        assert_eq!(c.sinks_for(Severity::Info), []);
        assert_eq!(Config::default().sinks_for(Severity::Info), [Sink::Syslog]);
    }

    #[test]
    fn the_property_complains_of_everything_at_once() {
        let e = short("usage,nonsense=1,logins=5,growth=3/14,usage=80,usage=90,space=101,latency=fast").expect_err("seven");
        assert_eq!(e.len(), 7, "{e:?}");
        assert!(e.iter().all(|w| !w.contains('\n')));
        assert_eq!(short("").expect("nothing is said"), Changes::new());
        assert_eq!(short("growth=14/3").expect("less is worse").len(), 1);
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(s in "\\PC{0,200}", word in "(usage|growth|space|latency|sessions)", v in "[-0-9./eInf]{0,12}") {
            let _ = (short(&s), short(&format!("{word}={v}")), Config::read(&s));
        }

        #[test]
        fn what_is_accepted_is_in_order(a in 0.1..100.0f64, b in 0.1..100.0f64) {
            let (mut c, text) = (Config::default(), format!("usage={a}/{b}"));
            prop_assert_eq!(c.property("s", &text).is_empty(), a < b);
        }
    }
}
