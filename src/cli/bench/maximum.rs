//! `chatd bench max`: the highest rate at which messages still arrive in time and none is lost.

use std::time::Duration;

use serde::Serialize;

use super::error::BenchError;
use super::pairs::{self, Pairs};
use super::plan::Plan;
use super::report::Report;

/// Between two steps, so that the server has written what the last one left.
const PAUSE: Duration = Duration::from_secs(1);
/// The search ends when what works and what does not are this close.
const CLOSE_ENOUGH: f64 = 1.05;

/// What to search.
#[derive(Debug, Clone)]
pub struct Search {
    /// Each step; its rate is the first one to try.
    pub step: Pairs,
    /// Delivered p99 that is still good, in milliseconds.
    pub p99_ms_max: f64,
    /// Beyond this rate nothing is tried.
    pub rate_max: f64,
    /// A rate is too much when so many tries, 1 or more, were bad: others at work on the machine may spoil one.
    pub tries: u32,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Whether it was good.
    pub good: bool,
    /// What it measured.
    #[serde(flatten)]
    pub report: Report,
}

/// The next rate to try, when it is known which were good and which not; `None` when the search is over.
fn next_rate(good: Option<f64>, bad: Option<f64>, search: &Search) -> Option<f64> {
    match (good, bad) {
        (None, None) => Some(search.step.plan.rate.min(search.rate_max)),
        (Some(good), None) if good < search.rate_max => Some((good * 2.0).min(search.rate_max)),
        (Some(_), None) => None,
        (None, Some(bad)) => (bad > 10.0).then_some((bad / 2.0).round()),
        (Some(good), Some(bad)) => (bad / good > CLOSE_ENOUGH).then_some(((good + bad) / 2.0).round()),
    }
}

/// Runs the steps; each is given to `tell` as it ends. Returns the highest good rate.
pub async fn search(search: &Search, mut tell: impl FnMut(&Step)) -> Result<Option<f64>, BenchError> {
    let (mut good, mut bad) = (None, None);
    while let Some(rate) = next_rate(good, bad, search) {
        let step = Pairs { plan: Plan { rate, ..search.step.plan }, ..search.step.clone() };
        let mut is_good = false;
        for _ in 0..search.tries.max(1) {
            let report = pairs::measure(&step).await?;
            // Latency counts from the intended time, so that a server that falls behind slowly shows here too.
            is_good = report.clean && report.delivered.p99_ms <= search.p99_ms_max;
            tell(&Step { good: is_good, report });
            tokio::time::sleep(PAUSE).await;
            if is_good {
                break;
            }
        }
        *(if is_good { &mut good } else { &mut bad }) = Some(rate);
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::dialect::Dialect;
    use crate::cli::bench::fleet::Crowd;
    use crate::cli::bench::meter::Meter;
    use crate::cli::bench::sizes::Sizes;
    use crate::domain::Secret;

    /// What the search finds on a server that holds `limit` messages a second, and in how many steps.
    fn found(limit: f64) -> (Option<f64>, usize) {
        let crowd = Crowd {
            address: "ws://127.0.0.1:1".parse().unwrap(),
            secret: Secret::default(),
            users: 2,
            first_id: 1,
            dialect: Dialect::Chatd,
        };
        let (warm_up, window, stragglers_max) = (Duration::ZERO, Duration::from_secs(1), Duration::ZERO);
        let plan = Plan { rate: 1_000.0, warm_up, window, stragglers_max };
        let step = Pairs {
            crowd,
            plan,
            content: Sizes::exactly(1),
            pid: None,
            metrics: vec![],
            meter: Meter::default(),
        };
        let search = Search { step, p99_ms_max: 50.0, rate_max: 64_000.0, tries: 1 };
        let (mut good, mut bad, mut steps) = (None, None, 0);
        while let Some(rate) = next_rate(good, bad, &search) {
            *(if rate <= limit { &mut good } else { &mut bad }) = Some(rate);
            steps += 1;
            assert!(steps < 30);
        }
        (good, steps)
    }

    #[test]
    fn the_search_comes_within_five_percent_from_below() {
        for limit in [30.0, 900.0, 1_000.0, 12_345.0, 60_000.0] {
            let (rate, steps) = found(limit);
            let rate = rate.unwrap();
            assert!(rate <= limit && rate * 1.06 >= limit && steps <= 14, "{limit}: {rate} in {steps}");
        }
        assert_eq!(found(1e9), (Some(64_000.0), 7));
        assert_eq!(found(0.0).0, None);
    }
}
