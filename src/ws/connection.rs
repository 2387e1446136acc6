//! The TCP stream below actix-http, for two things that `HttpServer` does not give.
//!
//! **A way out.** A connection that has become a WebSocket leaves actix-http ([`super::handover`]) and belongs to
//! its session alone. Inside, actix-http's task would stand between the two for every frame, with 16 KiB of
//! buffers, and a peer that reads nothing would be beyond anybody's reach.
//!
//! **Small reads.** actix-http reads until nothing is left before it looks at what it read, and its read buffer
//! keeps the largest size it ever had. This stream gives it no more at once than fits the 8 KiB that the buffer
//! begins with.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{HttpService, Protocol, Request, Response, error::DispatchError};
use actix_server::ServerBuilder;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handover::Handover;

/// actix-http reserves more when less than this is free in its read buffer (`LW_BUFFER_SIZE`).
const READ_ROOM_BYTES: usize = 1_024;
/// The most that is read at once.
const READ_BYTES_MAX: usize = 4_096;

/// Times of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// A request head must be there within this time, or it is answered with 408.
    pub head_within: Duration,
    /// How long a connection without a request is kept.
    pub idle_max: Duration,
    /// How long what the peer still sends is thrown away after an early answer.
    pub linger: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let linger = Duration::from_secs(1);
        Self { head_within: Duration::from_secs(10), idle_max: Duration::from_secs(5), linger }
    }
}

/// Serves `app` on `listener`, as `HttpServer::listen` does, but on [`Connection`]s, so that handlers find a
/// [`Handover`] in `HttpRequest::conn_data`. TCP_NODELAY is set.
///
/// # Errors
/// When the listener is unusable.
pub fn listen<F, I, S, B>(
    server: ServerBuilder,
    listener: std::net::TcpListener,
    limits: ConnectionLimits,
    app: F,
) -> io::Result<ServerBuilder>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let stopping = server.graceful_shutdown_signal();
    server.listen("http", listener, move || {
        let stopping = stopping.clone();
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(limits.head_within)
            .client_disconnect_timeout(limits.linger)
            .keep_alive(limits.idle_max)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.handover.clone());
            })
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(accept).and_then(http)
    })
}

async fn accept(
    stream: TcpStream,
) -> Result<(Connection, Protocol, Option<std::net::SocketAddr>), DispatchError> {
    // Without it the second of two small writes waits for the peer's delayed acknowledgement of the first.
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr().ok();
    Ok((Connection::new(stream), Protocol::Http1, peer))
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// None once it was handed over; then this is a connection that the peer has ended.
    stream: Option<TcpStream>,
    handover: Handover,
    /// As much was read as was asked for; the next read waits until that was looked at.
    read_enough: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), handover: Handover::default(), read_enough: false }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.handover.gone();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        if !this.handover.may_read(cx) {
            return Poll::Pending;
        }
        if std::mem::take(&mut this.read_enough) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // What is left free keeps actix-http from growing its buffer before it looks at what is in it.
        let room = buffer.remaining();
        let most =
            room.saturating_sub(READ_ROOM_BYTES).max(READ_ROOM_BYTES / 2).min(room).min(READ_BYTES_MAX);
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES_MAX];
        let mut part = ReadBuf::uninit(&mut bytes[..most]);
        let polled = Pin::new(stream).poll_read(cx, &mut part);
        buffer.put_slice(part.filled());
        this.read_enough = most > 0 && part.remaining() == 0;
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(stream) = &mut this.stream {
            std::task::ready!(Pin::new(stream).poll_flush(cx))?;
            this.handover.flushed(&mut this.stream);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
