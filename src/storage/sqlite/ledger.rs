//! `Ledger` on SQLite.

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;
use uuid::Uuid;

use super::SqliteStore;
use super::apply;
use super::connection::{durably, immediately};
use super::error::Fault;
use super::rows;
use super::statement::statement;
use crate::domain::{Frontier, LogNumber, Offset, Partition, Timestamp};
use crate::pipeline::LogIdentity;
use crate::storage::{Applied, Batch, Claim, Ledger, Mark, Standstill, StorageError};

/// Rows that one step of `prune` deletes, so that it never holds up what arrives for long.
const PRUNE_ROWS: i64 = 1_000;

#[async_trait]
impl Ledger for SqliteStore {
    async fn incarnation(&self) -> Result<Uuid, StorageError> {
        self.read(|conn| {
            let rows = select_incarnation(conn)?;
            let (bytes,) = rows.first().ok_or_else(|| Fault::refused("a database without its identity"))?;
            rows::uuid(bytes)
        })
        .await
    }

    async fn followed(&self) -> Result<Option<(LogNumber, LogIdentity)>, StorageError> {
        self.read(followed).await
    }

    async fn attach_log(&self, identity: LogIdentity) -> Result<LogNumber, StorageError> {
        self.write(move |conn| durably(conn, |conn| attach(conn, identity))).await
    }

    async fn hand_over(&self, identity: LogIdentity, next: &[Offset]) -> Result<LogNumber, StorageError> {
        let next = next.to_vec();
        self.write(move |conn| durably(conn, |conn| hand_over(conn, identity, &next))).await
    }

