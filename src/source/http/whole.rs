//! Whole bodies that do not become blobs: in memory, or in a nameless file.

use reqwest::header::{HeaderMap, HeaderValue};
use url::Url;

use super::coding::{Coding, Undone, undo, undo_file};
use super::send::shown;
use super::sink::{ScratchSink, Sink};
use super::transfer::{Get, Head, Progress, transfer};
use crate::source::{Net, SourceError};
use crate::store::Store;

/// A small body in memory.
#[derive(Debug)]
pub struct Small {
    /// Headers of the final response.
    pub headers: HeaderMap,
    /// Where it came from, redirects followed.
    pub url: Url,
    /// Whether nobody but the origin that was asked had a say in that.
    pub own: bool,
    /// The body, its coding undone.
    pub bytes: Vec<u8>,
    /// The body as it came, where a coding was undone: it may have been meant so.
    pub raw: Option<Vec<u8>>,
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
    let Head { headers, url, own } = received.head;
    let undone = Coding::declared(&headers).map(|coding| undo(coding, &bytes, get.limit));
    let (bytes, raw) = match undone {
        Some(Undone::Plain(plain)) => (plain, Some(bytes)),
        Some(Undone::TooLarge) => {
            return Err(SourceError::TooLarge { url: shown(get.url), limit: get.limit });
        }
        Some(Undone::NotCoded) | None => (bytes, None),
    };
    Ok(Small { headers, url, own, bytes, raw })
}

/// Gets a body of at most `limit` bytes into a nameless file beside the store's parts.
///
/// # Errors
/// As [`get_small`]; and when the file can not be written.
pub async fn get_scratch(net: &Net, store: &Store, url: &Url, label: &str, limit: u64) -> Result<Scratch, SourceError> {
    let mut sink = ScratchSink::new(store)?;
    let mut progress = Progress::new(net.reporter(), label, None);
    let received = transfer(net, &Get::new(url, limit), &mut sink, &mut progress).await?;
    let size = sink.len();
    let mut file = sink.rewound()?;
    let Some(coding) = Coding::declared(&received.head.headers) else { return Ok(Scratch { file, size }) };
    match undo_file(store, coding, &mut file, limit)? {
        Undone::Plain(plain) => Ok(Scratch { size: plain.len(), file: plain.rewound()? }),
        Undone::TooLarge => Err(SourceError::TooLarge { url: shown(url), limit }),
        Undone::NotCoded => Ok(Scratch { file: ScratchSink::of(file, size).rewound()?, size }),
    }
}
