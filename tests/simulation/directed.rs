//! Schedules too rare to be met by chance, walked through step by step: the same thing happens after each
//! possible number of steps.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use chatd::chat::apply::Owner;
use chatd::pipeline::EventSource;

use crate::log::{Log, SimLog};
use crate::net::Link;
use crate::store::{REFUSED, Store};
use crate::traffic::Traffic;
use crate::world::{Dice, Faults, PARTITIONS, Shared, World};
use crate::{node, paused};

/// More steps than what is walked through has.
const STEPS: usize = 12;

/// A log of records that storage takes in one transaction.
fn world_with_records() -> Shared {
    let refused = |value: &Bytes| value.windows(REFUSED.len()).any(|part| part == REFUSED.as_bytes());
    let world =
        (1..).map(world_of).find(|world| !world.log.lanes.iter().flat_map(|l| &l.values).any(refused));
    Shared::new(world.unwrap())
}

fn world_of(seed: u64) -> World {
    let mut world = World::new(Dice::new(seed), Faults::default(), None, (Log::new(), Store::new()));
    world.net.links.push(Link::default());
    let mut traffic = Traffic::new(false);
    (0..20).for_each(|_| traffic.append(&mut world));
    world
}

/// Runs a future; after so many steps of it something else happens.
fn run<F: Future>(future: F, steps: usize, interrupt: impl FnOnce()) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let mut interrupt = Some(interrupt);
    let mut step = 0;
    loop {
        if step == steps {
            interrupt.take().into_iter().for_each(|interrupt| interrupt());
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        step += 1;
    }
}

fn to_its_end<F: Future>(future: F) -> F::Output {
    run(future, usize::MAX, || ())
}

/// An owner whose COMMIT has no answer asks where its partitions stand. Meanwhile the COMMIT happens after all,
/// and the log is trimmed for it: nothing is missing, and the owner goes on.
#[test]
fn a_commit_that_comes_late_stops_nobody() {
    let runtime = paused();
    let _context = runtime.enter();
    for steps in 0..STEPS {
        let world = world_with_records();
        let known = world.lock().store.frontier();
        let app = node::boot(&world, 0, &known);
        let all: Vec<_> = (0..PARTITIONS).collect();
        let mut owner = to_its_end(Owner::claim(&app, &all)).unwrap();
        world.lock().faults.store_late = 1.0;
        to_its_end(node::turn(&mut owner, &app)).unwrap_err();
        world.lock().faults.store_late = 0.0;
        world.lock().store.in_flight.iter_mut().for_each(|one| one.commits = true);
        let late = || {
            world.lock().settle();
            let frontier = world.lock().store.frontier();
            assert_ne!(frontier, known, "the COMMIT came");
            let below: Vec<_> = (0..).zip(frontier.offsets.iter().map(|offset| offset + 1)).collect();
            to_its_end(SimLog(world.clone()).forget(&below)).unwrap();
        };
        let _ = run(owner.reload(&app), steps, late);
        world.lock().settle();
        for _ in 0..20 {
            let _ = to_its_end(node::turn(&mut owner, &app));
        }
        assert!(owner.halted().is_empty(), "after {steps} steps: {:?}", owner.halted());
        assert_eq!(owner.partitions(), all, "after {steps} steps");
        assert!(world.lock().is_applied(), "after {steps} steps");
    }
}
