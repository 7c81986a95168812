//! Root file systems of machines, from packages of this machine's own mirror. Without a mirror, or without what a part needs,
//! that part says so and passes.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

mod bootstrap;
mod compose;
mod debs;
mod job;
