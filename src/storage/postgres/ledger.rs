//! `Ledger` on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::PostgresStore;
use super::apply;
use super::error::Fault;
use super::rows;
use super::statement::{Id, now_ms, statement};
use crate::domain::{Frontier, LogNumber, Offset, Partition, Timestamp};
use crate::pipeline::LogIdentity;
use crate::storage::{Applied, Batch, Claim, Ledger, Mark, Standstill, StorageError};

/// Rows that one step of `prune` deletes, so that it never holds up what arrives for long.
const PRUNE_ROWS: i64 = 1_000;

#[async_trait]
impl Ledger for PostgresStore {
    async fn incarnation(&self) -> Result<Uuid, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let rows = select_incarnation(&conn).await?;
            let (Id(id),) = rows.first().ok_or_else(|| Fault::refused("a database without its identity"))?;
            Ok(*id)
        })
        .await
    }

    async fn followed(&self) -> Result<Option<(LogNumber, LogIdentity)>, StorageError> {
        let conn = self.take().await?;
        conn.run(followed(&conn)).await
    }

    async fn attach_log(&self, identity: LogIdentity) -> Result<LogNumber, StorageError> {
        let conn = self.take().await?;
        if let Some(known) = conn.run(followed(&conn)).await? {
            return attach(known, identity);
        }
        conn.transaction(async {
            // Many may start at once on a new database: one makes the rows, and the others find them.
            lock_logs(&conn).await?;
            match followed(&conn).await? {
                Some(known) => Ok(attach(known, identity)?),
                None => {
                    let next = vec![0; identity.partitions as usize];
                    follow(&conn, LogNumber(1), identity, &next).await
                }
            }
        })
        .await
    }

    async fn hand_over(&self, identity: LogIdentity, next: &[Offset]) -> Result<LogNumber, StorageError> {
        let conn = self.take().await?;
        conn.transaction(hand_over(&conn, identity, next)).await
    }

    async fn claim(&self, log: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let slots = slots(partitions)?;
            // In this order: a hand-over that comes between the two has seen the claim and fences it.
            let (rows, newest) =
                futures_util::join!(grow_epoch(&conn, log.0, &slots, log.0), followed(&conn));
            let rows = rows?;
            not_superseded(log, newest?)?;
            claims(partitions, rows)
        })
        .await
    }

    async fn claims(&self, log: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let slots = slots(partitions)?;
            claims(partitions, select_claims(&conn, log.0, &slots).await?)
        })
        .await
    }

    async fn apply(&self, batch: Batch) -> Result<Vec<Applied>, StorageError> {
        let conn = self.take().await?;
        apply::apply(&conn, batch).await
    }

    async fn mark_published(
        &self,
        log: LogNumber,
        published: &[Mark<Offset>],
    ) -> Result<Frontier, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            if !published.is_empty() {
                let Marks { slots, epochs, values } = marks(published)?;
                let offsets: Vec<i64> = values.into_iter().copied().collect();
                let (moved, rows) = futures_util::join!(
                    move_published(&conn, &slots, &epochs, &offsets, log.0),
                    select_published(&conn, log.0)
                );
                moved?;
                return Ok(frontier(log, rows?));
            }
            Ok(frontier(log, select_published(&conn, log.0).await?))
        })
        .await
    }

    async fn mark_standstills(
        &self,
        log: LogNumber,
        standstills: &[Mark<Option<Standstill>>],
    ) -> Result<(), StorageError> {
        if standstills.is_empty() {
            return Ok(());
        }
        let conn = self.take().await?;
        conn.run(async {
            let Marks { slots, epochs, values } = marks(standstills)?;
            let reasons: Vec<Option<&str>> =
                values.iter().map(|value| value.as_ref().map(|each| each.reason.as_str())).collect();
            let breaches: Vec<bool> =
                values.iter().map(|value| value.as_ref().is_some_and(|each| each.is_breach)).collect();
            set_standstills(&conn, &slots, &epochs, &reasons, &breaches, log.0).await?;
            Ok(())
        })
        .await
    }

    async fn standstills(&self, log: LogNumber) -> Result<Vec<(Partition, Standstill)>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let (rows, newest) = futures_util::join!(select_standstills(&conn, log.0), followed(&conn));
            not_superseded(log, newest?)?;
            rows?
                .into_iter()
                .map(|(partition, reason, is_breach)| {
                    let partition = Partition::try_from(partition).map_err(Fault::refused)?;
                    Ok((partition, Standstill { reason, is_breach }))
                })
                .collect()
        })
        .await
    }

    async fn frontier(&self, log: LogNumber) -> Result<Frontier, StorageError> {
        let conn = self.take().await?;
        conn.run(async { Ok(frontier(log, select_applied(&conn, log.0).await?)) }).await
    }

    async fn make_durable(&self, log: LogNumber) -> Result<Frontier, StorageError> {
        let conn = self.take().await?;
        conn.transaction(async {
            // With the lock there is something to commit, and with it everything that was committed before is
            // synced, whatever `synchronous_commit` this role has.
            sync_at_commit(&conn).await?;
            Ok(frontier(log, select_applied(&conn, log.0).await?))
        })
        .await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StorageError> {
        let mut deleted = 0;
        for is_mails in [false, true] {
            loop {
                let conn = self.take().await?;
                let rows = conn
                    .run(async {
                        Ok(if is_mails {
                            delete_mails(&conn, before.0, PRUNE_ROWS).await?
                        } else {
                            delete_rejections(&conn, PRUNE_ROWS, before.0).await?
                        })
                    })
                    .await?;
                deleted += u64::try_from(rows).unwrap_or(u64::MAX);
                if i64::try_from(rows).unwrap_or(i64::MAX) < PRUNE_ROWS {
                    break;
                }
            }
        }
        Ok(deleted)
    }
}

