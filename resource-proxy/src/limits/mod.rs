//! Limits of a caller: capacity for bodies and streams, and the pace of calls.

pub mod capacity;
pub mod fair_table;
pub mod friction;
