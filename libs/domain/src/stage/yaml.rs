//! Reads YAML that anybody may have written: small, flat, and never larger than it looks.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

/// Bytes a file may have.
pub(super) const MOST_BYTES: usize = 256 * 1024;
/// Values and 64-byte pieces of text it may come to, with what its anchors repeat.
const MOST_VALUES: usize = 20_000;
/// Lists and mappings in one another.
const DEEPEST: u8 = 8;

/// The file's content; else what is wrong, with line and column, as part of a sentence.
pub(super) fn read(text: &str) -> Result<Value, String> {
    if text.len() > MOST_BYTES {
        return Err(format!(
            "it has {} KiB, and at most {} KiB are read",
            text.len() / 1024,
            MOST_BYTES / 1024
        ));
    }
    let left = Cell::new(MOST_VALUES);
    let seed = Limited { left: &left, depth: DEEPEST };
    let read = seed.deserialize(serde_yaml::Deserializer::from_str(text));
    // The parser repeats names of the file, and its words end up in a comment.
    read.map_err(|error| super::plain(&error.to_string()).replace(['@', '#', '<'], "?"))
}

/// Reads one value and pays for it; what an anchor repeats is paid for each time.
#[derive(Clone, Copy)]
struct Limited<'a> {
    left: &'a Cell<usize>,
    depth: u8,
}

impl Limited<'_> {
    fn pay<E: Error>(self, price: usize) -> Result<(), E> {
        let too_large = || E::custom(format!("it comes to more than {MOST_VALUES} values"));
        self.left.set(self.left.get().checked_sub(price).ok_or_else(too_large)?);
        Ok(())
    }

    fn inner<E: Error>(self) -> Result<Self, E> {
        let too_deep = || E::custom(format!("lists and mappings are more than {DEEPEST} levels deep"));
        Ok(Self { depth: self.depth.checked_sub(1).ok_or_else(too_deep)?, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Limited<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Limited<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.pay(1).map(|()| Value::from(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.pay(1).map(|()| Value::from(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.pay(1).map(|()| Value::from(value))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.pay(1).map(|()| Value::from(value))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.pay(1 + value.len() / 64).map(|()| Value::from(value))
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.pay(1).map(|()| Value::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("tags such as !include are not read"))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.pay(1)?;
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Sequence(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.pay(1)?;
        let inner = self.inner()?;
        let mut values = Mapping::new();
        while let Some(key) = map.next_key_seed(inner)? {
            let name = super::plain(key.as_str().unwrap_or("a key"));
            if values.insert(key, map.next_value_seed(inner)?).is_some() {
                return Err(A::Error::custom(format!("`{name}` stands twice")));
            }
        }
        Ok(Value::Mapping(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_grows_no_further_than_it_looks() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e")] {
            let ten = vec![format!("*{before}"); 10].join(", ");
            bomb.push_str(&format!("{name}: &{name} [{ten}]\n"));
        }
        assert!(read(&bomb).unwrap_err().contains("more than 20000 values"), "{:?}", read(&bomb));

        let long = "x".repeat(200 * 1024);
        let many = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(500));
        assert!(read(&many).unwrap_err().contains("more than 20000 values"));

        let huge = "a: 1 #".to_owned() + &"x".repeat(MOST_BYTES);
        assert_eq!(read(&huge).unwrap_err(), "it has 256 KiB, and at most 256 KiB are read");
        assert!(read(&"[".repeat(5_000)).is_err());
        assert!(read("a: [[[[[[[[[1]]]]]]]]]").unwrap_err().contains("8 levels deep"));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        insta::assert_snapshot!(
            [
                "a: 1\na: 2\n",
                "a: [1,\n",
                "a: !run x\n",
                "a: *b\n",
                "\ta: 1\n",
                "a: 1\n---\nb: 2\n",
                "a: {b: 1"
            ]
            .map(|text| read(text).unwrap_err())
            .join("\n")
        );
        assert_eq!(read("a: &x [1, 0.5, yes, null]\nb: *x\n").unwrap()["b"][0], Value::from(1));
    }
}