/// The log that the database follows, and its number.
async fn followed(conn: &AsyncPgConnection) -> Result<Option<(LogNumber, LogIdentity)>, Fault> {
    let Some((number, Id(id), partitions)) = select_log(conn).await?.pop() else { return Ok(None) };
    let partitions = Partition::try_from(partitions).map_err(Fault::refused)?;
    Ok(Some((LogNumber(number), LogIdentity { id, partitions })))
}

fn attach((number, known): (LogNumber, LogIdentity), found: LogIdentity) -> Result<LogNumber, StorageError> {
    if known.id != found.id {
        return Err(StorageError::ForeignLog { expected: known.id, found: found.id });
    }
    if known.partitions != found.partitions {
        return Err(StorageError::Refused(format!(
            "the message log {} has {} partitions and had {}: their number never changes",
            found.id, found.partitions, known.partitions
        )));
    }
    Ok(number)
}

/// Lets the database follow another log, within a transaction.
pub(super) async fn hand_over(
    conn: &AsyncPgConnection,
    identity: LogIdentity,
    next: &[Offset],
) -> Result<LogNumber, Fault> {
    if next.len() != identity.partitions as usize {
        return Err(Fault::refused("an offset is needed for each partition of the log"));
    }
    lock_logs(conn).await?;
    let last = followed(conn).await?.map_or(0, |(number, _)| number.0);
    lock_partitions(conn, last).await?;
    grow_epochs(conn, last).await?;
    follow(conn, LogNumber(last + 1), identity, next).await
}

/// Makes the rows of a log that is followed from now on.
async fn follow(
    conn: &AsyncPgConnection,
    number: LogNumber,
    identity: LogIdentity,
    next: &[Offset],
) -> Result<LogNumber, Fault> {
    insert_log(conn, number.0, Id(identity.id), rows::slot(identity.partitions)?).await?;
    insert_partitions(conn, number.0, next).await?;
    Ok(number)
}

/// Refuses a log that is not the one followed now.
fn not_superseded(log: LogNumber, newest: Option<(LogNumber, LogIdentity)>) -> Result<(), Fault> {
    match newest {
        Some((number, _)) if number > log => Err(StorageError::Superseded.into()),
        _ => Ok(()),
    }
}

/// Partition, epoch, next offset, published, digest.
type ClaimRow = (i32, i64, i64, i64, Option<Id>);

/// Rows as claims, in the order asked.
fn claims(partitions: &[Partition], rows: Vec<ClaimRow>) -> Result<Vec<Claim>, Fault> {
    let rows: HashMap<i32, ClaimRow> = rows.into_iter().map(|row| (row.0, row)).collect();
    partitions
        .iter()
        .map(|&partition| {
            let &(_, epoch, next_offset, published, digest) =
                rows.get(&rows::slot(partition)?).ok_or_else(|| {
                    Fault::refused(format_args!("the message log has no partition {partition}"))
                })?;
            Ok(Claim { partition, epoch, next_offset, published, last_digest: digest.map(|id| id.0) })
        })
        .collect()
}

/// Partitions as their column has them, in the order in which everybody locks them.
fn slots(partitions: &[Partition]) -> Result<Vec<i32>, Fault> {
    let mut slots: Vec<i32> =
        partitions.iter().map(|partition| rows::slot(*partition)).collect::<Result<_, _>>()?;
    slots.sort_unstable();
    Ok(slots)
}

/// Marks as arrays, in the order in which everybody locks partitions.
struct Marks<'a, T> {
    slots: Vec<i32>,
    epochs: Vec<i64>,
    values: Vec<&'a T>,
}

fn marks<T>(marks: &[Mark<T>]) -> Result<Marks<'_, T>, Fault> {
    let mut sorted: Vec<&Mark<T>> = marks.iter().collect();
    sorted.sort_by_key(|mark| mark.partition);
    Ok(Marks {
        slots: sorted.iter().map(|mark| rows::slot(mark.partition)).collect::<Result<_, _>>()?,
        epochs: sorted.iter().map(|mark| mark.epoch).collect(),
        values: sorted.iter().map(|mark| &mark.value).collect(),
    })
}

