//! From the log to history: the one owner of each partition reads, decides, stores in one transaction, and
//! tells the nodes. The steps and their order are the promise; `tests/simulation` drives them through crashes.
//!
//! Telling may fail, and applying goes on: each publication says where the one before it ended, so a node that
//! was not told finds a hole with the next one or the next beat, and reads storage.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::batch::{Halt, Work, batch_of, bisect, check};
use crate::app::App;
use crate::app::health::FANOUT;
use crate::delivery::Publication;
use crate::domain::{Frontier, LogNumber, Offset, Outcome, Partition};
use crate::pipeline::{FetchLimits, Fetched, LogError};
use crate::storage::{Applied, Batch, Claim, Mark, PartitionBatch, Standstill, StorageError};

/// Records of one transaction at most.
const RECORDS_MAX: usize = 2_000;
/// Bytes of one transaction at most; a record has 70 KiB at most.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a turn did not come to its end. The next one begins by asking storage where the partitions stand.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Storage is away, or the answer to a COMMIT was lost.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The partitions that this process owns, and how far each is.
pub struct Owner {
    log: LogNumber,
    /// In order, so that a schedule of the simulator can be repeated.
    claims: BTreeMap<Partition, Claim>,
    /// What storage knows to be published.
    marked: HashMap<Partition, Offset>,
    /// What a partition that stands still waits for.
    halted: HashMap<Partition, Halt>,
    /// What storage was last told of it, once it was.
    announced: Option<HashMap<Partition, Halt>>,
    /// What was begun last may have happened, or in part: nothing more before storage was asked.
    doubtful: bool,
}

/// What became of works.
#[derive(Debug, Default)]
struct Done {
    stored: usize,
    /// A fence did not match: another owner, or a COMMIT of this one that came late.
    fenced: bool,
}

/// What one turn did, for metrics and pacing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How long storing and publishing took, without the wait for the first record.
    pub took: Duration,
    /// Records read.
    pub records: usize,
    /// Events stored.
    pub stored: usize,
    /// Records durable in the log, but not read yet.
    pub lag: i64,
}

impl Owner {
    /// Takes partitions over, and tells the nodes how far they are.
    pub async fn claim(app: &App, partitions: &[Partition]) -> Result<Self, ApplyError> {
        let claims = app.storage.claim(app.log_number, partitions).await?;
        let halted = check(app.source.as_ref(), &claims).await?;
        let mut owner = Self {
            log: app.log_number,
            claims: BTreeMap::new(),
            marked: HashMap::new(),
            halted,
            announced: None,
            doubtful: false,
        };
        owner.adopt(app, claims).await;
        owner.announce(app).await?;
        Ok(owner)
    }

    /// After an error whose effect is open: reads where the partitions stand. One that has another owner now
    /// is dropped; what a lost COMMIT stored is adopted.
    pub async fn reload(&mut self, app: &App) -> Result<(), ApplyError> {
        self.doubtful = true;
        // Again only when a COMMIT came late, just now; each partition has one under way at most.
        while !self.looked_up(app).await? {}
        self.doubtful = false;
        Ok(())
    }

    /// One reading; false when it was outdated before it was judged.
    async fn looked_up(&mut self, app: &App) -> Result<bool, ApplyError> {
        let partitions = self.partitions();
        let now = app.storage.claims(self.log, &partitions).await?;
        let mine = |claim: &Claim| self.claims.get(&claim.partition).is_some_and(|c| c.epoch == claim.epoch);
        let (kept, lost): (Vec<_>, Vec<_>) = now.into_iter().partition(mine);
        for claim in lost {
            tracing::warn!(partition = claim.partition, "another owner took this partition over");
            self.claims.remove(&claim.partition);
        }
        let halted = check(app.source.as_ref(), &kept).await?;
        if !halted.is_empty() {
            // The log may have been trimmed for a COMMIT that came after the reading: no reason to stand still.
            let again = app.storage.claims(self.log, &self.partitions()).await?;
            let next = |claims: &[Claim]| -> BTreeMap<Partition, Offset> {
                claims.iter().map(|claim| (claim.partition, claim.next_offset)).collect()
            };
            if next(&again) != next(&kept) {
                return Ok(false);
            }
        }
        self.halted = halted;
        self.adopt(app, kept).await;
        self.announce(app).await?;
        Ok(true)
    }

