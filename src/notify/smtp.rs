//! The channel to a mail server: SMTP (RFC 5321) plain, with STARTTLS or under TLS from the first byte.
//!
//! What a server answers decides what becomes of a mail. A refusal of the receiver or of the message is
//! permanent; all else is temporary, above all what only the operator can mend (a wrong password, a sender
//! that the server does not accept, relaying that it does not allow): such a mail waits, it is not dropped.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use mail_send::{SmtpClient, SmtpClientBuilder};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, EXT_START_TLS, EhloResponse, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Channel, ChannelError, Connection, Mail, mime};

mod settings;

pub use settings::{SmtpSettings, SmtpSetupError, SmtpTls};

/// The whole of `connect` takes at most this many limits, however slowly the server answers each step.
const CONNECT_LIMITS: u32 = 3;
/// The answer to the content is awaited this many limits. RFC 5321 section 4.5.3.2.6 asks for 10 minutes,
/// because who gives up earlier sends the mail twice; 5 minutes (at 30 s) cover filters that are slow.
const CONTENT_REPLY_LIMITS: u32 = 10;
/// The whole of `send` takes at most this many: RSET, MAIL, RCPT, DATA, the content and the answer to it.
const SEND_LIMITS: u32 = 5 + CONTENT_REPLY_LIMITS;
/// The most of a host's addresses that are tried; they share one limit.
const ADDRESSES_MAX: usize = 4;
/// Goodbye is a courtesy.
const QUIT_WITHIN: Duration = Duration::from_secs(2);

/// Sends mails through one server.
pub struct SmtpChannel {
    /// mail-send's own parts: where to, TLS, credentials, EHLO name, limit. Its `connect` is not used,
    /// since it reads the greeting of a plain connection without a limit.
    client: SmtpClientBuilder<String>,
    host: String,
    port: u16,
    tls: SmtpTls,
}

impl SmtpChannel {
    /// Checks the settings and reads the certificates; connects to nothing.
    ///
    /// # Errors
    /// [`SmtpSetupError`] names the setting at fault.
    pub fn new(settings: SmtpSettings) -> Result<Self, SmtpSetupError> {
        settings.check()?;
        let mut client = settings.client()?;
        client.timeout = settings.limit;
        // A password goes over nothing but TLS.
        let tls = match settings.tls {
            SmtpTls::Opportunistic if settings.credentials.is_some() => SmtpTls::Required,
            tls => tls,
        };
        Ok(Self { client, host: settings.host, port: settings.port, tls })
    }

    async fn open(&self) -> Result<Box<dyn Connection>, ChannelError> {
        let mut client = SmtpClient { stream: self.dial().await?, timeout: self.client.timeout };
        if self.tls == SmtpTls::Implicit {
            let tls = client.into_tls(&self.client.tls_connector, &self.host).await;
            let mut client = tls.map_err(|error| fault("TLS", &error))?;
            greeting(&mut client).await?;
            return self.sign_in(client).await;
        }
        greeting(&mut client).await?;
        let offers = self.hello(&mut client).await?;
        if offers.has_capability(EXT_START_TLS) {
            let tls = client.start_tls(&self.client.tls_connector, &self.host).await;
            return self.sign_in(tls.map_err(|error| fault("STARTTLS", &error))?).await;
        }
        match self.tls {
            SmtpTls::Opportunistic => Ok(Session::open(client)),
            SmtpTls::Required | SmtpTls::Implicit => {
                Err(ChannelError::temporary("the server offers no STARTTLS; nothing was sent"))
            }
        }
    }

    /// Connects to the first of the host's addresses that answers.
    async fn dial(&self) -> Result<TcpStream, ChannelError> {
        const STEP: &str = "connect";
        let limit = self.client.timeout;
        let found = timeout(limit, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let addresses: Vec<SocketAddr> = match found {
            Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
            Ok(Err(_)) => return Err(ChannelError::temporary("the host name is not known")),
            Err(_) => return Err(fault("name look-up", &mail_send::Error::Timeout)),
        };
        let mut last = ChannelError::temporary("the host name has no address");
        let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Commands are small and each waits for its answer.
                    stream.set_nodelay(true).map_err(|error| fault(STEP, &error.into()))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = fault(STEP, &error.into()),
                Err(_) => last = fault(STEP, &mail_send::Error::Timeout),
            }
        }
        Err(last)
    }

    async fn hello<S>(&self, client: &mut SmtpClient<S>) -> Result<EhloResponse<String>, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        client.ehlo(&self.client.local_host).await.map_err(|error| fault("EHLO", &error))
    }

    /// Says hello once TLS stands, and signs in where there are credentials.
    async fn sign_in<S>(&self, mut client: SmtpClient<S>) -> Result<Box<dyn Connection>, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut offers = self.hello(&mut client).await?;
        if let Some(credentials) = &self.client.credentials {
            // When one method is refused, mail-send goes on to the next that is offered, also to those
            // it was built without: it then leaves the challenge unanswered, and reports that in place of
            // the refusal. Under TLS these two are all that is needed.
            offers.auth_mechanisms &= AUTH_PLAIN | AUTH_LOGIN;
            client.authenticate(credentials, &offers).await.map_err(|error| fault("AUTH", &error))?;
        }
        Ok(Session::open(client))
    }
}

