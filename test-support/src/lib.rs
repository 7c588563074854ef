//! What the tests of all crates share. No part of it runs in production.

pub mod logs;
pub mod metrics_page;
pub mod run;
