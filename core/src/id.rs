//! Who a node is: its role, its key, the Id that follows from the key, its name and its incarnation.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What a node is for. The order is that of the letters: peers (`C`) before servers (`S`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// An application's node, anywhere.
    Peer,
    /// A publicly reachable node that keeps tables, relays and helps punching.
    Server,
}

impl Role {
    /// The first character of an [`Id`]'s text.
    pub const fn letter(self) -> char {
        match self {
            Self::Peer => 'C',
            Self::Server => 'S',
        }
    }

    /// `peer` or `server`, as in the JSON lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a node: a role letter and a version 8 UUID (RFC 9562) made of a hash of the static public key.
///
/// The text form has 37 characters, `S` or `C` and the UUID in lower case with hyphens; nothing else parses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    role: Role,
    uuid: Uuid,
}

// as the bytes of the binary form compare, but as one number: tables are searched for every message
impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.role.cmp(&other.role).then_with(|| self.uuid.as_u128().cmp(&other.uuid.as_u128()))
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Id {
    /// The bytes of the binary form: a role byte and the UUID.
    pub const LEN: usize = 17;
    const TEXT_LEN: usize = 37;
    /// Below every Id that there can be, for ranges.
    pub(crate) const MIN: Self = Self { role: Role::Peer, uuid: Uuid::nil() };

    /// The Id that follows from a static public key under `role`.
    pub fn from_key(role: Role, key: &PublicKey) -> Self {
        let context = match role {
            Role::Peer => "p2pcore 2026 id of a peer",
            Role::Server => "p2pcore 2026 id of a server",
        };
        let hash = blake3::derive_key(context, &key.0);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hash[..16]);
        Self { role, uuid: uuid::Builder::from_custom_bytes(uuid).into_uuid() }
    }

    /// Whether this node is a server or a peer.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether this is a server's Id.
    pub const fn is_server(&self) -> bool {
        matches!(self.role, Role::Server)
    }

    /// The binary form: the role letter's byte and the UUID.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [self.role.letter() as u8; Self::LEN];
        bytes[1..].copy_from_slice(self.uuid.as_bytes());
        bytes
    }

    /// Reads the binary form; `None` if the role byte or the UUID's version and variant are wrong.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [letter, uuid @ ..] = bytes;
        let role = match letter {
            b'C' => Role::Peer,
            b'S' => Role::Server,
            _ => return None,
        };
        Self::checked(role, Uuid::from_bytes(*uuid))
    }

    fn checked(role: Role, uuid: Uuid) -> Option<Self> {
        let sound = uuid.get_version_num() == 8 && uuid.get_variant() == uuid::Variant::RFC4122;
        sound.then_some(Self { role, uuid })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.role.letter(), self.uuid.hyphenated())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: want S or C and a lower-case version 8 uuid with hyphens, 37 characters in all")]
pub struct ParseIdError;

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != Self::TEXT_LEN {
            return Err(ParseIdError);
        }
        let (role, rest) = match text.split_at_checked(1).ok_or(ParseIdError)? {
            ("C", rest) => (Role::Peer, rest),
            ("S", rest) => (Role::Server, rest),
            _ => return Err(ParseIdError),
        };
        let id = Uuid::try_parse(rest).ok().and_then(|uuid| Self::checked(role, uuid)).ok_or(ParseIdError)?;
        // the uuid crate also reads upper case: one Id has one text
        if id.to_string() == text { Ok(id) } else { Err(ParseIdError) }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.to_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            let bytes = <[u8; Self::LEN]>::deserialize(deserializer)?;
            Self::from_bytes(&bytes).ok_or_else(|| de::Error::custom(ParseIdError))
        }
    }
}

/// A static X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex(&self.0))
    }
}

/// Defines a 32-byte secret that is erased on drop, never printed, and has a text form for files.
macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            const PREFIX: &'static str = $prefix;

            /// Takes 32 bytes from a cryptographic random source.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The text kept in a key file: one line, a prefix that says what it is and 64 hexadecimal digits.
            pub fn to_text(&self) -> String {
                format!("{} {}\n", Self::PREFIX, hex(&self.0))
            }

            /// Reads [`to_text`](Self::to_text)'s form.
            ///
            /// # Errors
            /// Says which kind of key was expected; never repeats the text.
            pub fn from_text(text: &str) -> Result<Self, ParseKeyError> {
                let error = ParseKeyError { expected: Self::PREFIX };
                let digits = text.trim_end().strip_prefix(Self::PREFIX).and_then(|rest| rest.strip_prefix(' '));
                unhex(digits.ok_or(error)?).map(Self).ok_or(error)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret! {
    /// What every node of a network has. Who lacks it gets no answer at all.
    NetworkKey, "p2pcore-network-key"
}
secret! {
    /// What only servers have: joining as a server needs more than joining as a peer.
    ServerKey, "p2pcore-server-key"
}
secret! {
    /// A static X25519 private key.
    SecretKey, "p2pcore-identity"
}

/// The text is not a key of the kind expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key file: want one line `{expected}` and 64 hexadecimal digits")]
pub struct ParseKeyError {
    expected: &'static str,
}

/// A role and a key pair, and the [`Id`] that follows from them.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    id: Id,
    secret: SecretKey,
    public: PublicKey,
}

