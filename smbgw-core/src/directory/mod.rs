// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking a domain: whether it can be joined, whether a membership is good, who an account is. It knows DNS, the ports of a domain
//! controller, and what `net` and `wbinfo` say; it changes nothing but what is named a repair, and must not know steps or journals.
//!
//! The tools merge causes and take their time, so questions are put one by one, each with a deadline of its own. An [`Inquiry`] is a list of
//! questions, some of which add further ones; whoever carries it out gets control back between them.

pub mod accounts;
pub mod find;
pub mod health;
pub mod prove;
pub mod reason;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

pub use reason::Reason;

use crate::effect::Cmd;
use crate::error::{Error, Result};
use crate::format::ad_error;
use crate::host::{Host, Job, Output, Secrets, programs};
use crate::spec::record::KnownAccount;

/// One look at one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, as a word.
    pub check: &'static str,
    /// What was done.
    pub did: String,
    /// What was seen.
    pub saw: String,
    /// What is wrong; `None`: nothing.
    pub reason: Option<Reason>,
    /// It is worth a word, and nothing is refused for it.
    pub harmless: bool,
}

impl Finding {
    /// It is in the way.
    pub fn is_bad(&self) -> bool {
        self.reason.is_some() && !self.harmless
    }

    /// The finding for documents.
    pub fn document(&self) -> Value {
        json!({
            "check": self.check, "ok": self.reason.is_none(), "did": self.did, "saw": self.saw,
            "means": self.reason.map_or("it is as it must be", Reason::means), "reason": self.reason.map(Reason::code),
            "remedy": self.reason.map(Reason::remedy),
        })
    }
}

/// A domain controller that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Every port that is needed answers.
    pub good: bool,
}

/// A computer account as the domain has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Computer {
    /// Its distinguished name.
    pub dn: String,
    /// Its SID.
    pub sid: Option<String>,
    /// Whose name it carries in DNS; none: it was made ahead, or was never used.
    pub dns_name: Option<String>,
}

/// What was learnt.
#[derive(Debug, Default)]
pub struct Notes {
    /// Every look, in order.
    pub findings: Vec<Finding>,
    /// The domain controllers.
    pub controllers: Vec<Controller>,
    /// The domain's NetBIOS name.
    pub workgroup: Option<String>,
    /// The site that the domain takes the machine to be in.
    pub site: Option<String>,
    /// How far the clocks are apart, in seconds.
    pub offset_s: Option<i64>,
    /// The gateway's computer account, if the domain has one and could be asked.
    pub computer: Option<Computer>,
    /// Accounts that were looked up.
    pub accounts: Vec<KnownAccount>,
}

impl Notes {
    /// What is in the way, the most telling of it: some of what is found is only a consequence of something else.
    pub fn trouble(&self) -> Option<&Finding> {
        self.findings.iter().filter(|f| f.is_bad()).min_by_key(|f| f.reason.map(Reason::rank))
    }

    /// The first domain controller that answers everywhere.
    pub fn controller(&self) -> Option<&Controller> {
        self.controllers.iter().find(|c| c.good)
    }

    /// An error, if something is in the way.
    pub fn check(&self) -> Result<()> {
        let Some(f) = self.trouble() else { return Ok(()) };
        let reason = f.reason.unwrap_or(Reason::Unclear);
        let message = format!("{} ({}): {}", reason.means(), reason.code(), f.saw);
        let e = match reason.property() {
            Some(p) => Error::property(p, message),
            None => Error::new(reason.kind(), message),
        };
        Err(e.remedy(reason.remedy()).story(|s| {
            s.reason = Some(reason.code().to_owned());
            s.command = Some(f.did.clone());
        }))
    }

    /// All findings for documents.
    pub fn document(&self) -> Value {
        json!({
            "ok": self.trouble().is_none(), "checks": self.findings.iter().map(Finding::document).collect::<Vec<_>>(),
            "workgroup": self.workgroup, "site": self.site, "offset-s": self.offset_s,
            "controllers": self.controllers.iter().map(|c| json!({"name": c.name, "address": c.address, "good": c.good})).collect::<Vec<_>>(),
        })
    }
}

type Hear = Box<dyn FnOnce(&mut Inquiry, &dyn Host, &Output) -> Result<()>>;
type Question = Box<dyn FnOnce(&mut Inquiry, &dyn Host) -> Result<Option<(Cmd, Hear)>>>;

