//! Members against a coordinator made of plain data: random schedules of joins, deaths, lost answers and
//! coordinators that start anew from what they had written down.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PARTITIONS: Partition = 7;
const NODES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preparing,
    Completing,
    Stable,
}

#[derive(Debug, Clone)]
struct Slot {
    candidate: Candidate,
    joined: bool,
    /// The answer to its join, on its way.
    answer: Option<Joined>,
    assignment: Vec<Partition>,
}

/// The coordinator's side of the classic protocol.
#[derive(Debug, Clone)]
struct Coordinator {
    state: State,
    generation: i32,
    members: BTreeMap<String, Slot>,
    /// Ids that were given out and not joined with.
    expected: BTreeSet<String>,
    given: u32,
    /// What a coordinator that takes over finds.
    written: Option<Box<Coordinator>>,
}

/// What a call gives: an answer, nothing yet, or a refusal.
type Answer<T> = Result<Option<T>, ResponseError>;

impl Coordinator {
    fn new() -> Self {
        Self {
            state: State::Stable,
            generation: 0,
            members: BTreeMap::new(),
            expected: BTreeSet::new(),
            given: 0,
            written: None,
        }
    }

    fn identify(&mut self) -> String {
        self.given += 1;
        let id = format!("member-{}", self.given);
        self.expected.insert(id.clone());
        id
    }

    fn leads(&self, id: &str) -> bool {
        self.members.first_key_value().is_some_and(|(first, _)| first == id)
    }

    fn join(&mut self, candidate: &Candidate) -> Result<(), ResponseError> {
        let known = self.members.contains_key(&candidate.id);
        if !known && !self.expected.remove(&candidate.id) {
            return Err(ResponseError::UnknownMemberId);
        }
        let generation = self.generation;
        let leads = self.leads(&candidate.id);
        if let Some(slot) = self.members.get_mut(&candidate.id)
            && self.state != State::Preparing
            && slot.candidate == *candidate
            && !leads
        {
            // Nothing new: it may go on with the generation there is.
            slot.answer = Some(Joined { id: candidate.id.clone(), generation, members: None });
            return Ok(());
        }
        self.prepare();
        let slot = Slot { candidate: candidate.clone(), joined: true, answer: None, assignment: Vec::new() };
        self.members.insert(candidate.id.clone(), slot);
        self.complete();
        Ok(())
    }

    fn prepare(&mut self) {
        if self.state != State::Preparing {
            self.state = State::Preparing;
            self.members.values_mut().for_each(|slot| slot.joined = false);
        }
    }

    fn complete(&mut self) {
        if self.state != State::Preparing || self.members.values().any(|slot| !slot.joined) {
            return;
        }
        self.generation += 1;
        self.state = if self.members.is_empty() { State::Stable } else { State::Completing };
        let mut all = Some(self.members.values().map(|slot| slot.candidate.clone()).collect());
        for (id, slot) in &mut self.members {
            // The first one leads.
            slot.answer = Some(Joined { id: id.clone(), generation: self.generation, members: all.take() });
        }
    }

    fn joined(&mut self, id: &str) -> Answer<Joined> {
        let slot = self.members.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        Ok(slot.answer.take())
    }

    fn sync(&mut self, id: &str, generation: i32, plan: &Plan) -> Answer<Vec<Partition>> {
        self.check(id, generation)?;
        match self.state {
            State::Preparing => return Err(ResponseError::RebalanceInProgress),
            State::Completing if self.leads(id) => {
                for (id, slot) in &mut self.members {
                    slot.assignment = plan.get(id).cloned().unwrap_or_default();
                }
                self.state = State::Stable;
                self.written = None;
                self.written = Some(Box::new(self.clone()));
            }
            State::Completing => return Ok(None),
            State::Stable => {}
        }
        Ok(Some(self.members[id].assignment.clone()))
    }

