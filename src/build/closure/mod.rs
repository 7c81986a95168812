//! What a lab runs is in the lab: every image its objects name is one it carries.
//!
//! Here are the manifests: by URL, by path, or written in the profile. What is to come (the deep closure): charts rendered with
//! their values, YAML inside ConfigMaps, images in arguments and environment variables of operators, Istio's charts. Each is
//! another source of [`ImageUse`]s to look up.

mod carried;

use serde::Serialize;

use crate::build::BuildError;
use crate::model::lock::{FileKind, Lock};
use crate::model::manifest::{self, ImageUse, MAX_BYTES, ManifestError, Object};
use crate::model::profile::{Manifest, Profile};
use crate::store::BlobSource;
use carried::{Answer, Carried};

/// What the manifests of a lab name and whether it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closure {
    /// Manifests that were read.
    pub manifests: usize,
    /// Images they name, each place counted.
    pub images: usize,
    /// Named, and not carried.
    pub missing: Vec<Finding>,
    /// Not carried, and not expected to be: pushed by attendees, or never pulled.
    pub notes: Vec<Finding>,
    /// Manifests that can not be read as Kubernetes objects.
    pub broken: Vec<Broken>,
    /// What is odd about manifests that are read all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Broken>,
}

/// A place that names an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The manifest's name in the profile.
    pub manifest: String,
    /// Line in it, from 1.
    pub line: usize,
    /// The object: `Deployment web/front-end`.
    pub object: String,
    /// Where in the object: `spec.template.spec.containers[0].image`.
    pub path: String,
    /// The reference, as written.
    pub reference: String,
    /// What is to be said of it.
    pub why: String,
    /// Lines for the profile that would carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A manifest that can not be read, or that has something odd in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Broken {
    /// The manifest's name in the profile.
    pub manifest: String,
    /// Where it comes from: its URL or path; nothing where the profile holds its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Line, from 1; 0 where no line is meant.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

impl Closure {
    /// Whether nothing is missing and everything could be read.
    pub fn is_closed(&self) -> bool {
        self.missing.is_empty() && self.broken.is_empty()
    }

    /// Refuses what is not closed.
    ///
    /// # Errors
    /// Every broken manifest and missing image in one message, with the lines to add as a hint.
    pub fn require(&self) -> Result<(), BuildError> {
        if self.is_closed() {
            return Ok(());
        }
        let mut message = match self.missing.is_empty() {
            true => "manifests can not be read:".to_owned(),
            false => "the lab's manifests name images that it does not carry:".to_owned(),
        };
        for line in self.broken.iter().map(Broken::line).chain(self.missing.iter().map(Finding::line)) {
            message.push_str("\n  ");
            message.push_str(&line);
        }
        let mut hint = self.hint();
        if hint.is_empty() {
            hint = "mend that place; where the file is not yours, take another version of it, or a mended copy beside the \
                    profile: path = \"FILE\" in its [[manifest]]"
                .to_owned();
        }
        Err(BuildError::user(message, hint))
    }

    /// The lines that would carry everything missing, each once.
    pub fn hint(&self) -> String {
        let mut lines: Vec<&str> = self.missing.iter().filter_map(|f| f.hint.as_deref()).collect();
        lines.sort_unstable();
        lines.dedup();
        if lines.is_empty() { String::new() } else { format!("add to the profile:\n{}", lines.join("\n")) }
    }
}

impl Finding {
    /// One line for people.
    pub fn line(&self) -> String {
        let Self { manifest, line, object, path, reference, why, .. } = self;
        format!("manifest {manifest}, line {line}: {object}: {path}: `{reference}`: {why}")
    }
}

impl Broken {
    /// One line for people.
    pub fn line(&self) -> String {
        let from = self.from.as_ref().map(|f| format!(" ({f})")).unwrap_or_default();
        let line = if self.line == 0 { String::new() } else { format!(", line {}", self.line) };
        format!("manifest {}{from}{line}: {}", self.manifest, self.why)
    }
}

/// Reads every manifest of a profile and looks its images up in the lock; `source` holds the manifests' bytes.
///
/// # Errors
/// A manifest that is not in `source` or can not be read from it. What is wrong inside of it is in the result.
pub fn check(profile: &Profile, lock: &Lock, source: &dyn BlobSource) -> Result<Closure, BuildError> {
    let carried = Carried::new(profile, lock);
    let mut closure = Closure::default();
    for manifest in &profile.manifest {
        let Some(bytes) = bytes(manifest, lock, source, &mut closure)? else { continue };
        closure.manifests += 1;
        match manifest::read(&bytes) {
            Ok(read) => {
                look(manifest, &read.objects, &carried, &mut closure);
                closure.remarks.extend(read.remarks.into_iter().map(|r| broken(manifest, r.line, r.what)));
            }
            Err(error) => {
                let (line, why) = placed(error);
                closure.broken.push(broken(manifest, line, why));
            }
        }
    }
    Ok(closure)
}

fn broken(manifest: &Manifest, line: usize, why: String) -> Broken {
    let from = manifest.url.as_ref().or(manifest.path.as_ref()).map(|f| f.to_string());
    Broken { manifest: manifest.name.to_string(), from, line, why }
}

/// A manifest's bytes; nothing where it is too large to be one.
fn bytes(
    manifest: &Manifest,
    lock: &Lock,
    source: &dyn BlobSource,
    closure: &mut Closure,
) -> Result<Option<Vec<u8>>, BuildError> {
    if let Some(text) = &manifest.text {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    let (digest, size) = match &manifest.path {
        Some(path) => {
            let found = lock.locals.iter().find(|l| l.path == **path);
            found.map(|l| (l.digest, l.size))
        }
        None => {
            let mut files = lock.files.iter().filter(|f| f.kind == FileKind::Manifest);
            files.find(|f| f.name == *manifest.name).map(|f| f.content())
        }
    }
    .ok_or_else(|| BuildError::Internal(format!("the lock has no manifest `{}`", *manifest.name)))?;
    if size > MAX_BYTES as u64 {
        let why = format!("{size} bytes: a manifest has at most {MAX_BYTES}");
        closure.broken.push(broken(manifest, 0, why));
        return Ok(None);
    }
    Ok(Some(source.read_blob(&digest, size)?))
}

/// The line, and what is to be said of it.
fn placed(error: ManifestError) -> (usize, String) {
    match error.column {
        0 => (error.line, error.what),
        column => (error.line, format!("column {column}: {}", error.what)),
    }
}

fn look(manifest: &Manifest, objects: &[Object], carried: &Carried, closure: &mut Closure) {
    for object in objects {
        for image in manifest::images(object) {
            closure.images += 1;
            match carried.answer(&image.reference, image.pull_policy.as_deref()) {
                Answer::Carried => {}
                Answer::Missing { why, hint } => closure.missing.push(finding(manifest, object, image, why, hint)),
                Answer::Allowed(why) => closure.notes.push(finding(manifest, object, image, why, None)),
            }
        }
    }
}

fn finding(manifest: &Manifest, object: &Object, image: ImageUse, why: String, hint: Option<String>) -> Finding {
    let place = object.namespace().map(|n| format!("{n}/")).unwrap_or_default();
    Finding {
        manifest: manifest.name.to_string(),
        line: image.line,
        object: format!("{} {place}{}", object.kind(), object.name()),
        path: image.path,
        reference: image.reference,
        why,
        hint,
    }
}

#[cfg(test)]
mod tests;
