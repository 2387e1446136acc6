//! The frames of the Node reference. It numbers nothing, so that what a receiver gets is numbered here, in the order
//! in which it comes: then the checker finds what is lost, repeated or out of order as it does with chatd.

use std::time::Instant;

use serde::Deserialize;

use super::load::{Load, Partner};
use crate::domain::{ClientId, ConversationId, MessageId, Seq, UserId};

/// The fields of a frame that the driver looks at. `client_id` is the driver's own and has nothing to unescape.
#[derive(Debug, Deserialize)]
struct Inbound<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    client_id: Option<&'a str>,
}

/// A frame came to a socket that has had `arrivals` messages so far.
pub(super) fn take(load: &mut Load, socket: usize, partner: &Partner, payload: &[u8], now: Instant) {
    let Ok(frame) = serde_json::from_slice::<Inbound<'_>>(payload) else {
        load.counts.unreadable += 1;
        return;
    };
    let id = |conversation, sender| message_id(&frame, conversation, sender);
    match frame.kind {
        "accepted" => match id(partner.outgoing, partner.user) {
            Some(id) => load.take_accepted(id, None, now),
            None => load.counts.unreadable += 1,
        },
        "message" => match id(partner.incoming, partner.to) {
            Some(id) => {
                let seq = load.next_arrival(socket);
                load.take_message(socket, (partner.incoming, Seq(seq), id), now);
            }
            None => load.counts.unreadable += 1,
        },
        "error" => {
            load.note_error("error");
            id(partner.outgoing, partner.user).into_iter().for_each(|id| load.checker.failed(id));
        }
        _ => {}
    }
}

fn message_id(frame: &Inbound<'_>, conversation: ConversationId, sender: UserId) -> Option<MessageId> {
    let client_id = ClientId::new(frame.client_id?).ok()?;
    Some(MessageId::derive(conversation, sender, &client_id))
}
