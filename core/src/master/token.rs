//! Fencing tokens: which Master is the newer one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{Id, hex};

/// What stands behind a Master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing: the last one left of two members shows itself. Never valid as a guard.
    Provisional,
    /// A quorum of the committed voters.
    Elected,
}

impl Kind {
    /// The text of the JSON lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Elected => "elected",
        }
    }
}

/// Names one Master for the time of its office. Totally ordered by generation, kind, term and Id: a resource that accepts
/// no token below the highest one it has seen is safe from every deposed Master.
///
/// The text form is lower-case hexadecimal of fixed width; the order of the texts is the order of the tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// How often a new cluster was forced, counted from 1.
    pub generation: u64,
    /// Elected ranks above Provisional, whatever the terms.
    pub kind: Kind,
    /// The term of the election; of a Provisional one, the latest term it knows.
    pub term: u64,
    /// The Master.
    pub id: Id,
}

impl Token {
    /// The length of the binary form.
    pub const LEN: usize = 8 + 1 + 8 + Id::LEN;
    /// The length of the text form.
    pub const TEXT_LEN: usize = 2 * Self::LEN;

    /// The binary form: generation, kind, term (big endian) and Id, so that the order of the bytes is the order of the tokens.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let (generation, term, id) = (self.generation.to_be_bytes(), self.term.to_be_bytes(), self.id.to_bytes());
        let mut bytes = [0; Self::LEN];
        let all = generation.into_iter().chain([self.kind as u8]).chain(term).chain(id);
        bytes.iter_mut().zip(all).for_each(|(byte, value)| *byte = value);
        bytes
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.to_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of term {} in generation {}", self.kind.as_str(), self.id, self.term, self.generation)
    }
}

/// The text is not a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token: want {} lower-case hexadecimal digits as a Master's event shows them", Token::TEXT_LEN)]
pub struct ParseTokenError;

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != Self::TEXT_LEN || !text.bytes().all(is_digit) {
            return Err(ParseTokenError);
        }
        let (generation, rest) = text.split_at_checked(16).ok_or(ParseTokenError)?;
        let (kind, rest) = rest.split_at_checked(2).ok_or(ParseTokenError)?;
        let (term, id) = rest.split_at_checked(16).ok_or(ParseTokenError)?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| ParseTokenError);
        let kind = match kind {
            "00" => Kind::Provisional,
            "01" => Kind::Elected,
            _ => return Err(ParseTokenError),
        };
        let mut bytes = [0; Id::LEN];
        for (byte, digits) in bytes.iter_mut().zip(id.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| ParseTokenError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ParseTokenError)?;
        }
        let id = Id::from_bytes(&bytes).ok_or(ParseTokenError)?;
        Ok(Self { generation: number(generation)?, kind, term: number(term)?, id })
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.generation, self.kind, self.term, self.id).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            return text.parse().map_err(de::Error::custom);
        }
        let (generation, kind, term, id) = Deserialize::deserialize(deserializer)?;
        Ok(Self { generation, kind, term, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::master::tests::server;

    fn token() -> impl Strategy<Value = Token> {
        let number = || prop_oneof![0..3u64, any::<u64>()];
        (number(), any::<bool>(), number(), 0..4u8).prop_map(|(generation, is_elected, term, node)| Token {
            generation,
            kind: if is_elected { Kind::Elected } else { Kind::Provisional },
            term,
            id: server(node),
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_texts_is_the_order_of_the_tokens(a in token(), b in token()) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn text_and_bytes_round_trip(token in token()) {
            let text = token.to_string();
            prop_assert_eq!(text.len(), Token::TEXT_LEN);
            prop_assert_eq!(text.parse(), Ok(token));
            prop_assert_eq!(postcard::from_bytes(&postcard::to_allocvec(&token).unwrap()), Ok(token));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<Token>();
        }
    }

    #[test]
    fn generation_then_kind_then_term_then_id() {
        let token = |generation, kind, term, id| Token { generation, kind, term, id: server(id) };
        let (low, high) = if server(1) < server(2) { (1, 2) } else { (2, 1) };
        let rising = [
            token(1, Kind::Provisional, 9, low),
            token(1, Kind::Elected, 1, high),
            token(1, Kind::Elected, 2, low),
            token(1, Kind::Elected, 2, high),
            token(2, Kind::Provisional, 0, low),
        ];
        assert!(rising.is_sorted() && rising.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn nothing_but_the_canonical_text_parses() {
        let text = Token { generation: 1, kind: Kind::Elected, term: 2, id: server(1) }.to_string();
        let mut kind = text.clone();
        kind.replace_range(17..18, "2");
        for bad in
            [text.to_uppercase(), text[1..].into(), format!("+{}", &text[1..]), kind, "é".repeat(34), String::new()]
        {
            assert_eq!(bad.parse::<Token>(), Err(ParseTokenError), "{bad}");
        }
    }
}
