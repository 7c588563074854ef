//! The major version of the managed database. It never changes by itself: a newer PostgreSQL cannot read the volume.

/// What has run on the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The image.
    pub image: String,
    /// Its major version, as the volume has it.
    pub major: u32,
}

/// Another major version was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "storage.postgres.managed.image: {wanted} is PostgreSQL {major}, but the volume holds PostgreSQL {}, which it cannot \
     read. {} keeps running. Set an image of PostgreSQL {}; or to upgrade, dump the database and restore it into a new \
     volume (docs/operations/database.md)",
    .running.major, .running.image, .running.major
)]
pub struct MajorChange {
    wanted: String,
    major: u32,
    running: Running,
}

impl MajorChange {
    /// The image that keeps running.
    #[must_use]
    pub fn keeps(&self) -> &str {
        &self.running.image
    }
}

/// The major version that an image's tag names: 15 for `postgres:15`, `postgres:15.4-bookworm`.
#[must_use]
pub fn of_image(image: &str) -> Option<u32> {
    let image = image.split('@').next()?;
    let (_, tag) = image.rsplit('/').next()?.split_once(':')?;
    let end = tag.find(|c: char| !c.is_ascii_digit());
    let (number, rest) = tag.split_at(end.unwrap_or(tag.len()));
    let ends = rest.is_empty() || rest.starts_with(['.', '-']);
    // Other numbers are a date, or the version of something else.
    let major = number.parse().ok()?;
    (ends && (10..100).contains(&major)).then_some(major)
}

/// The image to run: the spec's, or else the default, as long as it does not change the major version. An image whose
/// tag does not tell is taken from the spec alone; before it starts, the pod compares it with the volume.
///
/// # Errors
/// The spec's image is of another major version. What runs stays then.
pub fn choose(
    spec: Option<&str>,
    default: &str,
    running: Option<&Running>,
) -> Result<String, MajorChange> {
    let wanted = spec.unwrap_or(default);
    let Some(running) = running else {
        return Ok(wanted.to_owned());
    };
    match of_image(wanted) {
        Some(major) if major == running.major => Ok(wanted.to_owned()),
        Some(major) if spec.is_some() => Err(MajorChange {
            wanted: wanted.to_owned(),
            major,
            running: running.clone(),
        }),
        None if spec.is_some() => Ok(wanted.to_owned()),
        Some(_) | None => Ok(running.image.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_the_major_version() {
        for (image, major) in [
            ("docker.io/library/postgres:15", Some(15)),
            ("postgres:17.2", Some(17)),
            ("registry:5000/db/postgres:16-alpine", Some(16)),
            ("postgres:15.4-bookworm@sha256:0123", Some(15)),
            ("postgres", None),
            ("registry:5000/postgres", None),
            ("postgres:latest", None),
            ("postgres@sha256:17", None),
            ("postgres:20250102", None),
            ("postgres:17beta1", None),
            ("postgres:2", None),
        ] {
            assert_eq!(of_image(image), major, "{image}");
        }
    }

    #[test]
    fn the_major_version_stays() {
        let running = Running {
            image: "mirror/postgres:15.4".to_owned(),
            major: 15,
        };
        let choose = |spec, default| choose(spec, default, Some(&running));
        // A default of the same major version is taken, another one is not.
        assert_eq!(choose(None, "postgres:15.9").unwrap(), "postgres:15.9");
        for default in ["postgres:17", "postgres@sha256:17"] {
            assert_eq!(choose(None, default).unwrap(), "mirror/postgres:15.4");
        }
        // What a person writes is taken, unless it is known to be wrong.
        for image in ["postgres:15", "mirror/postgres@sha256:15", "own:latest"] {
            assert_eq!(choose(Some(image), "postgres:17").unwrap(), image);
        }
        let refused = choose(Some("postgres:17"), "postgres:15").unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("postgres:17 is PostgreSQL 17") && text.contains("PostgreSQL 15"),
            "{text}"
        );
    }

    #[test]
    fn a_new_volume_takes_any() {
        assert_eq!(choose(None, "postgres:17", None).unwrap(), "postgres:17");
        let own = Some("own:latest");
        assert_eq!(choose(own, "postgres:17", None).unwrap(), "own:latest");
    }
}
