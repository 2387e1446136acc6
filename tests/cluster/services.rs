//! PostgreSQL, Redis and Kafka for this program alone, since its tests kill them: one set, and one test at a
//! time that uses it. Kafka sends its clients to a proxy; the way to the others leads through one a process.

use std::sync::OnceLock;

use tokio::sync::{Mutex, MutexGuard};

use crate::proxy::{Proxy, Way};
use crate::support::stack::{Exports, OwnStack, stack};

const SERVICES: [&str; 3] = ["postgres", "redis", "kafka"];

/// What a cluster runs on.
pub struct Services {
    exports: Exports,
    /// Nothing kills the mail server, so it is everybody's.
    mail: Exports,
    /// Where the broker is found.
    pub brokers: String,
}

/// Services that may be killed, silenced and emptied.
pub struct Fragile {
    own: &'static OwnStack,
    /// In front of the only broker.
    pub kafka: Proxy,
    /// What runs on them is this test's alone until this is dropped.
    _turn: MutexGuard<'static, ()>,
}

impl Services {
    /// Those that all tests share, and that nothing happens to.
    pub fn shared() -> Self {
        let exports = tokio::task::block_in_place(|| stack(&SERVICES));
        let brokers = exports.get("KAFKA_BROKERS").to_owned();
        Self { exports, mail: stack(&["mail"]), brokers }
    }

    /// Services to do anything to, once it is this test's turn; finds all of them well.
    pub async fn fragile() -> (Self, Fragile) {
        static TURN: Mutex<()> = Mutex::const_new(());
        static OWN: OnceLock<(Proxy, &OwnStack)> = OnceLock::new();
        let turn = TURN.lock().await;
        let (kafka, own) = tokio::task::block_in_place(|| OWN.get_or_init(start));
        let fragile = Fragile { own, kafka: kafka.clone(), _turn: turn };
        let exports = fragile.heal();
        (Self { exports, mail: stack(&["mail"]), brokers: kafka.address.to_string() }, fragile)
    }

    /// What a service exports, such as `DATABASE_URL`; that of a superuser.
    pub fn url(&self, name: &str) -> &str {
        self.exports.get(name)
    }

    /// The mail server for clients, and its HTTP address.
    pub fn mail(&self) -> (&str, &str) {
        (self.mail.get("SMTP_URL"), self.mail.get("MAILPIT_URL"))
    }
}

fn start() -> (Proxy, &'static OwnStack) {
    let kafka = Proxy::to("127.0.0.1:1");
    let advertised = kafka.address.to_string();
    let own = OwnStack::start("cluster", &SERVICES, &[("KAFKA_ADVERTISED", &advertised)]).keep();
    kafka.aim(own.exports.get("KAFKA_BROKERS"));
    (kafka, own)
}

impl Fragile {
    /// After a test that ended in the middle of a fault.
    fn heal(&self) -> Exports {
        self.kafka.heal();
        self.kafka.cut();
        tokio::task::block_in_place(|| {
            SERVICES.iter().for_each(|service| self.own.signal(service, "CONT"));
            self.own.up()
        })
    }

    /// `kill -9` to all processes of a service.
    pub fn kill(&self, service: &str) {
        tokio::task::block_in_place(|| self.own.kill(service));
    }

    /// Starts it again where it was, and waits until it answers.
    pub fn restart(&self, service: &str) {
        tokio::task::block_in_place(|| self.own.restart(service));
    }

    /// Nothing that is sent to the broker or comes from it arrives, until it is opened again.
    pub fn silence_kafka(&self) {
        self.kafka.set(Way::Held);
    }
}
