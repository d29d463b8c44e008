//! What an application has of the Master: who it is, sending to it, being it, and the members of the cluster.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use p2pcore::{
    CommandError, Id,
    master::{MasterView, MemberInfo, Token},
    node::{MemberCommand, SendOptions},
};

use crate::{
    NodeHandle, Outcomes, RequestError,
    command::{Command, Sought},
    oneshot,
    tray::Tray,
};

impl NodeHandle {
    /// Who is the Master, as far as this node knows; `None` until it knows anything. A value to show: only the Master's own
    /// [`guard`](Self::guard) says whether it may act.
    pub fn master(&self) -> Option<MasterView> {
        self.0.office.view()
    }

    /// The right of this node to act as Master, if it has it now.
    pub fn guard(&self) -> Option<MasterGuard> {
        let token = self.0.office.token()?;
        Some(MasterGuard { office: Arc::clone(&self.0.office), token, commands: Arc::clone(&self.0.commands) })
    }

    /// Sends `data` to whoever is Master, and waits while the queue to it is full. The one outcome names the Master that it
    /// went to. Delivered means that the Master's application has taken it while the office was held under the token that
    /// is seen here when this returns; if another Master is seen first, it has failed with `master_changed`, even if it
    /// arrived. Dropping the future does not take the message back.
    ///
    /// # Errors
    /// Nothing was sent: `TooLarge`, `NoSuchLane`, `Failed` with `no_master`, `suspended` or `full`, `Stopped`.
    pub async fn send_to_master(&self, data: impl Into<Bytes>, options: SendOptions) -> Result<Outcomes, CommandError> {
        self.seek_master(data.into(), options, true).await
    }

    /// As [`send_to_master`](Self::send_to_master), but gives the message back when the queue to the Master is full; one
    /// [`Event::Unblocked`](p2pcore::Event::Unblocked) follows when there is room.
    ///
    /// # Errors
    /// As there, and `Blocked`.
    pub async fn try_send_to_master(
        &self,
        data: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Outcomes, CommandError> {
        self.seek_master(data.into(), options, false).await
    }

    async fn seek_master(&self, data: Bytes, options: SendOptions, waits: bool) -> Result<Outcomes, CommandError> {
        self.ask(|reply| Command::SendToMaster { data, options, waits, reply })
            .await
            .unwrap_or(Err(CommandError::Stopped))
    }

    /// Asks whoever is Master and waits for its reply, for `timeout` or `Config::request_timeout`. The reason is
    /// `master_changed` if the office is not held under the token seen here when the reply is given.
    ///
    /// # Errors
    /// Not accepted, or failed with a reason.
    pub async fn request_to_master(
        &self,
        data: impl Into<Bytes>,
        timeout: Option<Duration>,
    ) -> Result<Bytes, RequestError> {
        let data = data.into();
        self.ask(|reply| Command::Request { to: Sought::Master, data, timeout, reply })
            .await
            .unwrap_or(Err(CommandError::Stopped.into()))
    }

    /// The committed members of the cluster, from the oldest on; empty until any are known.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn members(&self) -> Result<Vec<MemberInfo>, CommandError> {
        self.ask(|reply| Command::Members { reply }).await.ok_or(CommandError::Stopped)
    }

    /// Changes the members, or what they do. That it is accepted does not say that it is done: the members and the Master
    /// show that.
    ///
    /// # Errors
    /// `NotAServer`; `Members` says what speaks against it; `Stopped`.
    pub async fn change_members(&self, command: MemberCommand) -> Result<(), CommandError> {
        self.ask(|reply| Command::ChangeMembers { command, office: None, reply })
            .await
            .unwrap_or(Err(CommandError::Stopped))
    }

    /// Asks for the office of Master to be handed over to the voter `to`.
    ///
    /// # Errors
    /// As [`change_members`](Self::change_members).
    pub async fn transfer_to(&self, to: Id) -> Result<(), CommandError> {
        self.change_members(MemberCommand::Transfer(to)).await
    }

    /// Gives up the office of Master, and hands it over if there is another voter. No guard of this node is valid any more
    /// when this returns. Not being Master is no error.
    ///
    /// # Errors
    /// `NotAServer`, `Stopped`.
    pub async fn resign(&self) -> Result<(), CommandError> {
        self.ask(|reply| Command::Resign { office: None, reply }).await.unwrap_or(Err(CommandError::Stopped))
    }
}

/// The right of a node to act as Master under one token. Ask [`is_valid`](Self::is_valid) before each act, and give the
/// token to each resource that fences: what was asked is true at that moment, not for as long as the act takes.
#[derive(Clone)]
pub struct MasterGuard {
    office: Arc<crate::office::Office>,
    token: Token,
    // a guard keeps no node running
    commands: Arc<Tray<Command>>,
}

impl MasterGuard {
    /// Whether this node is still Master under this token, and nobody else can be. Reads clocks and asks no task; false
    /// once the office was given up, handed over or lost, and after the machine slept.
    pub fn is_valid(&self) -> bool {
        self.office.token() == Some(self.token)
    }

    /// Names this term of office; it ranks above those of all Masters before.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// Gives up this office, if it is still held, and hands it over if there is another voter. The guard is not valid any
    /// more when this returns.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn resign(&self) -> Result<(), CommandError> {
        self.ask(|office, reply| Command::Resign { office, reply }).await
    }

    /// Hands this office over to the voter `to`; the guard ends before `to` is told.
    ///
    /// # Errors
    /// `Failed` with `master_changed` when the office is not held any more; `Members` says what speaks against `to`;
    /// `Stopped`.
    pub async fn transfer_to(&self, to: Id) -> Result<(), CommandError> {
        let command = MemberCommand::Transfer(to);
        self.ask(|office, reply| Command::ChangeMembers { command, office, reply }).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(Option<Token>, oneshot::Sender<Result<(), CommandError>>) -> Command,
    ) -> Result<(), CommandError> {
        let (sender, receiver) = oneshot::channel();
        self.commands.put(command(Some(self.token), sender)).await.map_err(|_| CommandError::Stopped)?;
        receiver.recv().await.unwrap_or(Err(CommandError::Stopped))
    }
}

impl fmt::Debug for MasterGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterGuard").field("token", &self.token).field("is_valid", &self.is_valid()).finish()
    }
}
