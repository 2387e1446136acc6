//! What the hub is told without a place in the log.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{Hub, Item, lock, members};
use crate::delivery::frame;
use crate::delivery::typing::{FORGOTTEN, TYPERS_MAX, Typers, Typing};
use crate::delivery::watchers::{Hint, Watchers};
use crate::domain::{ConversationId, Event, Seq, UserId};

/// Who types where, as the sockets of this node were told, and until when that holds without news.
pub(super) type Shown = HashMap<(ConversationId, UserId), Instant>;

impl Hub {
    /// Those who type on this node.
    pub fn typers(&self) -> &Typers {
        &self.typers
    }

    /// Who watches whom on this node.
    pub fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Those who share a conversation from its first event on may see each other from then on.
    pub(super) fn watch_beginning(&self, event: &Event) {
        if event.seq == Seq(1) {
            self.watchers.hint(members(event.conversation).map(|user| Hint { user, is_about_views: true }));
        }
    }

    /// Tells the other members' sockets that somebody types, or stopped. Who is told nothing more in 8 s is told
    /// that they stopped (`end_typing`).
    pub fn typing(&self, typing: &[Typing]) {
        let mut shown = lock(&self.typing);
        for one in typing {
            let key = (one.conversation, one.user);
            let is_news = if one.active {
                let may_show =
                    self.has_listener(one) && (shown.len() < TYPERS_MAX || shown.contains_key(&key));
                if may_show && shown.insert(key, Instant::now() + FORGOTTEN).is_none() {
                    self.typers.wake();
                }
                may_show
            } else {
                shown.remove(&key).is_some()
            };
            if is_news {
                self.tell_typing(one);
            }
        }
    }

    /// Ends what was told too long ago; whether there is more that time will end.
    pub fn end_typing(&self) -> bool {
        let (now, mut ended) = (Instant::now(), Vec::new());
        let mut shown = lock(&self.typing);
        shown.retain(|&(conversation, user), until| {
            let stands = now < *until;
            if !stands {
                ended.push(Typing { conversation, user, active: false });
            }
            stands
        });
        // Under the lock, so that what begins anew is told after the end.
        ended.iter().for_each(|one| self.tell_typing(one));
        !shown.is_empty()
    }

    fn has_listener(&self, typing: &Typing) -> bool {
        let users = lock(&self.users);
        members(typing.conversation).any(|member| member != typing.user && users.contains_key(&member))
    }

    fn tell_typing(&self, typing: &Typing) {
        let (users, mut encoded) = (lock(&self.users), None);
        for member in members(typing.conversation).filter(|member| *member != typing.user) {
            for device in users.get(&member).into_iter().flatten() {
                let frame = encoded.get_or_insert_with(|| frame::typing(typing));
                device.mailbox.push(Item::Signal(frame.clone()));
            }
        }
    }
}
