//! Two path sets talk over scripted links in virtual time.

mod death;
mod handshake;
mod hostile;
mod idle;
mod properties;
mod switching;
mod world;