    async fn claim(&self, log: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError> {
        let partitions = partitions.to_vec();
        self.write(move |conn| {
            durably(conn, |conn| {
                newest(conn, log)?;
                for partition in &partitions {
                    grow_epoch(conn, log.0, i64::from(*partition))?;
                }
                claims(conn, log, &partitions)
            })
        })
        .await
    }

    async fn claims(&self, log: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError> {
        let partitions = partitions.to_vec();
        self.read(move |conn| claims(conn, log, &partitions)).await
    }

    async fn apply(&self, batch: Batch) -> Result<Vec<Applied>, StorageError> {
        self.write(move |conn| immediately(conn, |conn| apply::apply(conn, batch))).await
    }

    async fn mark_published(
        &self,
        log: LogNumber,
        published: &[Mark<Offset>],
    ) -> Result<Frontier, StorageError> {
        if published.is_empty() {
            return self.read(move |conn| self::published(conn, log)).await;
        }
        let marks = published.to_vec();
        self.write(move |conn| {
            immediately(conn, |conn| {
                for mark in marks {
                    move_published(conn, mark.value, log.0, i64::from(mark.partition), mark.epoch)?;
                }
                self::published(conn, log)
            })
        })
        .await
    }

    async fn mark_standstills(
        &self,
        log: LogNumber,
        standstills: &[Mark<Option<Standstill>>],
    ) -> Result<(), StorageError> {
        let marks = standstills.to_vec();
        self.write(move |conn| {
            immediately(conn, |conn| {
                for Mark { partition, epoch, value } in &marks {
                    let reason = value.as_ref().map(|standstill| standstill.reason.as_str());
                    let is_breach = value.as_ref().is_some_and(|standstill| standstill.is_breach);
                    set_standstill(conn, reason, is_breach.into(), log.0, i64::from(*partition), *epoch)?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn standstills(&self, log: LogNumber) -> Result<Vec<(Partition, Standstill)>, StorageError> {
        self.read(move |conn| {
            newest(conn, log)?;
            let rows = select_standstills(conn, log.0)?;
            rows.into_iter()
                .map(|(partition, reason, is_breach)| {
                    let partition = Partition::try_from(partition).map_err(Fault::refused)?;
                    Ok((partition, Standstill { reason, is_breach: is_breach != 0 }))
                })
                .collect()
        })
        .await
    }

    async fn frontier(&self, log: LogNumber) -> Result<Frontier, StorageError> {
        self.read(move |conn| frontier(conn, log)).await
    }

    async fn make_durable(&self, log: LogNumber) -> Result<Frontier, StorageError> {
        let frontier = self
            .write(move |conn| {
                durably(conn, |conn| {
                    mark_durable(conn, Timestamp::now().0)?;
                    frontier(conn, log)
                })
            })
            .await?;
        self.checkpoint().await?;
        Ok(frontier)
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StorageError> {
        let mut deleted = 0;
        for step in [delete_rejections, delete_mails] {
            loop {
                let rows = self
                    .write(move |conn| immediately(conn, |conn| Ok(step(conn, before.0, PRUNE_ROWS)?)))
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

fn followed(conn: &mut SqliteConnection) -> Result<Option<(LogNumber, LogIdentity)>, Fault> {
    let Some((number, id, partitions)) = select_log(conn)?.pop() else { return Ok(None) };
    let partitions = Partition::try_from(partitions).map_err(Fault::refused)?;
    Ok(Some((LogNumber(number), LogIdentity { id: rows::uuid(&id)?, partitions })))
}

fn attach(conn: &mut SqliteConnection, identity: LogIdentity) -> Result<LogNumber, Fault> {
    if let Some((number, known)) = followed(conn)? {
        let (expected, found) = (known.id, identity.id);
        if expected != found {
            return Err(StorageError::ForeignLog { expected, found }.into());
        }
        if known.partitions != identity.partitions {
            return Err(Fault::refused(format_args!(
                "the message log {found} has {} partitions and had {}: their number never changes",
                identity.partitions, known.partitions
            )));
        }
        return Ok(number);
    }
    follow(conn, LogNumber(1), identity, &vec![0; identity.partitions as usize])
}

fn hand_over(
    conn: &mut SqliteConnection,
    identity: LogIdentity,
    next: &[Offset],
) -> Result<LogNumber, Fault> {
    if next.len() != identity.partitions as usize {
        return Err(Fault::refused("an offset is needed for each partition of the log"));
    }
    let last = followed(conn)?.map_or(0, |(number, _)| number.0);
    grow_epochs(conn, last)?;
    follow(conn, LogNumber(last + 1), identity, next)
}

/// Makes the rows of a log that is followed from now on.
fn follow(
    conn: &mut SqliteConnection,
    number: LogNumber,
    identity: LogIdentity,
    next: &[Offset],
) -> Result<LogNumber, Fault> {
    let partitions = i64::from(identity.partitions);
    insert_log(conn, number.0, identity.id.as_bytes(), partitions, Timestamp::now().0)?;
    for (partition, next) in (0..).zip(next) {
        insert_partition(conn, number.0, partition, *next, next - 1)?;
    }
    Ok(number)
}

/// Refuses a log that is not the one followed now.
fn newest(conn: &mut SqliteConnection, log: LogNumber) -> Result<(), Fault> {
    match followed(conn)? {
        Some((number, _)) if number > log => Err(StorageError::Superseded.into()),
        _ => Ok(()),
    }
}

/// How far each partition has been published.
fn published(conn: &mut SqliteConnection, log: LogNumber) -> Result<Frontier, Fault> {
    let offsets = select_published(conn, log.0)?.into_iter().map(|(published,)| published).collect();
    Ok(Frontier { log, offsets })
}

fn claims(
    conn: &mut SqliteConnection,
    log: LogNumber,
    partitions: &[Partition],
) -> Result<Vec<Claim>, Fault> {
    partitions
        .iter()
        .map(|&partition| {
            let rows = select_claim(conn, log.0, i64::from(partition))?;
            let (epoch, next_offset, published, digest) = rows.into_iter().next().ok_or_else(|| {
                Fault::refused(format_args!("the message log has no partition {partition}"))
            })?;
            let last_digest = digest.as_deref().map(rows::uuid).transpose()?;
            Ok(Claim { partition, epoch, next_offset, published, last_digest })
        })
        .collect()
}

/// How far each partition has been applied.
pub(super) fn frontier(conn: &mut SqliteConnection, log: LogNumber) -> Result<Frontier, Fault> {
    let offsets = select_offsets(conn, log.0)?.into_iter().map(|(next,)| next - 1).collect();
    Ok(Frontier { log, offsets })
}

statement!(fn select_incarnation() -> (Vec<u8>,) = "SELECT incarnation FROM deployment");

statement!(
    fn select_log() -> (i32, Vec<u8>, i64) =
        "SELECT number, log_id, partitions FROM logs ORDER BY number DESC LIMIT 1"
);

statement!(
    fn insert_log(number: i32, id: &'a [u8], partitions: i64, now: i64) =
        "INSERT INTO logs (number, log_id, partitions, attached_at) VALUES (?, ?, ?, ?)"
);

statement!(
    fn insert_partition(log: i32, partition: i64, next: i64, published: i64) =
        "INSERT INTO log_partitions (log_number, partition, next_offset, published) VALUES (?, ?, ?, ?)"
);

statement!(
    fn grow_epochs(log: i32) = "UPDATE log_partitions SET epoch = epoch + 1 WHERE log_number = ?"
);

statement!(
    fn select_published(log: i32) -> (i64,) =
        "SELECT published FROM log_partitions WHERE log_number = ? ORDER BY partition"
);

statement!(
    fn set_standstill(reason: Option<&'a str>, is_breach: i64, log: i32, partition: i64, epoch: i64) =
        "UPDATE log_partitions SET standstill = ?, is_breach = ?
         WHERE log_number = ? AND partition = ? AND epoch = ?"
);

statement!(
    fn select_standstills(log: i32) -> (i64, String, i64) =
        "SELECT partition, standstill, is_breach FROM log_partitions
         WHERE log_number = ? AND standstill IS NOT NULL ORDER BY partition"
);

statement!(
    fn grow_epoch(log: i32, partition: i64) =
        "UPDATE log_partitions SET epoch = epoch + 1 WHERE log_number = ? AND partition = ?"
);

statement!(
    fn select_claim(log: i32, partition: i64) -> (i64, i64, i64, Option<Vec<u8>>) =
        "SELECT epoch, next_offset, published, last_digest FROM log_partitions
         WHERE log_number = ? AND partition = ?"
);

statement!(
    fn move_published(published: i64, log: i32, partition: i64, epoch: i64) =
        "UPDATE log_partitions SET published = max(published, min(?, next_offset - 1))
         WHERE log_number = ? AND partition = ? AND epoch = ?"
);

statement!(
    fn select_offsets(log: i32) -> (i64,) =
        "SELECT next_offset FROM log_partitions WHERE log_number = ? ORDER BY partition"
);

statement!(fn mark_durable(now: i64) = "UPDATE deployment SET durable_at = ?");

statement!(
    fn delete_rejections(before: i64, rows: i64) =
        "DELETE FROM rejections WHERE id IN (SELECT id FROM rejections WHERE stored_at < ? LIMIT ?)"
);

statement!(
    fn delete_mails(before: i64, rows: i64) =
        "DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE settled_at < ? LIMIT ?)"
);
