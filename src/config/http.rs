//! `[http]`: where to listen, what the world calls this server, and whom it trusts.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use url::{Origin, Url};

use super::reader::Reader;
use super::value::Hosts;

/// The port of protocol.md section 7.
const PORT: u16 = 3000;

/// Settings of the HTTP server.
#[derive(Debug, Clone)]
pub struct Http {
    /// `http.host`, `HOST`: addresses to listen on; 127.0.0.1 and ::1 by default.
    pub host: Vec<IpAddr>,
    /// `http.port`, `PORT`: 3000; 0 lets the system choose.
    pub port: u16,
    /// `http.public_url`: what people type, without a slash at its end. https turns production rules on.
    pub public_url: Option<String>,
    /// `http.allowed_origins`: besides the public URL's own, as browsers send them (`https://app.example.com`).
    pub allowed_origins: Vec<String>,
    /// `http.trusted_proxies`: whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `http.admin_bind`: where metrics and the reasons of `/ready` are answered; under production rules
    /// nowhere else.
    pub admin_bind: Option<SocketAddr>,
}

impl Http {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let host = r.get("http.host", Hosts::loopback()).0;
        let port = r.within("http.port", PORT, 0..=u16::MAX);
        let http = Self {
            host,
            port,
            public_url: public_url(r),
            allowed_origins: allowed_origins(r),
            trusted_proxies: r.get("http.trusted_proxies", Vec::new()),
            admin_bind: r.optional("http.admin_bind"),
        };
        if http.admin_bind.is_some_and(|admin| admin.port() != 0 && http.binds().contains(&admin)) {
            let sentence = "http.admin_bind is the public address itself: give it a port of its own";
            r.problem("http.admin_bind", sentence);
        }
        http
    }

    /// Every address and the port. With the default hosts, one that the machine lacks (no IPv6) may be
    /// left out by whoever binds, as long as another one works.
    pub fn binds(&self) -> Vec<SocketAddr> {
        self.host.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect()
    }

    /// Whether only this machine can reach the server.
    pub fn is_loopback(&self) -> bool {
        self.host.iter().all(IpAddr::is_loopback)
    }

    /// What links in mails begin with: the public URL, else `http://localhost:` and the port bound.
    pub fn base_url(&self, bound_port: u16) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://localhost:{bound_port}"))
    }

    /// The origins that a browser may come from: the public URL's, else this machine's names with the
    /// port bound; and `http.allowed_origins`.
    pub fn origins(&self, bound_port: u16) -> Vec<String> {
        let mut origins: Vec<String> = match &self.public_url {
            Some(url) => origin_of(url).into_iter().collect(),
            None => ["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .filter_map(|host| origin_of(&format!("http://{host}:{bound_port}")))
                .collect(),
        };
        origins.extend(self.allowed_origins.iter().cloned());
        origins
    }
}

fn public_url(r: &mut Reader<'_>) -> Option<String> {
    let text = r.optional::<String>("http.public_url")?;
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(&text).ok().filter(plain) {
        Some(url) => Some(url.as_str().trim_end_matches('/').to_owned()),
        None => {
            let expected = "expected a URL such as `https://chat.example.com`, found";
            r.problem("http.public_url", format!("http.public_url: {expected} `{text}`"));
            None
        }
    }
}

fn allowed_origins(r: &mut Reader<'_>) -> Vec<String> {
    let mut origins = Vec::new();
    for text in r.get::<Vec<String>>("http.allowed_origins", Vec::new()) {
        match origin_of(&text) {
            Some(origin) => origins.push(origin),
            None => {
                let expected = "each is scheme, host and port only, such as `https://app.example.com`;";
                let sentence = format!("http.allowed_origins: {expected} found `{text}`");
                r.problem("http.allowed_origins", sentence);
            }
        }
    }
    origins
}

/// The origin as browsers write it (RFC 6454 section 6.1): lower case, no default port. Schemes of apps
/// (`capacitor://localhost`) keep scheme and host; a path, `*` and `null` are none.
fn origin_of(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(Url::has_host)?;
    let bare = url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
    match url.origin() {
        _ if !bare || url.host_str().is_none_or(|host| host.is_empty() || host.contains('*')) => None,
        origin @ Origin::Tuple(..) => Some(origin.ascii_serialization()),
        Origin::Opaque(_) => {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            Some(format!("{}://{}{port}", url.scheme(), url.host_str()?.to_ascii_lowercase()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::origin_of;
    use crate::config::{Config, Sources};

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        assert_eq!(origin_of("HTTPS://App.Example.com:443/").as_deref(), Some("https://app.example.com"));
        assert_eq!(origin_of("http://localhost:5173").as_deref(), Some("http://localhost:5173"));
        assert_eq!(origin_of("capacitor://localhost").as_deref(), Some("capacitor://localhost"));
        for bad in ["null", "*", "https://*.example.com", "app.example.com", "https://u@h", "https://h?x"] {
            assert_eq!(origin_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn without_a_public_url_the_names_of_this_machine_are_allowed() {
        let http = Config::load(&Sources::new("data")).unwrap().http;
        let origins = http.origins(4000);
        assert_eq!(origins, ["http://localhost:4000", "http://127.0.0.1:4000", "http://[::1]:4000"]);
        assert_eq!(http.base_url(4000), "http://localhost:4000");
    }

    #[test]
    fn with_a_public_url_only_its_origin_and_the_listed_ones_are() {
        let sources = Sources::new("data")
            .with("CHATD_HTTP__PUBLIC_URL", "http://chat.example.test/app/")
            .with("CHATD_HTTP__ALLOWED_ORIGINS", "http://a.test, http://b.test:81");
        let http = Config::load(&sources).unwrap().http;
        assert_eq!(http.origins(1), ["http://chat.example.test", "http://a.test", "http://b.test:81"]);
        assert_eq!(http.base_url(1), "http://chat.example.test/app");
    }
}
