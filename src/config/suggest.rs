//! "did you mean": the known name that a typo was meant to be.

/// Below this likeness (0 to 1, Damerau-Levenshtein over the length) a suggestion confuses more than it
/// helps; `hartbeat` against `heartbeat` is 0.89, two unrelated settings lie around 0.3.
const LIKENESS_MIN: f64 = 0.6;

/// The known key nearest to `key`: one that ends in the same word when only one does, else the most alike.
pub(super) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let last = |k: &str| k.rsplit('.').next().unwrap_or_default().to_owned();
    let mut same_word = known.clone().filter(|k| last(k) == last(key));
    if let (Some(only), None) = (same_word.next(), same_word.next()) {
        return Some(only);
    }
    known
        .map(|k| (strsim::normalized_damerau_levenshtein(key, k), k))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["http.port", "http.host", "ws.heartbeat", "notify.email.min_interval", "redis.url"];
        let nearest = |key| nearest(key, known.into_iter());
        assert_eq!(nearest("ws.hartbeat"), Some("ws.heartbeat"));
        assert_eq!(nearest("ws_heartbeat"), Some("ws.heartbeat"));
        assert_eq!(nearest("port"), Some("http.port"));
        assert_eq!(nearest("notify.mail.mininterval"), Some("notify.email.min_interval"));
        assert_eq!(nearest("zebra.crossing"), None);
    }
}
