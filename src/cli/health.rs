//! `chatd health`: asks the server of these settings whether it is alive; for health checks of containers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::Config;

use super::{CliError, Exit, output};

/// Connecting, and each read and write, take so long at most.
const WITHIN: Duration = Duration::from_secs(3);
/// The answer is smaller.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Arguments of `chatd health`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask whether it is ready for clients, not just alive
    #[arg(long)]
    pub ready: bool,
}

/// Asks; prints what the server says.
///
/// # Errors
/// It does not answer, or says that it is not well (69).
pub fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let path = if args.ready { "/ready" } else { "/health" };
    let bound = config.http.binds().into_iter().next();
    let address = reachable(bound.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, config.http.port).into()));
    let away = |error: std::io::Error| {
        CliError::new(Exit::Dependency, format!("no server answers on http://{address}{path}: {error}"))
    };
    let answer = ask(address, path).map_err(away)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("nothing");
    if status == "200" {
        return output::print(&format!("{body}\n"));
    }
    Err(CliError::new(Exit::Dependency, format!("http://{address}{path} answered {status}: {body}")))
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Where a server that listens on `bound` is reached from the same machine.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_loopback() {
        let reached = |bound: &str| reachable(bound.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:3000"), "127.0.0.1:3000");
        assert_eq!(reached("[::]:3000"), "[::1]:3000");
        assert_eq!(reached("192.0.2.7:3001"), "192.0.2.7:3001");
    }
}
