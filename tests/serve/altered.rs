//! Bundles that change on disk, before the server reads them or while it does.

use labimg::base::digest::Digest;

use crate::support::{LARGE, Lab, bytes, mirror, spoil};

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
