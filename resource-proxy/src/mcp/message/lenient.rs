//! Values whose type a server may ignore: anything of another type counts as absent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The members of an object, as far as they are read.
pub(super) trait Members<'de>: Default {
    /// Reads them all.
    fn read<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

/// An object; anything else is read as one without members.
pub(super) struct Maybe<T>(pub(super) T);

/// A string, borrowed where it has no escapes; anything else is absent.
pub(super) struct MaybeText<'a>(pub(super) Option<Cow<'a, str>>);

/// What is made of each type of value.
trait Lenient<'de>: Sized {
    /// Of a type that does not count.
    fn absent() -> Self;
    fn text(_: Cow<'de, str>) -> Self {
        Self::absent()
    }
    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::absent())
    }
}

impl<'de> Lenient<'de> for MaybeText<'de> {
    fn absent() -> Self {
        Self(None)
    }

    fn text(text: Cow<'de, str>) -> Self {
        Self(Some(text))
    }
}

impl<'de, T: Members<'de>> Lenient<'de> for Maybe<T> {
    fn absent() -> Self {
        Self(T::default())
    }

    fn object<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::read(map).map(Self)
    }
}

impl<'de> Deserialize<'de> for MaybeText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType(PhantomData))
    }
}

impl<'de, T: Members<'de>> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType(PhantomData))
    }
}

struct AnyType<L>(PhantomData<L>);

impl<'de, L: Lenient<'de>> Visitor<'de> for AnyType<L> {
    type Value = L;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<L, E> {
        Ok(L::text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<L, E> {
        Ok(L::text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<L, E> {
        Ok(L::absent())
    }

    fn visit_i64<E>(self, _: i64) -> Result<L, E> {
        Ok(L::absent())
    }

    fn visit_u64<E>(self, _: u64) -> Result<L, E> {
        Ok(L::absent())
    }

    fn visit_f64<E>(self, _: f64) -> Result<L, E> {
        Ok(L::absent())
    }

    fn visit_unit<E>(self) -> Result<L, E> {
        Ok(L::absent())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<L, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(L::absent())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<L, A::Error> {
        L::object(map)
    }
}
