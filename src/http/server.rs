//! The listening side: how long a client may take, and how much of it is buffered.
//!
//! actix-http answers some requests before any of our code sees them, without a body, and closes: a head that
//! did not arrive within `head_timeout` (408), one beyond 128 KiB or 96 headers (431), and one that is no
//! HTTP (400). These cannot be given our shape. A head between 16 KiB and those limits, a slow body and a
//! large one can, and are (`middleware::envelope`, `extract`).

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::Server;
use actix_web::web::ServiceConfig;

use super::{HttpSettings, Surface};
use crate::app::App;

/// How a listener treats its connections.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettings {
    /// Threads that serve.
    pub workers: usize,
    /// Connections of each worker at most; more wait in the listener's backlog.
    pub worker_connections_max: usize,
    /// How long a request head may take from its connection's start.
    pub head_timeout: Duration,
    /// How long a connection without a request stays open.
    pub keep_alive: Duration,
    /// How long a closed connection may take to end.
    pub disconnect_timeout: Duration,
    /// What is buffered of an answer before it goes to the socket.
    pub write_buffer_bytes: usize,
    /// How long running requests may take when the server stops, in whole seconds.
    pub shutdown_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            worker_connections_max: 30_000,
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            disconnect_timeout: Duration::from_secs(5),
            write_buffer_bytes: 16 * 1024,
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

/// Serves a listener that is bound already (its backlog is the binder's) until the returned server is
/// stopped through its handle; signals are not its business. `sockets` is called once a worker.
pub fn serve(
    listener: TcpListener,
    server: ServerSettings,
    app: Arc<App>,
    settings: HttpSettings,
    surface: Surface,
    sockets: impl Fn(&mut ServiceConfig) + Send + Clone + 'static,
) -> io::Result<Server> {
    let factory = move || super::create(Arc::clone(&app), settings.clone(), surface, sockets.clone());
    let server = HttpServer::new(factory)
        .workers(server.workers)
        .max_connections(server.worker_connections_max)
        .client_request_timeout(server.head_timeout)
        .keep_alive(server.keep_alive)
        .client_disconnect_timeout(server.disconnect_timeout)
        .h1_write_buffer_size(server.write_buffer_bytes)
        .tcp_nodelay(true)
        .shutdown_timeout(server.shutdown_timeout.as_secs())
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(server)
}