#[async_trait]
impl Channel for SmtpChannel {
    fn name(&self) -> &'static str {
        "smtp"
    }

    fn longest_send(&self) -> Duration {
        self.client.timeout * (CONNECT_LIMITS + SEND_LIMITS)
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, ChannelError> {
        match timeout(self.client.timeout * CONNECT_LIMITS, self.open()).await {
            Ok(answer) => answer,
            Err(_) => Err(fault("connect and sign in", &mail_send::Error::Timeout)),
        }
    }
}

async fn greeting<S>(client: &mut SmtpClient<S>) -> Result<(), ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const STEP: &str = "greeting";
    let reply = timeout(client.timeout, client.read()).await.unwrap_or(Err(mail_send::Error::Timeout));
    let reply = reply.map_err(|error| fault(STEP, &error))?;
    if reply.code == 220 { Ok(()) } else { Err(fault(STEP, &mail_send::Error::UnexpectedReply(reply))) }
}

/// One open connection.
struct Session<S: AsyncRead + AsyncWrite> {
    client: SmtpClient<S>,
    /// Between two mails, as far as both sides know. False while a mail is on its way, so that one that
    /// was given up in the middle is never continued with the next.
    between_mails: bool,
}

impl<S> Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn open(client: SmtpClient<S>) -> Box<dyn Connection> {
        Box::new(Self { client, between_mails: true })
    }

    async fn hand_over(&mut self, mail: &Mail, message: &[u8]) -> Result<(), ChannelError> {
        let from = format!("MAIL FROM:<{}>\r\n", mail.from.email().as_str());
        let to = format!("RCPT TO:<{}>\r\n", mail.to.email().as_str());
        self.command("MAIL", &from).await?;
        self.command("RCPT", &to).await?;
        self.command("DATA", "DATA\r\n").await?;

        let limit = self.client.timeout;
        let written = timeout(limit, self.client.write_message(message)).await;
        let written = written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        written.map_err(|error| fault("content", &error.into()))?;
        let reply = timeout(limit * CONTENT_REPLY_LIMITS, self.client.read()).await;
        let reply = reply.unwrap_or(Err(mail_send::Error::Timeout));
        judge("content", &reply.map_err(|error| fault("content", &error))?)
    }

    async fn command(&mut self, step: &'static str, line: &str) -> Result<(), ChannelError> {
        judge(step, &self.client.cmd(line).await.map_err(|error| fault(step, &error))?)
    }
}

#[async_trait]
impl<S> Connection for Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn send(&mut self, mail: &Mail) -> Result<(), ChannelError> {
        let message = mime::encode(mail)?;
        if !std::mem::replace(&mut self.between_mails, false) {
            return Err(ChannelError::temporary("the connection was given up"));
        }
        let limit = self.client.timeout * SEND_LIMITS;
        let answer = timeout(limit, self.hand_over(mail, &message)).await;
        let answer = answer.unwrap_or_else(|_| Err(fault("send", &mail_send::Error::Timeout)));
        self.between_mails = match &answer {
            Ok(()) => true,
            Err(ChannelError::Permanent { .. }) => self.command("RSET", "RSET\r\n").await.is_ok(),
            Err(ChannelError::Temporary { .. }) => false,
        };
        answer
    }

    async fn close(self: Box<Self>) {
        if self.between_mails {
            // Nothing depends on the answer.
            let _ = timeout(QUIT_WITHIN, self.client.quit()).await;
        }
    }
}

/// What a reply means for the mail. 4xx and anything unexpected: later. 5xx: never, except where not the
/// mail is at fault but the sender's standing with the server, which the operator can mend:
/// - `MAIL`: the server does not accept us or our address;
/// - 503, 530, 534, 535, 538 (RFC 4954 section 6): it wants a sign-in, or another one;
/// - `RCPT` with 5.7.x (RFC 3463 section 3.8): relaying denied.
fn judge(step: &'static str, reply: &Response<String>) -> Result<(), ChannelError> {
    let expected = match step {
        "DATA" => reply.code == 354,
        _ => (200..300).contains(&reply.code),
    };
    if expected {
        return Ok(());
    }
    let standing = step == "MAIL"
        || matches!(reply.code, 503 | 530 | 534 | 535 | 538)
        || (step == "RCPT" && reply.esc[0] == 5 && reply.esc[1] == 7);
    let reason = format!("{} at {step}", class(reply));
    if (500..600).contains(&reply.code) && !standing {
        Err(ChannelError::Permanent { reason })
    } else {
        Err(ChannelError::Temporary { reason })
    }
}

/// `550 5.1.1`, or `550` where the server gives no enhanced code; nothing of the reply's text.
fn class(reply: &Response<String>) -> String {
    match reply.esc {
        [0, ..] => reply.code.to_string(),
        [class, subject, detail] => format!("{} {class}.{subject}.{detail}", reply.code),
    }
}

