//! Whole bodies that do not become blobs: in memory, or in a nameless file.

use reqwest::header::{HeaderMap, HeaderValue};
use url::Url;

use super::sink::{ScratchSink, Sink};
use super::transfer::{Get, Progress, transfer};
use crate::source::{Net, SourceError};
use crate::store::Store;

/// A small body in memory.
#[derive(Debug)]
pub struct Small {
    /// Headers of the final response.
    pub headers: HeaderMap,
    /// Where it came from, redirects followed.
    pub url: Url,
    /// The body.
    pub bytes: Vec<u8>,
}

/// A larger body in a nameless file, rewound.
#[derive(Debug)]
pub struct Scratch {
    /// The file.
    pub file: std::fs::File,
    /// Its size in bytes.
    pub size: u64,
}

/// Gets a body of at most `limit` bytes into memory.
///
/// # Errors
/// Whatever keeps the whole body from arriving; see [`SourceError`].
pub async fn get_small(
    net: &Net,
    url: &Url,
    accept: Option<&'static str>,
    limit: u64,
    auth: Option<&HeaderValue>,
) -> Result<Small, SourceError> {
    small(net, &Get { accept, auth, ..Get::new(url, limit) }).await
}

/// Posts a form (a token request) and gives the answer.
///
/// # Errors
/// As [`get_small`].
pub async fn post_form(net: &Net, url: &Url, form: &str, limit: u64) -> Result<Small, SourceError> {
    small(net, &Get { form: Some(form), ..Get::new(url, limit) }).await
}

async fn small(net: &Net, get: &Get<'_>) -> Result<Small, SourceError> {
    let mut bytes = Vec::new();
    let received = transfer(net, get, &mut bytes, &mut Progress::silent()).await?;
    Ok(Small { headers: received.headers, url: received.url, bytes })
}

/// Gets a body of at most `limit` bytes into a nameless file beside the store's parts.
///
/// # Errors
/// As [`get_small`]; and when the file can not be written.
pub async fn get_scratch(net: &Net, store: &Store, url: &Url, label: &str, limit: u64) -> Result<Scratch, SourceError> {
    let mut sink = ScratchSink::new(store)?;
    let mut progress = Progress::new(net.reporter(), label, None);
    transfer(net, &Get::new(url, limit), &mut sink, &mut progress).await?;
    let size = sink.len();
    Ok(Scratch { file: sink.rewound()?, size })
}
