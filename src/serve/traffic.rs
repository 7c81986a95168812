//! Counts what was sent to whom: so that a room can be looked at, and a test can prove that a node was sent no blob twice.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::base::digest::Digest;

/// How many pairs of client and blob are told apart; what is beyond is counted together.
const PAIRS: usize = 65_536;

/// The counters of a server.
#[derive(Default)]
pub(super) struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
    beyond: AtomicU64,
    sent: Mutex<HashMap<(IpAddr, Digest), (u64, u64)>>,
}

/// What `/labimg/v1/status` tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// What is served: names and, of bundles, their identities.
    pub sources: Vec<StatusSource>,
    /// The registry's host, where it is a lab's writable registry.
    pub registry: Option<String>,
    /// Requests so far, this one included.
    pub requests: u64,
    /// Bytes of blobs sent so far.
    pub bytes: u64,
    /// Requests for blobs that found no place in `sent`.
    pub beyond: u64,
    /// Blobs by client, sorted.
    pub sent: Vec<Sent>,
}

/// A source of a server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusSource {
    /// The bundle's path, or the lab in the store.
    pub name: String,
    /// The bundle's identity.
    pub identity: Option<Digest>,
}

/// What one client was sent of one blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sent {
    /// The client's address.
    pub client: IpAddr,
    /// The blob.
    pub digest: Digest,
    /// How often it was asked for (`GET`, ranges too).
    pub requests: u64,
    /// How many of its bytes were sent.
    pub bytes: u64,
}

impl Traffic {
    /// One more request.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A blob that is about to be sent; the ticket counts its bytes.
    pub(super) fn ticket(self: &Arc<Self>, client: IpAddr, digest: Digest) -> Ticket {
        Ticket { traffic: self.clone(), client, digest, bytes: 0 }
    }

    fn add(&self, client: IpAddr, digest: Digest, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= PAIRS && !sent.contains_key(&(client, digest)) {
            self.beyond.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let pair = sent.entry((client, digest)).or_default();
        *pair = (pair.0 + 1, pair.1 + bytes);
    }

    /// The counters with these sources.
    pub(super) fn status(&self, sources: &[(String, Option<Digest>)], registry: Option<String>) -> Status {
        let pairs = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |(pair, n): (&(IpAddr, Digest), &(u64, u64))| Sent {
            client: pair.0,
            digest: pair.1,
            requests: n.0,
            bytes: n.1,
        };
        let mut sent: Vec<Sent> = pairs.iter().map(told).collect();
        drop(pairs);
        sent.sort();
        let source =
            |(name, identity): &(String, Option<Digest>)| StatusSource { name: name.clone(), identity: *identity };
        Status {
            sources: sources.iter().map(source).collect(),
            registry,
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            beyond: self.beyond.load(Ordering::Relaxed),
            sent,
        }
    }
}

/// Counts one answer; its bytes are written down when it ends, whole or not.
pub(super) struct Ticket {
    traffic: Arc<Traffic>,
    client: IpAddr,
    digest: Digest,
    bytes: u64,
}

impl Ticket {
    /// So many bytes more.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.traffic.add(self.client, self.digest, self.bytes);
    }
}