    fn beat(&self, id: &str, generation: i32) -> Result<(), ResponseError> {
        self.check(id, generation)?;
        if self.state == State::Preparing { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    fn check(&self, id: &str, generation: i32) -> Result<(), ResponseError> {
        if !self.members.contains_key(id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if generation != self.generation { Err(ResponseError::IllegalGeneration) } else { Ok(()) }
    }

    fn remove(&mut self, id: &str) {
        if self.members.remove(id).is_some() {
            self.prepare();
            self.complete();
        }
    }

    fn fail_over(&mut self) {
        let given = self.given;
        *self = self.written.take().map_or_else(Self::new, |written| *written);
        self.given = given;
        self.written = (self.generation > 0).then(|| Box::new(self.clone()));
    }
}

/// A process: the member, and what its owner is at work on.
struct Node {
    member: Membership,
    waits: bool,
    works_on: BTreeSet<Partition>,
    /// The coordinator gave it up while it lived: others may own the same until it notices, and the fence in
    /// storage stands between them.
    given_up: bool,
}

impl Node {
    fn new() -> Self {
        Self { member: Membership::new(PARTITIONS), waits: false, works_on: BTreeSet::new(), given_up: false }
    }

    /// One step; an answer may be lost on its way, and then the step is tried again.
    fn step(&mut self, coordinator: &mut Coordinator, lost: bool) {
        match self.member.next() {
            Step::Drain => {
                self.works_on.clear();
                self.given_up = false;
                self.member.drained();
            }
            Step::Join(candidate) if candidate.id.is_empty() => {
                let id = coordinator.identify();
                if !lost {
                    self.member.identified(id);
                }
            }
            Step::Join(candidate) => {
                let answer = if std::mem::replace(&mut self.waits, true) {
                    coordinator.joined(&candidate.id)
                } else {
                    coordinator.join(&candidate).map(|()| None)
                };
                self.answered(answer, lost, Membership::joined);
            }
            Step::Sync { id, generation, plan } => {
                let answer = coordinator.sync(&id, generation, &plan);
                let synced = self.answered(answer, lost, Membership::synced);
                if synced {
                    self.works_on = self.member.had().iter().copied().collect();
                }
            }
            Step::Beat { id, generation } => {
                let answer = coordinator.beat(&id, generation).map(|()| None);
                self.answered(answer, lost, |_, ()| {});
            }
        }
    }

    fn answered<T>(&mut self, answer: Answer<T>, lost: bool, take: fn(&mut Membership, T)) -> bool {
        match answer {
            _ if lost => self.waits = false,
            Ok(None) => {}
            Ok(Some(answer)) => {
                self.waits = false;
                take(&mut self.member, answer);
                return true;
            }
            Err(error) => {
                self.waits = false;
                self.member.refused(error);
            }
        }
        false
    }
}

/// Nobody works on what somebody else works on, those that were given up aside.
fn check_overlap(nodes: &[Node]) {
    let mut owned = BTreeSet::new();
    for partition in nodes.iter().filter(|node| !node.given_up).flat_map(|node| &node.works_on) {
        assert!(owned.insert(*partition), "partition {partition} has two owners");
    }
}

/// Without further trouble the group comes to rest, with every partition owned, evenly.
fn settle(nodes: &mut [Node], coordinator: &mut Coordinator) {
    for _ in 0..40 {
        nodes.iter_mut().for_each(|node| node.step(coordinator, false));
        // Those that died are missed in the end.
        let alive = |id: &String| nodes.iter().any(|node| node.member.id() == Some(id));
        let dead: Vec<_> = coordinator.members.keys().filter(|id| !alive(id)).cloned().collect();
        dead.iter().for_each(|id| coordinator.remove(id));
        check_overlap(nodes);
    }
    let mut owned: Vec<_> = nodes.iter().flat_map(|node| node.works_on.iter().copied()).collect();
    owned.sort_unstable();
    assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>(), "each partition has an owner");
    let sizes = || nodes.iter().map(|node| node.works_on.len());
    assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "shares are even");
    assert!(nodes.iter().all(|node| matches!(node.member.next(), Step::Beat { .. })), "all are at rest");
}

#[derive(Debug, Clone)]
enum Turn {
    Step {
        node: usize,
        lost: bool,
    },
    Die(usize),
    Leave(usize),
    /// The coordinator misses a member that lives.
    GiveUp(usize),
    FailOver,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        30 => (0..NODES, prop::bool::weighted(0.1)).prop_map(|(node, lost)| Turn::Step { node, lost }),
        1 => (0..NODES).prop_map(Turn::Die),
        1 => (0..NODES).prop_map(Turn::Leave),
        1 => (0..NODES).prop_map(Turn::GiveUp),
        1 => Just(Turn::FailOver),
    ];
    prop::collection::vec(turn, 0..200)
}

