//! Wheels: resolved by the pip of this machine against an index the test serves, then brought.

#[path = "support/fault.rs"]
// One module for several test binaries, each of which uses a part of it.
#[allow(dead_code)]
mod fault;
#[path = "support/wheels.rs"]
mod wheels;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use fault::{Fault, Hit, good, status, with};
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::model::lock::{Lock, LockedWheel};
use labimg::model::platform::Platform;
use labimg::source::fetch::{fetch_lock, missing};
use labimg::source::wheel::{WheelRequest, fetch_wheel, resolve};
use labimg::source::{ErrorKind, Net, NetOptions, SourceError};
use labimg::store::{Access, Store};
use wheels::{wheel, wheel_with};

type Files = BTreeMap<String, Vec<u8>>;

fn net_at(base: &str) -> Net {
    let options = NetOptions {
        archive_mirrors: BTreeMap::from([("pypi".to_owned(), vec![base.to_owned()])]),
        pause: Duration::from_millis(5),
        tries: 2,
        ..NetOptions::default()
    };
    Net::new(options, Arc::new(Silent))
}

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, Access::Shared).unwrap())
}

/// What the index has: wheels that need each other, some for one platform, and a project of source only.
fn index() -> Files {
    let mut files: Files = [
        (
            "top-1.0-py3-none-any.whl",
            &["mid>=1", "arm; platform_machine == 'aarch64'", "old; python_full_version < '3.11.3'"][..],
        ),
        ("mid-1.0-py3-none-any.whl", &[]),
        ("mid-1.1-py3-none-any.whl", &[]),
        ("arm-1.0-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", &[]),
        ("old-1.0-py3-none-any.whl", &[]),
        ("picky-1.0-py3-none-any.whl", &["mid<1.1"]),
        ("eager-1.0-py3-none-any.whl", &["mid>=1.1"]),
        ("needs_source-1.0-py3-none-any.whl", &["only-source"]),
        ("windows-1.0-cp311-cp311-win_amd64.whl", &[]),
        ("future-1.0-cp311-cp311-manylinux_2_99_x86_64.whl", &[]),
    ]
    .into_iter()
    .map(|(file, requires)| (file.to_owned(), wheel(file, requires)))
    .collect();
    files.insert("only_source-1.0.tar.gz".to_owned(), b"no matter".to_vec());
    files
}

/// Answers as a simple index: `/simple/<project>/` in JSON or HTML, `/files/<file>`.
fn serve(files: &Files, json: bool, hit: &Hit) -> Response<Body> {
    if let Some(file) = hit.path.strip_prefix("/files/") {
        return files.get(file).map_or_else(|| status(404), |bytes| good(hit, bytes));
    }
    let project = hit.path.trim_start_matches("/simple/").trim_end_matches('/').replace('-', "_");
    let of_it: Vec<_> = files.iter().filter(|(name, _)| name.split('-').next() == Some(&project)).collect();
    if of_it.is_empty() {
        return status(404);
    }
    if json {
        let files = of_it.iter().map(|(name, bytes)| {
            serde_json::json!({ "filename": name, "url": format!("../../files/{name}"), "size": bytes.len(),
                "hashes": { "sha256": Digest::of(bytes).hex() } })
        });
        let page = serde_json::json!({ "meta": { "api-version": "1.1" }, "name": project, "files": files.collect::<Vec<_>>() });
        return with(200, &[("content-type", "application/vnd.pypi.simple.v1+json")], page.to_string());
    }
    let link = |(name, bytes): &(&String, &Vec<u8>)| {
        format!("<a href=\"../../files/{name}#sha256={}\">{name}</a><br>\n", Digest::of(bytes).hex())
    };
    let page = format!("<!DOCTYPE html><html><body>{}</body></html>", of_it.iter().map(link).collect::<String>());
    with(200, &[("content-type", "text/html")], page)
}

async fn start(files: Files, json: bool) -> Fault {
    Fault::start(move |hit| serve(&files, json, hit)).await
}

fn request(requirements: &[&str], platform: Platform) -> WheelRequest {
    WheelRequest {
        name: "app".to_owned(),
        requirements: requirements.iter().map(|r| (*r).to_owned()).collect(),
        python: "3.11".to_owned(),
        platform,
    }
}

async fn resolved(json: bool, requirements: &[&str], platform: Platform) -> Result<Vec<LockedWheel>, SourceError> {
    let server = start(index(), json).await;
    let dir = tempfile::tempdir().unwrap();
    let net = net_at(&server.url("/simple"));
    let got = resolve(&net, &open(dir.path()), &request(requirements, platform)).await;
    if let Err(error) = &got {
        println!("{error} [{:?}] hint: {:?}", error.kind(), error.hint());
    }
    got
}

fn names(wheels: &[LockedWheel]) -> Vec<&str> {
    wheels.iter().map(|w| w.file.as_str()).collect()
}

