//! The SSH client against real OpenSSH servers on loopback (package openssh-server); says loudly what it can not run.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod connect;
mod exec;
mod forward;
mod many;
mod server;
mod transfer;
