//! `chatd bench pairs`: users in pairs write to each other at a fixed rate, in an open loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::error::BenchError;
use super::fleet::{Crowd, Fleet};
use super::load::{Counts, Load};
use super::meter::{Meter, Reading};
use super::plan::Plan;
use super::process::{self, Sample};
use super::report::{Latency, Report, ServerUse, counts};
use super::scrape::Page;
use super::sizes::Sizes;

/// One measurement.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// Who writes.
    pub crowd: Crowd,
    /// How often.
    pub plan: Plan,
    /// Bytes of content.
    pub content: Sizes,
    /// The server's process, to be measured.
    pub pid: Option<u32>,
    /// Names of metrics to compare at both ends of the window.
    pub metrics: Vec<String>,
    /// What else to look at, at both ends.
    pub meter: Meter,
}

/// One end of the measured window.
struct Mark {
    counts: Counts,
    server: Option<Sample>,
    driver: Sample,
    page: Page,
    reading: Reading,
    at: Instant,
}

/// Connects, sends for the time of the plan, waits for stragglers and judges.
pub async fn measure(pairs: &Pairs) -> Result<Report, BenchError> {
    pairs.check()?;
    let mut fleet = Fleet::connect(&pairs.crowd, pairs.plan).await?;
    let contents = pairs.content.contents();
    let (first, last) = fleet.drive(pairs.plan, &contents, |start, load| window(pairs, start, load)).await?;
    let report = pairs.report(&fleet.load().borrow(), &first, &last);
    fleet.close().await;
    Ok(report)
}

/// Marks both ends of the window while the driver runs.
async fn window(pairs: &Pairs, start: Instant, load: Rc<RefCell<Load>>) -> Result<(Mark, Mark), BenchError> {
    tokio::time::sleep_until((start + pairs.plan.warm_up).into()).await;
    let first = pairs.mark(&load).await?;
    tokio::time::sleep_until((start + pairs.plan.warm_up + pairs.plan.window).into()).await;
    Ok((first, pairs.mark(&load).await?))
}

impl Pairs {
    fn check(&self) -> Result<(), BenchError> {
        let Self { plan, content, .. } = self;
        let wrong = |text: &str| Err(BenchError::Argument(text.to_owned()));
        if !(plan.rate >= 0.1 && plan.rate <= 1e6) {
            return wrong("the rate is from 0.1 to 1,000,000 messages a second");
        }
        if plan.window.is_zero() || (plan.warm_up + plan.window).as_secs() > 86_400 {
            return wrong("a run takes from a second to a day");
        }
        if !content.are_legal() {
            return wrong("a content has 1 to 16,384 bytes");
        }
        Ok(())
    }

    async fn mark(&self, load: &RefCell<Load>) -> Result<Mark, BenchError> {
        let reading = self.meter.read().await?;
        let counts = load.borrow().counts;
        let server = self.pid.map(process::sample).transpose()?;
        let driver = process::sample(std::process::id())?;
        let at = Instant::now();
        // Last, since it takes a while during which the other numbers would move.
        let page = match self.metrics.is_empty() {
            true => Page::default(),
            false => Page::fetch(&self.crowd.address.authority).await.map_err(BenchError::Scrape)?,
        };
        Ok(Mark { counts, server, driver, page, reading, at })
    }

    fn report(&self, load: &Load, first: &Mark, last: &Mark) -> Report {
        let verdict = load.checker.verdict();
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let in_window = |of: fn(&Counts) -> u64| (of(&last.counts) - of(&first.counts)) as f64;
        let accepted = in_window(|counts| counts.accepted);
        let server = first.server.zip(last.server).map(|(before, after)| {
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            ServerUse {
                cpu_us_per_message: cpu * 1e6 / accepted.max(1.0),
                cores: cpu / seconds,
                rss_bytes: after.rss_bytes,
                rss_bytes_max: after.rss_bytes_max,
            }
        });
        let mut counts = counts(&verdict);
        counts.insert("unsent", load.counts.unsent);
        counts.insert("unreadable", load.counts.unreadable);
        let whole = load.counts.unsent + load.counts.unreadable == 0;
        Report {
            users: self.crowd.users,
            rate: self.plan.rate,
            seconds: self.plan.window.as_secs_f64(),
            content_bytes: self.content,
            accepted_rate: accepted / seconds,
            delivered_rate: in_window(|counts| counts.delivered) / seconds,
            accepted: Latency::from(&load.accepted),
            delivered: Latency::from(&load.delivered),
            counts,
            errors: load.errors.clone(),
            closed: load.closed.clone(),
            server,
            metrics: self.metrics.iter().filter_map(|name| last.page.change(&first.page, name)).collect(),
            driver_lag: Latency::from(&load.lag),
            driver_cores: (last.driver.cpu - first.driver.cpu).as_secs_f64() / seconds,
            uses: last.reading.since(&first.reading, accepted),
            examples: verdict.examples.clone(),
            clean: verdict.is_clean() && whole && load.errors.is_empty() && load.closed.is_empty(),
        }
    }
}
