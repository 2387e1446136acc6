//! A long history that nobody waits for: conversations that lie in an embedded log from the start, and readers
//! who know a part of them.

use std::path::Path;
use std::time::Instant;

use chatd::cli::bench::client::Client;
use chatd::domain::{
    ClientId, Content, ConversationId, MessageBody, MessageId, Record, RecordBody, Seq, Timestamp, UserId,
};
use chatd::pipeline::embedded::{EmbeddedLog, EmbeddedLogSettings};
use chatd::pipeline::partitioner::partition_of;
use chatd::pipeline::{Entry, EventLog, record};
use serde_json::{Value, json};

use crate::history::{self, Row};
use crate::node::PATIENCE;
use crate::support;

/// Conversations of the archive.
const CONVERSATIONS: i64 = 50;
/// Appends on their way at once.
const WINDOW: usize = 5_000;

/// What was written so far: every conversation has the same number of messages.
pub struct Archive {
    written: i64,
}

impl Archive {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { written: 0 }
    }

    /// The two of a conversation by its number: who writes, and who reads.
    pub fn people(number: i64) -> (i64, i64) {
        (10_000 + number, 20_000 + number)
    }

    /// A conversation by its number.
    pub fn conversation(number: i64) -> ConversationId {
        let (writer, reader) = Self::people(number);
        ConversationId::dm(UserId::new(writer).unwrap(), UserId::new(reader).unwrap()).unwrap()
    }

    /// All of them.
    pub fn numbers() -> std::ops::Range<i64> {
        0..CONVERSATIONS
    }

    /// Messages of each conversation.
    pub fn length(&self) -> i64 {
        self.written
    }

    /// Messages in all.
    pub fn events(&self) -> i64 {
        self.written * CONVERSATIONS
    }

    /// The nth message of a conversation as it will be read.
    pub fn row(number: i64, n: i64) -> Row {
        let Record { id, body: RecordBody::Message(message), .. } = record_of(number, n) else {
            unreachable!("messages only")
        };
        Row { seq: Seq(n), id, content: message.content.as_str().to_owned() }
    }

    /// Writes on into the log of a server that does not run, until there are so many in all.
    pub async fn write_until(&mut self, events: i64, data: &Path) {
        std::fs::create_dir_all(data).unwrap();
        let path = data.join("log.db");
        let log = EmbeddedLog::open(&EmbeddedLogSettings { path, ..EmbeddedLogSettings::default() }).unwrap();
        let partitions = log.identity().partitions;
        let mut waiting = Vec::new();
        while self.events() < events {
            self.written += 1;
            for number in Self::numbers() {
                let record = record_of(number, self.written);
                let (key, value) = (record.conversation, record::encode(&record));
                let entry = Entry { partition: partition_of(key, partitions), key, value };
                waiting.push(log.append(entry, log.generation()));
            }
            if waiting.len() >= WINDOW {
                durable(&mut waiting).await;
            }
        }
        durable(&mut waiting).await;
        EventLog::close(&log).await;
    }

    /// Waits until all of it is history.
    pub async fn until_stored(&self, address: &str) {
        let began = Instant::now();
        for number in Self::numbers() {
            let (writer, _) = Self::people(number);
            let conversation = Self::conversation(number);
            let path = format!("/v1/conversations/{conversation}/events?after={}&limit=1", self.written - 1);
            while history::get(address, &path, writer).await.1["events"].as_array().is_none_or(Vec::is_empty)
            {
                assert!(began.elapsed() < PATIENCE, "{conversation} is not history");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }

    /// What REST tells of a conversation is what was written.
    pub async fn assert_told(&self, number: i64, address: &str) {
        let token = support::token(Self::people(number).0);
        let told = history::read(address, Self::conversation(number), &token).await;
        let written: Vec<Row> = (1..=self.written).map(|n| Self::row(number, n)).collect();
        assert!(told == written, "{number}: {} rows told, {} written", told.len(), written.len());
    }
}

async fn durable(waiting: &mut Vec<chatd::pipeline::Appending>) {
    for appending in waiting.drain(..) {
        appending.await.unwrap();
    }
}

fn record_of(number: i64, n: i64) -> Record {
    let (writer, _) = Archive::people(number);
    let (conversation, from) = (Archive::conversation(number), UserId::new(writer).unwrap());
    let client_id = ClientId::new(format!("archive-{n}")).unwrap();
    let content =
        format!("{n} of {number}, and some more words so that it is as long as messages are: größer.");
    Record {
        id: MessageId::derive(conversation, from, &client_id),
        client_id,
        conversation,
        from,
        at: Timestamp(1_700_000_000_000 + n),
        body: RecordBody::Message(MessageBody {
            content: Content::new(content).unwrap(),
            data: None,
            reply_to: None,
        }),
    }
}

/// What a device gets that comes back: frames up to and with `resumed`, and the cursor in that.
pub struct Resumed {
    pub frames: Vec<Value>,
    pub cursor: String,
}

impl Resumed {
    /// A device opens a socket, resumes with what it has, and goes again.
    pub async fn at(address: &str, user: i64, cursor: Option<&str>) -> Self {
        let url = format!("ws://{address}/ws?token={}", support::token(user));
        let mut client = Client::connect(&url, &[]).await.unwrap();
        client.send_json(&json!({"type": "resume", "cursor": cursor})).await.unwrap();
        let mut frames = Vec::new();
        loop {
            let frame = tokio::time::timeout(PATIENCE, client.recv_json()).await.unwrap().unwrap();
            match frame["type"].as_str().unwrap() {
                "hello" | "cursor" => {}
                "resumed" => {
                    let cursor = frame["cursor"].as_str().unwrap().to_owned();
                    frames.push(frame);
                    return Self { frames, cursor };
                }
                _ => frames.push(frame),
            }
        }
    }

    /// The messages among them.
    pub fn messages(&self) -> Vec<Row> {
        self.frames.iter().filter(|frame| frame["type"] == "message").map(history::row).collect()
    }

    /// All of it but cursors, which say the same in other words.
    pub fn without_cursors(mut self) -> Vec<Value> {
        for frame in &mut self.frames {
            frame.as_object_mut().unwrap().remove("cursor");
        }
        self.frames
    }
}
