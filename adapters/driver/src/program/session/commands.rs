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
use crate::program::{
    control::Client,
    internal,
    json::{self, Answer, Command, EventLine, StatusLine},
    lines::Line,
    outlet::Outlet,
};

/// How long a full queue holds up the commands of its client before the message has failed.
const FULL_QUEUE: Duration = Duration::from_secs(1);

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
            self.answer(&Answer::failed(self.name(), *id, reason)).await;
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
            Command::Send { data, .. } | Command::Request { data, .. } if internal::is_internal(&data) => {
                asker.error("the data begins like the programs' own messages: put something before it".into()).await;
            }
            Command::Send { to, data, options } => self.send(asker, &to, data, options).await,
            Command::Request { to, data, timeout } => {
                self.spawn(|session| async move {
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
                self.spawn(|_| async move {
                    if let Err(error) = responder.reply(data).await {
                        asker.error(format!("the reply to request {rid} was not sent: {error}")).await;
                    }
                });
            }
            Command::Status => {
                if let Ok(status) = self.handle.status().await {
                    asker.outlet.put(json::line(&StatusLine::new(asker.name(), &status))).await;
                }
            }
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
            Ok(mut outcomes) => self.spawn(|_| async move {
                while let Some((to, outcome)) = outcomes.next().await {
                    let answer = match outcome {
                        Outcome::Delivered => Answer::delivered(asker.name(), to),
                        Outcome::Failed(reason) => Answer::failed(asker.name(), to, reason),
                        Outcome::Expired => Answer::expired(asker.name(), to),
                    };
                    asker.answer(&answer).await;
                }
            }),
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
}