    async fn adopt(&mut self, app: &App, claims: Vec<Claim>) {
        for mut claim in claims {
            self.marked.insert(claim.partition, claim.published);
            // What this process published itself is known better here than in storage.
            if let Some(known) = self.claims.get(&claim.partition) {
                claim.published = claim.published.max(known.published);
            }
            self.claims.insert(claim.partition, claim);
        }
        // What was stored and perhaps not told is a hole for the nodes now.
        self.tell(app, self.beats()).await;
    }

    /// Lets every process know which partitions stand still.
    async fn announce(&mut self, app: &App) -> Result<(), StorageError> {
        if self.announced.as_ref() == Some(&self.halted) {
            return Ok(());
        }
        let mark = |claim: &Claim| Mark {
            partition: claim.partition,
            epoch: claim.epoch,
            value: self.halted.get(&claim.partition).map(Standstill::from),
        };
        let marks: Vec<_> = self.claims.values().map(mark).collect();
        app.storage.mark_standstills(self.log, &marks).await?;
        self.announced = Some(self.halted.clone());
        Ok(())
    }

    /// The partitions owned.
    pub fn partitions(&self) -> Vec<Partition> {
        self.claims.keys().copied().collect()
    }

    /// The partitions that stand still, and why.
    pub fn halted(&self) -> &HashMap<Partition, Halt> {
        &self.halted
    }

    /// Reads what comes next; waits up to `patience` for the first record. May be given up, and called again.
    pub async fn read(&mut self, app: &App, patience: Duration) -> Result<Vec<Fetched>, ApplyError> {
        if self.doubtful {
            self.reload(app).await?;
        }
        let from: Vec<(Partition, Offset)> = self
            .partitions()
            .into_iter()
            .filter(|partition| !self.halted.contains_key(partition))
            .filter_map(|partition| Some((partition, self.claims.get(&partition)?.next_offset)))
            .collect();
        let limits = FetchLimits { records_max: RECORDS_MAX, bytes_max: BYTES_MAX, patience };
        let fetched = app.source.fetch(&from, limits).await;
        // An offset that the log does not hold may be of a partition that has moved on.
        self.doubtful |= fetched.is_err();
        Ok(fetched?)
    }

    /// Applies what was read and publishes it. May be given up too; the next `read` then asks storage first.
    pub async fn work(&mut self, app: &App, fetched: Vec<Fetched>) -> Result<Turn, ApplyError> {
        let mut turn = Turn { records: fetched.iter().map(|f| f.records.len()).sum(), ..Turn::default() };
        turn.lag = fetched.iter().filter_map(|f| Some(f.end - 1 - f.records.last()?.offset)).sum();
        let began = Instant::now();
        self.doubtful = true;
        let done = self.apply(app, fetched.into_iter().map(Work::from).collect()).await?;
        self.doubtful = done.fenced;
        self.announce(app).await?;
        (turn.stored, turn.took) = (done.stored, began.elapsed());
        Ok(turn)
    }

    /// Tells the nodes that this owner is alive, and how far it is; writes down what they have been told.
    /// Returns how far all partitions have been published, those of other owners included.
    pub async fn beat(&mut self, app: &App) -> Result<Frontier, ApplyError> {
        self.tell(app, self.beats()).await;
        Ok(self.release(app).await?)
    }

    /// Writes down how far the nodes have been told.
    pub async fn release(&mut self, app: &App) -> Result<Frontier, StorageError> {
        let moved = |claim: &&Claim| self.marked.get(&claim.partition) != Some(&claim.published);
        let mark =
            |claim: &Claim| Mark { partition: claim.partition, epoch: claim.epoch, value: claim.published };
        let marks: Vec<_> = self.claims.values().filter(moved).map(mark).collect();
        let published = app.storage.mark_published(self.log, &marks).await?;
        self.marked.extend(marks.iter().map(|mark| (mark.partition, mark.value)));
        Ok(published)
    }

