//! Names with `*` in them.

/// Whether `name` is what `pattern` describes: `*` matches any run of characters, also none; every
/// other character matches itself. Takes time in proportion to both lengths multiplied, at worst.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to continue after a mismatch: behind the last star, one character further.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, n));
            }
            Some(character) if *character == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    p = after_star;
                    n = from + 1;
                    retry = Some((after_star, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_any_run() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("create_*", "create_note"),
            ("create_*", "create_"),
            ("*_note", "read_note"),
            ("a*b*c", "aXbXbc"),
            ("a**c", "ac"),
            ("*é*", "café au lait"),
            ("same", "same"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn all_else_is_literal() {
        for (pattern, name) in [
            ("", "a"),
            ("create_*", "create"),
            ("create_*", "recreate_note"),
            ("*_note", "read_notes"),
            ("a*b*c", "acb"),
            ("a.c", "abc"),
            ("Same", "same"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
