//! What a socket is told of whom it watches.

use super::*;
use crate::domain::Audience;

const NOW: Timestamp = Timestamp(600_000);

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// Sockets of users 1, 2 …, and a world to look at.
struct Scene {
    watchers: Watchers,
    mailboxes: Vec<Arc<Mailbox>>,
    online: HashSet<i64>,
    audience: Audience,
    sharing: HashSet<(i64, i64)>,
    asked: Vec<(i64, i64)>,
}

impl Scene {
    fn new(audience: Audience) -> Self {
        Self {
            watchers: Watchers::default(),
            mailboxes: (0..4).map(|_| Arc::new(Mailbox::new(100_000))).collect(),
            online: HashSet::new(),
            audience,
            sharing: HashSet::new(),
            asked: Vec::new(),
        }
    }

    fn request(&self, viewer: u64, users: &[i64], mark: Option<&str>) -> Request {
        let place = Place::new(viewer);
        Request {
            place,
            mailbox: Arc::clone(&self.mailboxes[viewer as usize]),
            viewer: user(viewer.max(1) as i64),
            turn: self.watchers.turn(place),
            users: users.iter().map(|id| user(*id)).collect(),
            mark: mark.map(Into::into),
            unavailable: Some(Bytes::from_static(b"unavailable")),
        }
    }

    fn watch(&self, viewer: u64, users: &[i64]) {
        self.watchers.watch(self.request(viewer, users, None)).unwrap();
    }

    fn hint(&self, id: i64, is_about_views: bool) {
        self.watchers.hint([Hint { user: user(id), is_about_views }]);
    }

    /// Looks at everybody who is to be looked at now.
    fn look(&mut self) -> usize {
        let mut looks = 0;
        while let Some(look) = self.watchers.next() {
            looks += 1;
            let depends = |_| self.audience == Audience::Shared;
            let asked = self.watchers.unsure(&look, depends);
            self.asked = asked.iter().map(|(viewer, user)| (viewer.get(), user.get())).collect();
            let shares = |pair: &&(UserId, UserId)| self.sharing.contains(&(pair.0.get(), pair.1.get()));
            let sharing = asked.iter().filter(shares).copied().collect();
            let one = |user: &UserId| Whereabouts {
                user: *user,
                is_online: self.online.contains(&user.get()),
                last_seen: Some(Timestamp(60_000)),
                audience: self.audience,
            };
            let whereabouts = look.users.iter().map(|user| (*user, one(user))).collect();
            self.watchers.learned(&look, &Found { whereabouts, sharing }, &asked, NOW);
        }
        looks
    }

    /// What a socket was told since: each frame as `1+ 2- 3?`, for online, offline and never seen.
    fn told(&self, viewer: u64) -> Vec<String> {
        let items = self.mailboxes[viewer as usize].take(usize::MAX).items;
        let in_words = |item: Item| {
            let Item::Signal(frame) = item else { panic!("{item:?}") };
            let Ok(frame) = serde_json::from_slice::<serde_json::Value>(&frame) else {
                return String::from_utf8(frame.to_vec()).unwrap();
            };
            let one = |seen: &serde_json::Value| match (seen["status"].as_str(), seen["last_seen"].as_str()) {
                (Some("online"), Some(_)) => format!("{}+", seen["user"]),
                (Some("offline"), Some(_)) => format!("{}-", seen["user"]),
                (Some("offline"), None) => format!("{}?", seen["user"]),
                other => panic!("{other:?}"),
            };
            let users: Vec<_> = frame["users"].as_array().unwrap().iter().map(one).collect();
            users.join(" ") + frame["ref"].as_str().unwrap_or_default()
        };
        items.into_iter().map(in_words).collect()
    }
}

