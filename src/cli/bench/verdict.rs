//! What the checker finds, as counts and a few examples.

use std::fmt;

/// Examples kept in words; the counts go on.
const EXAMPLES_MAX: usize = 8;

/// Ways to break the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Accepted, and a device that had to get it did not.
    Lost,
    /// A socket got a seq twice.
    Duplicated,
    /// A socket got a seq after a higher one.
    OutOfOrder,
    /// A socket went on after leaving out seqs that no `gap` named.
    Skipped,
    /// A device lacks a seq between two that it holds.
    Hole,
    /// One message under two seqs.
    TwoSeqs,
    /// Two messages under one seq: devices disagree on the order.
    TwoIds,
    /// Sends of one device to one conversation were stored in another order than they were sent.
    SendsReordered,
    /// More answers than sends.
    AnsweredTwice,
    /// Neither `accepted` nor `error` came.
    Unanswered,
    /// `rejected`, and yet in the history.
    RejectedYetStored,
    /// A message that nobody sent here; it may be one of an earlier run, so it is no fault by itself.
    Foreign,
}

impl Fault {
    /// All of them, in the order they are printed.
    pub const ALL: [Self; 12] = [
        Self::Lost,
        Self::Duplicated,
        Self::OutOfOrder,
        Self::Skipped,
        Self::Hole,
        Self::TwoSeqs,
        Self::TwoIds,
        Self::SendsReordered,
        Self::AnsweredTwice,
        Self::Unanswered,
        Self::RejectedYetStored,
        Self::Foreign,
    ];

    /// Its name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::OutOfOrder => "out_of_order",
            Self::Skipped => "skipped",
            Self::Hole => "holes",
            Self::TwoSeqs => "two_seqs",
            Self::TwoIds => "two_ids",
            Self::SendsReordered => "sends_reordered",
            Self::AnsweredTwice => "answered_twice",
            Self::Unanswered => "unanswered",
            Self::RejectedYetStored => "rejected_yet_stored",
            Self::Foreign => "foreign",
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Messages sent, retries not counted.
    pub sent: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Accepted messages that were rejected afterwards.
    pub rejected: u64,
    /// Answers that were errors.
    pub failed: u64,
    /// Copies that were new to their device.
    pub delivered: u64,
    /// Events repeated after a reconnect, as the protocol allows.
    pub repeated: u64,
    /// Accepted messages that a device knows by a `gap` only.
    pub unfetched: u64,
    /// The first few faults in words.
    pub examples: Vec<String>,
    faults: [u64; Fault::ALL.len()],
}

impl Verdict {
    /// How often something was found.
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// Nothing is wrong. Foreign messages and errors are not wrong by themselves: look at them separately.
    pub fn is_clean(&self) -> bool {
        Fault::ALL.iter().all(|fault| *fault == Fault::Foreign || self.count(*fault) == 0)
    }

    pub(super) fn fault(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        self.faults(fault, 1, example);
    }

    pub(super) fn faults(&mut self, fault: Fault, count: u64, example: impl FnOnce() -> String) {
        self.faults[fault as usize] += count;
        if count > 0 && fault != Fault::Foreign && self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{}: {}", fault.name(), example()));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, accepted, rejected, failed, delivered, .. } = self;
        write!(f, "sent {sent}, accepted {accepted}, delivered {delivered}, rejected {rejected}, ")?;
        write!(f, "errors {failed}")?;
        for fault in Fault::ALL.into_iter().filter(|fault| self.count(*fault) > 0) {
            write!(f, ", {} {}", fault.name(), self.count(fault))?;
        }
        self.examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}
