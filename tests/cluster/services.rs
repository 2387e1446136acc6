//! PostgreSQL, Redis and Kafka for this program alone, since its tests kill them: one set, and one test at a
//! time that uses it. Kafka sends its clients to a proxy; the way to the others leads through one a process.

use std::sync::OnceLock;

use tokio::sync::{Mutex, MutexGuard};

use crate::proxy::{Proxy, Way};
use crate::support::stack::{Exports, OwnStack, stack};

const SERVICES: [&str; 3] = ["postgres", "redis", "kafka"];

/// The services.
pub struct Services {
    own: &'static OwnStack,
    /// In front of the only broker.
    pub kafka: Proxy,
    /// Nothing kills the mail server, so it is everybody's.
    mail: Exports,
}

/// They are one test's until this is dropped.
pub struct Exclusive {
    services: &'static Services,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Exclusive {
    type Target = Services;

    fn deref(&self) -> &Services {
        self.services
    }
}

impl Services {
    /// Waits for its turn; finds all of them well.
    pub async fn take() -> Exclusive {
        static TURN: Mutex<()> = Mutex::const_new(());
        static SERVICES: OnceLock<Services> = OnceLock::new();
        let turn = TURN.lock().await;
        let services = tokio::task::block_in_place(|| SERVICES.get_or_init(Self::start));
        services.heal();
        Exclusive { services, _turn: turn }
    }

    fn start() -> Self {
        let kafka = Proxy::to("127.0.0.1:1");
        let advertised = ("KAFKA_ADVERTISED", kafka.address.to_string());
        let own = OwnStack::start("cluster", &SERVICES, &[(advertised.0, &advertised.1)]).keep();
        kafka.aim(own.exports.get("KAFKA_BROKERS"));
        Self { own, kafka, mail: stack(&["mail"]) }
    }

    /// After a test that ended in the middle of a fault.
    fn heal(&self) {
        self.kafka.heal();
        self.kafka.cut();
        tokio::task::block_in_place(|| {
            SERVICES.iter().for_each(|service| self.own.signal(service, "CONT"));
            SERVICES.iter().for_each(|service| self.own.restart(service));
        });
    }

    /// `kill -9` to all processes of a service.
    pub fn kill(&self, service: &str) {
        tokio::task::block_in_place(|| self.own.signal(service, "KILL"));
    }

    /// Starts it again where it was, and waits until it answers.
    pub fn restart(&self, service: &str) {
        tokio::task::block_in_place(|| self.own.restart(service));
    }

    /// Nothing that is sent to the broker or comes from it arrives, until it is opened again.
    pub fn silence_kafka(&self) {
        self.kafka.set(Way::Held);
    }

    /// What a service exports, such as `DATABASE_URL`; that of a superuser.
    pub fn url(&self, name: &str) -> &str {
        self.own.exports.get(name)
    }

    /// The mail server for clients, and its HTTP address.
    pub fn mail(&self) -> (&str, &str) {
        (self.mail.get("SMTP_URL"), self.mail.get("MAILPIT_URL"))
    }
}