const NONE: [&str; 0] = [];

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_of_all_at_once_and_then_of_changes_of_a_moment_in_one_frame() {
    let mut scene = Scene::new(Audience::Everyone);
    scene.online.extend([5, 6]);
    scene.watchers.watch(scene.request(1, &[6, 5, 7, 5], Some(" r1"))).unwrap();
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.told(1), ["5+ 6+ 7- r1"]);
    scene.online = [7].into();
    scene.hint(5, false);
    tokio::time::advance(COLLECT / 2).await;
    scene.hint(7, false);
    scene.hint(6, false);
    scene.hint(9, false);
    assert_eq!(scene.look(), 0, "not yet");
    scene.watchers.due().await;
    assert_eq!(scene.look(), 1);
    assert_eq!(scene.told(1), ["5- 6- 7+"]);
    scene.hint(5, false);
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.told(1), NONE, "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn a_new_set_replaces_the_former_and_an_empty_one_ends_it() {
    let mut scene = Scene::new(Audience::Everyone);
    scene.watch(1, &[5, 6]);
    scene.watch(1, &[6, 7]);
    scene.look();
    assert_eq!(scene.told(1), ["6- 7-"], "only the last one is answered");
    scene.online.extend([5, 6]);
    scene.watchers.hint_all();
    scene.hint(5, false);
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.told(1), ["6+"]);
    let late = scene.request(1, &[5], None);
    scene.watch(1, &[]);
    scene.watchers.watch(late).unwrap();
    scene.look();
    assert_eq!(scene.told(1), [""], "what was asked before it does not count");
    scene.watchers.hint_all();
    assert_eq!(scene.look(), 0);
    assert!(!scene.watchers.is_empty());
    scene.watchers.forget(Place::new(1));
    let inner = scene.watchers.lock();
    assert!(inner.watches.is_empty() && inner.viewers.is_empty() && inner.turns.is_empty());
    assert_eq!(inner.all, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_told_once_and_answered_when_it_can_be() {
    let mut scene = Scene::new(Audience::Everyone);
    scene.watch(1, &[5]);
    scene.look();
    assert_eq!(scene.told(1), ["5-"]);
    scene.online.insert(5);
    scene.hint(5, false);
    scene.watchers.watch(scene.request(2, &[5], Some(" r"))).unwrap();
    for _ in 0..3 {
        scene.watchers.due().await;
        while let Some(look) = scene.watchers.next() {
            scene.watchers.failed(look);
        }
    }
    assert_eq!(scene.told(1), NONE, "who was answered before hears nothing of it");
    assert_eq!(scene.told(2), ["unavailable"]);
    let before = Instant::now();
    scene.watchers.due().await;
    assert_eq!(before.elapsed(), RETRY);
    scene.look();
    assert_eq!((scene.told(1), scene.told(2)), (vec!["5+".into()], vec!["5+".into()]));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_see_is_told_what_is_told_of_who_was_never_there() {
    let mut scene = Scene::new(Audience::Shared);
    scene.online.extend([1, 5, 6]);
    scene.sharing.insert((1, 5));
    scene.watch(1, &[1, 5, 6]);
    scene.watch(2, &[5]);
    scene.look();
    assert_eq!((scene.told(1), scene.told(2)), (vec!["1+ 5+ 6?".into()], vec!["5?".into()]));
    // It is asked once, until somebody says that it may have changed.
    scene.online.remove(&5);
    scene.hint(5, false);
    scene.watchers.due().await;
    scene.look();
    assert_eq!((scene.told(1), scene.told(2)), (vec!["5-".into()], vec![]));
    assert_eq!(scene.asked, []);
    scene.sharing.extend([(1, 6), (2, 5)]);
    scene.hint(6, true);
    scene.hint(5, true);
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.asked, [(1, 5), (1, 6), (2, 5)]);
    assert_eq!((scene.told(1), scene.told(2)), (vec!["6+".into()], vec!["5-".into()]));
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_hide_looks_away_and_who_is_away_already_betrays_nothing() {
    let mut scene = Scene::new(Audience::Everyone);
    scene.online.insert(5);
    scene.watch(1, &[5, 6]);
    scene.look();
    assert_eq!(scene.told(1), ["5+ 6-"]);
    scene.audience = Audience::Nobody;
    scene.hint(5, true);
    scene.hint(6, true);
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.told(1), ["5?"]);
    scene.audience = Audience::Shared;
    scene.sharing.extend([(1, 5), (1, 6)]);
    scene.hint(5, false);
    scene.hint(6, false);
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.told(1), ["5+ 6-"], "also where nobody said that it is about views");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_lost_what_it_was_told_is_told_anew() {
    let mut scene = Scene::new(Audience::Everyone);
    scene.watch(1, &[5]);
    scene.look();
    scene.told(1);
    scene.watchers.again(Place::new(1));
    scene.watchers.again(Place::new(2));
    scene.watchers.due().await;
    scene.look();
    assert_eq!(scene.told(1), ["5-"]);
}

#[tokio::test(start_paused = true)]
async fn many_are_looked_at_in_parts_and_no_set_is_cut() {
    let mut scene = Scene::new(Audience::Everyone);
    let users = |from: i64| (from..from + 400).collect::<Vec<_>>();
    for (viewer, from) in [(0, 1_000), (1, 2_000), (2, 3_000), (3, 3_000)] {
        scene.watch(viewer, &users(from));
    }
    assert_eq!(scene.look(), 2);
    for viewer in 0..4 {
        assert_eq!(scene.told(viewer).len(), 1);
    }
    scene.online.extend(1_000..4_000);
    scene.watchers.hint_all();
    scene.watchers.due().await;
    assert_eq!(scene.look(), 2, "1,200 users");
    let told: usize = (0..4).flat_map(|viewer| scene.told(viewer)).map(|told| told.split(' ').count()).sum();
    assert_eq!(told, 1_600);
}
