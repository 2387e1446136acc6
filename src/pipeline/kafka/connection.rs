//! One connection to a broker: requests one after the other without waiting for answers, which come in the
//! same order, each before its deadline.
//!
//! A task of its own writes and reads; it ends with the connection's handle, with the first error, and when the
//! oldest request is not answered by its deadline. Whoever waits for an answer may stop waiting at any time. A
//! connection that ended stays so: its user opens another.

mod io;

use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::KafkaError;
use super::security::Security;
use io::Outgoing;

/// How long making a connection may take, TLS and login included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Requests that wait to be written on one connection at most.
const REQUESTS_MAX: usize = 256;
/// The version of the first request, which asks for the versions of the others: Kafka 2.4 and later have it.
const API_VERSIONS_VERSION: i16 = 3;
/// As brokers show it in their logs and metrics.
const CLIENT_ID: StrBytes = StrBytes::from_static_str("chatd");

/// A connection to a broker. Ends when it is dropped.
pub struct Connection {
    address: String,
    requests: mpsc::Sender<Outgoing>,
    correlation: AtomicI32,
    versions: HashMap<i16, VersionRange>,
    /// The broker forgets the login some time after this.
    expires: Option<Instant>,
    stop: CancellationToken,
    _ends: DropGuard,
}

impl Connection {
    /// Connects to `host:port`, logs in and learns what the broker speaks; within 2 s.
    pub async fn open(address: &str, security: &Security) -> Result<Self, KafkaError> {
        match timeout(CONNECT_PATIENCE, Self::establish(address, security)).await {
            Ok(opened) => opened,
            Err(_) => Err(KafkaError::Timeout { address: address.to_owned() }),
        }
    }

    async fn establish(address: &str, security: &Security) -> Result<Self, KafkaError> {
        let failed = |error: std::io::Error| KafkaError::Connect {
            address: address.to_owned(),
            what: error.to_string(),
        };
        let tls = security.tls(address)?;
        let tcp = TcpStream::connect(address).await.map_err(failed)?;
        // Requests are written whole: waiting for more would only add 40 ms.
        tcp.set_nodelay(true).map_err(failed)?;
        let stop = CancellationToken::new();
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let owned = address.to_owned();
        match tls {
            None => {
                tokio::spawn(io::run(owned, tcp, queue, stop.clone()));
            }
            Some((connector, name)) => {
                let stream = connector.connect(name, tcp).await.map_err(failed)?;
                tokio::spawn(io::run(owned, stream, queue, stop.clone()));
            }
        }
        let first = VersionRange { min: API_VERSIONS_VERSION, max: API_VERSIONS_VERSION };
        let mut connection = Self {
            address: address.to_owned(),
            requests,
            correlation: AtomicI32::new(0),
            versions: HashMap::from([(ApiKey::ApiVersions as i16, first)]),
            expires: None,
            _ends: stop.clone().drop_guard(),
            stop,
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(CLIENT_ID)
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let spoken = connection.call(&request, CONNECT_PATIENCE).await?;
        KafkaError::check("the versions of requests", spoken.error_code)?;
        connection.versions = spoken
            .api_keys
            .iter()
            .map(|api| (api.api_key, VersionRange { min: api.min_version, max: api.max_version }))
            .collect();
        connection.expires = security.log_in(&connection, CONNECT_PATIENCE).await?;
        Ok(connection)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// It can take no more requests, or the broker will soon forget its login: another is to be opened.
    pub fn is_over(&self) -> bool {
        self.requests.is_closed() || self.expires.is_some_and(|at| at <= Instant::now())
    }

    /// Ends the connection; whatever waits for an answer gets an error.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// The newest version of a request that both sides speak.
    pub fn version_of<R: Request>(&self) -> Result<i16, KafkaError> {
        let ours = R::VERSIONS;
        let theirs = self.versions.get(&R::KEY);
        let both = theirs.map(|theirs| ours.intersect(theirs)).filter(|both| !both.is_empty());
        let unsupported = || KafkaError::Unsupported { address: self.address.clone(), api: R::KEY };
        both.map(|both| both.max).ok_or_else(unsupported)
    }

    /// Asks and waits for the answer. A connection whose call timed out is closed.
    pub async fn call<R: Request>(&self, request: &R, patience: Duration) -> Result<R::Response, KafkaError> {
        let deadline = Instant::now() + patience;
        match timeout_at(deadline, self.start(request, deadline)?).await {
            Ok(answer) => answer,
            Err(_) => {
                self.close();
                Err(KafkaError::Timeout { address: self.address.clone() })
            }
        }
    }

    /// Asks in the newest version both speak. The connection ends if the answer is not there by the deadline;
    /// dropping the answer's future only means that nobody looks at it.
    pub fn start<R: Request>(&self, request: &R, deadline: Instant) -> Result<Answer<R>, KafkaError> {
        let version = self.version_of::<R>()?;
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed);
        let frame = encode(request, version, correlation)?;
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { frame, correlation, deadline, answer };
        self.requests.try_send(outgoing).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => KafkaError::Busy { address: self.address.clone() },
            mpsc::error::TrySendError::Closed(_) => self.ended(),
        })?;
        Ok(Answer { answered, version, address: self.address.clone(), request: PhantomData })
    }

    fn ended(&self) -> KafkaError {
        KafkaError::Closed { address: self.address.clone(), what: "it ended before".into() }
    }
}

/// An answer that is under way.
pub struct Answer<R> {
    answered: oneshot::Receiver<Result<Bytes, KafkaError>>,
    version: i16,
    address: String,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Future for Answer<R> {
    type Output = Result<R::Response, KafkaError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(Pin::new(&mut self.answered).poll(context));
        Poll::Ready(match answered {
            Ok(frame) => frame.and_then(|frame| decode::<R>(frame, self.version)),
            Err(_) => {
                let what = "its task ended".to_owned();
                Err(KafkaError::Closed { address: self.address.clone(), what })
            }
        })
    }
}

/// A request as it goes over the wire, its length in front.
fn encode<R: Request>(request: &R, version: i16, correlation: i32) -> Result<Bytes, KafkaError> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(CLIENT_ID));
    let size = request.compute_size(version).map_err(KafkaError::malformed)?;
    let mut frame = BytesMut::with_capacity(size + 64);
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).map_err(KafkaError::malformed)?;
    request.encode(&mut frame, version).map_err(KafkaError::malformed)?;
    let length = i32::try_from(frame.len() - 4).map_err(KafkaError::malformed)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

fn decode<R: Request>(mut frame: Bytes, version: i16) -> Result<R::Response, KafkaError> {
    ResponseHeader::decode(&mut frame, R::Response::header_version(version))
        .and_then(|_| R::Response::decode(&mut frame, version))
        .map_err(KafkaError::malformed)
}

#[cfg(test)]
mod tests;
