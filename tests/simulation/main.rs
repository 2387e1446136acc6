//! A deterministic simulation: the real apply, publish, repair and resume over simulated ports, through
//! thousands of seeded schedules of crashes, pauses, lost answers and rival owners.
//!
//! `SIM_RUNS` schedules are run from `SIM_SEED` on; a failed one prints its seed and its last steps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)] // a panic is a test's way to fail

mod audit;
mod checker;
mod client;
mod directed;
mod events;
mod heal;
mod log;
mod mutant;
mod net;
mod node;
mod ranges;
mod schedule;
mod session;
mod store;
mod traffic;
mod world;

use std::collections::BTreeMap;

use mutant::Mutant;
use schedule::{Outcome, run};
use tokio::runtime::Runtime;

/// Schedules of an ordinary run.
const RUNS: u64 = 2_000;
/// Schedules within which a seeded bug has to be found.
const MUTANT_RUNS: u64 = 1_000;
/// Steps of a failed schedule that are shown.
const SHOWN: usize = 200;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Prints the seed of a schedule that panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: SIM_SEED={} SIM_RUNS=1", self.0, self.0);
        }
    }
}

fn outcome(runtime: &Runtime, seed: u64, mutant: Option<Mutant>, told: bool) -> Outcome {
    let _seed = Seed(seed);
    runtime.block_on(run(seed, mutant, told))
}

#[test]
fn every_schedule_keeps_the_promise() {
    let (first, runs) = (from_environment("SIM_SEED", 1), from_environment("SIM_RUNS", RUNS));
    let runtime = paused();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in first..first + runs {
        let ended = outcome(&runtime, seed, None, false);
        if let Some(violation) = ended.violation {
            let told = outcome(&runtime, seed, None, true);
            for line in told.story.iter().rev().take(SHOWN).rev() {
                eprintln!("{line}");
            }
            panic!("seed {seed} breaks {:?}: {}", violation.rule, violation.detail);
        }
        ended.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    eprintln!("{runs} schedules: {counts:?}");
}

#[test]
fn the_checker_finds_each_seeded_bug() {
    let runtime = paused();
    for (mutant, rules) in mutant::ALL {
        let found = (1..=MUTANT_RUNS).find_map(|seed| {
            let violation = outcome(&runtime, seed, Some(mutant), false).violation?;
            Some((seed, violation))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        eprintln!("{mutant:?}: seed {seed}, rule {:?}: {}", violation.rule, violation.detail);
        assert!(rules.contains(&violation.rule), "{mutant:?}: {violation:?}");
    }
}

#[test]
fn a_seed_is_a_schedule() {
    let runtime = paused();
    for seed in 1..20 {
        let hashes = [(); 2].map(|()| outcome(&runtime, seed, None, false).hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}
