//! What the hub promises a socket: what the node has heard of is in the mailbox.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::delivery::Typing;
use crate::domain::{
    ClientId, Content, MessageBody, MessageId, Position, RecordBody, Rejection, Seq, Timestamp,
};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::dm(user(1), user(2)).unwrap()
}

fn at(offset: Offset) -> Position {
    Position { log: LogNumber(1), partition: 0, offset }
}

fn event(offset: Offset) -> Outcome {
    let client_id = ClientId::new(offset.to_string()).unwrap();
    Outcome::Stored(Event {
        conversation: conversation(),
        seq: Seq(offset + 1),
        position: at(offset),
        id: MessageId::derive(conversation(), user(1), &client_id),
        client_id,
        from: user(1),
        at: Timestamp(0),
        body: RecordBody::Message(MessageBody {
            content: Content::new("x").unwrap(),
            data: None,
            reply_to: None,
        })
        .into(),
    })
}

fn publication(prev: Offset, outcomes: Vec<Outcome>) -> Publication {
    let through = outcomes.last().map_or(prev, |outcome| outcome.position().offset);
    Publication { log: LogNumber(1), partition: 0, prev, through, outcomes: outcomes.into() }
}

fn hub(limits: Limits, observer: Observer) -> Arc<Hub> {
    Hub::new(&Frontier::nothing(LogNumber(1), 1), limits, observer)
}

fn quiet() -> Arc<Hub> {
    hub(Limits::default(), Box::new(|_, _| {}))
}

fn seqs(attachment: &Attachment) -> Vec<i64> {
    let items = attachment.mailbox().take(usize::MAX).items;
    let seq = |item: Item| match item {
        Item::Event { seq, .. } => seq.0,
        Item::Rejected { .. } | Item::Signal(_) => 0,
    };
    items.into_iter().map(seq).collect()
}

