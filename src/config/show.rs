//! `chatd config show`: every setting with its origin, as TOML, secrets redacted.

use std::fmt::Write;

use super::Config;
use super::reader::Setting;

impl Config {
    /// Every setting and where it came from, as TOML that could be loaded again but for redacted secrets.
    pub fn show(&self) -> String {
        let rules = if self.production() { "production" } else { "development" };
        let mut out = format!("# {rules} rules; data folder {}\n", self.data.display());
        let mut settings: Vec<&Setting> = self.settings().iter().collect();
        // Stable: keys stay in the order of their section, keys without a section come first.
        settings.sort_by_key(|setting| section(setting.key));
        let mut current = "";
        for setting in settings {
            let (section, key) = (section(setting.key), setting.key.rsplit('.').next().unwrap_or_default());
            if section != current {
                current = section;
                out.push_str(&format!("\n[{section}]\n"));
            }
            let line = match &setting.value {
                Some(value) => format!("{key} = {value}"),
                None => format!("# {key} is not set"),
            };
            // Writing to a String cannot fail.
            let _ = match setting.value {
                Some(_) => writeln!(out, "{line:<45} # {}", setting.origin),
                None => writeln!(out, "{line}"),
            };
        }
        for notice in self.notices() {
            let _ = writeln!(out, "\n# note: {notice}");
        }
        out
    }
}

fn section(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}