impl Identity {
    /// Derives the public key (X25519, RFC 7748) and the Id.
    pub fn new(role: Role, secret: SecretKey) -> Self {
        let public = PublicKey(crate::noise::public_key(secret.as_bytes()));
        Self { id: Id::from_key(role, &public), secret, public }
    }

    /// This node's Id.
    pub const fn id(&self) -> Id {
        self.id
    }

    /// The static private key.
    pub const fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The static public key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.id).finish()
    }
}

/// One run of a node: a counter that grows with each start (kept on disk) and random bits that tell apart two
/// holders of one key. Ordered by the counter first: the newest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// How often this identity has been started, from 1.
    pub counter: u64,
    /// Drawn anew at each start.
    pub random: [u8; 16],
}

/// The cluster that a founding server made: drawn once, remembered for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// A human name, not unique: at most [`Name::MAX_LEN`] bytes, no control characters.
/// Clones share the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_LEN: usize = 64;

    /// Checks and takes a name; it may be empty.
    ///
    /// # Errors
    /// Too long, or with control characters (they would let a stranger write to the reader's terminal).
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.len() > Self::MAX_LEN {
            Err(NameError::TooLong { len: name.len() })
        } else if name.chars().any(char::is_control) {
            Err(NameError::ControlCharacter)
        } else {
            Ok(Self(name.into()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(<std::borrow::Cow<'de, str>>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The text cannot be a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Over [`Name::MAX_LEN`] bytes.
    #[error("the name has {len} bytes: at most {} are allowed", Name::MAX_LEN)]
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// It would move the cursor or worse.
    #[error("the name has control characters: leave them out")]
    ControlCharacter,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: Role, seed: u8) -> Identity {
        Identity::new(role, SecretKey::from_bytes([seed; 32]))
    }

    #[test]
    fn id_text_and_bytes_round_trip() {
        for role in [Role::Peer, Role::Server] {
            let id = identity(role, 7).id();
            let text = id.to_string();
            assert_eq!(text.len(), 37);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(Id::from_bytes(&id.to_bytes()), Some(id));
            assert_eq!(postcard::from_bytes::<Id>(&postcard::to_allocvec(&id).unwrap()), Ok(id));
        }
    }

    #[test]
    fn ids_are_ordered_as_their_bytes() {
        let ids: Vec<Id> =
            (0..40).flat_map(|seed| [Role::Peer, Role::Server].map(|role| identity(role, seed).id())).collect();
        for (one, other) in ids.iter().flat_map(|one| ids.iter().map(move |other| (one, other))) {
            assert_eq!(one.cmp(other), one.to_bytes().cmp(&other.to_bytes()));
            assert_eq!(one == other, one.cmp(other).is_eq());
        }
    }

    #[test]
    fn one_key_under_two_roles_is_two_ids() {
        let (peer, server) = (identity(Role::Peer, 1), identity(Role::Server, 1));
        assert_eq!(peer.public(), server.public());
        assert_ne!(peer.id().to_string()[1..], server.id().to_string()[1..]);
    }

    #[test]
    fn nothing_but_the_canonical_text_parses() {
        let text = identity(Role::Server, 3).id().to_string();
        let mut version = text.clone();
        version.replace_range(15..16, "4");
        for bad in [
            text.to_uppercase(),
            text.to_lowercase(),
            text.replace('-', ""),
            text[1..].to_string(),
            format!("X{}", &text[1..]),
            format!("{text} "),
            format!("é{}", &text[2..]),
            version,
            String::new(),
        ] {
            assert_eq!(bad.parse::<Id>(), Err(ParseIdError), "{bad}");
        }
    }

    #[test]
    fn key_text_round_trips_and_names_what_was_expected() {
        let key = NetworkKey::from_bytes([0xa5; 32]);
        assert_eq!(NetworkKey::from_text(&key.to_text()).as_ref(), Ok(&key));
        let error = ServerKey::from_text(&key.to_text()).unwrap_err();
        assert!(error.to_string().contains("p2pcore-server-key"), "{error}");
        assert!(NetworkKey::from_text("p2pcore-network-key 00").is_err());
        assert_eq!(format!("{key:?}"), "NetworkKey(..)");
    }

    #[test]
    fn names_are_short_and_printable() {
        assert!(Name::new("x".repeat(64)).is_ok());
        assert_eq!(Name::new("x".repeat(65)), Err(NameError::TooLong { len: 65 }));
        assert_eq!(Name::new("a\u{1b}[2J"), Err(NameError::ControlCharacter));
        let long = postcard::to_allocvec(&"x".repeat(65)).unwrap();
        assert!(postcard::from_bytes::<Name>(&long).is_err());
    }

    #[test]
    fn incarnations_are_ordered_by_the_counter() {
        let old = Incarnation { counter: 1, random: [9; 16] };
        let new = Incarnation { counter: 2, random: [0; 16] };
        assert!(new > old);
    }
}