fn take(turn: &Turn, nodes: &mut [Node], coordinator: &mut Coordinator) {
    match *turn {
        Turn::Step { node, lost } => nodes[node].step(coordinator, lost),
        Turn::Die(node) => nodes[node] = Node::new(),
        Turn::Leave(node) => {
            if let Some(id) = nodes[node].member.id() {
                coordinator.remove(id);
            }
            nodes[node] = Node::new();
        }
        Turn::GiveUp(node) => {
            let node = &mut nodes[node];
            if let Some(id) = node.member.id().filter(|id| coordinator.members.contains_key(*id)) {
                coordinator.remove(id);
                node.given_up = true;
            }
        }
        Turn::FailOver => {
            coordinator.fail_over();
            // Their connections end.
            nodes.iter_mut().for_each(|node| node.waits = false);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_every_partition_ends_with_one_owner(turns in turns()) {
        let mut coordinator = Coordinator::new();
        let mut nodes: Vec<_> = (0..NODES).map(|_| Node::new()).collect();
        for turn in &turns {
            take(turn, &mut nodes, &mut coordinator);
            check_overlap(&nodes);
        }
        settle(&mut nodes, &mut coordinator);
    }
}

/// A member at rest with everything.
fn alone() -> (Node, Coordinator) {
    let (mut node, mut coordinator) = (Node::new(), Coordinator::new());
    (0..4).for_each(|_| node.step(&mut coordinator, false));
    assert_eq!(node.works_on.len(), PARTITIONS as usize);
    (node, coordinator)
}

#[test]
fn a_member_lets_go_before_it_answers_that_the_group_changes() {
    let (mut node, mut coordinator) = alone();
    let newcomer = Candidate { id: coordinator.identify(), owned: vec![], generation: -1 };
    coordinator.join(&newcomer).unwrap();
    node.step(&mut coordinator, false);
    assert_eq!(node.member.next(), Step::Drain);
    assert_eq!(node.member.refused(ResponseError::RebalanceInProgress), Remedy::Proceed);
    assert_eq!(node.member.next(), Step::Drain, "hearing it twice changes nothing");
    node.step(&mut coordinator, false);
    let Step::Join(candidate) = node.member.next() else { panic!("it joins again") };
    assert_eq!(candidate.owned.len(), PARTITIONS as usize, "it says what it had");
}

#[test]
fn a_member_whose_coordinator_is_away_keeps_what_it_has() {
    let (mut node, _) = alone();
    let before = node.member.next();
    for error in [
        ResponseError::NotCoordinator,
        ResponseError::CoordinatorNotAvailable,
        ResponseError::CoordinatorLoadInProgress,
    ] {
        assert_eq!(node.member.refused(error), Remedy::Find);
        assert_eq!(node.member.next(), before);
    }
}

#[test]
fn a_member_that_was_forgotten_joins_as_a_new_one_and_still_says_what_it_had() {
    let (mut node, _) = alone();
    assert_eq!(node.member.refused(ResponseError::UnknownMemberId), Remedy::Retry);
    assert_eq!(node.member.id(), None);
    assert_eq!(node.member.next(), Step::Drain);
    node.member.drained();
    let Step::Join(candidate) = node.member.next() else { panic!("it joins again") };
    assert_eq!((candidate.id.as_str(), candidate.owned.len()), ("", PARTITIONS as usize));
}

#[test]
fn a_stranger_in_the_group_is_no_reason_to_stop() {
    let mut member = Membership::new(PARTITIONS);
    assert_eq!(member.refused(ResponseError::InconsistentGroupProtocol), Remedy::Retry);
    assert!(matches!(member.next(), Step::Join(_)));
}
