//! What the verbs say of small bundles.

use super::cat::cat;
use super::diff::diff;
use super::export::{ExportFailure, Output, export};
use super::inspect::inspect;
use super::ls::{Kind, ls};
use super::size::size;
use crate::base::report::Silent;
use crate::build::export::{ExportError, Format, Selection};
use crate::build::tests::Lab;
use crate::model::platform::Platform;
use crate::store::bundle::{Bundle, BundleError};

fn cat_text(path: &std::path::Path, what: &str) -> Result<String, BundleError> {
    let mut out = Vec::new();
    cat(path, what, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn cat_finds_things_by_every_name() {
    let lab = Lab::full();
    let path = lab.bundle("lab.labimg");
    for (what, text) in [
        ("lock", lab.lock_text().as_str()),
        ("profile", "name = \"lab\"\n"),
        ("labimg/lock.toml", lab.lock_text().as_str()),
        ("c", "chart"),
        ("otel.yaml", "objects"),
        ("tool@linux/arm64", "tool for linux/arm64"),
        (&lab.lock.charts[0].digest.to_string(), "chart"),
    ] {
        assert_eq!(cat_text(&path, what).unwrap(), text, "{what}");
    }
    assert!(cat_text(&path, "registry:3").unwrap().contains("manifests"));
    assert!(cat_text(&path, "index").unwrap().ends_with('\n'));
    let several = cat_text(&path, "tool").unwrap_err().to_string();
    assert!(several.contains("tool@linux/amd64, tool@linux/arm64"), "{several}");
    for gone in ["nothing", "Odd Name", &format!("sha256:{}", "0".repeat(64))] {
        assert!(matches!(cat_text(&path, gone), Err(BundleError::NotFound { .. })), "{gone}");
    }
}

#[test]
fn cat_tells_of_wrong_bytes() {
    use std::os::unix::fs::FileExt;
    let path = Lab::full();
    let file = path.bundle("lab.labimg");
    let bundle = Bundle::open(&file).unwrap();
    let at = bundle.member("labimg/lock.toml").unwrap().offset;
    fs_err::OpenOptions::new().write(true).open(&file).unwrap().file().write_all_at(b"V", at).unwrap();
    let error = cat_text(&file, "lock").unwrap_err();
    assert!(error.is_integrity() && error.to_string().contains("labimg/lock.toml"), "{error}");
    let report = inspect(&file, true, &Silent).unwrap();
    assert_eq!(report.damaged.unwrap()[0].path, "labimg/lock.toml");
    assert_eq!(inspect(&file, false, &Silent).unwrap().damaged, None);
}

#[test]
fn ls_lists_by_kind_and_name() {
    let lab = Lab::full();
    let entries = ls(&lab.bundle("lab.labimg")).unwrap();
    let kinds: Vec<Kind> = entries.iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [[Kind::Image; 2], [Kind::Image; 2], [Kind::Chart, Kind::Tool], [Kind::Tool, Kind::Local]].concat()
    );
    assert_eq!(entries[0].name, "docker.io/library/registry:3");
    assert_eq!(entries[4].version.as_deref(), Some("1.0.0"));
    assert_eq!(entries[5].platform, Some(Platform::LinuxAmd64));
}

#[test]
fn sizes_add_up() {
    let lab = Lab::full();
    let path = lab.bundle("lab.labimg");
    let report = size(&path).unwrap();
    let own: u64 = report.items.iter().map(|i| i.own).sum();
    assert_eq!(own + report.shared + report.overhead, fs_err::metadata(&path).unwrap().len());
    assert_eq!(report.shared, ("base linux/amd64".len() + "base linux/arm64".len()) as u64);
    let image = report.items.iter().find(|i| i.name == "quay.io/a/b:2.0").unwrap();
    assert_eq!(image.shared, report.shared);
}

#[test]
fn diff_goes_by_name_and_then_by_digest() {
    let mut lab = Lab::full();
    let old = lab.bundle("old.labimg");
    assert!(diff(&old, &old).unwrap().same);
    let (digest, size) = lab.put("another chart");
    (lab.lock.charts[0].digest, lab.lock.charts[0].size) = (digest, size);
    lab.lock.locals.clear();
    lab.image("new:1", &[Platform::LinuxAmd64], &["base", "new"]);
    let report = diff(&old, &lab.bundle("new.labimg")).unwrap();
    let changes: Vec<_> =
        report.changes.iter().map(|c| (c.kind, c.name.as_str(), c.old.is_some(), c.new.is_some())).collect();
    assert_eq!(
        changes,
        [
            (Kind::Image, "docker.io/library/new:1", false, true),
            (Kind::Chart, "c", true, true),
            (Kind::Local, "otel.yaml", true, false)
        ]
    );
    assert_eq!(report.texts, ["index.json", "labimg/lock.toml"]);
    assert_eq!(report.bytes_gone, ("chart".len() + "objects".len()) as u64);
    assert!(!report.same && report.bytes_new > 0 && report.bytes_kept > 0);
}

#[test]
fn an_index_that_changed_alone_is_a_difference() {
    let mut lab = Lab::full();
    let old = lab.bundle("old.labimg");
    let (digest, size) = lab.put("{\"schemaVersion\":2,\"manifests\":[]}");
    (lab.lock.images[0].digest, lab.lock.images[0].size) = (digest, size);
    let report = diff(&old, &lab.bundle("new.labimg")).unwrap();
    assert_eq!(report.changes.len(), 1);
    assert_eq!((report.changes[0].kind, report.changes[0].platform), (Kind::Image, None));
}

#[test]
fn an_export_never_replaces_what_is_no_file() {
    use std::os::unix::fs::FileTypeExt;
    let lab = Lab::full();
    let path = lab.bundle("lab.labimg");
    let selection = Selection { format: Format::Oci, platform: Some(Platform::LinuxAmd64), images: vec![] };
    let dir = lab.dir.path();
    let failed = export(&dir.join("gone.labimg"), &selection, Output::File(dir), &Silent);
    assert!(matches!(failed, Err(ExportFailure::Directory(_))), "before anything else");
    let link = dir.join("null");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    export(&path, &selection, Output::File(&link), &Silent).unwrap();
    assert!(fs_err::metadata(&link).unwrap().file_type().is_char_device());
    let (real, link) = (dir.join("real.tar"), dir.join("link.tar"));
    fs_err::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let done = export(&path, &selection, Output::File(&link), &Silent).unwrap();
    assert!(link.is_symlink() && fs_err::metadata(&real).unwrap().len() == done.size);
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let lab = Lab::full();
    let path = lab.bundle("lab.labimg");
    let target = lab.dir.path().join("images.tar");
    let mut selection = Selection { format: Format::Oci, platform: Some(Platform::WindowsAmd64), images: vec![] };
    let failed = export(&path, &selection, Output::File(&target), &Silent);
    assert!(matches!(failed, Err(ExportFailure::Export(ExportError::NotForPlatform { .. }))));
    assert!(!target.exists());
    selection.platform = Some(Platform::LinuxAmd64);
    let done = export(&path, &selection, Output::File(&target), &Silent).unwrap();
    assert_eq!(fs_err::metadata(&target).unwrap().len(), done.size);
    let mut stream = Vec::new();
    export(&path, &selection, Output::Stream(&mut stream), &Silent).unwrap();
    assert!(fs_err::read(&target).unwrap() == stream);
    assert_eq!(fs_err::read_dir(lab.dir.path()).unwrap().count(), 3, "store, bundle, archive");
}
