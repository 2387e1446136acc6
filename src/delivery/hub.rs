//! The sockets of this node, and how far it has heard of each partition. The one owner of both.

mod signals; // what is told without a place in the log

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::mailbox::{Eviction, Item, Mailbox};
use super::pace::Pace;
use super::track::{Heard, Track};
use super::typing::Typers;
use super::watchers::Watchers;
use super::{Publication, frame};
use crate::domain::{
    ConversationId, Event, Frontier, LogNumber, Offset, Outcome, Partition, Rejection, UserId,
};
use crate::storage::Receipt;

/// So many receipts at once are told without delay.
const RECEIPTS_AT_ONCE: usize = 32;

/// Told of each outcome that this node hears of, and how many sockets of others got it.
pub type Observer = Box<dyn Fn(&Outcome, usize) + Send + Sync>;

/// What one user may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sockets; one more replaces the oldest.
    pub devices: usize,
    /// Bytes of frames that may wait for a socket (protocol.md, close code 4430).
    pub mailbox_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices: 8, mailbox_bytes: 256 * 1024 }
    }
}

/// This node's sockets.
pub struct Hub {
    log: LogNumber,
    limits: Limits,
    tracks: Mutex<Vec<Track>>,
    /// What `tracks` know, to be read while a publication is put into the mailboxes: see `heard`.
    known: Box<[AtomicI64]>,
    users: Mutex<HashMap<UserId, Vec<Device>>>,
    /// The devices of all `users`: asked at every upgrade, when there may be many.
    sockets: AtomicUsize,
    hole: Notify,
    doubtful: AtomicBool,
    pace: Mutex<Pace>,
    /// Mailboxes with something that nobody was woken for, and the word that there are some.
    unhurried: Mutex<Vec<Arc<Mailbox>>>,
    waiting: Notify,
    observer: Observer,
    /// The number of the next place.
    places: AtomicU64,
    typers: Typers,
    watchers: Watchers,
    /// Who was told to type, and until when.
    typing: Mutex<signals::Shown>,
}

struct Device {
    name: Option<String>,
    mailbox: Arc<Mailbox>,
}

/// Tells the sockets of a node apart; none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

impl Place {
    /// The place of this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

/// A socket's place in the hub, given up when it is dropped.
pub struct Attachment {
    hub: Arc<Hub>,
    user: UserId,
    mailbox: Arc<Mailbox>,
    place: Place,
}

impl Attachment {
    /// What arrives for this socket.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Which socket it is.
    pub fn place(&self) -> Place {
        self.place
    }
}

impl Attachment {
    /// Gives the place up before the socket has ended: nothing more is put in.
    pub fn leave(&self) {
        self.hub.detach(self.user, &self.mailbox);
        self.hub.typers.left(self.place, self.user);
        self.hub.watchers.forget(self.place);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Hub {
    /// A hub that needs no delivery of what `known` covers: nobody is connected yet, and who connects reads
    /// storage first.
    pub fn new(known: &Frontier, limits: Limits, observer: Observer) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            log: known.log,
            limits,
            known: known.offsets.iter().map(|offset| AtomicI64::new(*offset)).collect(),
            tracks: Mutex::new(known.offsets.iter().map(|offset| Track::new(*offset, now)).collect()),
            users: Mutex::default(),
            sockets: AtomicUsize::new(0),
            hole: Notify::new(),
            doubtful: AtomicBool::new(false),
            pace: Mutex::new(Pace::new(now)),
            unhurried: Mutex::default(),
            waiting: Notify::new(),
            observer,
            places: AtomicU64::new(0),
            typers: Typers::default(),
            watchers: Watchers::default(),
            typing: Mutex::default(),
        })
    }

