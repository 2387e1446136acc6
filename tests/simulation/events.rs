//! What happens between the steps of the tasks: arrivals, devices that come and go, crashes.

use std::sync::Arc;

use chatd::domain::{Frontier, Partition, Seq};
use chatd::pipeline::EventSource;
use futures_util::FutureExt;

use crate::client::{Said, Socket, scope};
use crate::log::SimLog;
use crate::mutant::Mutant;
use crate::net::arrive;
use crate::node;
use crate::schedule::{Kind, NODES, OWNERS_MAX, Schedule};
use crate::session;
use crate::world::{LOG, PARTITIONS};

impl Schedule {
    /// Something arrives at a node.
    pub fn deliver(&self) {
        let node = self.below(NODES);
        let arrival = self.with(|world| world.arrival(node));
        arrival.into_iter().for_each(arrive);
    }

    /// A client reads some frames.
    pub fn consume(&self) {
        self.with(|world| {
            let waiting: Vec<usize> =
                world.sockets.iter().filter(|(_, s)| !s.out.is_empty()).map(|(number, _)| *number).collect();
            if waiting.is_empty() {
                return;
            }
            let number = waiting[world.dice.below(waiting.len())];
            for _ in 0..=world.dice.below(80) {
                world.consume(number);
            }
        });
    }

    /// Somebody writes.
    pub fn append(&mut self) {
        let mut world = self.world.lock();
        for _ in 0..=world.dice.below(4) {
            self.traffic.append(&mut world);
        }
    }

    /// A client that has no socket opens one; one that has asks for something.
    pub fn connect_some(&mut self) {
        let client = self.with(|world| world.dice.below(world.clients.len()));
        match self.with(|world| world.clients[client].socket) {
            Some(socket) => self.ask(client, socket),
            None => {
                let resume = self.some_resume(client);
                self.connect(client, resume);
            }
        }
    }

