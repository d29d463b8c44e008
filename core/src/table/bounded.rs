//! Lists whose length is limited before anything is allocated for it.

use std::{fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};

/// How many items are allocated on the word of a length alone.
const TRUSTED: usize = 16;

/// A list of at most `MAX` items; a longer one does not decode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

/// The list has too many items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list has {len} items: at most {max} are allowed")]
pub struct TooMany {
    /// How many it has.
    pub len: usize,
    /// The limit.
    pub max: usize,
}

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// The first `MAX` of `items`.
    pub fn first(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }

    /// The items.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for Bounded<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for Bounded<T, MAX> {
    type Error = TooMany;

    fn try_from(items: Vec<T>) -> Result<Self, TooMany> {
        if items.len() > MAX { Err(TooMany { len: items.len(), max: MAX }) } else { Ok(Self(items)) }
    }
}

impl<T, const MAX: usize> IntoIterator for Bounded<T, MAX> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a Bounded<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bounded::<D, T, MAX>(deserializer).map(Self)
    }
}

/// Decodes a list of at most `MAX` items; memory follows the items that are really there.
pub(super) fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Items<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let len = items.size_hint().unwrap_or(0);
            if len > MAX {
                return Err(A::Error::custom(TooMany { len, max: MAX }));
            }
            let mut list = Vec::with_capacity(len.min(TRUSTED));
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::custom(TooMany { len: MAX + 1, max: MAX }));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Items::<T, MAX>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Few = Bounded<u8, 3>;

    fn decode(bytes: &[u8]) -> Option<Few> {
        postcard::from_bytes(bytes).ok()
    }

    #[test]
    fn lists_up_to_the_limit_round_trip() {
        for len in 0..=3 {
            let list = Few::first(0..len);
            assert_eq!(decode(&postcard::to_allocvec(&list).unwrap()), Some(list));
        }
    }

    #[test]
    fn longer_lists_are_refused_or_cut() {
        assert_eq!(decode(&[4, 1, 2, 3, 4]), None);
        assert_eq!(Few::try_from(vec![0; 4]), Err(TooMany { len: 4, max: 3 }));
        assert_eq!(Few::first([1, 2, 3, 4]).into_vec(), [1, 2, 3]);
    }

    #[test]
    fn a_large_length_without_items_is_refused() {
        type Many = Bounded<[u64; 32], { 1 << 40 }>;
        assert!(postcard::from_bytes::<Many>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_err());
    }
}