/// A fault of the way, in words of our own.
fn fault(step: &str, error: &mail_send::Error) -> ChannelError {
    use mail_send::Error as E;
    let what = match error {
        E::UnexpectedReply(reply) | E::AuthenticationFailed(reply) => class(reply),
        E::Io(error) => error.kind().to_string(),
        E::Tls(error) => settings::tls_fault(error).to_owned(),
        E::Timeout => "timed out".to_owned(),
        E::UnparseableReply => "hung up, or no SMTP".to_owned(),
        E::UnsupportedAuthMechanism => "neither PLAIN nor LOGIN offered".to_owned(),
        E::Auth(_) | E::Base64(_) => "odd challenge".to_owned(),
        E::InvalidTLSName | E::MissingStartTls => "no TLS".to_owned(),
        E::MissingCredentials | E::MissingMailFrom | E::MissingRcptTo => "incomplete".to_owned(),
    };
    ChannelError::Temporary { reason: format!("{what} at {step}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, esc: [u8; 3]) -> Response<String> {
        Response { code, esc, message: "no such user <ana@example.test>".to_owned() }
    }

    #[test]
    fn a_refused_receiver_or_message_is_final() {
        for (step, code, esc, reason) in [
            ("RCPT", 550, [5, 1, 1], "550 5.1.1 at RCPT"),
            ("RCPT", 553, [0, 0, 0], "553 at RCPT"),
            ("RCPT", 552, [5, 2, 2], "552 5.2.2 at RCPT"),
            ("DATA", 554, [0, 0, 0], "554 at DATA"),
            ("content", 554, [5, 7, 1], "554 5.7.1 at content"),
        ] {
            assert_eq!(judge(step, &reply(code, esc)), Err(ChannelError::permanent(reason)));
        }
    }

    #[test]
    fn what_passes_or_what_the_operator_can_mend_keeps_the_mail() {
        for (step, code, esc, reason) in [
            ("RCPT", 450, [4, 2, 1], "450 4.2.1 at RCPT"),
            ("content", 421, [0, 0, 0], "421 at content"),
            ("MAIL", 550, [5, 7, 1], "550 5.7.1 at MAIL"),
            ("MAIL", 530, [5, 7, 0], "530 5.7.0 at MAIL"),
            ("RCPT", 530, [0, 0, 0], "530 at RCPT"),
            ("RCPT", 554, [5, 7, 1], "554 5.7.1 at RCPT"),
            ("RCPT", 503, [5, 5, 1], "503 5.5.1 at RCPT"),
            ("DATA", 250, [2, 0, 0], "250 2.0.0 at DATA"),
            ("MAIL", 354, [0, 0, 0], "354 at MAIL"),
        ] {
            assert_eq!(judge(step, &reply(code, esc)), Err(ChannelError::temporary(reason)));
        }
        assert_eq!(judge("DATA", &reply(354, [0, 0, 0])), Ok(()));
        assert_eq!(judge("RCPT", &reply(251, [2, 1, 5])), Ok(()));
    }

    #[test]
    fn a_fault_of_the_way_is_temporary_and_says_nothing_of_the_servers_words() {
        use mail_send::Error as E;
        for (error, reason) in [
            (E::AuthenticationFailed(reply(535, [5, 7, 8])), "535 5.7.8 at AUTH"),
            (E::UnexpectedReply(reply(554, [0, 0, 0])), "554 at AUTH"),
            (E::Io(io::ErrorKind::ConnectionReset.into()), "connection reset at AUTH"),
            (E::Timeout, "timed out at AUTH"),
        ] {
            assert_eq!(fault("AUTH", &error), ChannelError::temporary(reason));
        }
    }

    #[tokio::test]
    async fn a_refused_sign_in_is_reported_as_the_server_put_it() {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex};

        let channel = SmtpChannel::new(SmtpSettings {
            host: "mail.example.test".into(),
            port: 465,
            tls: SmtpTls::Implicit,
            credentials: Some(("ana".into(), crate::domain::Secret::new("word".into()))),
            ca_file: None,
            hello_name: "chat.example.test".into(),
            limit: Duration::from_secs(5),
        });
        let channel = channel.unwrap();
        let (ours, theirs) = duplex(4_096);
        let server = async {
            let mut theirs = BufReader::new(theirs);
            let mut heard = String::new();
            for reply in ["250-mail\r\n250 AUTH CRAM-MD5 DIGEST-MD5 PLAIN\r\n", "454 4.7.0 not now\r\n"] {
                theirs.read_line(&mut heard).await.unwrap();
                theirs.write_all(reply.as_bytes()).await.unwrap();
            }
            heard
        };
        let client = SmtpClient { stream: ours, timeout: Duration::from_secs(5) };
        let (signed_in, heard) = tokio::join!(channel.sign_in(client), server);
        assert_eq!(signed_in.err(), Some(ChannelError::temporary("454 4.7.0 at AUTH")));
        assert_eq!(heard, "EHLO chat.example.test\r\nAUTH PLAIN AGFuYQB3b3Jk\r\n");
    }
}
