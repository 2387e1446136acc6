//! Which partition a conversation belongs to: Kafka's default partitioner for keyed records.

use crate::domain::{ConversationId, Partition};

/// The partition of a conversation in a log with so many partitions.
pub fn partition_of(conversation: ConversationId, partitions: Partition) -> Partition {
    partition_of_key(conversation.to_string().as_bytes(), partitions)
}

/// `toPositive(murmur2(key)) % partitions`, as in `BuiltInPartitioner.partitionForKey` of Kafka's Java client.
fn partition_of_key(key: &[u8], partitions: Partition) -> Partition {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Murmur2 as in `org.apache.kafka.common.utils.Utils.murmur2` (seed 0x9747b28c).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0u32, |word, byte| (word << 8) | u32::from(*byte));
        h = (h ^ rest).wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Kafka's Java client; the file says how.
    const VECTORS: &str = include_str!("../../tests/data/murmur2.tsv");

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn partitions_are_those_of_kafkas_java_client() {
        let mut compared = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let [key, hash, of_6, of_64, of_1000] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not five columns: {line:?}");
            };
            let key = bytes(key);
            assert_eq!((murmur2(&key) as i32).to_string(), hash, "{line}");
            for (partitions, expected) in [(6, of_6), (64, of_64), (1000, of_1000)] {
                assert_eq!(partition_of_key(&key, partitions).to_string(), expected, "{line}");
            }
            compared += 1;
        }
        assert!(compared > 200, "the file is cut: {compared} vectors");
    }

    #[test]
    fn a_conversation_is_keyed_by_its_id_as_text() {
        let conversation: ConversationId = "dm-1-2".parse().unwrap();
        assert!(VECTORS.contains("\n646d2d312d32\t-1688006826\t2\t"), "dm-1-2 is among the vectors");
        assert_eq!(partition_of(conversation, 6), 2);
    }
}
