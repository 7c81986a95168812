//! Downloads from a server that misbehaves in every way we know.

#[path = "support/fault.rs"]
mod fault;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use fault::{Fault, Hit, endless, good, short, stalled, status, with};
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::model::image::ImageRef;
use labimg::model::platform::Platform;
use labimg::source::http::{Download, download};
use labimg::source::{ErrorKind, Net, NetOptions, SourceError, oci};
use labimg::store::{Access, BlobSource, Store};

fn quick() -> NetOptions {
    NetOptions {
        pause: Duration::from_millis(5),
        stall_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(2),
        ..NetOptions::default()
    }
}

fn net(options: NetOptions) -> Net {
    Net::new(options, Arc::new(Silent))
}

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, Access::Shared).unwrap())
}

fn content() -> Vec<u8> {
    (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What is known of the body beforehand.
#[derive(Clone, Copy)]
enum Known {
    All,
    Digest,
    Nothing,
}

async fn get(net: &Net, store: &Arc<Store>, url: &str, known: Known, all: &[u8]) -> Result<(Digest, u64), SourceError> {
    let url = url.parse().unwrap();
    let (expected, size) = match known {
        Known::All => (Some(Digest::of(all)), Some(all.len() as u64)),
        Known::Digest => (Some(Digest::of(all)), None),
        Known::Nothing => (None, None),
    };
    let job = Download { url: &url, key: url.as_str(), label: "x", expected, size, auth: None };
    let work = download(net, store, &job);
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("a download hangs")
}

/// Serves `/x` as `answer` says and downloads it into a new store with all known.
async fn case(
    answer: impl Fn(&Hit, &[u8]) -> Response<Body> + Send + Sync + 'static,
) -> (Result<u64, SourceError>, Fault) {
    case_with(quick(), Known::All, answer).await
}

async fn case_with(
    options: NetOptions,
    known: Known,
    answer: impl Fn(&Hit, &[u8]) -> Response<Body> + Send + Sync + 'static,
) -> (Result<u64, SourceError>, Fault) {
    let all = content();
    let body = all.clone();
    let server = Fault::start(move |hit| answer(hit, &body)).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let got = get(&net(options), &store, &server.url("/x"), known, &all).await;
    let got = got.map(|(digest, size)| {
        assert_eq!(digest, Digest::of(&all));
        assert_eq!(store.read_blob(&digest, size).unwrap(), all);
        let left: Vec<_> = fs_err::read_dir(dir.path().join("tmp")).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        size
    });
    (got, server)
}

#[tokio::test]
async fn a_good_server_is_asked_once() {
    for known in [Known::All, Known::Digest, Known::Nothing] {
        let (got, server) = case_with(quick(), known, good).await;
        assert_eq!(got.unwrap(), content().len() as u64);
        assert_eq!(server.hits().len(), 1);
    }
}

#[tokio::test]
async fn a_wrong_digest_is_named() {
    let (got, server) = case(|_, all| with(200, &[], vec![1; all.len()])).await;
    let error = got.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    let text = error.to_string();
    assert!(text.contains(&server.url("/x")) && text.contains(&Digest::of(&content()).to_string()), "{text}");
    assert_eq!(server.hits().len(), 1);
}

#[tokio::test]
async fn a_short_body_is_resumed() {
    for known in [Known::All, Known::Digest, Known::Nothing] {
        let (got, server) =
            case_with(quick(), known, |hit, all| if hit.nth == 0 { short(all, 1_000_000) } else { good(hit, all) })
                .await;
        got.unwrap();
        let hits = server.hits();
        assert_eq!(hits.len(), 2);
        assert_eq!(hits[1].from(), Some(1_000_000));
        assert_eq!(hits[1].header("if-range"), Some("\"v1\""));
    }
}

#[tokio::test]
async fn a_body_of_unknown_digest_without_validator_starts_again() {
    let (got, server) = case_with(quick(), Known::Nothing, |hit, all| {
        let mut answer = if hit.nth == 0 { short(all, 1_000_000) } else { good(hit, all) };
        answer.headers_mut().remove("etag");
        answer
    })
    .await;
    got.unwrap();
    assert_eq!(server.hits()[1].from(), None);
}

#[tokio::test]
async fn a_body_that_always_breaks_at_the_same_place_ends_with_an_error() {
    let options = NetOptions { tries: 2, ..quick() };
    let (got, server) = case_with(options, Known::Nothing, |_, all| {
        let mut answer = short(all, 2 << 20);
        answer.headers_mut().remove("etag");
        answer
    })
    .await;
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(server.hits().len(), 2);
}

#[tokio::test]
async fn parts_are_resumed_by_the_next_run() {
    let all = content();
    let body = all.clone();
    let server = Fault::start(move |hit| if hit.nth < 2 { short(&body, 1_200_000) } else { good(hit, &body) }).await;
    let dir = tempfile::tempdir().unwrap();
    let url = server.url("/x");
    let once = NetOptions { tries: 1, ..quick() };
    let error = get(&net(once.clone()), &open(dir.path()), &url, Known::All, &all).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { tries: 1, .. }), "{error}");
    // The second answer ignores the range, and breaks off at the same place.
    get(&net(once.clone()), &open(dir.path()), &url, Known::All, &all).await.unwrap_err();
    get(&net(once), &open(dir.path()), &url, Known::All, &all).await.unwrap();
    let from: Vec<_> = server.hits().iter().map(Hit::from).collect();
    assert_eq!(from, [None, Some(1_200_000), Some(1_200_000)]);
}

