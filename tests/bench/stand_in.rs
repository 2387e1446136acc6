//! A chat server of a hundred lines that keeps the promise, or breaks it in one chosen way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatd::cli::bench::dialect::Dialect;
use chatd::domain::{ClientId, ConversationId, MessageId, UserId};
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What its tokens are signed with.
pub const SECRET: &str = "a secret of the stand-in, long enough";

/// How it breaks the promise, each time the number of messages so far can be divided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// The recipient does not get it.
    Lose(u64),
    /// Nobody gets it, and it takes no seq.
    LoseEverywhere(u64),
    /// The recipient gets it twice.
    Duplicate(u64),
    /// The recipient gets it after the next one.
    Swap(u64),
    /// It is stored twice.
    StoreTwice(u64),
    /// It is refused.
    Refuse(u64),
    /// No answer.
    Ignore(u64),
    /// The sender's socket is closed with 4430.
    Close(u64),
    /// Everything stands still for that long.
    Stall(u64, Duration),
}

struct Server {
    fault: Fault,
    dialect: Dialect,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: u64,
    seqs: HashMap<ConversationId, i64>,
    sockets: HashMap<UserId, mpsc::Sender<Message>>,
    held_back: HashMap<UserId, Message>,
}

/// Starts it on a free port; gives its URL.
pub async fn start(fault: Fault) -> String {
    start_as(fault, Dialect::Chatd).await
}

/// The same, with the protocol of the Node reference or chatd's.
pub async fn start_as(fault: Fault, dialect: Dialect) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = Arc::new(Server { fault, dialect, state: Mutex::default() });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&server).serve(stream));
        }
    });
    url
}

/// Answers each request on a free port with a page of so many messages; gives its URL.
pub async fn pages(rows: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let body = vec![r#"{"content":"x"}"#; rows].join(",");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n[{body}]", body.len() + 2);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        // Who has enough closes.
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    url
}

fn user_of(request: &Request, dialect: Dialect) -> Option<UserId> {
    let token = match dialect {
        Dialect::Chatd => request.headers().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?,
        Dialect::Reference => request.uri().query()?.strip_prefix("token=")?,
    };
    let key = DecodingKey::from_secret(SECRET.as_bytes());
    let claims = jsonwebtoken::decode::<Value>(token, &key, &Validation::default()).ok()?.claims;
    UserId::new(claims["userId"].as_i64()?).ok().filter(|user| claims["name"] == format!("user{user}"))
}

impl Server {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // Without it every second small frame waits 40 ms for the client's delayed acknowledgement.
        stream.set_nodelay(true).unwrap();
        let mut user = None;
        #[allow(clippy::result_large_err)] // the callback's type is tungstenite's
        let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            user = user_of(request, self.dialect);
            let refusal = || Response::builder().status(401).body(Some("who is this".to_owned())).unwrap();
            user.map(|_| response).ok_or_else(refusal)
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, check).await else { return };
        let user = user.unwrap();
        let (to_user, mut outgoing) = mpsc::channel(100_000);
        if self.dialect == Dialect::Chatd {
            to_user.try_send(text(json!({"type": "hello", "user": {"id": user}}))).unwrap();
        }
        self.state.lock().unwrap().sockets.insert(user, to_user.clone());
        loop {
            tokio::select! {
                Some(message) = outgoing.recv() => {
                    let is_close = message.is_close();
                    if socket.send(message).await.is_err() || is_close { return }
                }
                incoming = socket.next() => match incoming {
                    Some(Ok(Message::Text(frame))) => {
                        self.take(user, &serde_json::from_str(&frame).unwrap(), &to_user);
                    }
                    // Who does not answer pings with their payload gets nothing.
                    Some(Ok(Message::Pong(payload))) if payload.as_ref() == b"are you there" => {
                        to_user.try_send(text(json!({"type": "resumed", "conversations": []}))).unwrap();
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
            }
        }
    }

    fn take(&self, user: UserId, frame: &Value, answer: &mpsc::Sender<Message>) {
        match frame["type"].as_str().unwrap() {
            "resume" => answer.try_send(Message::Ping("are you there".into())).unwrap(),
            "send" => self.take_send(user, frame, answer),
            "close me" => answer.try_send(close(4401, "as you wish")).unwrap(),
            other => panic!("a frame {other}"),
        }
    }

    fn take_send(&self, from: UserId, frame: &Value, answer: &mpsc::Sender<Message>) {
        let to = UserId::new(frame["to"].as_i64().unwrap()).unwrap();
        let conversation = ConversationId::dm(from, to).unwrap();
        let client_id = frame["client_id"].as_str().unwrap();
        let id = MessageId::derive(conversation, from, &ClientId::new(client_id).unwrap());
        let mut state = self.state.lock().unwrap();
        state.messages += 1;
        let n = state.messages;
        let due = |every: u64| n.is_multiple_of(every);
        match self.fault {
            Fault::Refuse(every) if due(every) => {
                let error = json!({"type": "error", "code": "overloaded", "client_id": client_id});
                return answer.try_send(text(error)).unwrap();
            }
            Fault::Ignore(every) if due(every) => return,
            Fault::Close(every) if due(every) => return answer.try_send(close(4430, "too slow")).unwrap(),
            // The lock is held, so that everybody waits.
            Fault::Stall(at, pause) if n == at => std::thread::sleep(pause),
            _ => {}
        }
        let accepted = match self.dialect {
            Dialect::Chatd => {
                json!({"type": "accepted", "client_id": client_id, "id": id, "conversation": conversation})
            }
            Dialect::Reference => json!({"type": "accepted", "client_id": client_id, "id": n}),
        };
        // A socket may be closed by now: then nobody waits for it.
        let _ = answer.try_send(text(accepted));
        if matches!(self.fault, Fault::LoseEverywhere(every) if due(every)) {
            return;
        }
        let copies = if matches!(self.fault, Fault::StoreTwice(every) if due(every)) { 2 } else { 1 };
        for _ in 0..copies {
            let seq = state.seqs.entry(conversation).or_insert(0);
            *seq += 1;
            let mut message = json!({
                "type": "message", "conversation": conversation, "seq": *seq, "id": id,
                "from": from, "to": to, "content": frame["content"], "at": "2026-01-01T00:00:00.000Z",
            });
            if self.dialect == Dialect::Reference {
                message = json!({
                    "type": "message", "id": n, "from": from, "to": to, "content": frame["content"],
                    "client_id": client_id, "at": 0,
                });
            }
            let message = text(message);
            if self.dialect == Dialect::Chatd {
                let _ = answer.try_send(message.clone());
            }
            state.deliver(to, message, self.fault, n);
        }
    }
}

impl State {
    fn deliver(&mut self, to: UserId, message: Message, fault: Fault, n: u64) {
        let Some(socket) = self.sockets.get(&to) else { return };
        let send = |message: Message| drop(socket.try_send(message));
        match fault {
            Fault::Lose(every) if n.is_multiple_of(every) => {}
            Fault::Duplicate(every) if n.is_multiple_of(every) => {
                send(message.clone());
                send(message);
            }
            Fault::Swap(every) if n.is_multiple_of(every) => {
                self.held_back.insert(to, message);
            }
            _ => {
                send(message);
                self.held_back.remove(&to).into_iter().for_each(send);
            }
        }
    }
}

fn text(value: Value) -> Message {
    Message::Text(value.to_string().into())
}

fn close(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }))
}
