//! Pulling: both forms of names, manifests, blobs, ranges, lists.

use labimg::base::digest::Digest;
use labimg::serve::from_store;

use crate::support::{LARGE, Lab, bytes, mirror, start};

#[test]
fn a_manifest_is_had_by_tag_and_digest_in_every_form_of_its_name() {
    let mut lab = Lab::new();
    let digest = lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    for (path, ns) in [
        ("library/x", "?ns=docker.io"),
        ("x", "?ns=docker.io"),
        ("x", "?ns=DOCKER.IO"),
        ("Docker.IO/library/x", ""),
        ("library/x", "?ns=index.docker.io"),
        ("library/x", "?ns=registry-1.docker.io"),
        ("docker.io/library/x", ""),
        ("docker.io/x", ""),
        ("index.docker.io/library/x", ""),
        ("library/x", ""),
        ("x", ""),
    ] {
        for wanted in ["1".to_owned(), digest.to_string()] {
            let url = format!("/v2/{path}/manifests/{wanted}{ns}");
            let got = server.get(&url);
            assert_eq!(got.status, 200, "{url}: {}", String::from_utf8_lossy(&got.body));
            assert_eq!(Digest::of(&got.body), digest);
            assert_eq!(got.header("docker-content-digest"), Some(digest.to_string().as_str()));
            assert_eq!(got.header("etag"), Some(format!("\"{digest}\"").as_str()));
            assert_eq!(got.header("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
            let head = server.head(&url);
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), Some(got.body.len().to_string().as_str()));
        }
    }
    let etag = format!("\"{digest}\"");
    let layer = Digest::of(&bytes(1, 10));
    let of_layer = format!("\"{layer}\"");
    for (path, etag) in [("/v2/x/manifests/1", &etag), (&*format!("/v2/x/blobs/{layer}"), &of_layer)] {
        for method in ["GET", "HEAD"] {
            let ask = |name: &str, value: &str| server.ask(method, path, &[(name, value)], b"");
            for value in [etag.clone(), format!("W/{etag}"), "*".to_owned(), format!("\"x\", W/{etag}")] {
                let same = ask("If-None-Match", &value);
                assert_eq!(
                    (same.status, same.body.len(), same.header("content-length")),
                    (304, 0, None),
                    "{method} {value}"
                );
            }
            assert_eq!(ask("If-None-Match", "\"x\"").status, 200);
            assert_eq!((ask("If-Match", etag).status, ask("If-Match", "*").status), (200, 200));
            assert_eq!((ask("If-Match", "\"x\"").status, ask("If-Match", &format!("W/{etag}")).status), (412, 412));
        }
    }
    assert_eq!(server.get("/v2/").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn two_upstreams_with_one_repository_never_mix() {
    let mut lab = Lab::new();
    let hub = lab.image("docker.io/a/b:1", &[bytes(1, 10)]);
    let quay = lab.image("quay.io/a/b:1", &[bytes(2, 10), bytes(3, 10)]);
    lab.image("quay.io/a/b:2", &[bytes(4, 10), bytes(5, 11)]);
    lab.image("quay.io/only/there:1", &[bytes(6, 10)]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    for (path, want) in [
        ("a/b/manifests/1?ns=docker.io", Some(hub)),
        ("a/b/manifests/1?ns=quay.io", Some(quay)),
        ("quay.io/a/b/manifests/1", Some(quay)),
        ("docker.io/a/b/manifests/1", Some(hub)),
        ("a/b/manifests/1", Some(hub)),
        ("a/b/manifests/2", None),
        ("a/b/manifests/2?ns=docker.io", None),
        ("only/there/manifests/1", None),
        ("only/there/manifests/1?ns=docker.io", None),
        ("a/b/manifests/1?ns=ghcr.io", None),
    ] {
        let got = server.get(&format!("/v2/{path}"));
        assert_eq!(got.header("docker-content-digest").map(|d| d.parse().unwrap()), want, "{path}");
        assert_eq!(got.status, if want.is_some() { 200 } else { 404 }, "{path}");
    }
    // A manifest of one upstream is not had under the other's name, by digest neither.
    let other = server.get(&format!("/v2/a/b/manifests/{quay}?ns=docker.io"));
    assert_eq!(other.refused(), (404, "MANIFEST_UNKNOWN".to_owned()));
}

#[test]
fn a_partial_index_is_there_as_it_is_and_says_what_is_carried() {
    let mut lab = Lab::new();
    let (index, here, absent) = lab.partial("ghcr.io/o/multi:1", &[bytes(1, 10)]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    let got = server.get("/v2/o/multi/manifests/1?ns=ghcr.io");
    assert_eq!(Digest::of(&got.body), index);
    assert_eq!(got.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(server.get(&format!("/v2/o/multi/manifests/{here}?ns=ghcr.io")).status, 200);
    let got = server.get(&format!("/v2/o/multi/manifests/{absent}?ns=ghcr.io"));
    assert_eq!(got.refused(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert!(
        got.message().contains("linux/arm64") && got.message().contains("there is linux/amd64"),
        "{}",
        got.message()
    );
    let got = server.get("/v2/o/multi/manifests/2?ns=ghcr.io");
    assert!(got.message().contains("tags there are: 1"), "{}", got.message());
}

#[test]
fn an_index_in_an_index_is_served_from_a_bundle_and_from_the_store() {
    use labimg::store::root::Made;
    let mut lab = Lab::new();
    let [top, inner, manifest, absent] = lab.nested("ghcr.io/o/deep:1", &[bytes(1, 10)]);
    lab.store.write_root(lab.lock(), Made::These(&[]), &lab.blobs()).unwrap();
    let of_store = start(vec![from_store(&lab.store, "lab").unwrap()], None);
    for server in [mirror(&[&lab.bundle("lab.labimg")]), of_store] {
        assert_eq!(Digest::of(&server.get("/v2/o/deep/manifests/1?ns=ghcr.io").body), top);
        for (digest, kind) in [(inner, "index"), (manifest, "manifest")] {
            let got = server.get(&format!("/v2/o/deep/manifests/{digest}?ns=ghcr.io"));
            assert_eq!(Digest::of(&got.body), digest);
            assert_eq!(got.header("content-type"), Some(&*format!("application/vnd.oci.image.{kind}.v1+json")));
        }
        let got = server.get(&format!("/v2/o/deep/manifests/{absent}?ns=ghcr.io"));
        assert!(got.message().contains("linux/arm64 of ghcr.io/o/deep was not packed"), "{}", got.message());
    }
}

#[test]
fn blobs_come_whole_and_in_ranges() {
    let mut lab = Lab::new();
    let layer = bytes(1, LARGE);
    lab.image("docker.io/library/x:1", &[layer.clone(), Vec::new()]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    let url = format!("/v2/library/x/blobs/{}?ns=docker.io", Digest::of(&layer));
    let ask = |range: &str| server.ask("GET", &url, &[("Range", range)], b"");
    // A range first: the blob is checked before anything of it is sent.
    let part = ask("bytes=1000000-1000009");
    assert_eq!((part.status, part.body.as_slice()), (206, &layer[1_000_000..1_000_010]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 1000000-1000009/{LARGE}").as_str()));
    let whole = server.get(&url);
    assert!(whole.status == 200 && whole.body == layer);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("content-length"), Some(LARGE.to_string().as_str()));
    let rest = ask("bytes=262143-");
    assert!(rest.status == 206 && rest.body == layer[262_143..]);
    let end = ask("bytes=-7");
    assert!(end.status == 206 && end.body == layer[LARGE - 7..]);
    let outside = ask(&format!("bytes={LARGE}-"));
    assert_eq!(outside.refused(), (416, "SIZE_INVALID".to_owned()));
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{LARGE}").as_str()));
    assert_eq!(ask("bytes=0-1,5-6").status, 200);
    let changed = server.ask("GET", &url, &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")], b"");
    assert_eq!(changed.status, 200);
    let head = server.head(&url);
    assert_eq!((head.status, head.header("content-length")), (200, Some(LARGE.to_string().as_str())));
    let nothing = server.get(&format!("/v2/x/blobs/{}", Digest::of(b"")));
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
    let unknown = server.get(&format!("/v2/x/blobs/{}", Digest::of(b"unknown")));
    assert_eq!(unknown.refused(), (404, "BLOB_UNKNOWN".to_owned()));
    let status = server.get("/labimg/v1/status").json();
    let sent = status["sent"].as_array().unwrap().iter();
    let sent: Vec<_> = sent.filter(|s| s["digest"] == Digest::of(&layer).to_string()).collect();
    assert_eq!((sent.len(), sent[0]["requests"].as_u64(), &sent[0]["client"]), (1, Some(6), &"127.0.0.1".into()));
}

#[test]
fn lists_come_in_pages() {
    let mut lab = Lab::new();
    for tag in ["1", "2", "10", "3"] {
        lab.image(&format!("quay.io/a/b:{tag}"), &[bytes(1, 10)]);
    }
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    let all = server.get("/v2/quay.io/a/b/tags/list").json();
    assert_eq!(all, serde_json::json!({"name": "quay.io/a/b", "tags": ["1", "10", "2", "3"]}));
    let page = server.get("/v2/a/b/tags/list?ns=quay.io&n=2");
    assert_eq!(page.json()["tags"], serde_json::json!(["1", "10"]));
    assert_eq!(page.header("link"), Some("</v2/a/b/tags/list?n=2&last=10&ns=quay.io>; rel=\"next\""));
    let page = server.get("/v2/a/b/tags/list?ns=quay.io&n=2&last=10");
    assert_eq!((page.json()["tags"].clone(), page.header("link")), (serde_json::json!(["2", "3"]), None));
    assert_eq!(server.get("/v2/a/b/tags/list?ns=quay.io&n=x").refused().1, "PAGINATION_NUMBER_INVALID");
    assert_eq!(server.get("/v2/nobody/tags/list").refused(), (404, "NAME_UNKNOWN".to_owned()));
    let all = server.get("/v2/_catalog").json();
    assert_eq!(all["repositories"], serde_json::json!(["docker.io/library/x", "quay.io/a/b"]));
    assert_eq!(server.get("/v2/_catalog?ns=quay.io").json()["repositories"], serde_json::json!(["a/b"]));
}

#[test]
fn bundles_stand_side_by_side_unless_they_disagree() {
    let mut one = Lab::new();
    one.image("quay.io/a/b:1", &[bytes(1, 10)]);
    let mut same = Lab::new();
    same.image("quay.io/a/b:1", &[bytes(1, 10)]);
    let more = same.image("quay.io/a/b:2", &[bytes(2, 10)]);
    let mut other = Lab::new();
    other.image("quay.io/a/b:1", &[bytes(3, 10)]);
    let (one, same, other) = (one.bundle("a.labimg"), same.bundle("b.labimg"), other.bundle("c.labimg"));
    let paths = [one.as_path(), same.as_path()];
    // The bundles are gone with their labs, but a server that runs holds them open.
    let server = mirror(&paths);
    assert_eq!(
        server.get("/v2/a/b/manifests/2?ns=quay.io").header("docker-content-digest"),
        Some(more.to_string().as_str())
    );
    let open = |path: &std::path::Path| labimg::serve::from_bundle(labimg::store::bundle::Bundle::open(path).unwrap());
    let sources = vec![open(&one), open(&other)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = labimg::serve::Options { listen: "127.0.0.1:0".parse().unwrap(), registry: None };
    let error = runtime.block_on(labimg::serve::Server::bind(options, sources)).err().unwrap().to_string();
    assert!(error.contains("quay.io/a/b:1") && error.contains("a.labimg") && error.contains("c.labimg"), "{error}");
}

#[test]
fn a_lab_of_the_store_is_served_as_its_bundle_is() {
    use labimg::store::root::Made;
    let mut lab = Lab::new();
    let digest = lab.image("docker.io/library/x:1", &[bytes(1, LARGE)]);
    let (index, here, _) = lab.partial("ghcr.io/o/multi:1", &[bytes(2, 10)]);
    lab.store.write_root(lab.lock(), Made::These(&[]), &lab.blobs()).unwrap();
    let server = start(vec![from_store(&lab.store, "lab").unwrap()], None);
    assert_eq!(Digest::of(&server.get("/v2/x/manifests/1").body), digest);
    assert_eq!(Digest::of(&server.get("/v2/o/multi/manifests/1?ns=ghcr.io").body), index);
    assert_eq!(server.get(&format!("/v2/o/multi/manifests/{here}?ns=ghcr.io")).status, 200);
    let layer = Digest::of(&bytes(1, LARGE));
    assert_eq!(Digest::of(&server.get(&format!("/v2/x/blobs/{layer}")).body), layer);
}

#[test]
fn only_what_an_image_is_made_of_is_served_and_under_its_own_name() {
    use crate::support::registry;
    let mut lab = Lab::new();
    let x = lab.image("docker.io/library/x:1", &[bytes(1, 5000)]);
    lab.image("quay.io/a/b:1", &[bytes(2, 5000)]);
    let secret = lab.local("secret.txt", b"a file from beside the profile");
    let bundle = lab.bundle("lab.labimg");
    let (of_x, of_b) = (Digest::of(&bytes(1, 5000)), Digest::of(&bytes(2, 5000)));
    let server = mirror(&[&bundle]);
    let unknown = (404, "BLOB_UNKNOWN".to_owned());
    for (path, there) in [
        (format!("x/blobs/{of_x}"), true),
        (format!("library/x/blobs/{of_x}?ns=docker.io"), true),
        (format!("x/blobs/{x}"), true),
        (format!("quay.io/a/b/blobs/{of_b}"), true),
        (format!("x/blobs/{of_b}"), false),
        (format!("a/b/blobs/{of_b}"), false),
        (format!("a/b/blobs/{of_x}?ns=quay.io"), false),
        (format!("other/blobs/{of_x}"), false),
        (format!("x/blobs/{secret}"), false),
        (format!("quay.io/a/b/blobs/{secret}"), false),
    ] {
        let (got, head) = (server.get(&format!("/v2/{path}")), server.head(&format!("/v2/{path}")));
        assert_eq!((got.status == 200, head.status), (there, got.status), "{path}");
        assert!(there || got.refused() == unknown, "{path}");
    }
    // The lab's registry has what its images are made of, of whatever upstream, for those who build on them. No more.
    let server = registry(&bundle, &lab.dir.path().join("pushes"), None);
    assert_eq!(server.get(&format!("/v2/app/blobs/{of_b}")).status, 200);
    assert_eq!(server.get(&format!("/v2/app/blobs/{secret}")).refused(), unknown);
    let mount = |digest: &Digest| {
        server.ask("POST", &format!("/v2/app/blobs/uploads/?mount={digest}&from=other"), &[], b"").status
    };
    assert_eq!((mount(&of_b), mount(&secret)), (201, 202));
    let config = serde_json::json!({"mediaType": "a/b", "digest": secret, "size": 30});
    let text = serde_json::json!({"schemaVersion": 2, "mediaType": "a/m", "config": config, "layers": []}).to_string();
    let put = server.ask("PUT", "/v2/app/manifests/1", &[("Content-Type", "a/m")], text.as_bytes());
    assert_eq!(put.refused(), (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
}

#[test]
fn a_lab_of_the_store_is_served_without_what_only_others_have() {
    use labimg::store::root::Made;
    let mut one = Lab::new();
    one.image("docker.io/library/x:1", &[bytes(1, 5000)]);
    let (index, here, absent) = one.partial("ghcr.io/o/multi:1", &[bytes(2, 10)]);
    let text = one.local("text.txt", b"of this lab, and no image");
    one.store.write_root(one.lock(), Made::These(&[]), &one.blobs()).unwrap();
    // Another lab of the same store: an image of its own, and what `multi` has for another platform.
    let layer = one.store.put(&bytes(7, 5000)).unwrap();
    let server = start(vec![from_store(&one.store, "lab").unwrap()], None);
    for digest in [layer, text] {
        for name in ["x", "library/x", "other", "ghcr.io/o/multi"] {
            let path = format!("/v2/{name}/blobs/{digest}");
            assert_eq!((server.get(&path).status, server.head(&path).status), (404, 404), "{path}");
        }
    }
    for digest in [index, here] {
        assert_eq!(server.get(&format!("/v2/ghcr.io/o/multi/manifests/{digest}")).status, 200);
    }
    assert_eq!(server.get(&format!("/v2/ghcr.io/o/multi/manifests/{absent}")).status, 404);
}

#[test]
fn referrers_are_listed() {
    let mut lab = Lab::new();
    let image = lab.image("quay.io/a/b:1", &[bytes(1, 10)]);
    let about = lab.about("quay.io/a/b:signature", &image);
    lab.about("quay.io/other/b:signature", &image);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    let got = server.get(&format!("/v2/a/b/referrers/{image}?ns=quay.io"));
    assert_eq!(got.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    let list = got.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(list.len(), 1, "of this repository only");
    assert_eq!(list[0]["digest"], about.to_string());
    assert_eq!(list[0]["artifactType"], "application/vnd.example.signature");
    let filtered = server.get(&format!("/v2/quay.io/a/b/referrers/{image}?artifactType=a/other"));
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(filtered.json()["manifests"], serde_json::json!([]));
    let none = server.get(&format!("/v2/nobody/referrers/{about}"));
    assert_eq!((none.status, &none.json()["manifests"]), (200, &serde_json::json!([])));
    assert_eq!(server.get("/v2/a/b/referrers/sha256:zz").refused(), (400, "DIGEST_INVALID".to_owned()));
}