    /// A `ping`, whose answer has a cursor; at times a second `resume`.
    fn ask(&self, client: usize, socket: usize) {
        self.with(|world| {
            let again = world.dice.chance(0.3);
            let cursor = world.clients[client].cursor.as_deref();
            let Some(socket) = world.sockets.get_mut(&socket) else { return };
            if let Some(late) = socket.late.take() {
                socket.said.push_back(late);
            } else if again && cursor.is_some() && !socket.asked {
                socket.asked = true;
                socket.said.push_back(Said::resume(cursor));
            } else {
                socket.said.push_back(Said::Text(r#"{"type":"ping"}"#.into()));
            }
        });
    }

    /// What a client comes back with: mostly its cursor, at times none, a damaged one, or one that is ahead of
    /// everything stored. Some say nothing, and leave it to the server.
    fn some_resume(&self, client: usize) -> Option<Said> {
        self.with(|world| {
            let roll = world.dice.below(100);
            let silent = world.dice.chance(0.3);
            let client = &mut world.clients[client];
            match &client.cursor {
                Some(cursor) if roll < 82 => return Some(Said::resume(Some(cursor))),
                _ => client.reset(roll >= 90),
            }
            let ahead = vec![1_000_000; PARTITIONS as usize].into();
            let ahead = scope(client.user).encode(&Frontier { log: LOG, offsets: ahead });
            match roll {
                0..90 => (!silent).then(|| Said::resume(None)),
                90..95 => Some(Said::resume(Some("AQIDBA"))),
                _ => Some(Said::resume(Some(&ahead))),
            }
        })
    }

    /// Opens a socket on some node.
    pub fn connect(&mut self, client: usize, resume: Option<Said>) {
        let node = self.below(NODES);
        let number = self.next_socket;
        self.next_socket += 1;
        let state = self.with(|world| {
            let mut socket = Socket::new(client, node);
            socket.asked = resume.is_some();
            if !world.healing && world.dice.chance(0.2) {
                socket.late = resume.clone();
            } else {
                socket.said.extend(resume.clone());
            }
            world.sockets.insert(number, socket);
            let state = &mut world.clients[client];
            state.socket = Some(number);
            let user = state.user;
            world.checker.tell(|| format!("socket {number}: client {client} of {user}, {resume:?}"));
            state.clone()
        });
        let app = Arc::clone(&self.nodes[node]);
        let session = session::session(self.world.clone(), app, (node, number), state);
        self.start(Kind::Session(number), node, session);
    }

    /// A client goes away; the server may notice it later.
    pub fn disconnect_some(&mut self) {
        let sockets: Vec<usize> = self.with(|world| world.sockets.keys().copied().collect());
        if sockets.is_empty() {
            return;
        }
        let socket = sockets[self.below(sockets.len())];
        self.with(|world| world.close(socket));
        if self.chance(0.6) {
            self.actors.retain(|actor| actor.kind != Kind::Session(socket));
        }
    }

    /// Owners crash, sleep, wake up, are asked to stop; others take over, at times while they still run.
    pub fn disturb_owners(&mut self) {
        let owners: Vec<usize> =
            (0..self.actors.len()).filter(|index| self.actors[*index].kind == Kind::Owner).collect();
        if !owners.is_empty() {
            let index = owners[self.below(owners.len())];
            let id = self.actors[index].id;
            match self.below(8) {
                0 | 1 => {
                    self.tell(|| format!("owner {id} crashes"));
                    drop(self.actors.remove(index));
                }
                2 | 3 => {
                    self.tell(|| format!("owner {id} sleeps"));
                    self.actors[index].asleep = true;
                }
                4 => self.with(|world| world.stopping.extend([id])),
                _ => self.actors[index].asleep = false,
            }
        }
        if owners.len() < OWNERS_MAX && self.chance(0.5) {
            let all = 0..PARTITIONS;
            let some = self.chance(0.4);
            let chosen: Vec<Partition> = all.filter(|_| !some || self.chance(0.5)).collect();
            if !chosen.is_empty() {
                self.start_owner(chosen);
            }
        }
    }

    /// The machine that all run on loses power.
    pub fn lose_power(&mut self) {
        if self.with(|world| world.durable.is_none()) {
            return;
        }
        self.tell(|| "power is lost".into());
        self.actors.clear();
        self.with(|world| {
            world.checker.count("losses of power");
            world.lose_power();
        });
        (0..NODES).for_each(|number| self.start_node(number));
        self.start_owner((0..PARTITIONS).collect());
    }

    /// More comes for a socket than its mailbox holds.
    pub fn burst(&self) {
        self.with(|world| {
            let sockets: Vec<usize> = world.sockets.keys().copied().collect();
            if !sockets.is_empty() {
                let number = sockets[world.dice.below(sockets.len())];
                world.sockets.get_mut(&number).into_iter().for_each(|socket| socket.burst = true);
            }
        });
    }

    /// A device reads a page through REST.
    pub fn fetch(&mut self) {
        let node = self.below(NODES);
        let app = Arc::clone(&self.nodes[node]);
        let asked = self.with(|world| {
            let client = &world.clients[world.dice.below(world.clients.len())];
            let user = client.user;
            let own = world.store.of_user.get(&user)?;
            let conversation = own[world.dice.below(own.len())];
            let last = world.store.conversations[&conversation].last_seq();
            Some((user, conversation, Seq(world.dice.between(0, last.0))))
        });
        if let Some((user, conversation, after)) = asked {
            let fetch = node::fetch(self.world.clone(), app, user, conversation, after);
            self.start(Kind::Fetch, node, fetch);
        }
    }

    /// The log drops what is applied.
    pub fn forget(&self) {
        let log = SimLog(self.world.clone());
        let applied = self.with(|world| {
            if !world.has(Mutant::TrimsApplied) {
                world.sync();
            }
            world.store.frontier()
        });
        let below: Vec<_> = (0..).zip(applied.offsets.iter().map(|offset| offset + 1)).collect();
        let _ = log.forget(&below).now_or_never();
    }
}
