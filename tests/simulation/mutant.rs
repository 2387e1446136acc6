//! Seeded bugs, each a switch in a simulated port or in the device model. The checker has to find every one.

/// A seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The fence does not compare the epoch.
    FenceIgnoresEpoch,
    /// The fence does not compare the offset.
    FenceIgnoresOffset,
    /// Ids that are stored already are stored again.
    KeepsDuplicates,
    /// Only the first half of a batch is written, yet the offset moves past all of it.
    HalfBatch,
    /// `at` of a new event is not compared with the one before.
    ForgetsTime,
    /// The offset moves in another transaction than the rows.
    OffsetFirst,
    /// The log drops what is applied, though a loss of power can take it back.
    TrimsApplied,
    /// Nodes are told before the COMMIT.
    ToldBeforeCommit,
    /// Publications carry a `prev` that every node takes for its own.
    HoleHidden,
    /// A scan leaves rejections out.
    ScanSkipsRejections,
    /// A scan says that it came to the end when it did not.
    ScanOverstates,
    /// Reads come from a replica that lags.
    StaleReads,
    /// What a device missed is read up to now, not up to the frontier asked for.
    BeyondUntil,
    /// A cursor confirms named gaps too.
    CursorConfirmsGaps,
    /// `delivered` moves over a hole.
    DeliveredSkips,
    /// Cursors of members can move back.
    DeliveredBack,
    /// A node neither scans after a hole nor after silence.
    NeverRepairs,
    /// A socket is attached after its resume has read how far the node is.
    AttachLate,
    /// A user is registered after the resume has read how far storage is.
    RegistersLate,
    /// A socket does not drop what it was given by the resume.
    GivesTwice,
    /// The frontier of the cursor is read after the mailbox was emptied.
    CursorAhead,
    /// A mailbox that overflowed is taken for an empty one.
    OverflowIgnored,
    /// A mailbox that was emptied in part is taken for empty.
    TakenForEmpty,
    /// A pong confirms what was written after its ping too.
    PongConfirmsAll,
    /// What was rejected for what it refers to is judged anew when it is tried again.
    ForgetsRejections,
    /// A message that was deleted in an earlier batch can be changed still.
    ChangesTombstones,
    /// Messages and edits are read with the words that they came with.
    ReadsOldWords,
    /// A page of messages confirms the changes between them, whether or not it shows their messages.
    PageConfirmsHoles,
}

/// What breaks where something does not reach a device: whichever shows first.
const LOST: &[&str] = &["order", "complete", "rejected", "delivered"];

/// All of them, and the rules of which one finds it.
pub const ALL: [(Mutant, &[&str]); 28] = [
    (Mutant::FenceIgnoresEpoch, &["fence"]),
    (Mutant::FenceIgnoresOffset, &["fate", "order", "twice"]),
    (Mutant::KeepsDuplicates, &["fate"]),
    (Mutant::HalfBatch, &["fate", "time", "position"]),
    (Mutant::ForgetsTime, &["time"]),
    (Mutant::OffsetFirst, &["fate", "time", "position"]),
    (Mutant::TrimsApplied, &["caught up"]),
    (Mutant::ToldBeforeCommit, &["phantom", "order", "twice", "delivered"]),
    (Mutant::HoleHidden, LOST),
    (Mutant::ScanSkipsRejections, &["rejected"]),
    (Mutant::ScanOverstates, LOST),
    (Mutant::StaleReads, LOST),
    (Mutant::BeyondUntil, &["twice"]),
    (Mutant::CursorConfirmsGaps, &["delivered"]),
    (Mutant::DeliveredSkips, &["delivered"]),
    (Mutant::DeliveredBack, &["delivered back"]),
    (Mutant::NeverRepairs, &["caught up"]),
    (Mutant::AttachLate, LOST),
    (Mutant::RegistersLate, LOST),
    (Mutant::GivesTwice, &["twice", "confirmed"]),
    (Mutant::CursorAhead, LOST),
    (Mutant::OverflowIgnored, LOST),
    (Mutant::TakenForEmpty, LOST),
    (Mutant::PongConfirmsAll, &["delivered"]),
    (Mutant::ForgetsRejections, &["fate"]),
    (Mutant::ChangesTombstones, &["fate"]),
    (Mutant::ReadsOldWords, &["erased"]),
    (Mutant::PageConfirmsHoles, &["delivered"]),
];
