//! Local paths of a profile: relative to the file that names them, told relative to the root file. Lexical only.

use std::ops::Range;

use super::inputs_made::is_elsewhere;
use super::types::Profile;
use crate::base::shown;
use crate::model::source_map::{Diagnostic, Loc, SourceMap};

/// The folder part of a path with `/`; empty for a bare name.
pub(super) fn dir(path: &str) -> &str {
    path.rfind('/').map_or("", |i| if i == 0 { "/" } else { &path[..i] })
}

/// `path` seen from `base`; an absolute `path` stays.
pub fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') || base.is_empty() { normalise(path) } else { normalise(&format!("{base}/{path}")) }
}

/// Without `.`, empty parts, and `..` that can be taken away.
pub(super) fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    if path.starts_with('/') { format!("/{joined}") } else { joined }
}

/// `path` as seen from the folder `base`; both normalised and both relative or both absolute.
fn relative(base: &str, path: &str) -> String {
    let (base, path): (Vec<&str>, Vec<&str>) =
        (base.split('/').filter(|p| !p.is_empty()).collect(), path.split('/').filter(|p| !p.is_empty()).collect());
    let shared = base.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", base.len() - shared);
    up.chain(path[shared..].iter().copied()).collect::<Vec<_>>().join("/")
}

/// Makes every local path relative to the root file's folder; says which can not be.
pub(super) fn resolve(profile: &mut Profile, sources: &SourceMap) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let root = sources.files().first().map(|f| dir(&f.name).to_owned()).unwrap_or_default();
    for path in local_paths(profile) {
        resolve_one(path, "", &root, sources, &mut found);
    }
    for input in profile.step.iter_mut().flat_map(|s| s.inputs.values_mut()).filter(|i| i.starts_with(STEP_PATH)) {
        resolve_one(input, STEP_PATH, &root, sources, &mut found);
    }
    found
}

/// What stands before a path in a step's input.
const STEP_PATH: &str = "path:";

/// Makes the path behind `prefix` relative to the folder `root`.
fn resolve_one(text: &mut Loc<String>, prefix: &str, root: &str, sources: &SourceMap, found: &mut Vec<Diagnostic>) {
    let Some(file) = sources.file_at(text.span().start) else { return };
    let path = text.strip_prefix(prefix).unwrap_or_default();
    if path.is_empty() || path.starts_with('/') || path.contains('\\') {
        let message = format!("`{path}` is not a relative path with `/`");
        let wrong = Diagnostic::new(sources, &text.span(), message);
        found.push(wrong.hint("paths are relative to the file that names them"));
        return;
    }
    if path.contains(shown::steers) {
        let message = format!("`{}` has characters that nobody sees", shown::name(path));
        found.push(Diagnostic::new(sources, &text.span(), message).hint("rename the file"));
        return;
    }
    let full = join(dir(&file.name), path);
    text.set(format!("{prefix}{}", relative(root, &full)));
}

/// Every field that names a file beside the profile.
fn local_paths(profile: &mut Profile) -> Vec<&mut Loc<String>> {
    let mut all: Vec<&mut Loc<String>> = Vec::new();
    all.extend(profile.host.iter_mut().filter_map(|h| h.compose.as_mut()));
    all.extend(profile.chart.iter_mut().filter_map(|c| c.values.as_mut()));
    all.extend(profile.manifest.iter_mut().filter_map(|m| m.path.as_mut()));
    all.extend(profile.file.iter_mut().filter_map(|f| f.path.as_mut()));
    all.extend(profile.text.iter_mut().map(|t| &mut t.path));
    all.extend(profile.image.iter_mut().filter_map(|i| i.build.as_mut()));
    all.extend(profile.debian.values_mut().filter_map(|d| d.keyring.as_mut()));
    all.extend(profile.cluster.iter_mut().flat_map(|c| &mut c.mounts).filter_map(|m| m.path.as_mut()));
    for table in &mut profile.boxes {
        let steps = table.step.iter_mut().flat_map(|s| {
            s.file.iter_mut().filter_map(|f| f.from.as_mut()).chain(s.upload.iter_mut().map(|u| &mut u.from))
        });
        let registries = table.k3s.as_mut().and_then(|k| k.registries.as_mut());
        let named = table.file.iter_mut().filter_map(|f| f.from.as_mut()).chain(steps).chain(registries);
        all.extend(named.filter(|from| !is_elsewhere(from)));
    }
    all
}

impl Profile {
    /// Where a path that names the file `local` (relative to the root file's folder) is written, if one does.
    pub fn written_at(&self, local: &str) -> Option<Range<usize>> {
        // Only where a file can not be taken: copying the profile costs less than a second list of fields.
        let mut copy = self.clone();
        let found = local_paths(&mut copy).into_iter().find(|path| path.as_str() == local).map(|path| path.span());
        let mut steps = self.step.iter().flat_map(|s| s.inputs.values());
        found.or_else(|| Some(steps.find(|i| i.strip_prefix(STEP_PATH) == Some(local))?.span()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_root() {
        assert_eq!(join("profiles/modules", "../kind-e2e/x.yaml"), "profiles/kind-e2e/x.yaml");
        assert_eq!(relative("profiles", "profiles/kind-e2e/x.yaml"), "kind-e2e/x.yaml");
        assert_eq!(relative("a/b", "a/c/x"), "../c/x");
        assert_eq!(normalise("./a//b/../c"), "a/c");
        assert_eq!(join("", "../x"), "../x");
    }
}
