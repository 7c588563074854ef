//! What a caller may take: capacity for bodies and streams, and the pace of calls.

pub mod capacity;
pub mod friction;
