//! Two links in a virtual network.

mod hostile;
mod life;
mod streams;
mod transfer;
mod width;
mod world;
