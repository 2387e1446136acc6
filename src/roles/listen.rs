//! Binding: addresses, buffers and timeouts of the sockets that are accepted.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// A peer that acknowledges nothing for so long is gone (RFC 5482, TCP_USER_TIMEOUT).
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// Binds every address. Of the default pair 127.0.0.1 and ::1 the second may be missing on a machine without
/// IPv6; with port 0 it gets the port of the first.
///
/// # Errors
/// An address is in use or not of this machine: named in the error.
pub fn bind(addresses: &[SocketAddr], send_buffer_bytes: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let mut address = *address;
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        match bind_one(address, send_buffer_bytes) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing_ipv6(address, &error) && !listeners.is_empty() => {
                tracing::debug!(%address, %error, "this machine has no IPv6; going on without");
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")));
            }
        }
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr, send_buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these on Linux: what waits in the kernel for a slow peer is bounded.
    socket.set_send_buffer_size(send_buffer_bytes)?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn is_missing_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    // EAFNOSUPPORT where the kernel has no IPv6, EADDRNOTAVAIL where loopback has no ::1.
    address.is_ipv6()
        && (error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(libc_eafnosupport()))
}

const fn libc_eafnosupport() -> i32 {
    // Linux, all architectures: asm-generic/errno.h.
    97
}