    /// Gives a socket its mailbox. From now on everything that this node hears of for the user is put in.
    /// The same device replaces itself, and one device more than allowed replaces the oldest.
    pub fn attach(self: &Arc<Self>, user: UserId, device: Option<String>) -> Attachment {
        let mailbox = Arc::new(Mailbox::new(self.limits.mailbox_bytes));
        let mut users = lock(&self.users);
        let devices = users.entry(user).or_default();
        let same =
            device.as_ref().and_then(|name| devices.iter().position(|d| d.name.as_ref() == Some(name)));
        let leaves = same.or_else(|| (devices.len() >= self.limits.devices).then_some(0));
        match leaves {
            Some(index) => devices.remove(index).mailbox.evict(Eviction::Replaced),
            None => _ = self.sockets.fetch_add(1, Ordering::Relaxed),
        }
        devices.push(Device { name: device, mailbox: Arc::clone(&mailbox) });
        drop(users);
        let place = Place(self.places.fetch_add(1, Ordering::Relaxed));
        Attachment { hub: Arc::clone(self), user, mailbox, place }
    }

    fn detach(&self, user: UserId, mailbox: &Arc<Mailbox>) {
        let mut users = lock(&self.users);
        if let Some(devices) = users.get_mut(&user) {
            let before = devices.len();
            devices.retain(|device| !Arc::ptr_eq(&device.mailbox, mailbox));
            // One that was replaced has left its place to another already.
            self.sockets.fetch_sub(before - devices.len(), Ordering::Relaxed);
            if devices.is_empty() {
                users.remove(&user);
            }
        }
    }

    /// How many sockets this node holds.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Which log this node follows.
    pub fn log(&self) -> LogNumber {
        self.log
    }

    /// Everything that this frontier covers has been put into the mailboxes before this call; more may have been.
    /// Waits for nothing.
    pub fn heard(&self) -> Frontier {
        let offsets = self.known.iter().map(|offset| offset.load(Ordering::Acquire)).collect();
        Frontier { log: self.log, offsets }
    }

    /// Takes a publication of an owner in; a hole in it wakes `doubted`.
    pub fn receive(&self, publication: &Publication) {
        self.take(publication, |track| track.hear(publication.prev, publication.through, Instant::now()));
    }

    /// Takes in what was read from storage, which says nothing about the owner.
    pub fn scanned(&self, publication: &Publication) {
        self.take(publication, |track| track.read(publication.prev, publication.through));
    }

    fn take(&self, publication: &Publication, judge: impl FnOnce(&mut Track) -> Heard) {
        if publication.log != self.log {
            return;
        }
        let mut tracks = lock(&self.tracks);
        let Some(track) = tracks.get_mut(publication.partition as usize) else { return };
        match judge(track) {
            Heard::Above(known) => {
                // What is known moves only when the mailboxes have it: see `heard`.
                self.put(&publication.outcomes, known);
                track.delivered(publication.through);
                if let Some(known) = self.known.get(publication.partition as usize) {
                    known.store(track.known(), Ordering::Release);
                }
            }
            Heard::Old => {}
            Heard::Hole => self.hole.notify_one(),
        }
    }

    /// Partitions whose owner has been silent, and from where each is to be scanned.
    pub fn silent(&self) -> Vec<(Partition, Offset)> {
        let now = Instant::now();
        let tracks = lock(&self.tracks);
        (0..).zip(tracks.iter()).filter(|(_, t)| t.is_silent(now)).map(|(p, t)| (p, t.known())).collect()
    }

    /// Says whether publications may be missing without leaving a hole: the node then reads storage again and
    /// again. Once more when the doubt ends.
    pub fn doubt(&self, doubtful: bool) {
        if self.doubtful.swap(doubtful, Ordering::AcqRel) != doubtful {
            self.hole.notify_one();
        }
    }

    /// Whether publications may be missing now.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    /// Waits until a publication left a hole, or a doubt began or ended.
    pub async fn doubted(&self) {
        self.hole.notified().await;
    }