async fn refused(requirements: &[&str]) -> (ErrorKind, String, String) {
    let error = resolved(true, requirements, Platform::LinuxAmd64).await.unwrap_err();
    (error.kind(), error.to_string(), error.hint().unwrap_or_default())
}

#[tokio::test]
async fn a_set_is_resolved_for_its_target_not_for_this_machine() {
    for json in [true, false] {
        let wheels = resolved(json, &["top==1.0"], Platform::LinuxAmd64).await.unwrap();
        // The condition on a patch release of Python is judged for the oldest one.
        assert_eq!(
            names(&wheels),
            ["mid-1.1-py3-none-any.whl", "old-1.0-py3-none-any.whl", "top-1.0-py3-none-any.whl"]
        );
        let bytes = &index()["mid-1.1-py3-none-any.whl"];
        let mid = &wheels[0];
        assert_eq!((mid.digest, mid.size), (Digest::of(bytes), bytes.len() as u64));
        assert_eq!((mid.project.as_str(), mid.version.as_str(), mid.sets.len()), ("mid", "1.1", 0));
        let wheels = resolved(json, &["top"], Platform::LinuxArm64).await.unwrap();
        assert_eq!(wheels.len(), 4);
        assert!(wheels[0].file.starts_with("arm-1.0-cp311"), "{:?}", names(&wheels));
    }
}

#[tokio::test]
async fn requirements_with_digests_are_held_to_them() {
    let hash = |file: &str| Digest::of(&index()[file]).hex();
    let pinned = |hash: &str| format!("mid==1.0 --hash=sha256:{hash}");
    let right = pinned(&hash("mid-1.0-py3-none-any.whl"));
    let wheels = resolved(true, &[&right], Platform::LinuxAmd64).await.unwrap();
    assert_eq!(names(&wheels), ["mid-1.0-py3-none-any.whl"]);
    let (kind, text, _) = refused(&[&pinned(&hash("mid-1.1-py3-none-any.whl"))]).await;
    assert_eq!(kind, ErrorKind::Mismatch, "{text}");
    let (_, text, hint) = refused(&[&right, "picky"]).await;
    assert!(text.contains("hashes") && hint.contains("`==` and a `--hash`"), "{text} / {hint}");
}

#[tokio::test]
async fn what_can_not_be_had_is_told_to_who_wrote_it() {
    for (requirements, words) in [
        (
            &["only-source"][..],
            &["`only-source` has no wheel, only source (only_source-1.0.tar.gz)", "does not build from source"][..],
        ),
        (&["needs-source"], &["`only-source` has no wheel"]),
        (&["windows==1.0"], &["no wheel for Python 3.11 on linux/amd64", "cp311-cp311-win_amd64"]),
        (&["future"], &["no wheel for Python 3.11 on linux/amd64", "manylinux_2_99"]),
        (&["mid==7"], &["no version of `mid` satisfies `mid==7`", "1.1, 1.0"]),
        (&["picky", "eager"], &["exclude each other", "picky 1.0 depends on mid<1.1"]),
        (&["nobody-has-it"], &["no index has a project `nobody-has-it`", "/simple"]),
        (&["mid=1"], &["pip does not understand it"]),
        (&["-r other.txt"], &["does not start with the name of a project"]),
    ] {
        let (kind, text, hint) = refused(requirements).await;
        assert!(words.iter().all(|w| text.contains(w)), "{requirements:?}: {text}");
        assert!(!hint.is_empty() && matches!(kind, ErrorKind::Content | ErrorKind::NotFound), "{kind:?} {hint}");
    }
}

#[tokio::test]
async fn targets_without_wheels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let net = net_at("http://127.0.0.1:1/simple");
    let request = request(&["mid"], Platform::DarwinArm64);
    let error = resolve(&net, &open(dir.path()), &request).await.unwrap_err();
    assert!(error.to_string().contains("not for darwin/arm64"), "{error}");
    let request = WheelRequest { python: "2.7".to_owned(), platform: Platform::LinuxAmd64, ..request };
    let error = resolve(&net, &open(dir.path()), &request).await.unwrap_err();
    assert!(error.to_string().contains("`2.7`"), "{error}");
}

#[tokio::test]
async fn an_index_that_does_not_answer_is_named_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let net = net_at("http://me:hunter2@127.0.0.1:1/simple");
    let error = resolve(&net, &open(dir.path()), &request(&["mid"], Platform::LinuxAmd64)).await.unwrap_err();
    let text = format!("{error} {error:?} {:?}", error.hint());
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{text}");
    assert!(text.contains("http://127.0.0.1:1/simple") && !text.contains("hunter2"), "{text}");
    println!("{text}");
}

#[tokio::test]
async fn offline_means_no_pip() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(index(), true).await;
    let options = NetOptions { offline: true, ..net_at(&server.url("/simple")).options().clone() };
    let net = Net::new(options, Arc::new(Silent));
    let error = resolve(&net, &open(dir.path()), &request(&["mid"], Platform::LinuxAmd64)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Offline, "{error}");
    assert!(server.hits().is_empty());
}

