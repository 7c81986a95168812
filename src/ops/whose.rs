//! Whose bytes a digest is in a bundle: what a person loses where they are damaged.

use crate::base::digest::Digest;
use crate::store::bundle::{BLOBS, Bundle, Damaged};
use crate::store::image::image_blobs;

/// Most things that are named.
const SHOWN: usize = 3;

/// The images, charts and files that need the blob; empty where nothing does.
pub(super) fn blob(bundle: &Bundle, digest: &Digest) -> String {
    let contents = &bundle.index().contents;
    let mut found: Vec<String> = Vec::new();
    for image in bundle.images() {
        let own = image.digest == *digest || image.platforms.values().any(|m| m.digest == *digest);
        // A manifest that is damaged itself says nothing of its layers.
        let has = || image_blobs(bundle, &image).is_ok_and(|blobs| blobs.iter().any(|b| b.digest == *digest));
        if own || has() {
            found.push(format!("image {}", image.reference));
        }
    }
    found.extend(contents.charts.iter().filter(|c| c.digest == *digest).map(|c| format!("chart {}", c.name)));
    found.extend(contents.files.iter().filter(|f| f.digest == *digest).map(|f| format!("file {}", f.name)));
    found.extend(contents.locals.iter().filter(|l| l.digest == *digest).map(|l| format!("file {}", l.path)));
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if found.is_empty() { String::new() } else { format!("{}{more}", found.join(", ")) }
}

/// Damaged members, each with whose it is.
pub(super) fn named(bundle: &Bundle, mut damaged: Vec<Damaged>) -> Vec<Damaged> {
    for member in &mut damaged {
        let digest = member.path.strip_prefix(BLOBS).and_then(|hex| Digest::from_hex(hex).ok());
        let of = digest.map(|digest| blob(bundle, &digest)).unwrap_or_default();
        if !of.is_empty() {
            member.why += &format!(" (of {of})");
        }
    }
    damaged
}