#[tokio::test]
async fn a_whole_part_needs_no_request() {
    let all = content();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fs_err::write(dir.path().join("tmp").join(format!("{}.part", Digest::of(&all).hex())), &all).unwrap();
    get(&net(NetOptions { offline: true, ..quick() }), &store, "http://127.0.0.1:1/x", Known::All, &all).await.unwrap();
}

#[tokio::test]
async fn a_spoilt_part_is_fetched_again_from_the_start() {
    for known in [Known::All, Known::Digest] {
        let all = content();
        let body = all.clone();
        let server = Fault::start(move |hit| good(hit, &body)).await;
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        fs_err::write(dir.path().join("tmp").join(format!("{}.part", Digest::of(&all).hex())), [9; 1000]).unwrap();
        get(&net(quick()), &store, &server.url("/x"), known, &all).await.unwrap();
        let from: Vec<_> = server.hits().iter().map(Hit::from).collect();
        assert_eq!(from, [Some(1000), None]);
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_known_size() {
    let (got, server) = case(|_, _| endless()).await;
    let error = got.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { limit: 3_000_000, .. }), "{error}");
    assert_eq!(server.hits().len(), 1);
}

#[tokio::test]
async fn a_stall_ends_and_resumes() {
    let (got, server) = case(|hit, all| if hit.nth == 0 { stalled(all, 500_000) } else { good(hit, all) }).await;
    got.unwrap();
    assert_eq!(server.hits()[1].from(), Some(500_000));
    let (got, server) = case_with(NetOptions { tries: 2, ..quick() }, Known::All, |_, all| stalled(all, 10)).await;
    let error = got.unwrap_err();
    assert!(error.to_string().contains("no byte for 300ms"), "{error}");
    assert_eq!(server.hits().len(), 2);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let start = std::time::Instant::now();
    let (got, server) =
        case(|hit, all| if hit.nth == 0 { with(429, &[("retry-after", "1")], "") } else { good(hit, all) }).await;
    got.unwrap();
    assert_eq!(server.hits().len(), 2);
    // The one thing here that is about time: it must not be asked sooner.
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_but_not_for_ever() {
    for code in [408, 425, 429, 499, 500, 502, 503, 504, 507, 520, 522, 524, 530, 599] {
        let (got, server) = case(move |hit, all| if hit.nth < 3 { status(code) } else { good(hit, all) }).await;
        got.unwrap();
        assert_eq!(server.hits().len(), 4);
    }
    let (got, server) = case(|_, _| with(503, &[], r#"{"errors":[{"code":"DOWN","message":"back soon"}]}"#)).await;
    let error = got.unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("DOWN: back soon") && error.contains("5 times"), "{error}");
    assert_eq!(server.hits().len(), 5);
}

#[tokio::test]
async fn other_statuses_are_final() {
    for (code, kind) in [
        (404, ErrorKind::NotFound),
        (410, ErrorKind::NotFound),
        (401, ErrorKind::Unauthorized),
        (403, ErrorKind::Unauthorized),
        (418, ErrorKind::Unreachable),
        (501, ErrorKind::Unreachable),
        (505, ErrorKind::Unreachable),
    ] {
        let (got, server) = case(move |_, _| status(code)).await;
        assert_eq!(got.unwrap_err().kind(), kind);
        assert_eq!(server.hits().len(), 1);
    }
}

#[tokio::test]
async fn redirects_end() {
    let (got, _server) =
        case(|hit, _| with(302, &[("location", if hit.path == "/x" { "/y" } else { "/x" })], "")).await;
    assert!(got.unwrap_err().to_string().contains("redirects in a circle"));
    let (got, server) = case(|hit, _| with(302, &[("location", &format!("{}x", hit.path))], "")).await;
    assert!(got.unwrap_err().to_string().contains("redirects more than 10 times"));
    assert_eq!(server.hits().len(), 11);
    let (got, _server) = case(|_, _| with(302, &[("location", "file:///etc/passwd")], "")).await;
    assert!(got.unwrap_err().to_string().contains("scheme `file`"));
    let (got, _server) = case(|_, _| with(302, &[], "")).await;
    assert!(got.unwrap_err().to_string().contains("without a `Location`"));
    let (got, _server) =
        case(|hit, all| if hit.path == "/x" { with(307, &[("location", "y")], "") } else { good(hit, all) }).await;
    got.unwrap();
}

#[tokio::test]
async fn another_host_never_sees_the_authorization() {
    let all = content();
    let body = all.clone();
    let other = Fault::start(move |hit| good(hit, &body)).await;
    let target = other.url("/blob?signature=hunter2");
    let server = Fault::start(move |hit| match hit.path.as_str() {
        "/x" => with(307, &[("location", "/same")], ""),
        _ => with(307, &[("location", &target)], ""),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let url = server.url("/x").parse().unwrap();
    let auth = "Bearer t".parse().unwrap();
    let (expected, size) = (Some(Digest::of(&all)), None);
    let job = Download { url: &url, key: url.as_str(), label: "x", expected, size, auth: Some(&auth) };
    download(&net(quick()), &open(dir.path()), &job).await.unwrap();
    let sent: Vec<_> = server.hits().iter().map(|hit| hit.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [Some("Bearer t".to_owned()), Some("Bearer t".to_owned())]);
    assert_eq!(other.hits()[0].header("authorization"), None);
}

#[tokio::test]
async fn an_ignored_range_starts_again() {
    let (got, server) =
        case(|hit, all| if hit.nth == 0 { short(all, 1_000_000) } else { with(200, &[], all.to_vec()) }).await;
    got.unwrap();
    assert_eq!(server.hits().len(), 2);
}

#[tokio::test]
async fn a_416_starts_again() {
    let (got, server) = case(|hit, all| match hit.nth {
        0 => short(all, 1_000_000),
        1 => with(416, &[("content-range", "bytes */77")], ""),
        _ => good(hit, all),
    })
    .await;
    got.unwrap();
    assert_eq!(server.hits()[2].from(), None);
}

#[tokio::test]
async fn a_wrong_content_range_starts_again() {
    for range in ["bytes 7-2999999/3000000", "bytes 0-9/10", "nonsense", ""] {
        let (got, server) = case(move |hit, all| match hit.nth {
            0 => short(all, 1_000_000),
            1 => with(206, &[("content-range", range)], all[1_000_000..].to_vec()),
            _ => good(hit, all),
        })
        .await;
        got.unwrap();
        assert_eq!(server.hits()[2].from(), None);
    }
}

#[tokio::test]
async fn a_wrong_length_is_known_before_the_body() {
    let (got, server) = case(|_, all| with(200, &[], all[1..].to_vec())).await;
    let error = got.unwrap_err();
    assert!(matches!(error, SourceError::Size { expected: 3_000_000, found: 2_999_999, .. }), "{error}");
    assert_eq!((error.kind(), server.hits().len()), (ErrorKind::Mismatch, 1));
    let (got, _server) = case(|hit, all| match hit.nth {
        0 => short(all, 10),
        _ => with(206, &[("content-range", "bytes 10-19/20")], vec![0; 10]),
    })
    .await;
    assert!(matches!(got.unwrap_err(), SourceError::Size { found: 20, .. }));
}

#[tokio::test]
async fn an_unreachable_port_is_tried_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let all = content();
    // Bound and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/x");
    let error = get(&net(quick()), &open(dir.path()), &url, Known::All, &all).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("refused") && text.contains("tried 5 times"), "{text}");
    assert!(error.hint().unwrap().ends_with("up?"), "{:?}", error.hint());
}

#[tokio::test]
async fn offline_opens_no_socket() {
    let (got, server) = case_with(NetOptions { offline: true, ..quick() }, Known::All, good).await;
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Offline);
    assert!(server.hits().is_empty());
}

#[tokio::test]
async fn two_downloads_of_one_digest_are_one() {
    let all = content();
    let body = all.clone();
    let server = Fault::start(move |hit| good(hit, &body)).await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store, url) = (net(quick()), open(dir.path()), server.url("/x"));
    let both = tokio::join!(get(&net, &store, &url, Known::All, &all), get(&net, &store, &url, Known::All, &all));
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    assert_eq!(server.hits().len(), 1);
}

