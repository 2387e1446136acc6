//! Looks at everything that a deployment stands on, and says of each what to do. Changes nothing.

mod backends;
mod log;
mod machine;
mod settings;
mod storage;

use std::time::Duration;

use serde::Serialize;

use crate::config::Config;

/// A backend that says nothing for so long is away.
const PATIENCE: Duration = Duration::from_secs(20);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Notice,
    /// It works, and something can go wrong: messages late or lost, or an outage too long.
    Warning,
    /// chatd does not work so, or must not.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `storage`, `log`, `redis`, `mail`, `tokens`, `machine`.
    pub area: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is so; holds no secret.
    pub what: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Findings of one area.
#[derive(Debug)]
struct Findings {
    area: &'static str,
    /// Look as if production rules were on.
    production: bool,
    all: Vec<Finding>,
}

impl Findings {
    fn new(area: &'static str, production: bool) -> Self {
        Self { area, production, all: Vec::new() }
    }

    fn fine(&mut self, what: impl Into<String>) {
        self.all.push(Finding { area: self.area, severity: Severity::Ok, what: what.into(), remedy: None });
    }

    fn say(&mut self, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) {
        let (what, remedy) = (what.into(), Some(remedy.into()));
        self.all.push(Finding { area: self.area, severity, what, remedy });
    }

    fn problem(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.say(Severity::Problem, what, remedy);
    }

    fn warn(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.say(Severity::Warning, what, remedy);
    }

    /// What only an open server must not do: a problem there, else a notice.
    fn in_production(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        let severity = if self.production { Severity::Problem } else { Severity::Notice };
        self.say(severity, what, remedy);
    }
}

/// Looks at everything, all at once; takes some seconds where something does not answer.
pub async fn examine(config: &Config, production: bool) -> Vec<Finding> {
    let production = production || config.production();
    let new = |area| Findings::new(area, production);
    let (storage, log, redis, mail) = tokio::join!(
        within(new("storage"), |found| storage::examine(config, found)),
        within(new("log"), |found| log::examine(config, found)),
        within(new("redis"), |found| backends::redis(config, found)),
        within(new("mail"), |found| backends::mail(config, found)),
    );
    let (mut tokens, mut machine) = (new("tokens"), new("machine"));
    settings::examine(config, &mut tokens);
    machine::examine(config, &mut machine);
    [storage, log, redis, mail, tokens.all, machine.all].concat()
}

async fn within<F: Future<Output = Findings>>(
    found: Findings,
    examine: impl FnOnce(Findings) -> F,
) -> Vec<Finding> {
    let mut late = Findings::new(found.area, found.production);
    match tokio::time::timeout(PATIENCE, examine(found)).await {
        Ok(found) => found.all,
        Err(_) => {
            late.problem(
                "it does not answer within 20 s",
                "look at its own logs, and at the network between",
            );
            late.all
        }
    }
}

/// How far two clocks may lie apart, in ms, before mails and tokens notice: less than the leeway of tokens.
const CLOCKS_APART_MS: i64 = 2_000;

fn clock(found: &mut Findings, whose: &str, theirs: crate::domain::Timestamp) {
    let apart = crate::domain::Timestamp::now().0 - theirs.0;
    if apart.abs() > CLOCKS_APART_MS {
        found.warn(
            format!("the clock of {whose} and this machine's lie {:.1} s apart", apart as f64 / 1_000.0),
            "let NTP set both: times of messages, expiry of tokens and mails depend on them",
        );
    }
}

#[cfg(test)]
mod tests;
