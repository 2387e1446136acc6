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

    /// Made with Apache Kafka 4.3.1's own Java code: key, murmur2, partition of 6, partition of 64.
    const VECTORS: [(&str, i32, Partition, Partition); 9] = [
        ("dm-1-2", -1688006826, 2, 22),
        ("dm-2-3", -987983214, 2, 18),
        ("dm-1001-1002", 2107238344, 4, 8),
        ("dm-7-1099511627776", -1541739445, 1, 11),
        ("grp-0a52c2d8-0000-8000-8000-000000000000", -253692512, 0, 32),
        ("a", -1563381124, 4, 60),
        ("ab", 316155434, 2, 42),
        ("abc", 479470107, 3, 27),
        ("abcd", -1323649548, 2, 52),
    ];

    #[test]
    fn partitions_are_those_of_kafkas_java_client() {
        for (key, hash, of_6, of_64) in VECTORS {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
            assert_eq!(partition_of_key(key.as_bytes(), 6), of_6, "{key}");
            assert_eq!(partition_of_key(key.as_bytes(), 64), of_64, "{key}");
        }
    }
}
