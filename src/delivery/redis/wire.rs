//! What owners and nodes say to each other through Redis: small, binary, with its version in front.
//!
//! ```text
//! message      = version kind body                             a byte each for version and kind
//! publications = generation { log partition prev length count { outcome } }
//! receipts     = { conversation user delivered read }
//! presence     = { user views }                                a byte for views
//! typing       = { conversation user active }                  a byte for active
//! ```
//!
//! Numbers are LEB128, those that may be below zero as zigzag; `generation` has eight bytes, 0 for a message that
//! leaves nothing out. An outcome is written once and copied into the messages of the nodes that it concerns. A
//! message of another version is not read: the node finds a hole, and reads storage.

mod numbers;
mod outcome;

use bytes::{BufMut, Bytes, BytesMut};

use self::numbers::{Reader, put_signed, put_unsigned};
use super::super::{Hint, Publication, Typing};
use crate::domain::{LogNumber, Offset, Outcome, Partition, Seq, UserId};
use crate::redis::Generation;
use crate::storage::Receipt;

/// The version that this release writes, and the only one that it reads.
const VERSION: u8 = 1;
const PUBLICATIONS: u8 = 1;
const RECEIPTS: u8 = 2;
const TYPING: u8 = 3;
const PRESENCE: u8 = 4;
/// A message is cut where it has grown beyond this, in bytes: a larger one has one outcome, of 150 KiB at most.
pub(super) const MESSAGE_BYTES: usize = 256 * 1024;

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Another release wrote it.
    #[error("a message of version {0}, which this release does not read")]
    Version(u8),
    /// It breaks off, or holds what cannot be.
    #[error("a message that is damaged")]
    Damaged,
}

/// What a node is told.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// By owners of partitions.
    Publications {
        /// Whom the publications were looked up for; none where they leave nothing out.
        generation: Option<Generation>,
        /// In order.
        publications: Vec<Publication>,
    },
    /// By nodes.
    Receipts(Vec<Receipt>),
    /// By nodes.
    Typing(Vec<Typing>),
    /// By nodes.
    Presence(Vec<Hint>),
}

/// Publications with each outcome written once.
pub(super) struct Written {
    bytes: BytesMut,
    publications: Vec<Header>,
    outcomes: Vec<Span>,
}

struct Header {
    log: LogNumber,
    partition: Partition,
    prev: Offset,
    through: Offset,
    /// How many of the outcomes are its own.
    count: usize,
}

/// An outcome among the bytes.
struct Span {
    offset: Offset,
    end: usize,
}

impl Written {
    pub(super) fn new(publications: &[Publication]) -> Self {
        let mut written = Self { bytes: BytesMut::new(), publications: Vec::new(), outcomes: Vec::new() };
        for publication in publications {
            for outcome in publication.outcomes.iter() {
                outcome::put(&mut written.bytes, outcome, publication.prev);
                let offset = outcome.position().offset;
                written.outcomes.push(Span { offset, end: written.bytes.len() });
            }
            let Publication { log, partition, prev, through, .. } = *publication;
            written.publications.push(Header {
                log,
                partition,
                prev,
                through,
                count: publication.outcomes.len(),
            });
        }
        written
    }

    /// The messages for a node that is told the outcomes that `concerns` names by their number, and of everything
    /// how far it is.
    pub(super) fn messages(
        &self,
        generation: Option<Generation>,
        concerns: impl Fn(usize) -> bool,
    ) -> Vec<Bytes> {
        let mut messages = Messages { generation, done: Vec::new(), open: begin(generation) };
        let mut first = 0;
        for header in &self.publications {
            let mut part = Part { prev: header.prev, count: 0, bytes: BytesMut::new() };
            for number in first..first + header.count {
                if !concerns(number) {
                    continue;
                }
                let Some((from, span)) = self.span(number) else { continue };
                let outcome = self.bytes.get(from..span.end).unwrap_or_default();
                // The outcome says how far it is from where its whole publication begins.
                part.bytes.extend_from_slice(outcome);
                part.count += 1;
                if messages.open.len() + part.bytes.len() >= MESSAGE_BYTES {
                    let next = Part { prev: span.offset, count: 0, bytes: BytesMut::new() };
                    messages.put(header, std::mem::replace(&mut part, next), span.offset);
                    messages.cut();
                }
            }
            first += header.count;
            // Also where nothing is left after a cut: the end may lie beyond the last outcome.
            messages.put(header, part, header.through);
        }
        messages.cut();
        messages.done
    }

    fn span(&self, number: usize) -> Option<(usize, &Span)> {
        let from = match number.checked_sub(1) {
            Some(before) => self.outcomes.get(before)?.end,
            None => 0,
        };
        Some((from, self.outcomes.get(number)?))
    }
}

/// Outcomes of a publication that go into one message.
struct Part {
    prev: Offset,
    count: u64,
    bytes: BytesMut,
}