/// A registry with one image of one layer, whose tokens are good for `uses` requests each.
async fn registry(layer: Vec<u8>, uses: usize) -> Fault {
    let config = br#"{"os":"linux","architecture":"amd64"}"#.to_vec();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
        "digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        Digest::of(&config),
        config.len(),
        Digest::of(&layer),
        layer.len(),
        kind = "application/vnd.oci.image.manifest.v1+json",
    );
    let state = std::sync::Mutex::new((0usize, 0usize));
    Fault::start(move |hit| {
        let mut state = state.lock().unwrap();
        if hit.path == "/token" {
            *state = (state.0 + 1, uses);
            return with(200, &[], format!(r#"{{"token":"t{}"}}"#, state.0));
        }
        let good_token = hit.header("authorization") == Some(&format!("Bearer t{}", state.0)) && state.1 > 0;
        if !good_token {
            let host = hit.header("host").unwrap();
            let ask = format!(r#"Bearer realm="http://{host}/token",service="test",scope="repository:a/b:pull""#);
            return with(401, &[("www-authenticate", &ask)], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#);
        }
        state.1 -= 1;
        match hit.path.rsplit('/').next().unwrap() {
            "1" => with(200, &[], manifest.clone()),
            blob if blob == Digest::of(&config).to_string() => good(hit, &config),
            blob if blob == Digest::of(&layer).to_string() && hit.from().is_none() => short(&layer, 2_000_000),
            blob if blob == Digest::of(&layer).to_string() => good(hit, &layer),
            _ => with(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
        }
    })
    .await
}

fn mirrored(server: &Fault) -> Net {
    let mirrors = [("docker.io".to_owned(), vec![server.base.clone()])].into();
    net(NetOptions { registry_mirrors: mirrors, ..quick() })
}

#[tokio::test]
async fn a_token_that_expires_is_renewed_and_the_blob_resumed() {
    let layer = content();
    let server = registry(layer.clone(), 1).await;
    let dir = tempfile::tempdir().unwrap();
    let (net, store) = (mirrored(&server), open(dir.path()));
    let image: ImageRef = "a/b:1".parse().unwrap();
    let found = oci::resolve(&net, &store, &image, &[Platform::LinuxAmd64]).await.unwrap();
    assert_eq!(found.digest, found.platforms[&Platform::LinuxAmd64].digest);
    let digest = Digest::of(&layer);
    oci::fetch_blob(&net, &store, &image, &digest, layer.len() as u64, "layer").await.unwrap();
    assert_eq!(store.read_blob(&digest, 4_000_000).unwrap(), layer);
    let hits = server.hits();
    let blob = hits.iter().filter(|hit| hit.path.contains(&digest.to_string()));
    let from: Vec<_> = blob.map(Hit::from).collect();
    assert_eq!(from, [None, None, Some(2_000_000), Some(2_000_000)], "refused, short, refused, resumed");
    assert!(hits.iter().filter(|hit| hit.path != "/token").all(|hit| hit.query == "ns=docker.io"));
}

#[tokio::test]
async fn a_useless_token_is_no_endless_loop() {
    let server = registry(content(), 0).await;
    let dir = tempfile::tempdir().unwrap();
    let image = "a/b:1".parse().unwrap();
    let error = oci::resolve(&mirrored(&server), &open(dir.path()), &image, &[Platform::LinuxAmd64]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.hint().unwrap().contains("docker login"));
}

#[tokio::test]
async fn an_image_for_another_platform_says_what_there_is() {
    let server = registry(content(), 99).await;
    let dir = tempfile::tempdir().unwrap();
    let image = "a/b:1".parse().unwrap();
    let both = [Platform::LinuxAmd64, Platform::LinuxArm64];
    let error = oci::resolve(&mirrored(&server), &open(dir.path()), &image, &both).await.unwrap_err().to_string();
    assert_eq!(error, "image `docker.io/a/b:1` is not for linux/arm64: it is for linux/amd64");
}

#[tokio::test]
async fn a_missing_image_names_each_mirror_asked() {
    let (one, two) = (registry(content(), 99).await, registry(content(), 99).await);
    let mirrors = [("*".to_owned(), vec![one.base.clone(), two.base.clone()])].into();
    let net = net(NetOptions { registry_mirrors: mirrors, ..quick() });
    let dir = tempfile::tempdir().unwrap();
    let image: ImageRef = format!("quay.io/a/b@{}", Digest::of(b"gone")).parse().unwrap();
    let error = oci::resolve(&net, &open(dir.path()), &image, &[Platform::LinuxAmd64]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&one.base) && text.contains(&two.base) && text.contains("MANIFEST_UNKNOWN"), "{text}");
    assert!(error.hint().unwrap().contains("no longer serves"), "{:?}", error.hint());
}
