//! What a caller may take: room for bodies and streams, and the pace of calls.

pub mod capacity;
pub mod friction;