    fn beats(&self) -> Vec<Publication> {
        let beat = |claim: &Claim| Publication {
            log: self.log,
            partition: claim.partition,
            prev: claim.next_offset - 1,
            through: claim.next_offset - 1,
            outcomes: Arc::new([]),
        };
        self.claims.values().map(beat).collect()
    }

    /// Tells the nodes; a failure is an alarm, and nothing else.
    async fn tell(&mut self, app: &App, publications: Vec<Publication>) {
        let told: Vec<_> = publications.iter().map(|p| (p.partition, p.through)).collect();
        match app.fanout.publish(publications).await {
            Ok(()) => app.health.clear(FANOUT),
            Err(error) => return app.health.raise(FANOUT, &error.to_string()),
        }
        for (partition, through) in told {
            if let Some(claim) = self.claims.get_mut(&partition) {
                claim.published = claim.published.max(through);
            }
        }
    }

    /// Stores what was read; data that storage refuses for good is narrowed down to its record, which becomes
    /// a dead letter.
    async fn apply(&mut self, app: &App, works: Vec<Work>) -> Result<Done, ApplyError> {
        let mut done = Done::default();
        let mut queue = vec![works];
        while let Some(mut works) = queue.pop() {
            let partitions = self.batches(app, &mut works);
            if partitions.is_empty() {
                continue;
            }
            let nexts: Vec<_> = partitions.iter().map(|b| (b.partition, b.next, b.last_digest)).collect();
            let (grace, rules) = (app.settings.grace, app.settings.rules);
            match app.storage.apply(Batch { log: self.log, partitions, grace, rules }).await {
                Ok(applied) => self.publish(app, &nexts, applied, &mut done).await,
                Err(StorageError::Refused(reason)) => match bisect(works, &reason) {
                    // The later half waits below the earlier one: order within a partition stays.
                    Some(halves) => queue.extend(halves.into_iter().rev()),
                    None => return Err(StorageError::Refused(reason).into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn batches(&mut self, app: &App, works: &mut [Work]) -> Vec<PartitionBatch> {
        let partitions = app.source.identity().partitions;
        let mut batches = Vec::with_capacity(works.len());
        for work in works {
            let Some(claim) = self.claims.get(&work.partition) else { continue };
            let (batch, halt) = batch_of(claim, partitions, work);
            batches.extend(batch);
            if let Some(halt) = halt {
                self.halted.insert(work.partition, halt);
            }
        }
        batches
    }

    async fn publish(
        &mut self,
        app: &App,
        nexts: &[(Partition, Offset, Uuid)],
        applied: Vec<Applied>,
        done: &mut Done,
    ) {
        let mut publications = Vec::with_capacity(applied.len());
        for one in applied {
            match one {
                // Whose it is now, the next turn asks. Until then its fence matches nothing.
                Applied::Fenced { .. } => done.fenced = true,
                Applied::Done { partition, outcomes, duplicates, dead } => {
                    let Some((_, next, digest)) = nexts.iter().find(|(p, ..)| *p == partition) else {
                        continue;
                    };
                    let Some(claim) = self.claims.get_mut(&partition) else { continue };
                    let prev = claim.next_offset - 1;
                    (claim.next_offset, claim.last_digest) = (*next, Some(*digest));
                    done.stored += outcomes.len();
                    count(&outcomes, duplicates, dead);
                    let (through, outcomes) = (next - 1, outcomes.into());
                    publications.push(Publication { log: self.log, partition, prev, through, outcomes });
                }
            }
        }
        self.tell(app, publications).await;
    }
}

/// The books: records appended = stored + duplicates + rejected + dead letters + lag.
fn count(outcomes: &[Outcome], duplicates: usize, dead: usize) {
    let rejected = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Rejected(_))).count();
    metrics::counter!("chatd_stored_total").increment((outcomes.len() - rejected) as u64);
    metrics::counter!("chatd_rejected_total").increment(rejected as u64);
    metrics::counter!("chatd_duplicates_total").increment(duplicates as u64);
    metrics::counter!("chatd_dead_letters_total").increment(dead as u64);
}
