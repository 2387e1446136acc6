//! PostgreSQL's answers on their way to a client, understood just enough to find the end of a transaction
//! (PostgreSQL 15, "Message Formats": a type, a length that counts itself, a body).

/// `CommandComplete`.
const COMMAND_COMPLETE: u8 = b'C';
/// The tag of a transaction that was committed; one that was rolled back says `ROLLBACK`.
const COMMIT: &[u8] = b"COMMIT\0";
/// Type and length.
const HEAD: usize = 5;

/// Follows the messages of one connection without TLS.
#[derive(Debug, Default)]
pub struct Answers {
    /// The message that has not come whole: its head and, of a `CommandComplete`, the begin of its tag.
    begun: Vec<u8>,
    /// Bytes of it that are still to come.
    rest: usize,
}

impl Answers {
    /// Takes what came next, and tells where in it the first answer to a COMMIT begins: at 0 where it began
    /// earlier. What stands behind that answer is not looked at any more.
    pub fn find_commit(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut place = 0;
        while place < bytes.len() {
            if self.begun.len() < HEAD {
                self.begun.push(bytes[place]);
                place += 1;
                if self.begun.len() == HEAD {
                    let length = [self.begun[1], self.begun[2], self.begun[3], self.begun[4]];
                    self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                    self.end_when_whole();
                }
                continue;
            }
            let taken = self.rest.min(bytes.len() - place);
            if self.begun[0] == COMMAND_COMPLETE {
                let wanted = (HEAD + COMMIT.len()).saturating_sub(self.begun.len()).min(taken);
                self.begun.extend_from_slice(&bytes[place..place + wanted]);
                if &self.begun[HEAD..] == COMMIT {
                    let behind_head = place + wanted;
                    self.begun.clear();
                    self.rest = 0;
                    return Some(behind_head.saturating_sub(HEAD + COMMIT.len()));
                }
            }
            place += taken;
            self.rest -= taken;
            self.end_when_whole();
        }
        None
    }

    fn end_when_whole(&mut self) {
        if self.rest == 0 {
            self.begun.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn conversation() -> (Vec<u8>, usize) {
        let before = [
            message(b'R', &[0; 4]),
            message(b'S', b"TimeZone\0UTC\0"),
            message(b'Z', b"I"),
            // A row that holds the very words.
            message(b'D', b"\0\x01\0\0\0\x0cC\0\0\0\x0bCOMMIT\0"),
            message(b'C', b"UPDATE 1\0"),
            message(b'2', b""),
            message(b'C', b"ROLLBACK\0"),
            message(b'C', b"COMMIT PREPARED\0"),
        ]
        .concat();
        let place = before.len();
        ([before, message(b'C', COMMIT), message(b'Z', b"I")].concat(), place)
    }

    #[test]
    fn the_answer_to_a_commit_is_found_and_nothing_else() {
        let (bytes, place) = conversation();
        assert_eq!(Answers::default().find_commit(&bytes), Some(place));
        assert_eq!(Answers::default().find_commit(&bytes[..place]), None);
    }

    #[test]
    fn it_is_found_however_the_bytes_are_cut() {
        let (bytes, place) = conversation();
        for size in 1..bytes.len() {
            let mut answers = Answers::default();
            let mut begin = 0;
            let mut found = None;
            for chunk in bytes.chunks(size) {
                if let Some(at) = answers.find_commit(chunk) {
                    found = Some(begin + at);
                    break;
                }
                begin += chunk.len();
            }
            let found = found.unwrap_or_else(|| panic!("not found in chunks of {size}"));
            // Never behind its last byte, so that no client sees the whole of it; never before it.
            assert!((place..place + HEAD + COMMIT.len()).contains(&found), "{size}: {found}");
        }
    }

    #[test]
    fn after_one_the_next_is_found_too() {
        let mut answers = Answers::default();
        let commit = message(b'C', COMMIT);
        assert_eq!(answers.find_commit(&commit), Some(0));
        assert_eq!(answers.find_commit(&message(b'Z', b"I")), None);
        assert_eq!(answers.find_commit(&commit), Some(0));
    }
}