    /// Tells the members of two-person conversations about moved cursors. Many at once wait for something that
    /// their sockets wake for anyway, or until they are hurried: by itself a receipt costs as much as a message.
    pub fn receipts(&self, receipts: &[Receipt]) {
        let many = receipts.len() > RECEIPTS_AT_ONCE;
        let (users, mut unhurried) = (lock(&self.users), Vec::new());
        for receipt in receipts {
            let mut encoded: Option<Bytes> = None;
            for member in members(receipt.conversation) {
                for device in users.get(&member).into_iter().flatten() {
                    let frame = encoded.get_or_insert_with(|| frame::receipt(receipt));
                    let item = Item::Signal(frame.clone());
                    if many {
                        device.mailbox.push_unhurried(item);
                        unhurried.push(Arc::clone(&device.mailbox));
                    } else {
                        device.mailbox.push(item);
                    }
                }
            }
        }
        drop(users);
        self.wait_for(unhurried);
    }

    /// Remembers who is to be hurried.
    fn wait_for(&self, mut unhurried: Vec<Arc<Mailbox>>) {
        if !unhurried.is_empty() {
            lock(&self.unhurried).append(&mut unhurried);
            self.waiting.notify_one();
        }
    }

    /// Waits until there is somebody to hurry. One waiter.
    pub async fn unhurried(&self) {
        self.waiting.notified().await;
    }

    /// Wakes the sockets for which something still waits.
    pub fn hurry(&self) {
        std::mem::take(&mut *lock(&self.unhurried)).iter().for_each(|mailbox| mailbox.hurry());
    }

    /// Fills the mailboxes. On a busy node the sender's own devices find their copies when they wake for something
    /// else, or are hurried: by itself a copy costs as much as the message, and who wrote it waits for `accepted`.
    fn put(&self, outcomes: &[Outcome], known: Offset) {
        let is_busy = lock(&self.pace).count(outcomes.len(), Instant::now());
        let (users, mut unhurried) = (lock(&self.users), Vec::new());
        let devices_of = |member| users.get(&member).map_or(&[][..], Vec::as_slice);
        for outcome in outcomes.iter().filter(|outcome| outcome.position().offset > known) {
            // The observer first: whoever is told may come back at once, and then it has to be known.
            match outcome {
                Outcome::Stored(event) => {
                    let others = members(event.conversation).filter(|member| *member != event.from);
                    (self.observer)(outcome, others.map(|member| devices_of(member).len()).sum());
                    self.watch_beginning(event);
                    for member in members(event.conversation) {
                        let waits = (member == event.from && is_busy).then_some(&mut unhurried);
                        put_event(devices_of(member), event, member, waits);
                    }
                }
                Outcome::Rejected(rejection) => {
                    (self.observer)(outcome, 0);
                    put_rejection(devices_of(rejection.from), rejection);
                }
            }
        }
        drop(users);
        self.wait_for(unhurried);
    }
}

fn put_rejection(devices: &[Device], rejection: &Rejection) {
    let frame = frame::rejected(rejection);
    for device in devices {
        device.mailbox.push(Item::Rejected { position: rejection.position, frame: frame.clone() });
    }
}

/// Puts an event in; where it may wait, nobody is woken, and whom to hurry later is added to `waits`.
fn put_event(devices: &[Device], event: &Event, viewer: UserId, mut waits: Option<&mut Vec<Arc<Mailbox>>>) {
    if devices.is_empty() {
        return;
    }
    let frame = frame::event(event, viewer);
    for device in devices {
        let item = Item::Event {
            position: event.position,
            conversation: event.conversation,
            seq: event.seq,
            frame: frame.clone(),
        };
        match &mut waits {
            Some(waits) => {
                device.mailbox.push_unhurried(item);
                waits.push(Arc::clone(&device.mailbox));
            }
            None => device.mailbox.push(item),
        }
    }
}

/// Who is told of what happens in a conversation.
pub fn members(conversation: ConversationId) -> impl Iterator<Item = UserId> {
    let pair = match conversation {
        ConversationId::Dm(low, high) => Some([low, high]),
        ConversationId::Group(_) => None,
    };
    pair.into_iter().flatten()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
