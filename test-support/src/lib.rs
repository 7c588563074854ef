//! What the tests of all crates share. No part of it runs in production.

pub mod api_server;
pub mod certificates;
pub mod collector;
pub mod logs;
pub mod mcp;
pub mod memory;
pub mod metrics_page;
pub mod oauth;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod run;
pub mod wait;
