//! Where in conversations a frontier lies. Within a conversation positions grow with seq, so that a binary
//! search over seqs finds it: a dozen probes of the events' own key at any length and age, without another
//! index on events. All conversations of a statement are searched side by side, one round a step.

/// Whether a frontier, given as its log and its offsets, covers a position.
macro_rules! covers {
    ($frontier_log:literal, $offsets:literal; $log:literal, $partition:literal, $offset:literal) => {
        concat!(
            "(",
            $log,
            " < ",
            $frontier_log,
            " OR (",
            $log,
            " = ",
            $frontier_log,
            " AND ",
            $offset,
            " <= coalesce((",
            $offsets,
            ")[",
            $partition,
            " + 1], -1)))"
        )
    };
}
pub(super) use covers;

/// Whether a frontier covers the head of the conversation `c`.
macro_rules! covers_head {
    ($frontier_log:literal, $offsets:literal) => {
        $crate::storage::postgres::seek::covers!(
            $frontier_log, $offsets; "c.last_log", "c.last_partition", "c.last_offset"
        )
    };
}
pub(super) use covers_head;

/// A CTE of a `WITH RECURSIVE`. It reads `frontier (aim, log, offsets)` and `start (key, aim, low, high)`: the
/// frontier `aim` covers conversation `key` up to `low` (or it is known up to there) and not at `high`; where
/// both are the same, that is the answer already. The greatest `low` of a `key` and `aim` in `seek` is the last
/// covered seq. (Whoever puts that beside other columns does it by grouping: a join of two CTEs would compare
/// each row with each.)
///
/// The end moves in growing steps first, as most frontiers lie near the head. `OFFSET 0` keeps PostgreSQL from
/// inlining the probe, which it would then repeat for each of its uses. The probe is a subquery of the
/// selected columns, and so a look-up in `events_pkey` whatever the planner thinks of their number.
macro_rules! seek {
    () => {
        concat!(
            "seek (key, aim, low, high, step) AS (
                 SELECT key, aim, low, high, 1::bigint FROM start
                 UNION ALL
                 SELECT key, aim, CASE WHEN covered THEN middle ELSE low END,
                     CASE WHEN covered THEN high ELSE middle END, CASE WHEN covered THEN 0 ELSE step * 2 END
                 FROM (SELECT s.*, (SELECT ",
            $crate::storage::postgres::seek::covers!(
                "f.log", "f.offsets"; "e.log_number", "e.partition", "e.log_offset"
            ),
            " FROM events AS e CROSS JOIN frontier AS f
                                    WHERE e.conversation_key = s.key AND e.seq = s.middle AND f.aim = s.aim)
                           AS covered
                       FROM (SELECT *, CASE WHEN step > 0 THEN greatest(high - step, low + 1)
                                            ELSE low + (high - low) / 2 END AS middle
                             FROM seek WHERE high - low > 1 OFFSET 0) AS s
                       OFFSET 0) AS probed
             )"
        )
    };
}
pub(super) use seek;
