//! Whether SQLite's write-ahead log is whole.
//!
//! SQLite reads a WAL up to the first frame whose checksum is wrong and takes the rest for an unfinished
//! write. That is right after a power cut, and loses what was acknowledged when a frame in the middle has gone
//! bad. The two can be told apart: each of our commits is synced, so at most one transaction can be unfinished.
//! Where frames of the same WAL lie beyond a whole broken transaction, what broke had been durable.
//! (Damage within the very last transaction looks like an unfinished write, and cannot be seen.)
//!
//! The format is <https://www.sqlite.org/fileformat2.html#walformat>.

use std::collections::HashSet;
use std::io::{self, Read};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;

/// What a WAL is found to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Whole, with the newest content of these pages of the database (numbered from 1).
    Whole(HashSet<u32>),
    /// Something that was durable is lost.
    Damaged(&'static str),
}

/// Reads a WAL from its first byte.
pub(super) fn check(mut wal: impl Read) -> io::Result<Verdict> {
    let mut header = [0; HEADER];
    if !fill(&mut wal, &mut header)? || header == [0; HEADER] {
        return Ok(Verdict::Whole(HashSet::new()));
    }
    let big_endian = match word(&header, 0) {
        MAGIC_LITTLE => false,
        MAGIC_BIG => true,
        _ => return Ok(Verdict::Damaged("its write-ahead log does not begin like one")),
    };
    let page_size = word(&header, 8);
    let mut sum = Checksum { big_endian, state: (0, 0) };
    sum.add(&header[..24]);
    if sum.state != (word(&header, 24), word(&header, 28))
        || !page_size.is_power_of_two()
        || !(512..=65536).contains(&page_size)
    {
        return Ok(Verdict::Damaged("the head of its write-ahead log is broken"));
    }

    let salts = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER + page_size as usize];
    let (mut committed, mut open) = (HashSet::new(), Vec::new());
    let (mut chained, mut broken_commit) = (true, false);
    while fill(&mut wal, &mut frame)? {
        let ours = &frame[8..16] == salts;
        if chained && ours {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER..]);
        }
        chained = chained && ours && sum.state == (word(&frame, 16), word(&frame, 20));
        let commits = word(&frame, 4) != 0;
        if chained {
            open.push(word(&frame, 0));
            if commits {
                committed.extend(open.drain(..));
            }
        } else if ours && broken_commit {
            return Ok(Verdict::Damaged("its write-ahead log is broken in the middle"));
        } else {
            broken_commit |= ours && commits;
        }
    }
    Ok(Verdict::Whole(committed))
}

/// Reads until `buffer` is full; false where the input ends before.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The big-endian number at `at`; all numbers of a WAL but those that are summed are big-endian.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

/// The cumulative checksum of the format's section 4.2.
struct Checksum {
    big_endian: bool,
    state: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let number = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let (mut a, mut b) = self.state;
        for pair in bytes.chunks_exact(8) {
            a = a.wrapping_add(number([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(b);
            b = b.wrapping_add(number([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(a);
        }
        self.state = (a, b);
    }
}
