//! How quinn-proto is set up for a link.

use std::{sync::Arc, time::Duration};

use quinn_proto::{MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion::{PerPath, Signals};
use crate::Config;

/// The lanes that the wire has room for, whatever [`Config::lanes`] says.
pub const MAX_LANES: u8 = 16;

/// quinn-proto gives a connection up when one stream's receive buffer has 1,024 gaps; no larger window, more streams.
pub(super) const STREAM_WINDOW: u32 = 1_250_000;

/// Byte streams that a remote may have open before the limit is lifted towards `Config::max_streams`: each costs memory.
pub(super) const FIRST_STREAMS: u32 = 8;

/// A relayed packet has up to 32 bytes more around it, and Ethernet carries 1,452 in UDP over IPv6.
const MTU_UPPER_BOUND: u16 = 1452 - 32;

/// The kernel takes runs of 64 KiB with their headers.
pub(super) const MAX_RUN_SEGMENTS: usize = 65_000 / MTU_UPPER_BOUND as usize;

/// Before the first sample, also after each change of path: decides how soon a lost first packet is sent again.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// A dead path looks like one that lost its large packets; a minute of small ones would be too much after each.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(5);

const DATAGRAM_BUFFER: usize = 256 * 1024;

const CRYPTO_BUFFER: usize = 4096;

pub(super) fn transport_config(config: &Config, signals: Arc<Signals>) -> Arc<TransportConfig> {
    let uni_streams = u32::from(MAX_LANES) + 1;
    // never the limit that holds up the control stream: each stream's own window is
    let send_window = u64::from(STREAM_WINDOW) * (u64::from(uni_streams) + 2 * u64::from(config.max_streams));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_UPPER_BOUND).black_hole_cooldown(BLACK_HOLE_COOLDOWN);

    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(uni_streams.into())
        .max_concurrent_bidi_streams(config.max_streams.min(FIRST_STREAMS).into())
        .max_idle_timeout(None)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(VarInt::MAX)
        .send_window(send_window)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .crypto_buffer_size(CRYPTO_BUFFER)
        .allow_spin(false)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .congestion_controller_factory(Arc::new(PerPath(signals)));
    Arc::new(transport)
}
