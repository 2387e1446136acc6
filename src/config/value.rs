//! The kinds of values: how each is read from a variable's text or from TOML, and how it is shown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// A value as it was written, before anybody knows its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RawValue {
    /// Text of a variable: numbers and lists are still inside.
    Text(String),
    /// A TOML string.
    String(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array.
    List(Vec<RawValue>),
    /// Any other TOML value, by the name of its type.
    Other(&'static str),
}

impl RawValue {
    /// The value as an error message names it.
    pub(super) fn found(&self) -> String {
        match self {
            Self::Text(text) => format!("`{text}`"),
            Self::String(text) => format!("the string {text:?}"),
            Self::Integer(number) => format!("the integer {number}"),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::List(_) => "a list".to_owned(),
            Self::Other(kind) => format!("a {kind}"),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// A kind of setting.
pub(super) trait Value: Sized {
    /// What it has to look like, for "expected …".
    fn expected() -> String;
    /// Reads it; `None` where it is not of this kind.
    fn parse(raw: &RawValue) -> Option<Self>;
    /// As TOML.
    fn show(&self) -> String;
}

/// A setting with a few named values.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every value and its name.
    const ALL: &'static [(&'static str, Self)];
}

impl<T: Choice> Value for T {
    fn expected() -> String {
        let names: Vec<_> = T::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
        names.join(" or ")
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.text()?;
        T::ALL.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    }
    fn show(&self) -> String {
        let name = T::ALL.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name);
        format!("{name:?}")
    }
}

impl Value for bool {
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw {
            RawValue::Bool(value) => Some(*value),
            RawValue::Text(text) => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! integer {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn expected() -> String {
                "an integer".to_owned()
            }
            fn parse(raw: &RawValue) -> Option<Self> {
                match raw {
                    RawValue::Integer(number) => (*number).try_into().ok(),
                    RawValue::Text(text) => text.parse().ok(),
                    _ => None,
                }
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
integer!(u16, u32, usize);

impl Value for String {
    fn expected() -> String {
        "a string".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.text().map(str::to_owned)
    }
    fn show(&self) -> String {
        // Debug of a string escapes as TOML's basic strings do, for all that occurs in settings.
        format!("{self:?}")
    }
}

impl Value for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.text().filter(|text| !text.is_empty()).map(PathBuf::from)
    }
    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
}

impl Value for Duration {
    fn expected() -> String {
        "a duration such as `500ms`, `10s`, `120m` or `24h`".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        parse_duration(raw.text()?)
    }
    fn show(&self) -> String {
        format!("{:?}", show_duration(*self))
    }
}

impl Value for SocketAddr {
    fn expected() -> String {
        "an address and a port such as `127.0.0.1:9090` or `[::1]:9090`".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        raw.text()?.parse().ok()
    }
    fn show(&self) -> String {
        format!("{:?}", self.to_string())
    }
}

impl Value for IpNet {
    fn expected() -> String {
        "an IP address or a network such as `10.0.0.0/8`".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.text()?;
        text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }
    fn show(&self) -> String {
        format!("{:?}", self.to_string())
    }
}

/// Where to listen: IP addresses; `localhost` stands for both loopback addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hosts(pub(super) Vec<IpAddr>);

impl Hosts {
    /// 127.0.0.1 and ::1.
    pub(super) fn loopback() -> Self {
        Self(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }
}

impl Value for Hosts {
    fn expected() -> String {
        "`localhost` or IP addresses such as `127.0.0.1`, `::1` or `0.0.0.0`".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        let names = match raw.text() {
            Some(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            None => Vec::<String>::parse(raw)?,
        };
        let mut hosts = Vec::new();
        for name in names {
            match name.as_str() {
                "localhost" => hosts.extend(Self::loopback().0),
                ip => hosts.push(ip.trim_matches(['[', ']']).parse().ok()?),
            }
        }
        (!hosts.is_empty()).then_some(Self(hosts))
    }
    fn show(&self) -> String {
        self.0.iter().map(IpAddr::to_string).collect::<Vec<_>>().show()
    }
}

impl<T: Value> Value for Vec<T> {
    fn expected() -> String {
        format!("a list (in a variable: separated by commas), each {}", T::expected())
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw {
            RawValue::List(items) => items.iter().map(T::parse).collect(),
            RawValue::Text(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| T::parse(&RawValue::Text(item.to_owned()))).collect()
            }
            _ => None,
        }
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}

/// Reads a whole number and its unit (`ms`, `s`, `m`, `h`, `d`): `500ms`, `10s`, `120m`, `24h`, `0s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// A duration in the largest unit up to hours that holds it without a fraction.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.iter().find(|(_, unit)| ms >= *unit && ms.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        let ms = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("120m"), Some(7_200_000));
        assert_eq!(ms("24h"), Some(86_400_000));
        assert_eq!(ms("7d"), Some(604_800_000));
        assert_eq!(ms("0s"), Some(0));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "10S",
            "10sec",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_can_be_read_again() {
        for text in ["0s", "1ms", "500ms", "10s", "90s", "25m", "2h", "24h"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn hosts_are_addresses_or_localhost() {
        let hosts = |text: &str| Hosts::parse(&RawValue::Text(text.to_owned()));
        assert_eq!(hosts("localhost"), Some(Hosts::loopback()));
        assert_eq!(hosts("127.0.0.1, ::1"), Some(Hosts::loopback()));
        assert_eq!(hosts("[::]"), Some(Hosts(vec![Ipv6Addr::UNSPECIFIED.into()])));
        for bad in ["", "myhost", "127.0.0.1:3000", "0.0.0.0,"] {
            assert_eq!(hosts(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_string_in_the_file_is_no_number() {
        assert_eq!(u16::parse(&RawValue::String("3000".to_owned())), None);
        assert_eq!(u16::parse(&RawValue::Text("3000".to_owned())), Some(3000));
        assert_eq!(u16::parse(&RawValue::Integer(70_000)), None);
    }
}
