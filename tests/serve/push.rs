//! Pushing to the writable registry of a lab.

use std::path::{Path, PathBuf};

use labimg::base::digest::Digest;
use labimg::store::image::{OCI_INDEX, OCI_MANIFEST};
use serde_json::json;

use crate::support::{Lab, Running, bytes, mirror, registry};

struct Room {
    lab: Lab,
    bundle: PathBuf,
    own: Digest,
}

/// A lab with an image of its own registry, and one of another.
fn room() -> Room {
    let mut lab = Lab::new();
    let own = lab.image("localhost:5001/app:1", &[bytes(1, 300_000)]);
    lab.image("quay.io/a/b:1", &[bytes(2, 5000)]);
    let bundle = lab.bundle("lab.labimg");
    Room { lab, bundle, own }
}

impl Room {
    fn pushes(&self) -> PathBuf {
        self.lab.dir.path().join("pushes")
    }

    fn open(&self, limit: Option<u64>) -> Running {
        registry(&self.bundle, &self.pushes(), limit)
    }
}

/// Files in a folder, uploads and temporary ones too.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

/// Pushes a blob in one request.
fn push(server: &Running, name: &str, blob: &[u8]) {
    let got = server.ask("POST", &format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(blob)), &[], blob);
    assert_eq!(got.status, 201, "{}", String::from_utf8_lossy(&got.body));
}

fn manifest(config: &[u8], layers: &[&[u8]]) -> String {
    let of = |b: &[u8]| json!({"mediaType": "application/octet-stream", "digest": Digest::of(b), "size": b.len()});
    let layers: Vec<_> = layers.iter().map(|l| of(l)).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": of(config), "layers": layers}).to_string()
}

const AS_MANIFEST: [(&str, &str); 1] = [("Content-Type", OCI_MANIFEST)];

