//! `labimg cat`: one thing out of a bundle.

use std::io::{Read, Write};
use std::path::Path;

use crate::base::digest::{Digest, Hasher};
use crate::model::image::ImageRef;
use crate::store::bundle::{Bundle, BundleError, INDEX_PATH, LOCK_PATH, PROFILE_PATH};

/// Streams one thing to `out`. `what` is, in this order: `lock`, `profile` or `index`; a member's path; a digest; the name of a
/// chart, manifest, tool, file or local file (`NAME@linux/amd64` where there are several); an image, for its index or manifest.
///
/// # Errors
/// When there is no such thing, or several. The bytes are hashed as they pass: when they were wrong, the error comes at the
/// end, after they were written.
pub fn cat(path: &Path, what: &str, out: &mut dyn Write) -> Result<(), BundleError> {
    let bundle = Bundle::open(path)?;
    let wanted = match what {
        "index" | INDEX_PATH => return stream(&bundle, INDEX_PATH, bundle.index_reader(), bundle.identity(), out),
        "lock" => LOCK_PATH.to_owned(),
        "profile" => PROFILE_PATH.to_owned(),
        other => other.to_owned(),
    };
    let member = match bundle.member(&wanted) {
        Some(member) => member,
        None => {
            let digest = resolve(&bundle, &wanted)?;
            let missing = || BundleError::NotFound { path: path.to_owned(), what: format!("blob {digest}") };
            bundle.blob(&digest).ok_or_else(missing)?
        }
    };
    stream(&bundle, &member.path, bundle.reader(member), member.digest, out)
}

/// The digest of what goes by this name.
fn resolve(bundle: &Bundle, what: &str) -> Result<Digest, BundleError> {
    if let Ok(digest) = what.parse::<Digest>() {
        return Ok(digest);
    }
    let none = |what: String| BundleError::NotFound { path: bundle.path().to_owned(), what };
    let found = named(bundle, what);
    match found.as_slice() {
        [(_, digest)] => return Ok(*digest),
        [] => {}
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            return Err(none(format!("single `{what}`: say which of {}", names.join(", "))));
        }
    }
    let image = what.parse::<ImageRef>().ok().and_then(|wanted| {
        let is = |r: &ImageRef| *r == wanted || r.tagged() == wanted.to_string();
        bundle.index().contents.images.iter().find(|i| is(&i.reference)).map(|i| i.digest)
    });
    image.ok_or_else(|| none(format!("member, digest, name or image `{what}` (try `labimg ls`)")))
}

/// Everything of this name with the name that is its alone; equal contents count once.
fn named(bundle: &Bundle, what: &str) -> Vec<(String, Digest)> {
    let contents = &bundle.index().contents;
    let charts = contents.charts.iter().map(|c| (c.name.clone(), None, c.digest));
    let files = contents.files.iter().map(|f| (f.name.clone(), f.platform, f.digest));
    let locals = contents.locals.iter().map(|l| (l.path.clone(), None, l.digest));
    let mut found: Vec<(String, Digest)> = Vec::new();
    for (name, platform, digest) in charts.chain(files).chain(locals) {
        let full = platform.map_or_else(|| name.clone(), |p| format!("{name}@{p}"));
        if (name == what || full == what) && !found.iter().any(|(_, d)| *d == digest) {
            found.push((full, digest));
        }
    }
    found
}

fn stream(
    bundle: &Bundle,
    member: &str,
    mut reader: impl Read,
    expected: Digest,
    out: &mut dyn Write,
) -> Result<(), BundleError> {
    let output = Path::new("the output");
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(BundleError::io(bundle.path(), "read", e)),
        };
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n]).map_err(|e| BundleError::io(output, "write", e))?;
    }
    out.flush().map_err(|e| BundleError::io(output, "write", e))?;
    let found = hasher.finish();
    if found == expected {
        return Ok(());
    }
    let why = format!("its digest is {found}, not {expected}; what was just written is wrong");
    Err(BundleError::Damaged { path: bundle.path().to_owned(), member: member.to_owned(), why })
}
