//! Messages as types: what [`Flatten`](super::flatten::Flatten) wrote, read again.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IgnoredAny, SeqAccess,
    VariantAccess, Visitor,
};

use super::tag::{is_tag_of, with_tag_of};

/// Reads a message from the values of a list.
#[derive(Debug)]
pub(super) struct Unflatten<A> {
    values: Counted<A>,
}

/// The values, and how many of them have been read.
#[derive(Debug)]
struct Counted<A> {
    values: A,
    taken: usize,
}

/// The values behind the tag of a variant.
#[derive(Debug)]
pub(super) struct Content<A> {
    values: Counted<A>,
    /// A tag that no variant has, so that what follows it is anyone's guess.
    is_catch_all: bool,
}

impl<'de, A: SeqAccess<'de>> Unflatten<A> {
    #[inline]
    pub(super) const fn new(values: A) -> Self {
        Self { values: Counted { values, taken: 0 } }
    }

    /// The tag that a struct of that name has.
    #[inline]
    fn named(mut self, name: &'static str) -> Result<Counted<A>, A::Error> {
        self.values
            .next_element_seed(NameSeed(name))?
            .ok_or_else(|| A::Error::invalid_length(0, &NameSeed(name)))?;
        Ok(self.values)
    }
}

impl<'de, A: SeqAccess<'de>> Counted<A> {
    /// All that are left, for one visitor.
    #[inline]
    fn all<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, A::Error> {
        let value = visitor.visit_seq(&mut self)?;
        self.end()?;
        Ok(value)
    }

    /// The only one that is left.
    #[inline]
    fn one<T: DeserializeSeed<'de>>(
        mut self,
        seed: T,
        expected: &dyn Expected,
    ) -> Result<T::Value, A::Error> {
        let value = self
            .next_element_seed(seed)?
            .ok_or_else(|| A::Error::invalid_length(self.taken, expected))?;
        self.end()?;
        Ok(value)
    }

    #[inline]
    fn end(mut self) -> Result<(), A::Error> {
        if self.values.next_element::<IgnoredAny>()?.is_some() {
            let expected = self.taken;
            let more = self.skip_all()?;
            let len = expected.saturating_add(1).saturating_add(more);
            return Err(A::Error::invalid_length(len, &Count(expected)));
        }
        Ok(())
    }

    fn skip_all(&mut self) -> Result<usize, A::Error> {
        let mut count = 0_usize;
        while self.values.next_element::<IgnoredAny>()?.is_some() {
            count = count.saturating_add(1);
        }
        Ok(count)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Counted<A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let value = self.values.next_element_seed(seed)?;
        self.taken = self.taken.saturating_add(usize::from(value.is_some()));
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.values.size_hint()
    }
}

/// A number of values, as something that was expected.
struct Count(usize);

impl Expected for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("a message of 1 value"),
            count => write!(f, "a message of {count} values"),
        }
    }
}

macro_rules! one_value {
    ($($method:ident),* $(,)?) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
            struct Seed<V>(V);

            impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Seed<V> {
                type Value = V::Value;

                #[inline]
                fn deserialize<D: Deserializer<'de>>(
                    self,
                    deserializer: D,
                ) -> Result<V::Value, D::Error> {
                    deserializer.$method(self.0)
                }
            }

            self.values.one(Seed(visitor), &Count(1))
        })*
    };
}

impl<'de, A: SeqAccess<'de>> Deserializer<'de> for Unflatten<A> {
    type Error = A::Error;

    one_value!(
        deserialize_bool,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_str,
        deserialize_string,
        deserialize_identifier,
        deserialize_bytes,
        deserialize_byte_buf,
        deserialize_option,
        deserialize_map,
    );

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        self.values.all(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        self.values.all(visitor)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        self.values.all(visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.values.all(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        self.values.end()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.named(name)?.end()?;
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        struct Seed<V>(V);

        impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Seed<V> {
            type Value = V::Value;

            #[inline]
            fn deserialize<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<V::Value, D::Error> {
                self.0.visit_newtype_struct(deserializer)
            }
        }

        self.named(name)?.one(Seed(visitor), &Count(2))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.named(name)?.all(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.named(name)?.all(visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_enum(Variant { values: self.values, variants })
    }
}

/// A message that is one of several variants.
#[derive(Debug)]
struct Variant<A> {
    values: Counted<A>,
    variants: &'static [&'static str],
}

impl<'de, A: SeqAccess<'de>> EnumAccess<'de> for Variant<A> {
    type Error = A::Error;
    type Variant = Content<A>;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(
        mut self,
        seed: V,
    ) -> Result<(V::Value, Content<A>), A::Error> {
        let seed = VariantSeed { variants: self.variants, seed };
        let (variant, is_catch_all) = self
            .values
            .next_element_seed(seed)?
            .ok_or_else(|| A::Error::invalid_length(0, &Tags(self.variants)))?;
        Ok((variant, Content { values: self.values, is_catch_all }))
    }
}

impl<'de, A: SeqAccess<'de>> VariantAccess<'de> for Content<A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(mut self) -> Result<(), A::Error> {
        if self.is_catch_all {
            self.values.skip_all()?;
            return Ok(());
        }
        self.values.end()
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.values.one(seed, &Count(2))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.values.all(visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.values.all(visitor)
    }
}

/// Finds the variant of a tag, and whether there was none of that name.
struct VariantSeed<S> {
    variants: &'static [&'static str],
    seed: S,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for VariantSeed<S> {
    type Value = (S::Value, bool);

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for VariantSeed<S> {
    type Value = (S::Value, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Expected::fmt(&Tags(self.variants), f)
    }

    #[inline]
    fn visit_str<E: Error>(self, tag: &str) -> Result<Self::Value, E> {
        let known = |name: &&&str| is_tag_of(name, tag);
        let exact = self.variants.iter().find(|name| **name == tag);
        // The visitors that serde derives take names: their numbering is not that of `variants`, where
        // aliases have places of their own.
        if let Some(name) = exact.or_else(|| self.variants.iter().find(known)) {
            return Ok((self.seed.deserialize(StrDeserializer::new(name))?, false));
        }
        let caught: Result<_, E> = self.seed.deserialize(StrDeserializer::new(tag));
        match caught {
            Ok(variant) => Ok((variant, true)),
            Err(_) => Err(E::custom(format_args!(
                "unknown variant `{}`, expected {}",
                tag.chars().take(SHOWN).collect::<String>(),
                Listed(self.variants)
            ))),
        }
    }
}

/// The tag of a struct of that name.
#[derive(Clone, Copy)]
struct NameSeed(&'static str);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_tag_of(self.0, |tag| write!(f, "a message with the tag `{tag}`"))
    }

    #[inline]
    fn visit_str<E: Error>(self, tag: &str) -> Result<(), E> {
        if is_tag_of(self.0, tag) {
            return Ok(());
        }
        let shown: String = tag.chars().take(SHOWN).collect();
        Err(E::invalid_value(serde::de::Unexpected::Str(&shown), &self))
    }
}

/// The tags of variants, as something that was expected.
struct Tags(&'static [&'static str]);

impl Expected for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message with the tag {}", Listed(self.0))
    }
}

/// Names, as the tags that they are sent as.
struct Listed(&'static [&'static str]);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 1 {
            f.write_str("one of ")?;
        }
        for (index, name) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            with_tag_of(name, |tag| write!(f, "{comma}`{tag}`"))?;
        }
        Ok(())
    }
}

/// How much of an unknown tag an error shows, in characters.
const SHOWN: usize = 100;
