//! Bundles that change on disk, before the server reads them or while it does.

use std::sync::{Arc, Mutex};

use labimg::base::digest::Digest;
use labimg::base::report::Reporter;
use labimg::serve::from_bundle;
use labimg::store::bundle::Bundle;

use crate::support::{LARGE, Lab, bytes, mirror, spoil, start_telling};

fn lab() -> (Lab, std::path::PathBuf, Digest, Digest) {
    let mut lab = Lab::new();
    let manifest = lab.image("docker.io/library/x:1", &[bytes(1, LARGE), bytes(2, 1000)]);
    let bundle = lab.bundle("lab.labimg");
    (lab, bundle, manifest, Digest::of(&bytes(1, LARGE)))
}

#[test]
fn a_wrong_blob_is_never_sent_whole() {
    let (_lab, bundle, _, layer) = lab();
    spoil(&bundle, &layer);
    let server = mirror(&[&bundle]);
    let url = format!("/v2/x/blobs/{layer}");
    // It was under way when its check ended: the connection ends before the blob does.
    assert!(server.raw_bytes(format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).len() < LARGE);
    // By now it is known to be bad: nothing of it is sent.
    for range in [("X", ""), ("Range", "bytes=0-9")] {
        let again = server.ask("GET", &url, &[range], b"");
        assert_eq!(again.refused(), (500, "UNKNOWN".to_owned()));
        assert!(again.message().contains("damaged"), "{}", again.message());
    }
}

#[test]
fn a_range_of_a_wrong_blob_is_refused_at_once() {
    let (_lab, bundle, _, layer) = lab();
    spoil(&bundle, &layer);
    let server = mirror(&[&bundle]);
    let got = server.ask("GET", &format!("/v2/x/blobs/{layer}"), &[("Range", "bytes=0-9")], b"");
    assert_eq!(got.refused(), (500, "UNKNOWN".to_owned()));
    let small = Digest::of(&bytes(2, 1000));
    assert_eq!(server.get(&format!("/v2/x/blobs/{small}")).status, 200, "the others are as good as ever");
    spoil(&bundle, &small);
    assert_eq!(server.get(&format!("/v2/x/blobs/{small}")).refused().0, 500, "one of a single chunk has no beginning");
}

#[test]
fn a_wrong_manifest_is_not_sent() {
    let (_lab, bundle, manifest, _) = lab();
    spoil(&bundle, &manifest);
    let server = mirror(&[&bundle]);
    for path in ["/v2/x/manifests/1".to_owned(), format!("/v2/x/manifests/{manifest}")] {
        assert_eq!(server.get(&path).refused(), (500, "UNKNOWN".to_owned()));
        assert_eq!(server.head(&path).status, 500);
    }
}

#[test]
fn what_was_checked_is_checked_again_when_the_file_changed() {
    let (_lab, bundle, _, layer) = lab();
    let server = mirror(&[&bundle]);
    let url = format!("/v2/x/blobs/{layer}");
    assert_eq!(Digest::of(&server.get(&url).body), layer);
    spoil(&bundle, &layer);
    let got = server.get(&url);
    assert!(got.status == 500 || got.body.len() < LARGE, "{}", got.status);
    spoil(&bundle, &layer); // The same bit again: it is right once more.
    assert_eq!(Digest::of(&server.get(&url).body), layer);
}

#[test]
fn a_bundle_that_is_cut_off_while_it_is_served_is_an_error() {
    let (_lab, bundle, _, layer) = lab();
    let server = mirror(&[&bundle]);
    let url = format!("/v2/x/blobs/{layer}");
    assert_eq!(server.get(&url).status, 200);
    std::fs::OpenOptions::new().write(true).open(&bundle).unwrap().set_len(5000).unwrap();
    let got = server.get(&url);
    assert_eq!(got.refused(), (500, "UNKNOWN".to_owned()));
    assert!(got.message().contains("cut off"), "{}", got.message());
    assert_eq!(server.head(&url).status, 500);
    assert_eq!(server.get("/v2/").status, 200);
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Reporter for Heard {
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn whoever_runs_the_server_is_told_of_damage_once() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, LARGE), bytes(2, 1000)]);
    let other = lab.image("docker.io/library/y:1", &[bytes(3, 10), bytes(4, 10), bytes(5, 10)]);
    let bundle = lab.bundle("lab.labimg");
    let layers = [Digest::of(&bytes(1, LARGE)), Digest::of(&bytes(2, 1000))];
    layers.iter().chain([&other]).for_each(|digest| spoil(&bundle, digest));
    let heard = Arc::new(Heard::default());
    let server = start_telling(vec![from_bundle(Bundle::open(&bundle).unwrap())], None, heard.clone());
    assert_eq!(heard.0.lock().unwrap().len(), 1, "the manifest was read when it started");
    for _ in 0..3 {
        assert_eq!(server.get("/v2/y/manifests/1").status, 500);
        layers.iter().for_each(|layer| drop(server.get(&format!("/v2/x/blobs/{layer}"))));
    }
    let heard = heard.0.lock().unwrap();
    assert_eq!(heard.len(), 3, "{heard:?}");
    for (text, digest) in heard.iter().zip([other, layers[0], layers[1]]) {
        let tells = text.contains(&digest.to_string()) && text.contains("damaged") && text.contains("lab.labimg");
        assert!(tells, "{text}");
    }
}
