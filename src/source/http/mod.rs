//! HTTP as every source uses it: bodies that arrive whole, are checked, and resume where they broke off.
//!
//! | file | holds |
//! |---|---|
//! | `send` | one request: redirects, time-outs, what a status means |
//! | `origin` | who may see a credential, whose challenge counts |
//! | `coding` | bodies that came compressed though nobody asked for it |
//! | `retry` | pauses between tries, `Retry-After` |
//! | `sink` | where a body goes: a part in the store, a scratch file, memory |
//! | `transfer` | a whole body into a sink: tries, `Range`, caps |
//! | `download` | a body into the store |
//! | `whole` | a body into memory or a nameless file |

mod coding;
mod date;
mod download;
mod origin;
mod retry;
mod send;
mod sink;
mod transfer;
mod whole;

pub use download::{Download, download};
pub use whole::{Scratch, Small, get_scratch, get_small};

pub(super) use origin::{realm, same_origin};
pub(super) use whole::post_form;