fn frontier(log: LogNumber, rows: Vec<(i64,)>) -> Frontier {
    Frontier { log, offsets: rows.into_iter().map(|(offset,)| offset).collect() }
}

statement!(fn select_incarnation() -> (Id,) = "SELECT incarnation FROM deployment");

statement!(
    fn select_log() -> (i32, Id, i32) =
        "SELECT number, log_id, partitions FROM logs ORDER BY number DESC LIMIT 1"
);

statement!(
    /// Whoever begins a log number holds this row.
    fn lock_logs() -> (bool,) = "SELECT true FROM deployment FOR NO KEY UPDATE"
);

statement!(
    fn sync_at_commit() -> (String,) =
        "SELECT set_config('synchronous_commit', 'on', true) FROM deployment FOR NO KEY UPDATE"
);

statement!(
    fn insert_log(number: i32, id: Id, partitions: i32) = concat!(
        "INSERT INTO logs (number, log_id, partitions, attached_at) VALUES (?, ?, ?, ", now_ms!(), ")"
    )
);

statement!(
    fn insert_partitions(log: i32, next: &'a [i64]) =
        "INSERT INTO log_partitions (log_number, partition, next_offset, published)
         SELECT ?, each.n - 1, each.next, each.next - 1
         FROM unnest(?) WITH ORDINALITY AS each(next, n)"
);

statement!(
    fn lock_partitions(log: i32) -> (i32,) =
        "SELECT partition FROM log_partitions WHERE log_number = ? ORDER BY partition FOR NO KEY UPDATE"
);

statement!(
    fn grow_epochs(log: i32) = "UPDATE log_partitions SET epoch = epoch + 1 WHERE log_number = ?"
);

statement!(
    fn grow_epoch(log: i32, partitions: &'a [i32], same_log: i32) -> ClaimRow =
        "WITH locked AS (
             SELECT partition FROM log_partitions
             WHERE log_number = ? AND partition = ANY(?) ORDER BY partition FOR NO KEY UPDATE)
         UPDATE log_partitions AS p SET epoch = p.epoch + 1
         FROM locked WHERE p.log_number = ? AND p.partition = locked.partition
         RETURNING p.partition, p.epoch, p.next_offset, p.published, p.last_digest"
);

statement!(
    fn select_claims(log: i32, partitions: &'a [i32]) -> ClaimRow =
        "SELECT partition, epoch, next_offset, published, last_digest FROM log_partitions
         WHERE log_number = ? AND partition = ANY(?)"
);

statement!(
    fn move_published(partitions: &'a [i32], epochs: &'a [i64], offsets: &'a [i64], log: i32) =
        "UPDATE log_partitions AS p SET published = least(m.published, p.next_offset - 1)
         FROM unnest(?, ?, ?) AS m(partition, epoch, published)
         WHERE p.log_number = ? AND p.partition = m.partition AND p.epoch = m.epoch
           AND p.published < least(m.published, p.next_offset - 1)"
);

statement!(
    fn select_published(log: i32) -> (i64,) =
        "SELECT published FROM log_partitions WHERE log_number = ? ORDER BY partition"
);

statement!(
    fn set_standstills(
        partitions: &'a [i32],
        epochs: &'a [i64],
        reasons: &'a [Option<&'a str>],
        breaches: &'a [bool],
        log: i32,
    ) = "UPDATE log_partitions AS p SET standstill = m.reason, is_breach = m.is_breach
         FROM unnest(?, ?, ?, ?) AS m(partition, epoch, reason, is_breach)
         WHERE p.log_number = ? AND p.partition = m.partition AND p.epoch = m.epoch"
);

statement!(
    fn select_standstills(log: i32) -> (i32, String, bool) =
        "SELECT partition, standstill, is_breach FROM log_partitions
         WHERE log_number = ? AND standstill IS NOT NULL ORDER BY partition"
);

statement!(
    fn select_applied(log: i32) -> (i64,) =
        "SELECT next_offset - 1 FROM log_partitions WHERE log_number = ? ORDER BY partition"
);

statement!(
    /// Ids grow with time, so that the oldest are looked at only.
    fn delete_rejections(rows: i64, before: i64) =
        "DELETE FROM rejections WHERE id IN (
             SELECT oldest.id FROM (SELECT id, stored_at FROM rejections ORDER BY id LIMIT ?) AS oldest
             WHERE oldest.stored_at < ?)"
);

statement!(
    fn delete_mails(before: i64, rows: i64) =
        "DELETE FROM mails WHERE id IN (
             SELECT id FROM mails WHERE settled_at < ? ORDER BY settled_at LIMIT ? FOR UPDATE SKIP LOCKED)"
);