/// An index that wants a password gets it, another host that has the files does not.
#[tokio::test]
async fn credentials_stay_with_their_index() {
    let files = server_of_files().await;
    let elsewhere = files.base.clone();
    let server = Fault::start(move |hit| {
        let Some("Basic bWU6aHVudGVyMg==") = hit.header("authorization") else { return status(401) };
        let bytes = &index()["mid-1.1-py3-none-any.whl"];
        let page = format!("<a href='{elsewhere}/files/mid-1.1-py3-none-any.whl#sha256={}'>", Digest::of(bytes).hex());
        with(200, &[("content-type", "text/html")], page)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let net = net_at(&server.url("/simple").replace("http://", "http://me:hunter2@"));
    let store = open(dir.path());
    let wheels = resolve(&net, &store, &request(&["mid"], Platform::LinuxAmd64)).await.unwrap();
    fetch_wheel(&net, &store, &wheels[0]).await.unwrap();
    assert!(store.has(&wheels[0].digest, wheels[0].size));
    assert!(!files.hits().is_empty() && files.hits().iter().all(|hit| hit.header("authorization").is_none()));
}

async fn server_of_files() -> Fault {
    Fault::start(|hit| serve(&index(), true, hit)).await
}

#[tokio::test]
async fn a_locked_wheel_is_brought_and_resumed() {
    let big: Vec<u8> = (0..3_000_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = "big-1.0-py3-none-any.whl";
    let bytes = wheel_with(file, &[], &[("big.bin", &big, 0o644)]);
    let locked = locked(file, &bytes);
    let files = Files::from([(file.to_owned(), bytes.clone())]);
    let server = Fault::start(move |hit| match (hit.path.starts_with("/files/"), hit.nth) {
        (true, 0) => fault::short(&bytes, 2_000_000),
        _ => serve(&files, true, hit),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net_at(&server.url("/simple")), open(dir.path()));
    fetch_wheel(&net, &store, &locked).await.unwrap();
    assert!(store.has(&locked.digest, locked.size));
    assert_eq!(server.hits().iter().filter_map(Hit::from).collect::<Vec<_>>(), [2_000_000]);
    let asked = server.hits().len();
    fetch_wheel(&net, &store, &locked).await.unwrap();
    assert_eq!(server.hits().len(), asked, "what is there is not asked for");
}

/// A lock's wheels come with all else it names.
#[tokio::test]
async fn a_locks_wheels_are_fetched() {
    let server = start(index(), false).await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net_at(&server.url("/simple")), open(dir.path()));
    let files = ["mid-1.1-py3-none-any.whl", "top-1.0-py3-none-any.whl"];
    let wheels = files.map(|file| locked(file, &index()[file])).to_vec();
    let lock = Lock { wheels, ..Lock::default() };
    assert_eq!(missing(&store, &lock).unwrap().unwrap().what, "wheel mid-1.1-py3-none-any.whl");
    let fetched = fetch_lock(&net, &store, &lock).await.unwrap();
    assert_eq!((fetched.blobs, fetched.already), (2, 0));
    assert_eq!(missing(&store, &lock).unwrap(), None);
}

fn locked(file: &str, bytes: &[u8]) -> LockedWheel {
    LockedWheel {
        file: file.to_owned(),
        project: file.split('-').next().unwrap().to_owned(),
        version: "1.0".to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        sets: Vec::new(),
    }
}

#[tokio::test]
async fn a_locked_wheel_that_is_gone_or_another_is_told() {
    let server = start(index(), true).await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (net_at(&server.url("/simple")), open(dir.path()));
    let gone = locked("mid-0.9-py3-none-any.whl", b"x");
    let error = fetch_wheel(&net, &store, &gone).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`mid-0.9-py3-none-any.whl` of mid is not on http://127.0.0.1"), "{error}");
    let other = locked("mid-1.0-py3-none-any.whl", b"x");
    let error = fetch_wheel(&net, &store, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}

/// The index this machine's pip is configured with, asked for something small that stays.
#[tokio::test]
async fn the_index_of_this_machine_answers() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new(NetOptions { tries: 2, ..NetOptions::default() }, Arc::new(Silent));
    let store = open(dir.path());
    for platform in [Platform::LinuxAmd64, Platform::LinuxArm64] {
        let wheels = match resolve(&net, &store, &request(&["markupsafe==2.1.5"], platform)).await {
            Ok(wheels) => wheels,
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Local) => {
                println!("SKIPPED: no index of wheels can be asked here: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(wheels.len(), 1);
        fetch_wheel(&net, &store, &wheels[0]).await.unwrap();
        assert!(store.has(&wheels[0].digest, wheels[0].size), "{:?}", wheels[0]);
    }
}
