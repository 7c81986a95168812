//! Two bundles, by what their lists name: images layer by layer, charts, files, and the small texts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::bytes::{FileBytes, Shared, Window};
use super::{Report, Walk, What};
use crate::base::digest::Digest;
use crate::build::BuildError;
use crate::store::bundle::{BLOBS, Bundle, Member};
use crate::store::image::image_parts;

/// Parts of one thing by their place in it, each a blob.
type Parts = BTreeMap<String, Digest>;

/// Compares two bundles; nothing is found when their contents are the same. Unpacks into `scratch`.
///
/// # Errors
/// Manifests that are damaged, and files that can not be read.
pub fn bundles(first: &Bundle, second: &Bundle, scratch: &Path) -> Result<Report, BuildError> {
    let (a, b) = (parts(first)?, parts(second)?);
    let failed = |e| BuildError::io(first.path(), "compare", e);
    let files = (open(first.path()).map_err(failed)?, open(second.path()).map_err(failed)?);
    let mut walk = Walk { scratch, report: Report::default(), at: Vec::new(), depth: 0 };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        match (a.get(name), b.get(name)) {
            (Some(x), Some(y)) => {
                walk.at.push(name.clone());
                let done = walk.thing((first, &files.0, x), (second, &files.1, y));
                walk.at.pop();
                done.map_err(failed)?;
            }
            (Some(_), None) => walk.tell_at(name, What::OnlyInFirst, None),
            (None, Some(_)) => walk.tell_at(name, What::OnlyInSecond, None),
            (None, None) => {}
        }
    }
    Ok(walk.report)
}

fn open(path: &Path) -> io::Result<Shared> {
    Ok(Rc::new(FileBytes::new(fs_err::File::open(path)?.into_parts().0)?))
}

type Place<'a> = (&'a Bundle, &'a Shared, &'a Parts);

impl Walk<'_> {
    /// One thing that both have: its parts.
    fn thing(&mut self, a: Place<'_>, b: Place<'_>) -> io::Result<()> {
        let mark = self.report.mark();
        let parts: BTreeSet<&String> = a.2.keys().chain(b.2.keys()).collect();
        for part in parts {
            // Manifests follow from the layers and the configuration.
            if part.starts_with(MANIFEST) && self.report.mark() != mark {
                continue;
            }
            match (a.2.get(part), b.2.get(part)) {
                (Some(x), Some(y)) if x != y => match (window(a, x), window(b, y)) {
                    (Some(x), Some(y)) if part.is_empty() => self.pair(&x, &y)?,
                    (Some(x), Some(y)) => self.below(part, &x, &y)?,
                    _ => self.property(part, "digest", x, y),
                },
                (Some(_), None) => self.tell_at(part, What::OnlyInFirst, None),
                (None, Some(_)) => self.tell_at(part, What::OnlyInSecond, None),
                _ => {}
            }
        }
        Ok(())
    }
}

fn window((bundle, file, _): Place<'_>, digest: &Digest) -> Option<Shared> {
    let small = || bundle.index().members.iter().find(|m| m.digest == *digest);
    let Member { offset, size, .. } = bundle.blob(digest).or_else(small)?;
    Some(Window::of(file, *offset, *size))
}

/// The name of an image's manifest or index: behind all its layers.
const MANIFEST: &str = "manifest";

/// Everything that a bundle has, by what people call it.
fn parts(bundle: &Bundle) -> Result<BTreeMap<String, Parts>, BuildError> {
    let whole = |digest: Digest| Parts::from([(String::new(), digest)]);
    let contents = &bundle.index().contents;
    let mut found = BTreeMap::new();
    for image in bundle.images() {
        for (platform, manifest) in &image.platforms {
            let all = image_parts(bundle, manifest)?;
            let mut parts =
                Parts::from([("config".to_owned(), all.config.digest), (MANIFEST.to_owned(), manifest.digest)]);
            let layers = (1..).zip(&all.layers);
            parts.extend(layers.map(|(n, layer): (u32, _)| (format!("layer {n}"), layer.digest)));
            found.insert(format!("image {} {platform}", image.reference), parts);
        }
    }
    found.extend(contents.charts.iter().map(|c| (format!("chart {}", c.name), whole(c.digest))));
    found.extend(contents.files.iter().map(|f| {
        let platform = f.platform.map(|p| format!(" {p}")).unwrap_or_default();
        // A tool and a file may have one name.
        (format!("{} {}{platform}", f.kind.as_str(), f.name), whole(f.digest))
    }));
    found.extend(contents.locals.iter().map(|l| (format!("local {}", l.path), whole(l.digest))));
    let texts = bundle.index().members.iter().filter(|m| !m.path.starts_with(BLOBS));
    found.extend(texts.map(|m| (m.path.clone(), whole(m.digest))));
    Ok(found)
}
