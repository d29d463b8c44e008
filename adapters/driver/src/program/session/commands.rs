//! What a line orders, and its answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_lite::future::or;
use p2pcore::{
    CommandError, Id, Reason,
    node::{Outcome, SendOptions},
};

use super::{Session, lock};
use crate::{
    Outcomes,
    program::{
        control::Client,
        internal,
        json::{self, Answer, Command, EventLine, MembersLine, StatusLine},
        lines::Line,
        outlet::Outlet,
    },
};

/// How long a full queue holds up the commands of its client before the message has failed.
const FULL_QUEUE: Duration = Duration::from_secs(1);
/// Between two tries at a full queue.
const RETRY: Duration = Duration::from_millis(20);

/// Who gave a command, and how it is to be named in the answers.
#[derive(Clone)]
struct Asker {
    outlet: Outlet,
    reference: Option<String>,
}

impl Asker {
    fn name(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    async fn answer(&self, answer: &Answer<'_>) {
        self.outlet.put(json::line(answer)).await;
    }

    async fn failed(&self, to: &[Id], reason: Reason) {
        for id in to {
            self.answer(&Answer::failed(self.name(), Some(*id), reason)).await;
        }
    }

    /// Answers for each destination as its outcome comes.
    async fn outcomes(&self, mut outcomes: Outcomes) {
        while let Some((to, outcome)) = outcomes.next().await {
            let answer = match outcome {
                Outcome::Delivered => Answer::delivered(self.name(), to),
                Outcome::Failed(reason) => Answer::failed(self.name(), Some(to), reason),
                Outcome::Expired => Answer::expired(self.name(), to),
            };
            self.answer(&answer).await;
        }
    }

    async fn error(&self, reason: String) {
        self.outlet.put(json::line(&EventLine::Error { reference: self.name(), reason })).await;
    }
}

impl Session {
    /// Does what the client says, line by line, until it says nothing more.
    pub(super) async fn serve(self: Arc<Self>, client: Client) {
        while let Ok(line) = client.lines.recv().await {
            let (reference, command) = match line {
                Line::TooLong => (None, Err("bad line: it is too long for any message".into())),
                Line::Text(text) if text.trim_ascii().is_empty() => continue,
                Line::Text(text) => json::parse(&text),
            };
            let asker = Asker { outlet: client.outlet.clone(), reference };
            match command {
                Ok(command) => self.command(asker, command).await,
                Err(reason) => asker.error(reason).await,
            }
        }
        lock(&self.listeners).retain(|listener| !listener.is(&client.outlet));
    }

    async fn command(self: &Arc<Self>, asker: Asker, command: Command) {
        match command {
            Command::Send { data, .. } | Command::SendMaster { data, .. } | Command::Request { data, .. }
                if internal::is_internal(&data) =>
            {
                asker.error("the data begins like the programs' own messages: put something before it".into()).await;
            }
            Command::Send { to, data, options } => self.send(asker, &to, data, options).await,
            Command::SendMaster { data, options } => self.send_master(asker, data, options).await,
            Command::Request { to, data, timeout } => {
                self.spawn_owing(|session| async move {
                    match session.handle.request(to, data, timeout).await {
                        Ok(reply) => asker.answer(&Answer::reply(asker.name(), to, &reply)).await,
                        Err(error) => asker.failed(&[to], error.reason()).await,
                    }
                });
            }
            Command::Reply { rid, data } => {
                let Some(responder) = lock(&self.asked).waiting.remove(&rid) else {
                    return asker.error(format!("there is no request {rid} to reply to")).await;
                };
                self.spawn_owing(|_| async move {
                    if let Err(error) = responder.reply(data).await {
                        asker.error(format!("the reply to request {rid} was not sent: {error}")).await;
                    }
                });
            }
            Command::Watch(what) => {
                if let Err(error) = self.handle.watch(what).await {
                    asker.error(error.to_string()).await;
                }
            }
            Command::Unwatch(what) => {
                let _ = self.handle.unwatch(what).await;
            }
            Command::Status => {
                if let Ok(status) = self.handle.status().await {
                    asker.outlet.put(json::line(&StatusLine::new(asker.name(), &status))).await;
                }
            }
            Command::Members => {
                if let Ok(members) = self.handle.members().await {
                    let (id, master) = (self.handle.id(), self.handle.master());
                    let line = MembersLine::new(asker.name(), id, &members, master);
                    asker.outlet.put(json::line(&line)).await;
                }
            }
            Command::ChangeMembers(command) => match self.handle.change_members(command).await {
                Ok(()) => asker.answer(&Answer::accepted(asker.name())).await,
                Err(error) => asker.error(error.to_string()).await,
            },
            Command::Quit => {
                let _ = self.quit.try_send(Ok(()));
            }
        }
    }

    async fn send(self: &Arc<Self>, asker: Asker, to: &[Id], data: Bytes, options: SendOptions) {
        let sent = match self.handle.try_send(to, data, options) {
            Err(CommandError::Blocked { to: full, data }) if !lock(&self.stuck).contains(&full) => {
                self.send_to_full(full, to, data, options).await
            }
            sent => sent,
        };
        match sent {
            Ok(outcomes) => self.spawn_owing(|_| async move { asker.outcomes(outcomes).await }),
            Err(CommandError::Blocked { .. }) => asker.failed(to, Reason::Full).await,
            Err(CommandError::TooLarge { .. }) => asker.failed(to, Reason::TooLarge).await,
            Err(CommandError::Failed(reason)) => asker.failed(to, reason).await,
            Err(error) => asker.error(error.to_string()).await,
        }
    }

    /// Waits for room, which holds up the client; a queue that stays full does so only once.
    async fn send_to_full(
        &self,
        full: Id,
        to: &[Id],
        data: Bytes,
        options: SendOptions,
    ) -> Result<crate::Outcomes, CommandError> {
        let end = async {
            self.program.runtime.sleep_until(Instant::now() + FULL_QUEUE).await;
            lock(&self.stuck).insert(full);
            Err(CommandError::Blocked { to: full, data: data.clone() })
        };
        or(self.handle.send(to, data.clone(), options), end).await
    }

    async fn send_master(self: &Arc<Self>, asker: Asker, data: Bytes, options: SendOptions) {
        let end = Instant::now() + FULL_QUEUE;
        let mut sent = self.handle.try_send_to_master(data, options).await;
        // a full queue holds up the client for a while, and one that stays full only once
        while let Err(CommandError::Blocked { to, data }) = sent {
            let is_over = Instant::now() >= end;
            if is_over {
                lock(&self.stuck).insert(to);
            }
            if is_over || lock(&self.stuck).contains(&to) {
                return asker.failed(&[to], Reason::Full).await;
            }
            self.program.runtime.sleep_until(Instant::now() + RETRY).await;
            sent = self.handle.try_send_to_master(data, options).await;
        }
        let reason = match sent {
            Ok(outcomes) => return self.spawn_owing(|_| async move { asker.outcomes(outcomes).await }),
            Err(CommandError::TooLarge { .. }) => Reason::TooLarge,
            Err(CommandError::Failed(reason)) => reason,
            Err(error) => return asker.error(error.to_string()).await,
        };
        let seen = self.handle.master().and_then(|view| view.master());
        let to = seen.filter(|_| reason != Reason::NoMaster);
        asker.answer(&Answer::failed(asker.name(), to, reason)).await;
    }
}
