//! The registry server: its protocol, damaged bundles, and requests that mean no good.
#![allow(clippy::disallowed_methods)]

mod abuse;
mod altered;
mod pull;
mod push;
mod support;
