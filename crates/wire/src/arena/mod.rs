//! Memory that the two processes of a session share, for payloads that are large.
//!
//! Who writes makes an [`Arena`] and passes its descriptor on; who reads looks at it through a [`View`]. Nothing in a view
//! can be trusted to stay as it is, so that all of it is copied once and only the copy is looked at.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod none;

#[cfg(target_os = "linux")]
pub use linux::{Arena, View};
#[cfg(not(target_os = "linux"))]
pub use none::{Arena, View};

/// What is passed along with the bytes of a connection.
#[cfg(unix)]
pub type Descriptor = std::os::fd::OwnedFd;
/// What is passed along with the bytes of a connection: nothing, on this system.
#[cfg(not(unix))]
pub enum Descriptor {}

/// Bytes that an arena of the peer's may have.
pub const MOST: u64 = 64 << 20;
