//! One person at one device: keeps a socket open, resumes with the cursor, sends again in the old order what
//! has no answer, and writes down everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatd::cli::bench::checker::Device;
use chatd::cli::bench::client::Client;
use chatd::cli::bench::frame::{self, FrameReader};
use chatd::domain::{ClientId, ConversationId, MessageId, Seq, UserId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::history;
use crate::judge::Seen;
use crate::load::{Farewell, World, device};
use crate::support;

/// The pause before another try to connect.
const RECONNECT: Duration = Duration::from_millis(20);
/// The pause before a message is tried again whose fate is open.
const RETRY: Duration = Duration::from_millis(100);

/// A message without its `accepted`.
struct Pending {
    client_id: String,
    id: MessageId,
    content: String,
    failed: bool,
}

/// One person.
pub struct Person {
    user: UserId,
    device: Device,
    /// What the server knows the device as, and what its messages' ids begin with.
    name: String,
    conversation: ConversationId,
    peer: UserId,
    token: String,
    written: u32,
    pending: VecDeque<Pending>,
    cursor: Option<String>,
    next_at: Instant,
    retry_at: Option<Instant>,
    /// Which server is tried next.
    turn: usize,
}

/// What the reading half of a socket found.
enum Incoming {
    Text(String),
    Ping(Vec<u8>),
    Close(u16),
}

/// A socket of one server.
struct Socket {
    write: OwnedWriteHalf,
    epoch: u32,
    closing: Option<Value>,
}

impl Person {
    /// Somebody who begins a while after the others, so that not all write at the same moment.
    pub fn new(user: UserId, nth: u32, peer: UserId, begins: Duration) -> Self {
        Self {
            user,
            device: device(user, nth),
            name: format!("d{nth}"),
            conversation: ConversationId::dm(user, peer).unwrap(),
            peer,
            token: support::token(user.get()),
            written: 0,
            pending: VecDeque::new(),
            cursor: None,
            next_at: Instant::now() + begins,
            retry_at: None,
            // Pairs and devices of one person are on different servers where there are several.
            turn: usize::try_from(user.get()).unwrap() + nth as usize,
        }
    }

    /// Goes on until everybody goes home.
    pub async fn live(mut self, world: Arc<World>) {
        while !world.is_over() {
            let epoch = world.epoch();
            let bearer = format!("Bearer {}", self.token);
            let url = format!("ws://{}/ws?device={}", world.address(self.turn), self.name);
            self.turn += 1;
            match Client::connect(&url, &[("Authorization", &bearer)]).await {
                // Else nobody knows which of two servers this is.
                Ok(client) if epoch == world.epoch() => self.talk(&world, client, epoch).await,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(RECONNECT).await,
            }
        }
    }

    /// One socket from its begin to its end.
    async fn talk(&mut self, world: &World, client: Client, epoch: u32) {
        let (read, write, frames) = client.into_parts();
        let (found, mut incoming) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_frames(read, frames, found));
        let mut socket = Socket { write, epoch, closing: None };
        world.record().see(Seen::Connected(self.device));
        let code = match self.begin(world, &mut socket).await {
            Ok(()) => self.go_on(world, &mut socket, &mut incoming).await,
            Err(_) => 1006,
        };
        // What came before the end counts: it is in the cursor that the next socket begins with, or not.
        while let Some(last) = incoming.recv().await {
            if let Incoming::Text(text) = last {
                self.hear(world, &mut socket, &text);
            }
        }
        reader.await.unwrap();
        world.record().farewells.push(Farewell { closing: socket.closing, code });
    }

    /// Catches up, and sends again what has no answer.
    async fn begin(&mut self, world: &World, socket: &mut Socket) -> std::io::Result<()> {
        let resume = match &self.cursor {
            Some(cursor) => json!({"type": "resume", "cursor": cursor}),
            None => json!({"type": "resume"}),
        };
        socket.send(&resume).await?;
        self.send_again(world, socket).await
    }

    async fn send_again(&mut self, world: &World, socket: &mut Socket) -> std::io::Result<()> {
        self.retry_at = None;
        for place in 0..self.pending.len() {
            self.pending[place].failed = false;
            self.send(world, socket, place).await?;
        }
        Ok(())
    }

    async fn send(&self, world: &World, socket: &mut Socket, place: usize) -> std::io::Result<()> {
        let Pending { client_id, id, content, .. } = &self.pending[place];
        world.record().see(Seen::Sent(self.device, self.conversation, *id));
        let to = self.peer.get();
        socket.send(&json!({"type": "send", "client_id": client_id, "to": to, "content": content})).await
    }

    /// Sends and listens until the socket ends; its close code.
    async fn go_on(
        &mut self,
        world: &World,
        socket: &mut Socket,
        incoming: &mut mpsc::UnboundedReceiver<Incoming>,
    ) -> u16 {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            let may_write = !world.is_quiet()
                && self.retry_at.is_none()
                && self.pending.len() < world.pace.window
                && self.pending.iter().all(|pending| !pending.failed);
            let wrote = tokio::select! {
                found = incoming.recv() => match found {
                    Some(Incoming::Text(text)) => {
                        self.hear(world, socket, &text);
                        Ok(())
                    }
                    Some(Incoming::Ping(payload)) => socket.send_frame(frame::PONG, &payload).await,
                    Some(Incoming::Close(code)) => {
                        // Whoever is told to go says so, and goes.
                        let _ = socket.send_frame(frame::CLOSE, &code.to_be_bytes()).await;
                        let _ = socket.write.shutdown().await;
                        return code;
                    }
                    None => return 1006,
                },
                () = tokio::time::sleep_until(self.next_at.into()), if may_write => {
                    self.write(world, socket).await
                }
                _ = look.tick() => {
                    if world.is_over() {
                        let _ = socket.send_frame(frame::CLOSE, &1000u16.to_be_bytes()).await;
                        let _ = socket.write.shutdown().await;
                        return 1000;
                    }
                    match self.retry_at {
                        Some(at) if at <= Instant::now() => self.send_again(world, socket).await,
                        _ => Ok(()),
                    }
                }
            };
            if wrote.is_err() {
                return 1006;
            }
        }
    }

    /// A new message, unless all is to be quiet.
    async fn write(&mut self, world: &World, socket: &mut Socket) -> std::io::Result<()> {
        self.next_at = self.next_at.max(Instant::now() - world.pace.period) + world.pace.period;
        let client_id = format!("{}.{}", self.name, self.written + 1);
        let mut content = format!("{} of {} on {} ", self.written + 1, self.user, self.name);
        content.extend(std::iter::repeat_n('.', world.pace.bytes.saturating_sub(content.len())));
        // A letter at the end shows that nothing is cut off.
        content.push('x');
        let id = MessageId::derive(self.conversation, self.user, &ClientId::new(client_id.clone()).unwrap());
        if !world.write(id, &content) {
            return Ok(());
        }
        self.written += 1;
        self.pending.push_back(Pending { client_id, id, content, failed: false });
        self.send(world, socket, self.pending.len() - 1).await
    }

    /// A frame of the server.
    fn hear(&mut self, world: &World, socket: &mut Socket, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap();
        let mut record = world.record();
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
            record.cursors.insert(self.device, cursor.to_owned());
        }
        match frame["type"].as_str().unwrap() {
            "hello" => *record.greeted.entry(socket.epoch).or_default() += 1,
            "accepted" => {
                let id = MessageId(frame["id"].as_str().unwrap().parse().unwrap());
                record.see(Seen::Accepted(id, frame["seq"].as_i64().map(Seq)));
                record.accepted.entry(socket.epoch).or_insert((0, Instant::now())).0 += 1;
                self.pending.retain(|pending| pending.id != id);
            }
            "error" => {
                let code = frame["code"].as_str().unwrap().to_owned();
                let client_id = frame["client_id"].as_str().unwrap_or_default();
                match self.pending.iter_mut().find(|pending| pending.client_id == client_id) {
                    Some(pending) if ["unavailable", "overloaded"].contains(&code.as_str()) => {
                        pending.failed = true;
                        record.see(Seen::Failed(pending.id));
                    }
                    _ if code == "unavailable" && client_id.is_empty() => {}
                    _ => record.wrong.push(format!("{} got {frame}", self.user)),
                }
                *record.errors.entry(code).or_default() += 1;
            }
            "rejected" => {
                let id = MessageId(frame["id"].as_str().unwrap().parse().unwrap());
                record.see(Seen::Rejected(id));
            }
            "message" => {
                let row = history::row(&frame);
                let conversation = frame["conversation"].as_str().unwrap().parse().unwrap();
                record.see(Seen::Message(self.device, conversation, row.seq, row.id));
                if !record.is_as_sent(row.id, &row.content) {
                    record.wrong.push(format!("{} got {frame}, which nobody wrote", self.user));
                }
            }
            "gap" => {
                let conversation = frame["conversation"].as_str().unwrap().parse().unwrap();
                let seq = |field: &str| Seq(frame[field].as_i64().unwrap());
                record.see(Seen::Gap(self.device, conversation, seq("from"), seq("to")));
            }
            "closing" => socket.closing = Some(frame),
            "resumed" | "cursor" | "receipt" | "pong" => {}
            _ => record.wrong.push(format!("{} got {frame}", self.user)),
        }
        drop(record);
        // What failed is sent again once nothing is on its way, so that it keeps its order.
        let all_failed = !self.pending.is_empty() && self.pending.iter().all(|pending| pending.failed);
        if all_failed && self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }
}

impl Socket {
    async fn send(&mut self, value: &Value) -> std::io::Result<()> {
        self.send_frame(frame::TEXT, value.to_string().as_bytes()).await
    }

    async fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        frame::encode(&mut bytes, opcode, payload, rand::random());
        self.write.write_all(&bytes).await
    }
}

/// Reads until the socket ends.
async fn read_frames(
    mut read: OwnedReadHalf,
    mut frames: FrameReader,
    found: mpsc::UnboundedSender<Incoming>,
) {
    loop {
        loop {
            let incoming = match frames.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => match frame.opcode {
                    frame::TEXT => Incoming::Text(String::from_utf8(frame.payload.to_vec()).unwrap()),
                    frame::PING => Incoming::Ping(frame.payload.to_vec()),
                    frame::CLOSE => Incoming::Close(frame.close_reason().0),
                    _ => continue,
                },
                Err(error) => panic!("the server sent a broken frame: {error}"),
            };
            // Whoever listens goes only with the socket.
            let _ = found.send(incoming);
        }
        match read.read_buf(frames.buffer()).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
