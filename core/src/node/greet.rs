//! The greeting on a link: who the other end is, and whether it may have a link.

use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::{
    Event, Node, Timer, Warning,
    links::{Origin, Phase},
};
use crate::{
    Id,
    link::LinkToken,
    wire::{CloseCode, Control, Hello},
};

/// How long an established link may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// Control messages of a newcomer kept meanwhile.
const MAX_PARKED: usize = 64;

impl Node {
    pub(super) fn on_established(&mut self, now: Instant, token: LinkToken, remote: Id, nonce: [u8; 16]) {
        self.links.handshake_done(token);
        let own = self.id();
        let Some(entry) = self.links.get_mut(token) else { return };
        entry.phase = Phase::Greeting;
        self.timers.set(Timer::Greeting(token), Some(now + GREETING));
        entry.remote = Some(remote);
        entry.nonce = nonce;
        if remote == own {
            if let Origin::Introducer(index) = entry.origin {
                self.introducer_is_self(index);
            }
            return self.close(now, token, CloseCode::Unwanted);
        }
        // an address of a server that is linked already: one link is enough
        let is_spare = matches!(entry.origin, Origin::Introducer(_));
        if let Origin::Introducer(index) = entry.origin {
            self.introducer_answers(index, remote);
        }
        if is_spare && self.is_linked(&remote) {
            return self.close(now, token, CloseCode::Unwanted);
        }
        let Some(entry) = self.links.get_mut(token) else { return };
        // servers never dial peers
        if entry.is_inbound() && remote.is_server() && !own.is_server() {
            return self.close(now, token, CloseCode::Unwanted);
        }
        if self.is_late(token, remote) {
            return self.close(now, token, CloseCode::Superseded);
        }
        let Some(entry) = self.links.get(token) else { return };
        let dial = entry.dial;
        let server_proof = own.is_server().then(|| self.server_proof(token, own)).flatten();
        let last_link = self.remotes.get(&remote).filter(|known| known.current.is_none()).and_then(|r| r.last_nonce);
        let hello = Hello {
            name: self.name.clone(),
            incarnation: self.incarnation,
            cluster: self.cluster,
            server_proof,
            last_link,
            dial,
            network: self.network.info().clone(),
        };
        self.tell_link(now, token, &Control::Hello(Box::new(hello)));
    }

    /// MAC(server key, dialler or not, Id, handshake): bound to this link and this end.
    fn server_proof(&self, token: LinkToken, of: Id) -> Option<[u8; 32]> {
        let key = self.server_key.as_ref()?;
        let entry = self.links.get(token)?;
        let dialler = entry.is_inbound() != (of == self.id());
        let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
        hasher.update(&[u8::from(dialler)]).update(&of.to_bytes()).update(&entry.link.export(b"server proof"));
        Some(*hasher.finalize().as_bytes())
    }

    fn is_proven_server(&self, token: LinkToken, id: Id, hello: &Hello) -> bool {
        match (self.server_proof(token, id), hello.server_proof) {
            (Some(want), Some(got)) => want.ct_eq(&got).into(),
            _ => false,
        }
    }

    /// Greets, or passes on once greeted.
    pub(super) fn on_control(&mut self, now: Instant, token: LinkToken, message: Control) {
        let Some(entry) = self.links.get_mut(token) else { return };
        let Some(id) = entry.remote else { return };
        match (entry.phase, message) {
            (Phase::Greeting, Control::Hello(hello)) => self.on_hello(now, token, id, hello),
            (Phase::Challenging, message) if entry.parked.len() < MAX_PARKED => entry.parked.push(message),
            (Phase::Admitted, Control::Hello(_)) | (Phase::Greeting | Phase::Challenging, _) => {
                self.violation(now, token);
            }
            (Phase::Admitted, message) => self.on_admitted_control(now, token, id, message),
            (Phase::Handshake | Phase::Refused | Phase::Closing, _) => {}
        }
    }

    /// The other end has not said who it is.
    pub(super) fn greeting_due(&mut self, now: Instant, token: LinkToken) {
        if self.links.get(token).is_some_and(|entry| entry.phase == Phase::Greeting) {
            self.violation(now, token);
        }
    }

    fn on_hello(&mut self, now: Instant, token: LinkToken, id: Id, hello: Box<Hello>) {
        if let Err(code) = self.judge_hello(token, id, &hello) {
            let dialled = self.links.get(token).is_some_and(|entry| !entry.is_inbound());
            if code == CloseCode::ForeignCluster {
                self.met_foreigner(now, id, hello.cluster);
                if self.is_news(id, code, dialled) {
                    self.event(Event::Warning(Warning::ForeignCluster { id }));
                }
            } else if dialled {
                self.explain_close(id, code, true);
            }
            return self.close(now, token, code);
        }
        // a server belongs to a cluster once that has admitted it
        let takes_over = id.is_server() && !self.id().is_server();
        if let (None, Some(cluster), true) = (self.cluster, hello.cluster, takes_over) {
            self.cluster = Some(cluster);
            self.save();
        }
        let Some(entry) = self.links.get_mut(token) else { return };
        if entry.is_inbound() {
            entry.dial = hello.dial;
        }
        entry.hello = Some(hello);
        self.settle_with_current(now, token, id);
    }

    fn judge_hello(&self, token: LinkToken, id: Id, hello: &Hello) -> Result<(), CloseCode> {
        let both_servers = id.is_server() && self.id().is_server();
        if both_servers && !self.is_proven_server(token, id, hello) {
            return Err(CloseCode::BadServerKey);
        }
        match (self.cluster, hello.cluster) {
            (Some(own), Some(theirs)) if own != theirs => Err(CloseCode::ForeignCluster),
            (None, None) if both_servers && self.expects => Ok(()),
            (None, None) if self.id().is_server() || id.is_server() => Err(CloseCode::NotAdmitted),
            (Some(_), None) if id.is_server() && !both_servers => Err(CloseCode::NotAdmitted),
            (None, _) if self.id().is_server() && !id.is_server() => Err(CloseCode::NotAdmitted),
            _ => Ok(()),
        }
    }
}
