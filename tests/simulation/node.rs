//! One node: an `App` over simulated ports, and the loops that its roles run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chatd::app::health::Health;
use chatd::app::{App, Settings};
use chatd::auth::{AuthError, Claims, Ticket, TicketError, Tickets, TokenVerifier};
use chatd::chat::apply::{ApplyError, Owner, Turn};
use chatd::chat::directory::Directory;
use chatd::chat::receipts::{self, Pending};
use chatd::chat::recent::Recent;
use chatd::chat::{authorize, deliver, history};
use chatd::delivery::Hub;
use chatd::delivery::hub::Limits;
use chatd::delivery::memory::MemoryFanout;
use chatd::domain::history::Rules;
use chatd::domain::{Audience, ConversationId, Event, EventBody, Frontier, Partition, Seq, UserId};
use chatd::presence::Attendance;
use chatd::presence::memory::MemoryPresence;
use chatd::storage::{Page, Users};
use chatd::telemetry::story::Story;
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::log::SimLog;
use crate::mutant::Mutant;
use crate::net::SimFanout;
use crate::store::{INCARNATION, SimStore};
use crate::world::{LOG, Shared, at_most, pause};

/// Bytes that may wait for a socket: about ten messages, so that it overflows now and then.
pub const MAILBOX_BYTES: usize = 2_000;
/// Few devices, so that the oldest has to go now and then.
const LIMITS: Limits = Limits { devices: 3, mailbox_bytes: MAILBOX_BYTES };
/// Events of a conversation, and in all, that a resume pushes: few, so that there are gaps.
const PUSHED: (i64, i64) = (4, 12);
/// An owner tells that it is alive this often.
const BEAT: Duration = Duration::from_secs(1);

/// A node that starts, knowing what is stored now.
pub fn boot(world: &Shared, number: usize, known: &Frontier) -> Arc<App> {
    let store = Arc::new(SimStore(world.clone()));
    let log = Arc::new(SimLog(world.clone()));
    let users: Arc<dyn Users> = store.clone();
    let hub = Hub::new(known, LIMITS, Box::new(|_, _| ()));
    Arc::new(App {
        storage: store,
        log: log.clone(),
        source: log,
        fanout: Arc::new(SimFanout(world.clone())),
        // What arrives is put into the hub by the schedule.
        link: Arc::new(MemoryFanout::new(Arc::clone(&hub))),
        hub,
        presence: Arc::new(MemoryPresence::default()),
        attendance: Attendance::new(Duration::from_secs(30)),
        tokens: Arc::new(Nobody),
        tickets: Arc::new(Nobody),
        directory: Directory::new(users),
        recent: Recent::default(),
        pending: Pending::default(),
        health: Health::default(),
        story: Arc::new(Story::default()),
        log_number: LOG,
        incarnation: INCARNATION,
        settings: Settings {
            node: format!("node-{number}"),
            provision: false,
            visible_to: Audience::Everyone,
            grace: Duration::from_secs(10),
            rules: Rules::default(),
            pong_confirms: true,
            heartbeat: Duration::from_secs(25),
            stall: Duration::from_secs(5),
            bad_json_per_minute: 20,
            message_bytes_max: 65_536,
            content_bytes_max: 16_384,
            data_bytes_max: 4_096,
            sockets_max: 1_000,
            gap_per_conversation: PUSHED.0,
            gap_total: PUSHED.1,
        },
    })
}

/// Owns partitions until it has none left, or is asked to stop.
pub async fn own(world: Shared, app: Arc<App>, partitions: Vec<Partition>) {
    let mut owner = loop {
        match Owner::claim(&app, &partitions).await {
            Ok(owner) => break owner,
            Err(_) => pause().await,
        }
    };
    let mut last_beat = Instant::now();
    let me = world.lock().actor;
    loop {
        keeps_what_is_its_own(&world, &owner, &partitions);
        if owner.partitions().is_empty() {
            return;
        }
        if world.lock().stopping.remove(&me) {
            let _ = owner.release(&app).await;
            return;
        }
        let pauses = patience(&world);
        match at_most(pauses, turn(&mut owner, &app)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => drop(owner.reload(&app).await),
            None => world.lock().checker.count("turns given up"),
        }
        if last_beat.elapsed() >= BEAT {
            last_beat = Instant::now();
            let _ = owner.beat(&app).await;
        }
        pause().await;
    }
}