/// What comes next.
pub enum Next {
    /// Nothing.
    Done,
    /// Go on.
    Again,
    /// Run this, whatever its exit status, and hand over what it said.
    Run(Cmd),
}

/// Questions, and what was learnt so far.
#[derive(Default)]
pub struct Inquiry {
    questions: VecDeque<Question>,
    hear: Option<Hear>,
    /// What was learnt.
    pub notes: Notes,
}

impl Inquiry {
    /// One question more, at the end. It takes a second at most, unless it is a command.
    pub fn then(&mut self, question: impl FnOnce(&mut Inquiry, &dyn Host) -> Result<Option<(Cmd, Hear)>> + 'static) {
        self.questions.push_back(Box::new(question));
    }

    /// The questions of another inquiry, after these.
    pub fn and(&mut self, other: Inquiry) {
        self.questions.extend(other.questions);
    }

    /// Questions that come before all others.
    fn first(&mut self, questions: Vec<Question>) {
        questions.into_iter().rev().for_each(|q| self.questions.push_front(q));
    }

    /// Nothing further is asked.
    pub fn enough(&mut self) {
        self.questions.clear();
    }

    /// One finding more.
    pub fn note(&mut self, check: &'static str, did: impl Into<String>, saw: impl Into<String>, reason: Option<Reason>) {
        self.notes.findings.push(Finding { check, did: did.into(), saw: saw.into(), reason, harmless: false });
    }

    /// Goes on.
    pub fn next(&mut self, host: &dyn Host) -> Result<Next> {
        let Some(question) = self.questions.pop_front() else { return Ok(Next::Done) };
        Ok(match question(self, host)? {
            None => Next::Again,
            Some((cmd, hear)) => {
                self.hear = Some(hear);
                Next::Run(cmd)
            }
        })
    }

    /// Takes what a command said.
    pub fn heard(&mut self, host: &dyn Host, output: &Output) -> Result<()> {
        match self.hear.take() {
            Some(hear) => hear(self, host, output),
            None => Ok(()),
        }
    }

    /// Carries it out to the end.
    pub fn finish(self, host: &dyn Host, secrets: &Secrets) -> Result<Notes> {
        let mut asking = Asking { inquiry: self, job: None };
        loop {
            if let Some(notes) = asking.poll(host, secrets)? {
                return Ok(notes);
            }
        }
    }
}

/// An inquiry that is going on.
pub struct Asking {
    inquiry: Inquiry,
    job: Option<Box<dyn Job>>,
}

impl Asking {
    /// Begins one.
    pub fn new(inquiry: Inquiry) -> Self {
        Self { inquiry, job: None }
    }

    /// Goes on for at most about a second; what was learnt, once it is over.
    pub fn poll(&mut self, host: &dyn Host, secrets: &Secrets) -> Result<Option<Notes>> {
        if let Some(job) = self.job.as_mut() {
            if let Some(output) = job.poll(Duration::from_secs(1))? {
                self.job = None;
                self.inquiry.heard(host, &output)?;
            }
            return Ok(None);
        }
        match self.inquiry.next(host)? {
            Next::Done => return Ok(Some(std::mem::take(&mut self.inquiry.notes))),
            Next::Again => {}
            Next::Run(cmd) => self.job = Some(host.start(&cmd, secrets)?),
        }
        Ok(None)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(job) = self.job.as_mut() {
            job.kill();
        }
    }
}

/// All that a program said, for the catalogue of causes.
pub fn said(output: &Output) -> String {
    format!("{}\n{}", output.out(), output.err())
}

/// Why a command failed; `None` if it did not.
pub fn judge(cmd: &Cmd, output: &Output) -> Option<Reason> {
    if output.timed_out {
        return Some(Reason::Timeout);
    }
    if output.status == 0 {
        return None;
    }
    Some(ad_error::reason(&said(output)).map_or(Reason::Unclear, |w| Reason::of(&w, cmd.program)))
}

/// The line of an output that tells most.
pub fn evidence(cmd: &Cmd, output: &Output) -> String {
    if output.timed_out {
        return format!("{} did not answer within {} s", cmd.program.name(), cmd.timeout_ms / 1000);
    }
    let text = programs::complaint(cmd.program, output);
    let telling =
        |l: &&str| l.contains("Failed to") || l.contains("failed") || l.contains("NT_STATUS") || l.contains("not valid");
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let line = lines.clone().rev().find(telling).or_else(|| lines.next_back()).unwrap_or("it said nothing");
    line.chars().take(400).collect()
}
