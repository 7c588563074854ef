//! Code that the three controllers share.

pub mod apply;
pub mod backoff;
pub mod claim;
pub mod context;
pub mod error;
pub mod events;
pub mod finalizer;
pub mod guarded;
pub mod installation;
pub mod leader;
pub mod newcomers;
pub mod ownership;
pub mod pacing;
pub mod paused;
pub mod recent;
pub mod reconciler;
pub mod references;
pub mod report;
pub mod run;
pub mod status;
pub mod watched;
pub mod written;
