//! Requests that mean no good: refused in the specification's words, never a panic or a file outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Lab, bytes, mirror, registry};

#[test]
fn paths_lead_nowhere_else() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    let pushes = lab.dir.path().join("pushes");
    std::fs::write(lab.dir.path().join("secret"), "secret").unwrap();
    let digest = labimg::base::digest::Digest::of(b"");
    for server in [mirror(&[&bundle]), registry(&bundle, &pushes, None)] {
        for path in [
            "/v2/../../secret",
            "/v2/%2e%2e/%2e%2e/secret/manifests/1",
            "/v2/..%2f..%2fsecret/manifests/1",
            "/v2/x/manifests/../../../secret",
            "/v2/x/manifests/%2e%2e%2f%2e%2e%2fsecret",
            "/v2/x/manifests/%00",
            "/v2/x%00/manifests/1",
            "/v2/x/blobs/sha256:..",
            "/v2/x/blobs/sha512:00",
            "/v2/x/blobs/%2e%2e",
            "/v2//x/manifests/1",
            "/v2/x/manifests/%zz",
            "/v2/x/tags/list/..",
            "/v2/X/tags/list",
            "/v2/x/blobs/uploads/../../../secret",
            "/secret",
            "/v3/",
            "//v2/",
            "*",
        ] {
            for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
                let got = server.ask(method, path, &[], b"");
                assert!((400..500).contains(&got.status), "{method} {path}: {}", got.status);
                if method != "HEAD" && !got.body.is_empty() {
                    assert!(!got.refused().1.is_empty());
                    assert!(!String::from_utf8_lossy(&got.body).contains("secret\n"));
                }
            }
        }
        for query in ["ns=../x", "ns=%00", "ns=a/b", "n=-1&ns=docker.io", "ns=%ff"] {
            let got = server.get(&format!("/v2/library/x/tags/list?{query}"));
            assert!((400..500).contains(&got.status), "{query}: {}", got.status);
        }
        let long = "a/".repeat(20_000);
        assert!((400..500).contains(&server.get(&format!("/v2/{long}/manifests/1")).status));
        let name = "a".repeat(256);
        assert_eq!(server.get(&format!("/v2/{name}/blobs/{digest}")).refused(), (400, "NAME_INVALID".to_owned()));
        assert_eq!(server.get("/healthz").status, 200);
    }
}

#[test]
fn heads_and_bodies_are_bounded() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    let server = registry(&bundle, &lab.dir.path().join("pushes"), None);
    let huge = "y".repeat(1_000_000);
    // The server closes with most of it unread; the answer may be lost by that.
    let refused = server.raw_bytes(format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {huge}\r\n\r\n").as_bytes());
    assert!(refused.is_empty() || refused.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&refused));
    let many: String = (0..500).map(|n| format!("h{n}: 1\r\n")).collect();
    assert_eq!(server.raw(format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).status, 431);
    assert_eq!(server.raw(b"GET /v2/\0 HTTP/1.1\r\nHost: x\r\n\r\n").status, 400);
    assert_eq!(server.raw(b"\x16\x03\x01 hello\r\n\r\n").status, 400, "TLS against plain HTTP");
    let manifest = vec![b' '; (4 << 20) + 1];
    let got = server.ask("PUT", "/v2/x/manifests/1", &[("Content-Type", "a/b")], &manifest);
    assert_eq!(got.refused(), (413, "SIZE_INVALID".to_owned()));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let got = server.ask("PUT", "/v2/x/manifests/1", &[("Content-Type", "a/b")], deep.as_bytes());
    assert_eq!(got.refused(), (400, "MANIFEST_INVALID".to_owned()));
}

#[test]
fn requests_are_pipelined_and_idle_clients_do_not_stop_the_server() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    let mut idle: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for (n, stream) in idle.iter_mut().enumerate().filter(|(n, _)| n % 2 == 0) {
        stream.write_all(format!("GET /v2/ HTTP/1.1\r\nX: {n}").as_bytes()).unwrap();
    }
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(9)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 10);
    drop(idle);
}
