//! The JSON lines that a node is driven by: commands in, events out.

mod command;
mod event;
mod master;
mod status;

pub(super) use command::{Command, parse};
pub(super) use event::{Answer, EventLine, Payload};
pub(super) use master::MembersLine;
pub(super) use status::StatusLine;

use serde::Serialize;

/// One line, with its line break.
pub(super) fn line(value: &impl Serialize) -> String {
    // maps with text keys, numbers and texts: there is nothing in them that could fail
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}