/// Reads and applies once.
pub async fn turn(owner: &mut Owner, app: &App) -> Result<Turn, ApplyError> {
    let fetched = owner.read(app, Duration::ZERO).await?;
    owner.work(app, fetched).await
}

/// How many pauses a turn is waited for before it is given up.
fn patience(world: &Shared) -> usize {
    let mut world = world.lock();
    let probability = world.faults.cancelled;
    if world.dice.chance(probability) { world.dice.below(8) } else { usize::MAX }
}

/// An owner gives a partition up only where another has claimed it.
fn keeps_what_is_its_own(world: &Shared, owner: &Owner, claimed: &[Partition]) {
    let kept = owner.partitions();
    let mut world = world.lock();
    let me = world.actor;
    for (partition, halt) in owner.halted() {
        world.checker.tell(|| format!("owner {me}: partition {partition} stands still: {halt}"));
    }
    for partition in claimed.iter().filter(|partition| !kept.contains(partition)) {
        let given_up = world.store.rows[*partition as usize].owner == Some(me);
        world.checker.ensure(!given_up, "owner", || format!("partition {partition} was given up"));
    }
}

/// Closes the holes in what the node was told.
pub async fn repair(world: Shared, app: Arc<App>) {
    loop {
        pause().await;
        if world.lock().has(Mutant::NeverRepairs) {
            continue;
        }
        if app.hub.doubted().now_or_never().is_some() {
            world.lock().checker.count("repairs after a hole");
            let _ = deliver::repair(&app).await;
        }
        for (partition, known) in app.hub.silent() {
            world.lock().checker.count("repairs after silence");
            let _ = deliver::repair_partition(&app, partition, known).await;
        }
    }
}

/// Flushes receipts.
pub async fn flush(app: Arc<App>) {
    loop {
        pause().await;
        let _ = receipts::flush(&app).await;
    }
}

/// A device reads a page of a conversation.
pub async fn fetch(world: Shared, app: Arc<App>, user: UserId, conversation: ConversationId, after: Seq) {
    let member = authorize::member(user, conversation).unwrap();
    if world.lock().dice.chance(0.5) {
        if let Ok(page) = history::events(&app, member, after, 100).await {
            let mut world = world.lock();
            for event in page.rows {
                world.checker.given(user, conversation, event.seq.0, event.seq.0);
            }
        }
        return;
    }
    if let Ok(page) = history::messages(&app, member, Page::After(after), 100).await {
        let rows = page.rows;
        let mut world = world.lock();
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
        if world.has(Mutant::PageConfirmsHoles) {
            receipts::delivered(&app, member, first.seq, last.seq);
        }
        // What a change made of a message is shown with the message.
        let shown = |event: &&Arc<Event>| match &event.body {
            EventBody::Message(_) => rows.iter().any(|row| row.id == event.id),
            EventBody::Edited { target, .. } | EventBody::Deleted { target } => {
                rows.iter().any(|row| row.id == *target)
            }
        };
        let between = |event: &&Arc<Event>| (first.seq..=last.seq).contains(&event.seq);
        let events = world.store.conversations[&conversation].events.iter();
        let seqs: Vec<i64> = events.filter(between).filter(shown).map(|event| event.seq.0).collect();
        seqs.into_iter().for_each(|seq| world.checker.given(user, conversation, seq, seq));
    }
}

/// Tokens and tickets are not part of a simulation.
struct Nobody;

impl TokenVerifier for Nobody {
    fn verify(&self, _: &str) -> Result<Claims, AuthError> {
        Err(AuthError::Missing)
    }
}

#[async_trait]
impl Tickets for Nobody {
    async fn issue(&self, _: Claims) -> Result<Ticket, TicketError> {
        Err(TicketError::Unavailable)
    }

    async fn redeem(&self, _: &str) -> Result<Option<Claims>, TicketError> {
        Ok(None)
    }
}
