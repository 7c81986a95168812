//! `labimg size`: who owns how many bytes of a bundle, and what is shared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::ls::Kind;
use crate::base::digest::Digest;
use crate::store::StoreError;
use crate::store::bundle::{Bundle, BundleError};
use crate::store::image::image_blobs;

/// Where a bundle's bytes go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SizeReport {
    /// Length of the file in bytes.
    pub total: u64,
    /// Blobs that more than one item uses, each counted once.
    pub shared: u64,
    /// Everything that is no blob: index, lock, profile, headers, padding.
    pub overhead: u64,
    /// The items, largest first. Their own bytes, `shared` and `overhead` add up to `total`.
    pub items: Vec<SizeItem>,
}

/// One image (all its platforms), chart or file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SizeItem {
    /// What it is.
    pub kind: Kind,
    /// Its name; with its platform, where there is one (`kind@linux/amd64`).
    pub name: String,
    /// Bytes of blobs that only it uses.
    pub own: u64,
    /// Bytes of its blobs that others use, too.
    pub shared: u64,
}

/// Measures a bundle.
///
/// # Errors
/// When the file is no sound bundle, or a manifest in it is damaged.
pub fn size(path: &Path) -> Result<SizeReport, BundleError> {
    let bundle = Bundle::open_checked(path)?;
    let items = items(&bundle)?;
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for digest in items.iter().flat_map(|i| &i.blobs) {
        *users.entry(*digest).or_default() += 1;
    }
    let bytes = |digest: &Digest| bundle.blob(digest).map_or(0, |m| m.size);
    let measure = |item: Item| {
        let (own, shared): (Vec<_>, Vec<_>) = item.blobs.iter().partition(|d| users.get(d) == Some(&1));
        let sum = |list: Vec<&Digest>| list.into_iter().map(bytes).sum();
        SizeItem { kind: item.kind, name: item.name, own: sum(own), shared: sum(shared) }
    };
    let mut out: Vec<SizeItem> = items.into_iter().map(measure).collect();
    out.sort_by(|a, b| {
        (b.own + b.shared).cmp(&(a.own + a.shared)).then_with(|| (a.kind, &a.name).cmp(&(b.kind, &b.name)))
    });
    let shared = users.iter().filter(|(_, n)| **n > 1).map(|(d, _)| bytes(d)).sum();
    let own: u64 = out.iter().map(|i| i.own).sum();
    let total = bundle.file_size();
    Ok(SizeReport { total, shared, overhead: total.saturating_sub(own + shared), items: out })
}

struct Item {
    kind: Kind,
    name: String,
    blobs: BTreeSet<Digest>,
}

fn items(bundle: &Bundle) -> Result<Vec<Item>, StoreError> {
    let contents = &bundle.index().contents;
    let mut out = Vec::new();
    for image in bundle.images() {
        let blobs = image_blobs(bundle, &image)?.into_iter().map(|b| b.digest).collect();
        out.push(Item { kind: Kind::of_image(&image.reference), name: image.reference.to_string(), blobs });
    }
    let one = |kind, name, digest| Item { kind, name, blobs: BTreeSet::from([digest]) };
    out.extend(contents.charts.iter().map(|c| one(Kind::Chart, c.name.clone(), c.digest)));
    out.extend(contents.files.iter().map(|f| {
        let name = f.platform.map_or_else(|| f.name.clone(), |p| format!("{}@{p}", f.name));
        one(f.kind.into(), name, f.digest)
    }));
    out.extend(contents.locals.iter().map(|l| one(Kind::Local, l.path.clone(), l.digest)));
    Ok(out)
}
