//! Pushing to a plain registry: just enough of the OCI distribution-spec ("Pushing blobs", "Pushing manifests").

use std::collections::BTreeMap;

use reqwest::{Client, StatusCode, header};

use crate::Failure;
use crate::bytes::digest;
use crate::image::Manifest;

/// A registry that takes pushes without asking who we are.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    base: String,
}

impl Registry {
    /// The registry at `address` (`127.0.0.1:5000`).
    pub fn at(address: &str) -> Result<Self, Failure> {
        Ok(Self { client: Client::builder().no_proxy().build()?, base: format!("http://{address}/v2") })
    }

    /// Pushes blobs, then manifests, the last one under `tag` too. Gives the bytes that had to travel.
    pub async fn push(
        &self,
        repository: &str,
        tag: &str,
        blobs: BTreeMap<String, Vec<u8>>,
        manifests: Vec<Manifest>,
    ) -> Result<u64, Failure> {
        let mut sent = 0;
        for (name, data) in blobs {
            sent += self.blob(repository, &name, data).await?;
        }
        let last = manifests.len().saturating_sub(1);
        for (i, manifest) in manifests.into_iter().enumerate() {
            let reference = if i == last { tag.to_owned() } else { digest(&manifest.data) };
            self.manifest(repository, &reference, manifest).await?;
        }
        Ok(sent)
    }

    async fn blob(&self, repository: &str, digest: &str, data: Vec<u8>) -> Result<u64, Failure> {
        let url = format!("{}/{repository}/blobs/{digest}", self.base);
        if self.client.head(&url).send().await?.status() == StatusCode::OK {
            return Ok(0);
        }
        let url = format!("{}/{repository}/blobs/uploads/", self.base);
        let answer = self.client.post(&url).send().await?.error_for_status()?;
        let place = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).ok_or("no upload location")?;
        let mut place = answer.url().join(place)?;
        place.query_pairs_mut().append_pair("digest", digest);
        let size = data.len() as u64;
        self.client.put(place).body(data).send().await?.error_for_status()?;
        Ok(size)
    }

    async fn manifest(&self, repository: &str, reference: &str, manifest: Manifest) -> Result<(), Failure> {
        let url = format!("{}/{repository}/manifests/{reference}", self.base);
        let request = self.client.put(&url).header(header::CONTENT_TYPE, manifest.media_type).body(manifest.data);
        let answer = request.send().await?;
        if !answer.status().is_success() {
            return Err(format!("{url}: {}: {}", answer.status(), answer.text().await?).into());
        }
        Ok(())
    }
}