/// A hub in the middle of a publication of the offsets 0 and 1, which has put the first.
fn midway(limits: Limits) -> (Arc<Hub>, Attachment, std::thread::JoinHandle<()>) {
    let (told, midway) = mpsc::channel();
    let observer: Observer = Box::new(move |outcome, _| {
        if outcome.position() == at(1) {
            let _ = told.send(());
            // Long enough for the other thread to look; were it not, the test would pass, not fail.
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let hub = hub(limits, observer);
    let attachment = hub.attach(user(2), None);
    let receiving = {
        let hub = Arc::clone(&hub);
        std::thread::spawn(move || hub.receive(&publication(-1, vec![event(0), event(1)])))
    };
    midway.recv().unwrap();
    (hub, attachment, receiving)
}

#[test]
fn what_is_heard_is_in_the_mailbox_and_asking_waits_for_nobody() {
    let (hub, attachment, receiving) = midway(Limits::default());
    let heard = hub.heard();
    assert!(!receiving.is_finished());
    assert_eq!(heard.offset(0), -1, "the second event has not been put");
    receiving.join().unwrap();
    assert_eq!((hub.heard().offset(0), seqs(&attachment)), (1, vec![1, 2]));
}

#[test]
fn both_sides_get_an_event_and_others_do_not() {
    let hub = quiet();
    let (sender, receiver, other) =
        (hub.attach(user(1), None), hub.attach(user(2), None), hub.attach(user(3), None));
    hub.receive(&publication(-1, vec![event(0)]));
    assert_eq!((seqs(&sender), seqs(&receiver), seqs(&other)), (vec![1], vec![1], vec![]));
}

#[test]
fn a_repeated_publication_is_put_once_and_a_hole_is_doubted() {
    let hub = quiet();
    let receiver = hub.attach(user(2), None);
    hub.receive(&publication(-1, vec![event(0)]));
    hub.receive(&publication(-1, vec![event(0), event(1)]));
    assert_eq!(seqs(&receiver), [1, 2], "the first only once");
    hub.receive(&publication(2, vec![event(3)]));
    assert_eq!((seqs(&receiver), hub.heard().offset(0)), (vec![], 1), "2 is missing");
}

#[test]
fn only_the_sender_hears_of_a_rejection() {
    let hub = quiet();
    let (sender, receiver) = (hub.attach(user(1), None), hub.attach(user(2), None));
    let client_id = ClientId::new("c").unwrap();
    hub.receive(&publication(
        -1,
        vec![Outcome::Rejected(Rejection {
            conversation: conversation(),
            position: at(0),
            id: MessageId::derive(conversation(), user(1), &client_id),
            client_id,
            from: user(1),
            code: crate::domain::ErrorCode::ClientIdReused,
            digest: None,
        })],
    ));
    assert_eq!((seqs(&sender), seqs(&receiver)), (vec![0], vec![]));
}

#[test]
fn a_device_replaces_itself_and_a_ninth_the_oldest() {
    let hub = quiet();
    let named = |name: &str| hub.attach(user(1), Some(name.to_owned()));
    let is_evicted = |attachment: &Attachment| attachment.mailbox().take(0).evicted.is_some();
    let mut devices: Vec<_> = (0..8).map(|n| named(&n.to_string())).collect();
    devices.push(named("3"));
    assert_eq!((is_evicted(&devices[3]), hub.sockets()), (true, 8));
    assert_eq!(devices.iter().filter(|device| is_evicted(device)).count(), 1);
    devices.push(hub.attach(user(1), None));
    assert_eq!((is_evicted(&devices[0]), hub.sockets()), (true, 8));
    devices.clear();
    assert_eq!(hub.sockets(), 0);
}

/// Counts how often the session of a mailbox is woken.
#[derive(Default)]
struct Session(AtomicUsize);

impl std::task::Wake for Session {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Session {
    /// Whether something is there; waits for it where not.
    fn is_ready(self: &Arc<Self>, mailbox: &Mailbox) -> bool {
        let waker = std::task::Waker::from(Arc::clone(self));
        let arrived = std::pin::pin!(mailbox.arrived());
        arrived.poll(&mut std::task::Context::from_waker(&waker)).is_ready()
    }

    fn wakes(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[test]
fn many_receipts_wait_for_company_and_are_hurried_after_all() {
    let (hub, session) = (quiet(), Arc::new(Session::default()));
    let receiver = hub.attach(user(2), None);
    let receipt =
        |seq| Receipt { conversation: conversation(), user: user(1), delivered: Seq(seq), read: Seq(0) };
    let mailbox = receiver.mailbox();
    assert!(!session.is_ready(mailbox));
    hub.receipts(&[receipt(1)]);
    assert_eq!((session.wakes(), session.is_ready(mailbox)), (1, true), "one is told at once");
    let many: Vec<_> = (2..=100).map(receipt).collect();
    assert!(!session.is_ready(mailbox));
    hub.receipts(&many);
    assert_eq!(session.wakes(), 0);
    hub.hurry();
    assert_eq!((session.wakes(), session.is_ready(mailbox)), (1, true));
    assert!(!session.is_ready(mailbox));
    hub.receipts(&many);
    assert!(session.is_ready(mailbox), "who wakes for something else finds them");
    hub.hurry();
    assert_eq!(session.wakes(), 0, "and is not woken again");
    assert_eq!(mailbox.take(usize::MAX).items.len(), 1 + 2 * 99);
}

#[test]
fn on_a_busy_node_the_senders_copies_wait_for_company_and_nobody_elses_do() {
    let (hub, sender, receiver) = (quiet(), Arc::new(Session::default()), Arc::new(Session::default()));
    let (one, other) = (hub.attach(user(1), None), hub.attach(user(2), None));
    let is_waiting = || !sender.is_ready(one.mailbox()) && !receiver.is_ready(other.mailbox());
    assert!(is_waiting());
    hub.receive(&publication(-1, vec![event(0)]));
    assert_eq!((sender.wakes(), receiver.wakes()), (1, 1), "a quiet node");
    assert!(sender.is_ready(one.mailbox()) && receiver.is_ready(other.mailbox()) && is_waiting());
    hub.receive(&publication(0, (1..=60).map(event).collect()));
    assert_eq!((sender.wakes(), receiver.wakes()), (0, 1), "a waker is used up by the first of many");
    hub.hurry();
    assert_eq!((sender.wakes(), receiver.wakes()), (1, 0));
    assert_eq!(seqs(&one), (1..=61).collect::<Vec<_>>());
    assert_eq!(seqs(&other), (1..=61).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_type_is_told_to_have_stopped_when_no_more_is_heard() {
    let hub = quiet();
    let receiver = hub.attach(user(2), None);
    let typing = |active| Typing { conversation: conversation(), user: user(1), active };
    let told = || {
        let items = receiver.mailbox().take(usize::MAX).items;
        let is_active = |item: &Item| match item {
            Item::Signal(frame) => frame.windows(4).any(|part| part == b"true"),
            _ => panic!("{item:?}"),
        };
        items.iter().map(is_active).collect::<Vec<_>>()
    };
    hub.typing(&[typing(true)]);
    // Whoever ends it is awake.
    tokio::time::timeout(Duration::from_secs(1), hub.typers().some()).await.unwrap();
    tokio::time::advance(Duration::from_secs(7)).await;
    hub.typing(&[typing(true)]);
    assert!(hub.end_typing());
    tokio::time::advance(Duration::from_millis(7_999)).await;
    assert!(hub.end_typing());
    assert_eq!(told(), [true, true]);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!hub.end_typing(), "nothing is kept");
    assert_eq!(told(), [false]);
    drop(receiver);
    hub.typing(&[typing(true)]);
    assert!(!hub.end_typing(), "nobody is told");
}

#[test]
fn a_rejection_is_known_here_before_its_sender_can_come_back() {
    let client_id = ClientId::new("x").unwrap();
    let rejection = Rejection {
        conversation: conversation(),
        position: at(0),
        id: MessageId::derive(conversation(), user(1), &client_id),
        client_id,
        from: user(1),
        code: crate::domain::ErrorCode::ClientIdReused,
        digest: None,
    };
    let sender = Arc::new(Mutex::new(None::<Attachment>));
    let (watched, waiting) = (Arc::clone(&sender), Arc::new(AtomicUsize::new(usize::MAX)));
    let seen = Arc::clone(&waiting);
    let observer: Observer = Box::new(move |_, _| {
        let bytes = watched.lock().unwrap().as_ref().map_or(0, |sender| sender.mailbox().queued_bytes());
        seen.store(bytes, Ordering::Relaxed);
    });
    let hub = hub(Limits::default(), observer);
    *sender.lock().unwrap() = Some(hub.attach(user(1), None));
    hub.receive(&publication(-1, vec![Outcome::Rejected(rejection)]));
    assert_eq!(waiting.load(Ordering::Relaxed), 0, "nothing was told yet");
    let told = sender.lock().unwrap().take().unwrap();
    assert_eq!(seqs(&told), [0], "and then it was");
}
