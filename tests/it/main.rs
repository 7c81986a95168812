//! labimg as people meet it: the program and its exit codes, messages and files, against a loopback server a test controls.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

// The whole server of tests/ssh, of which a part is used here.
#[allow(dead_code)]
#[path = "../ssh/server.rs"]
mod server;
mod support;

mod bundles;
mod carry;
mod cases;
mod closure;
mod fetching;
mod golden;
mod locking;
mod machines;
mod made;
mod made_golden;
mod made_image;
mod made_refused;
mod made_store;
mod preload;
mod process;
mod properties;
mod schema;
mod settings;
mod stores;
mod trust;
mod vagrantfile;
