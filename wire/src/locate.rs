//! Where a key stands in a YAML text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::invalid::Place;

/// The place of a key such as `scopes[0].name`: as much of it as there is. None where nothing of it is.
pub(crate) fn locate(text: &str, key: &str) -> Option<Place> {
    let path: Vec<&str> = key
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']'))
        .collect();
    let mut place = None;
    let find = Find {
        path: &path,
        place: &mut place,
    };
    // It ends with an error where the rest of the text has another shape; what was found until then counts.
    let _ = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        find.deserialize(deserializer)
    });
    place
}

fn place_of(location: Location) -> Place {
    Place {
        line: location.line(),
        column: location.column(),
    }
}

/// Goes down a path, and notes how far it came.
struct Find<'a> {
    path: &'a [&'a str],
    place: &'a mut Option<Place>,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            match self.path {
                [step, rest @ ..] if *step == key.value => {
                    *self.place = Some(place_of(key.referenced));
                    let place = &mut *self.place;
                    map.next_value_seed(Find { path: rest, place })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let [step, rest @ ..] = self.path else {
            return Ok(());
        };
        let wanted = step.parse::<usize>().unwrap_or(usize::MAX);
        let mut index = 0;
        loop {
            let more = match (index == wanted, rest) {
                (false, _) => list.next_element::<IgnoredAny>()?.is_some(),
                (true, []) => {
                    let element = list.next_element::<Spanned<IgnoredAny>>()?;
                    let place = element.map(|element| place_of(element.referenced));
                    *self.place = place.or(*self.place);
                    place.is_some()
                }
                (true, path) => {
                    let place = &mut *self.place;
                    list.next_element_seed(Find { path, place })?.is_some()
                }
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
resource: http://localhost/mcp
access:
  rules:
  - tools: [a]
    scopes: [x,
             y]
  - { tools: [b], anyToken: true }
colour: red
";

    #[test]
    fn a_key_is_found_as_far_as_there_is_one() {
        for (key, line, column) in [
            ("resource", 2, 1),
            ("colour", 9, 1),
            ("access.rules", 4, 3),
            ("access.rules[0].scopes", 6, 5),
            ("access.rules[0].scopes[1]", 7, 14),
            ("access.rules[1]", 8, 5),
            ("access.rules[1].anyToken", 8, 19),
            ("access.unmatched", 3, 1),
            ("access.rules[7].tools", 4, 3),
            ("resource.x", 2, 1),
        ] {
            assert_eq!(locate(TEXT, key), Some(Place { line, column }), "{key}");
        }
        assert_eq!(locate(TEXT, "limits.bodyBytes"), None);
        assert_eq!(locate(TEXT, ""), None);
        assert_eq!(locate("a: [", "b"), None);
    }
}
