//! Records as Kafka keeps them: batches of format 2, uncompressed.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::error::KafkaError;
use super::queue::Waiting;
use crate::domain::{Offset, Timestamp};
use crate::pipeline::LogRecord;

const OPTIONS: RecordEncodeOptions = RecordEncodeOptions { version: 2, compression: Compression::None };
/// What a batch takes before its records, and what one record takes beside key and value, both at most.
const BATCH_OVERHEAD: usize = 61;
const RECORD_OVERHEAD: usize = 32;
/// Base offset and length stand in front of what the length counts.
const LENGTH_END: usize = 12;
/// The epoch of the leader that wrote the batch stands here.
const LEADER_EPOCH: std::ops::Range<usize> = 12..16;
/// The offset of the last record, counted from the base offset, stands here.
const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;

/// One batch of these records.
pub(super) fn encode(records: &[Waiting], now: Timestamp) -> Result<Bytes, KafkaError> {
    let timestamp = now.0;
    let mut size = BATCH_OVERHEAD;
    let records: Vec<Record> = (0..)
        .zip(records)
        .map(|(offset, waiting)| {
            let key = Bytes::from(waiting.key.to_string());
            size += RECORD_OVERHEAD + key.len() + waiting.value.len();
            Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
                producer_id: NO_PRODUCER_ID,
                producer_epoch: NO_PRODUCER_EPOCH,
                timestamp_type: TimestampType::Creation,
                offset,
                // They must grow with the offsets, or the encoder begins a batch for each; the first one counts.
                sequence: NO_SEQUENCE + offset as i32,
                timestamp,
                key: Some(key),
                value: Some(waiting.value.clone()),
                headers: IndexMap::new(),
            }
        })
        .collect();
    let mut batch = BytesMut::with_capacity(size);
    RecordBatchEncoder::encode(&mut batch, &records, &OPTIONS).map_err(KafkaError::malformed)?;
    Ok(batch.freeze())
}

/// What a fetch got of a partition.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// Records in offset order.
    pub(super) records: Vec<LogRecord>,
    /// The offset to go on from; none where there was no whole batch. Marks of transactions, which are no
    /// records, are behind it too.
    pub(super) next: Option<Offset>,
    /// The epoch of the leader that wrote the last of them.
    pub(super) epoch: Option<i32>,
}

/// The records from `from` on. A fetch begins with the batch that holds the offset asked for, and may end in
/// the middle of another.
pub(super) fn decode(mut bytes: Bytes, from: Offset) -> Result<Decoded, KafkaError> {
    let mut decoded = Decoded::default();
    while let Some(mut batch) = whole_batch(&mut bytes) {
        let base = (&batch[..8]).get_i64();
        let int = |at: std::ops::Range<usize>| {
            let int = batch.get(at).map(|mut int| int.get_i32());
            int.ok_or_else(|| KafkaError::malformed("a batch without a header"))
        };
        let delta = int(LAST_OFFSET_DELTA)?;
        decoded.epoch = Some(int(LEADER_EPOCH)?);
        decoded.next = Some(base + Offset::from(delta) + 1);
        let records = RecordBatchDecoder::decode(&mut batch).map_err(KafkaError::malformed)?.records;
        let wanted = records.into_iter().filter(|record| record.offset >= from && !record.control);
        // A record without a value is none of ours, and not to be passed over: it is undecodable, not absent.
        decoded.records.extend(
            wanted.map(|record| LogRecord { offset: record.offset, value: record.value.unwrap_or_default() }),
        );
    }
    Ok(decoded)
}

fn whole_batch(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.get(8..LENGTH_END).map(|mut length| length.get_i32())?;
    let length = LENGTH_END.checked_add(usize::try_from(length).ok()?)?;
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::waiting;
    use super::*;

    fn batch(values: &[&'static str], base: Offset) -> Bytes {
        let records: Vec<_> = values.iter().map(|value| waiting(*value)).collect();
        let mut batch = BytesMut::from(&encode(&records, Timestamp::now()).unwrap()[..]);
        // The broker places it; the checksum does not cover the base offset and the epoch.
        batch[..8].copy_from_slice(&base.to_be_bytes());
        batch[LEADER_EPOCH].copy_from_slice(&5i32.to_be_bytes());
        batch.freeze()
    }

    fn values(decoded: &Decoded) -> Vec<(Offset, &str)> {
        let text = |record: &LogRecord| (record.offset, String::from_utf8(record.value.to_vec()).unwrap());
        decoded.records.iter().map(text).map(|(offset, text)| (offset, &*text.leak())).collect()
    }

    #[test]
    fn records_of_one_batch_come_back_with_their_offsets() {
        let encoded = batch(&["a", "b", "c"], 7);
        assert_eq!(RecordBatchDecoder::decode_batch_info(&mut encoded.clone()).unwrap().len(), 1);
        let decoded = decode(encoded, 0).unwrap();
        assert_eq!(values(&decoded), [(7, "a"), (8, "b"), (9, "c")]);
        assert_eq!((decoded.next, decoded.epoch), (Some(10), Some(5)));
    }

    #[test]
    fn what_lies_before_the_offset_asked_for_and_half_a_batch_are_left_out() {
        let mut bytes = BytesMut::from(&batch(&["a", "b"], 0)[..]);
        let second = batch(&["c"], 2);
        bytes.extend_from_slice(&second);
        bytes.extend_from_slice(&batch(&["d"], 3)[..20]);
        let decoded = decode(bytes.freeze(), 1).unwrap();
        assert_eq!(values(&decoded), [(1, "b"), (2, "c")]);
        assert_eq!(decoded.next, Some(3));
        let none = decode(second.slice(..30), 0).unwrap();
        assert_eq!((none.records.len(), none.next), (0, None));
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut bytes = BytesMut::from(&batch(&["a", "b"], 0)[..]);
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        assert!(matches!(decode(bytes.freeze(), 0), Err(KafkaError::Malformed(_))));
    }
}
