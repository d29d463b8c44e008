//! What the two ends of a conversation tell each other on the link's control stream.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Names a run of message numbers: drawn by the sender, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionId {
    /// The sender's conversation; another after each restart.
    pub seed: [u8; 16],
    /// Which session of it.
    pub count: u64,
}

/// A control message of a conversation. On each link both ends send one `Known`, then one `Open`, then receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionMessage {
    /// What the writer, as a receiver, remembers of the other end's messages.
    Known {
        /// The writer's conversation; another one if it has restarted or forgotten.
        instance: [u8; 16],
        /// The last session it was told of.
        heard: Option<Heard>,
    },
    /// The writer, as a sender, goes on in this session: with the numbers of `heard` if it was named there, else from 0.
    Open {
        /// The session.
        session: SessionId,
    },
    /// Numbers of the session that were handed to the application.
    Receipt(Receipt),
}

/// How far a receiver has come in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The session.
    pub session: SessionId,
    /// The number that it expects next, by lane; lanes that are not listed expect 0.
    #[serde(deserialize_with = "at_most::<_, _, { super::MAX_LANES }>")]
    pub next: Vec<u64>,
}

/// Which messages of a lane were handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The lane.
    pub lane: u8,
    /// Every number below.
    pub below: u64,
    /// Runs above it (first, behind the last), ascending, not told before on this link.
    #[serde(deserialize_with = "at_most::<_, _, { MAX_RUNS }>")]
    pub also: Vec<(u64, u64)>,
}

/// The most runs in one [`Receipt`].
pub const MAX_RUNS: usize = 64;

fn at_most<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T, const MAX: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> de::Visitor<'de> for Visitor<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} elements")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                if list.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Visitor::<T, MAX>(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { seed: [7; 16], count: 300 };

    fn golden(message: &SessionMessage, bytes: &[u8]) {
        assert_eq!(postcard::to_allocvec(message).unwrap(), bytes);
        assert_eq!(&postcard::from_bytes::<SessionMessage>(bytes).unwrap(), message);
    }

    #[test]
    fn control_messages_keep_their_bytes() {
        let session = [&[7; 16][..], &[0xac, 0x02]].concat();
        golden(&SessionMessage::Known { instance: [9; 16], heard: None }, &[&[0][..], &[9; 16], &[0]].concat());
        golden(
            &SessionMessage::Known {
                instance: [9; 16],
                heard: Some(Heard { session: SESSION, next: vec![5, 0, 128] }),
            },
            &[&[0][..], &[9; 16], &[1], &session, &[3, 5, 0, 0x80, 1]].concat(),
        );
        golden(&SessionMessage::Open { session: SESSION }, &[&[1][..], &session].concat());
        golden(
            &SessionMessage::Receipt(Receipt { lane: 3, below: 200, also: vec![(202, 203)] }),
            &[2, 3, 0xc8, 1, 1, 0xca, 1, 0xcb, 1],
        );
    }

    #[test]
    fn lists_over_their_limit_are_refused_before_they_are_kept() {
        let receipt = |runs: usize| [&[2, 0, 0, runs as u8][..], &vec![1; 2 * runs]].concat();
        assert!(postcard::from_bytes::<SessionMessage>(&receipt(MAX_RUNS)).is_ok());
        assert!(postcard::from_bytes::<SessionMessage>(&receipt(MAX_RUNS + 1)).is_err());
        let endless = [2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(postcard::from_bytes::<SessionMessage>(&endless).is_err());
    }
}