struct Messages {
    generation: Option<Generation>,
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Messages {
    fn put(&mut self, header: &Header, part: Part, through: Offset) {
        put_unsigned(&mut self.open, u64::from(header.log.0.unsigned_abs()));
        put_unsigned(&mut self.open, u64::from(header.partition));
        put_signed(&mut self.open, header.prev);
        put_unsigned(&mut self.open, part.prev.abs_diff(header.prev));
        put_unsigned(&mut self.open, through.abs_diff(part.prev));
        put_unsigned(&mut self.open, part.count);
        self.open.extend_from_slice(&part.bytes);
    }

    fn cut(&mut self) {
        if self.open.len() > BEGINNING {
            self.done.push(std::mem::replace(&mut self.open, begin(self.generation)).freeze());
        }
    }
}

/// Bytes before the first publication.
const BEGINNING: usize = 10;

fn begin(generation: Option<Generation>) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(1024);
    bytes.put_slice(&[VERSION, PUBLICATIONS]);
    bytes.put_u64_le(generation.map_or(0, Generation::get));
    bytes
}

/// Receipts as messages; `concerns` says which go in, by their number.
pub(super) fn receipts(receipts: &[Receipt], concerns: impl Fn(usize) -> bool) -> Vec<Bytes> {
    list(RECEIPTS, receipts, concerns, |open, receipt| {
        outcome::put_conversation(open, receipt.conversation);
        put_signed(open, receipt.user.get());
        put_signed(open, receipt.delivered.0);
        put_signed(open, receipt.read.0);
    })
}

/// Typing as messages, likewise.
pub(super) fn typing(typing: &[Typing], concerns: impl Fn(usize) -> bool) -> Vec<Bytes> {
    list(TYPING, typing, concerns, |open, one| {
        outcome::put_conversation(open, one.conversation);
        put_signed(open, one.user.get());
        open.put_u8(u8::from(one.active));
    })
}

/// Hints as messages.
pub(super) fn presence(hints: &[Hint]) -> Vec<Bytes> {
    list(
        PRESENCE,
        hints,
        |_| true,
        |open, hint| {
            put_signed(open, hint.user.get());
            open.put_u8(u8::from(hint.is_about_views));
        },
    )
}

/// Messages of one thing after the other.
fn list<T>(
    kind: u8,
    all: &[T],
    concerns: impl Fn(usize) -> bool,
    put: impl Fn(&mut BytesMut, &T),
) -> Vec<Bytes> {
    let mut done = Vec::new();
    let mut open = BytesMut::new();
    for (number, one) in all.iter().enumerate() {
        if !concerns(number) {
            continue;
        }
        if open.is_empty() {
            open.put_slice(&[VERSION, kind]);
        }
        put(&mut open, one);
        if open.len() >= MESSAGE_BYTES {
            done.push(std::mem::take(&mut open).freeze());
        }
    }
    if !open.is_empty() {
        done.push(open.freeze());
    }
    done
}

/// Reads a message.
pub(super) fn read(message: &[u8]) -> Result<Told, Unreadable> {
    let mut reader = Reader::new(message);
    match (reader.byte()?, reader.byte()?) {
        (VERSION, PUBLICATIONS) => {
            let generation = Generation::new(reader.eight()?);
            let mut publications = Vec::new();
            while !reader.is_empty() {
                publications.push(publication(&mut reader)?);
            }
            Ok(Told::Publications { generation, publications })
        }
        (VERSION, RECEIPTS) => {
            let receipt = |reader: &mut Reader<'_>| {
                Ok(Receipt {
                    conversation: outcome::conversation(reader)?,
                    user: user(reader)?,
                    delivered: Seq(reader.signed()?),
                    read: Seq(reader.signed()?),
                })
            };
            all(reader, receipt).map(Told::Receipts)
        }
        (VERSION, TYPING) => {
            let typing = |reader: &mut Reader<'_>| {
                let conversation = outcome::conversation(reader)?;
                Ok(Typing { conversation, user: user(reader)?, active: reader.byte()? != 0 })
            };
            all(reader, typing).map(Told::Typing)
        }
        (VERSION, PRESENCE) => {
            let hint = |reader: &mut Reader<'_>| {
                Ok(Hint { user: user(reader)?, is_about_views: reader.byte()? != 0 })
            };
            all(reader, hint).map(Told::Presence)
        }
        (VERSION, _) => Err(Unreadable::Damaged),
        (version, _) => Err(Unreadable::Version(version)),
    }
}

fn all<T>(
    mut reader: Reader<'_>,
    one: impl Fn(&mut Reader<'_>) -> Result<T, Unreadable>,
) -> Result<Vec<T>, Unreadable> {
    let mut all = Vec::new();
    while !reader.is_empty() {
        all.push(one(&mut reader)?);
    }
    Ok(all)
}

fn user(reader: &mut Reader<'_>) -> Result<UserId, Unreadable> {
    UserId::new(reader.signed()?).map_err(|_| Unreadable::Damaged)
}

fn publication(reader: &mut Reader<'_>) -> Result<Publication, Unreadable> {
    let log = LogNumber(reader.number()?);
    let partition = reader.number()?;
    let whole: Offset = reader.signed()?;
    let prev = whole.checked_add(reader.number()?).ok_or(Unreadable::Damaged)?;
    let through = prev.checked_add(reader.number()?).ok_or(Unreadable::Damaged)?;
    let count: usize = reader.number()?;
    // An outcome has some bytes: no number makes this large.
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(count.min(reader.len()));
    for _ in 0..count {
        outcomes.push(outcome::get(reader, log, partition, whole)?);
    }
    Ok(Publication { log, partition, prev, through, outcomes: outcomes.into() })
}

#[cfg(test)]
mod tests;
