//! The chart, as helm renders it, and as an API server takes it.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod cluster;
mod metadata;
mod monitoring;
mod pod;
mod render;
mod roles;
mod values;
