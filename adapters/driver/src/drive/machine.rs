//! What the drive loop needs of a node, so that tests can drive something smaller.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    CommandError, Id, Input, Node, Output, Reason,
    master::{MasterView, MemberInfo},
    node::{
        Deadline, Guard, MemberCommand, Receipt, ReplyToken, RequestId, SendId, SendOptions, Sends, Status, StreamKey,
        Transmit, Watch,
    },
};

/// Makes one trait of those methods of [`Node`] that the loop calls.
macro_rules! machine {
    ($(fn $name:ident(&mut self $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        /// See the methods of [`Node`].
        pub(crate) trait Machine: Send + Unpin + 'static {
            $(fn $name(&mut self $(, $arg: $type)*) $(-> $result)?;)*
        }

        impl Machine for Node {
            $(fn $name(&mut self $(, $arg: $type)*) $(-> $result)? {
                Node::$name(self $(, $arg)*)
            })*
        }
    };
}

machine! {
    fn handle(&mut self, now: Instant, input: Input);
    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit>;
    fn poll(&mut self) -> Option<Output>;
    fn deadline(&mut self) -> Option<Deadline>;
    fn send(&mut self, now: Instant, to: &[Id], data: Bytes, options: SendOptions) -> Result<SendId, CommandError>;
    fn send_batch(
        &mut self, now: Instant, to: Id, messages: &mut VecDeque<Bytes>, options: SendOptions
    ) -> Result<Sends, CommandError>;
    fn handed(&mut self, now: Instant, receipt: Receipt);
    fn request(
        &mut self, now: Instant, to: Id, data: Bytes, timeout: Option<Duration>
    ) -> Result<RequestId, CommandError>;
    fn reply(&mut self, now: Instant, token: ReplyToken, result: Result<Bytes, Reason>) -> Result<(), CommandError>;
    fn datagram(&mut self, now: Instant, to: Id, data: Bytes) -> Result<(), CommandError>;
    fn open_stream(&mut self, now: Instant, to: Id) -> Result<StreamKey, CommandError>;
    fn stream_write(&mut self, now: Instant, stream: StreamKey, data: &[u8]) -> Result<usize, CommandError>;
    fn stream_read(&mut self, now: Instant, stream: StreamKey, max: usize) -> Result<Option<Bytes>, CommandError>;
    fn stream_finish(&mut self, now: Instant, stream: StreamKey) -> Result<(), CommandError>;
    fn stream_reset(&mut self, now: Instant, stream: StreamKey);
    fn master(&mut self) -> Option<MasterView>;
    fn guard(&mut self) -> Option<Guard>;
    fn send_to_master(
        &mut self, now: Instant, data: Bytes, options: SendOptions
    ) -> Result<(SendId, Id), CommandError>;
    fn request_to_master(
        &mut self, now: Instant, data: Bytes, timeout: Option<Duration>
    ) -> Result<(RequestId, Id), CommandError>;
    fn members(&mut self) -> &[MemberInfo];
    fn change_members(&mut self, now: Instant, command: MemberCommand) -> Result<(), CommandError>;
    fn resign(&mut self, now: Instant) -> Result<(), CommandError>;
    fn watch(&mut self, now: Instant, what: Watch) -> Result<(), CommandError>;
    fn unwatch(&mut self, now: Instant, what: &Watch);
    fn stop(&mut self, now: Instant);
    fn status(&mut self) -> Status;
}
