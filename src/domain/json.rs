//! How deep a JSON text nests, before anything parses it.

/// The deepest nesting of arrays and objects that a client may send (protocol.md section 1).
pub const DEPTH_MAX: usize = 32;

/// Whether no array or object of the text lies deeper than `max`. Looks at brackets outside of strings only;
/// whether it is JSON at all is the parser's question.
pub fn is_within_depth(text: &[u8], max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > max {
                    return false;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_of_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(is_within_depth(nested(32).as_bytes(), DEPTH_MAX));
        assert!(!is_within_depth(nested(33).as_bytes(), DEPTH_MAX));
        assert!(is_within_depth(format!("{{\"a\\\"[\":\"{}\"}}", "[".repeat(99)).as_bytes(), DEPTH_MAX));
    }
}