#[test]
fn what_is_pushed_is_there_also_after_a_restart_and_comes_first() {
    let room = room();
    let (config, layer) = (b"{}".to_vec(), bytes(7, 2_000_000));
    let text = manifest(&config, &[&layer]);
    {
        let server = room.open(None);
        assert_eq!(Digest::of(&server.get("/v2/app/manifests/1").body), room.own, "without a push");
        push(&server, "app", &config);
        // POST, then PUT with the whole blob.
        let started = server.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
        assert_eq!((started.status, started.header("range")), (202, Some("0-0")));
        let url = format!("{}?digest={}", started.header("location").unwrap(), Digest::of(&layer));
        let done = server.ask("PUT", &url, &[], &layer);
        assert_eq!((done.status, done.header("location").is_some()), (201, true));
        let put = server.ask("PUT", "/v2/app/manifests/1", &AS_MANIFEST, text.as_bytes());
        assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
        assert_eq!(put.header("docker-content-digest"), Some(Digest::of(text.as_bytes()).to_string().as_str()));
        assert_eq!(server.ask("PUT", "/v2/team/new/manifests/v2", &AS_MANIFEST, text.as_bytes()).status, 201);
    }
    std::fs::write(room.pushes().join("uploads/left"), "half").unwrap();
    let server = room.open(None);
    assert!(!room.pushes().join("uploads/left").exists());
    for path in ["app/manifests/1", "team/new/manifests/v2", "app/manifests/1?ns=localhost:5001"] {
        let got = server.get(&format!("/v2/{path}"));
        assert_eq!((got.status, String::from_utf8(got.body).unwrap()), (200, text.clone()), "{path}");
    }
    assert_eq!(server.get(&format!("/v2/app/blobs/{}", Digest::of(&layer))).body, layer);
    // The image that came with the lab is still there by its digest.
    assert_eq!(server.get(&format!("/v2/app/manifests/{}", room.own)).status, 200);
    assert_eq!(server.get("/v2/team/new/tags/list").json()["tags"], json!(["v2"]));
    assert_eq!(server.get("/v2/_catalog").json()["repositories"], json!(["app", "team/new"]));
    assert_eq!(server.get("/v2/a/b/manifests/1").refused(), (404, "NAME_UNKNOWN".into()), "another host's image");
    assert_eq!(server.get("/v2/app/manifests/1?ns=quay.io").refused(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(server.get("/v2/team/new/manifests/9").refused(), (404, "MANIFEST_UNKNOWN".into()));
}

#[test]
fn chunks_come_in_order_and_can_be_resumed() {
    let room = room();
    let server = room.open(None);
    let blob = bytes(3, 1000);
    let url = server.ask("POST", "/v2/app/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    let chunk = |range: &str, body: &[u8]| server.ask("PATCH", &url, &[("Content-Range", range)], body);
    let first = chunk("0-399", &blob[..400]);
    assert_eq!(
        (first.status, first.header("range"), first.header("location")),
        (202, Some("0-399"), Some(url.as_str()))
    );
    let wrong = chunk("500-999", &blob[500..]);
    assert_eq!((wrong.refused(), wrong.header("range")), ((416, "BLOB_UPLOAD_INVALID".into()), Some("0-399")));
    assert_eq!(chunk("400-300", &blob[..1]).refused().0, 416);
    assert_eq!(chunk("x", &blob[..1]).refused().0, 400);
    let status = server.get(&url);
    assert_eq!((status.status, status.header("range")), (204, Some("0-399")));
    assert_eq!(server.ask("PATCH", &url, &[], &blob[400..700]).status, 202, "without a range it goes on at the end");
    let digest = Digest::of(&blob);
    let last = server.ask("PUT", &format!("{url}?digest={digest}"), &[("Content-Range", "700-999")], &blob[700..]);
    assert_eq!(last.status, 201, "{}", String::from_utf8_lossy(&last.body));
    assert_eq!(server.get(&format!("/v2/app/blobs/{digest}")).body, blob);
    assert_eq!(server.get(&url).refused(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let other = server.ask("POST", "/v2/app/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    assert_eq!(server.ask("PATCH", &other, &[], b"abc").status, 202);
    assert_eq!(server.ask("DELETE", &other, &[], b"").status, 204);
    assert_eq!(server.ask("DELETE", &other, &[], b"").refused().0, 404);
    assert_eq!((files(&room.pushes().join("uploads")), files(&room.pushes().join("blobs"))), (0, 1));
}

#[test]
fn a_blob_that_is_there_is_mounted() {
    let room = room();
    let server = room.open(None);
    let from_bundle = Digest::of(&bytes(1, 300_000));
    let got = server.ask("POST", &format!("/v2/other/blobs/uploads/?mount={from_bundle}&from=app"), &[], b"");
    assert_eq!(got.status, 201);
    assert_eq!(got.header("location"), Some(format!("/v2/other/blobs/{from_bundle}").as_str()));
    let unknown = Digest::of(b"unknown");
    let got = server.ask("POST", &format!("/v2/other/blobs/uploads/?mount={unknown}&from=app"), &[], b"");
    assert_eq!((got.status, got.header("location").is_some()), (202, true), "an upload is started instead");
    // The layer of the bundle's image, with a config of our own: nothing else was pushed.
    push(&server, "other", b"{}");
    let text = manifest(b"{}", &[&bytes(1, 300_000)]);
    assert_eq!(server.ask("PUT", "/v2/other/manifests/1", &AS_MANIFEST, text.as_bytes()).status, 201);
}

#[test]
fn wrong_pushes_leave_nothing() {
    let room = room();
    let server = room.open(None);
    let before = files(&room.pushes());
    let digest = Digest::of(b"something else");
    let at_once = server.ask("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"), &[], b"something");
    assert_eq!(at_once.refused(), (400, "DIGEST_INVALID".into()));
    let url = server.ask("POST", "/v2/app/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    assert_eq!(
        server.ask("PUT", &format!("{url}?digest={digest}"), &[], b"x").refused(),
        (400, "DIGEST_INVALID".into())
    );
    assert_eq!(server.ask("PUT", &format!("{url}?digest={digest}"), &[], b"x").refused().0, 404);
    let url = server.ask("POST", "/v2/app/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    assert_eq!(server.ask("PUT", &url, &[], b"x").refused(), (400, "DIGEST_INVALID".into()));
    assert_eq!(server.ask("DELETE", &url, &[], b"").status, 204);
    assert_eq!(files(&room.pushes()), before);
    let put = |name: &str, wanted: &str, kind: &str, text: &str| {
        server
            .ask("PUT", &format!("/v2/{name}/manifests/{wanted}"), &[("Content-Type", kind)], text.as_bytes())
            .refused()
    };
    let text = manifest(b"{}", &[b"absent"]);
    assert_eq!(put("app", "1", OCI_MANIFEST, &text), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    assert_eq!(put("app", &digest.to_string(), OCI_MANIFEST, &text), (400, "DIGEST_INVALID".into()));
    assert_eq!(put("app", "1", OCI_MANIFEST, "{"), (400, "MANIFEST_INVALID".into()));
    assert_eq!(put("app", "1", OCI_MANIFEST, r#"{"schemaVersion":1}"#), (400, "MANIFEST_INVALID".into()));
    assert_eq!(put("app", "1", "text/html", &text), (400, "MANIFEST_INVALID".into()));
    assert_eq!(put("app", "-x", OCI_MANIFEST, &text).0, 400);
    let part = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [part]}).to_string();
    assert_eq!(put("app", "1", OCI_INDEX, &index), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    assert_eq!(files(&room.pushes()), before);
    let delete = |path: &str| server.ask("DELETE", path, &[], b"").refused();
    assert_eq!(delete("/v2/app/manifests/1"), (405, "UNSUPPORTED".into()));
    assert_eq!(delete(&format!("/v2/app/blobs/{}", Digest::of(&bytes(1, 300_000)))), (405, "UNSUPPORTED".into()));
}

#[test]
fn a_full_registry_says_so_and_keeps_nothing() {
    let room = room();
    let server = room.open(Some(1300));
    push(&server, "app", &bytes(1, 600));
    let before = files(&room.pushes());
    let more = bytes(2, 800);
    let got = server.ask("POST", &format!("/v2/app/blobs/uploads/?digest={}", Digest::of(&more)), &[], &more);
    assert_eq!(got.refused(), (413, "SIZE_INVALID".into()));
    assert!(got.message().contains("full"), "{}", got.message());
    assert_eq!(files(&room.pushes()), before);
    push(&server, "app", &bytes(1, 600)[..300]);
    push(&server, "app", &bytes(1, 600)[..300]); // Again: it is there, and is not counted twice.
    push(&server, "app", &bytes(3, 400));
    assert_eq!(
        server.ask("POST", &format!("/v2/app/blobs/uploads/?digest={}", Digest::of(b"x")), &[], b"x").refused().0,
        413
    );
}

#[test]
fn an_index_of_pushed_manifests_is_taken() {
    let room = room();
    let server = room.open(None);
    push(&server, "app", b"{}");
    let text = manifest(b"{}", &[]);
    let digest = Digest::of(text.as_bytes());
    assert_eq!(server.ask("PUT", &format!("/v2/app/manifests/{digest}"), &AS_MANIFEST, text.as_bytes()).status, 201);
    let part = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": text.len()});
    let own = json!({"mediaType": OCI_MANIFEST, "digest": room.own, "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [part, own]}).to_string();
    let put = server.ask("PUT", "/v2/app/manifests/both", &[("Content-Type", OCI_INDEX)], index.as_bytes());
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    assert_eq!(server.get("/v2/app/manifests/both").header("content-type"), Some(OCI_INDEX));
}

#[test]
fn a_mirror_takes_no_pushes() {
    let room = room();
    let server = mirror(&[&room.bundle]);
    for (method, path) in [
        ("POST", "/v2/app/blobs/uploads/"),
        ("PUT", "/v2/app/manifests/1"),
        ("PATCH", "/v2/app/blobs/uploads/1"),
        ("DELETE", "/v2/app/manifests/1"),
    ] {
        let got = server.ask(method, path, &[], b"x");
        assert_eq!((got.refused(), got.header("allow")), ((405, "UNSUPPORTED".into()), Some("GET, HEAD")));
    }
    // It has the images of the lab's registry, too, under that host's name.
    assert_eq!(server.get("/v2/app/manifests/1?ns=localhost:5001").status, 200);
}

#[test]
fn what_is_pushed_is_found_by_what_it_is_about() {
    let room = room();
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": room.own, "size": 1});
    let of = |b: &[u8]| json!({"mediaType": "application/vnd.example.empty", "digest": Digest::of(b), "size": b.len()});
    let text = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.list", "config": of(b"{}"),
        "layers": [], "subject": subject, "annotations": {"k": "v"},
    })
    .to_string();
    let digest = Digest::of(text.as_bytes());
    {
        let server = room.open(None);
        push(&server, "app", b"{}");
        let plain = server.ask("PUT", "/v2/app/manifests/plain", &AS_MANIFEST, manifest(b"{}", &[]).as_bytes());
        assert_eq!((plain.status, plain.header("oci-subject")), (201, None));
        let put = server.ask("PUT", &format!("/v2/app/manifests/{digest}"), &AS_MANIFEST, text.as_bytes());
        assert_eq!((put.status, put.header("oci-subject")), (201, Some(room.own.to_string().as_str())));
    }
    let server = room.open(None);
    let got = server.get(&format!("/v2/app/referrers/{}", room.own)).json();
    let told = json!({
        "mediaType": OCI_MANIFEST, "digest": digest, "size": text.len(), "artifactType": "application/vnd.example.list",
        "annotations": {"k": "v"},
    });
    assert_eq!(got, json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [told]}), "also after a restart");
    assert_eq!(server.get(&format!("/v2/other/referrers/{}", room.own)).json()["manifests"], json!([]));
}
