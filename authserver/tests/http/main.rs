//! The endpoints, over real sockets: the routers that the program serves, with the memory store, and
//! the main flow on PostgreSQL. The security cases are tests by their names.
//!
//! `cfg(test)` on the modules tells the lints that helpers in them are tests', too.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod assertion;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod authorize;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod chromium;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod equality;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod id_tokens;
#[cfg(test)]
mod in_chromium;
#[cfg(test)]
mod initial_access;
#[cfg(test)]
mod internal_tls;
#[cfg(test)]
mod introspect;
mod introspect_in_public;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod on_postgres;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod peppers;
#[cfg(test)]
mod process;
#[cfg(test)]
mod rate_limit;
#[cfg(test)]
mod real_clients;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod register;
#[cfg(test)]
mod registration_management;
#[cfg(test)]
mod resource_and_scope;
#[cfg(test)]
mod revoke;
#[cfg(test)]
mod server;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod token;
#[cfg(test)]
mod traces;
