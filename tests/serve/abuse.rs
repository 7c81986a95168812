//! Requests that mean no good: refused in the specification's words, never a panic or a file outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use labimg::base::digest::Digest;
use labimg::store::image::OCI_MANIFEST;
use serde_json::json;

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

/// A connection that is kept alive after one request, with the answer's first line.
fn kept_alive(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut got = [0; 512];
    let n = stream.read(&mut got).unwrap();
    (stream, String::from_utf8_lossy(&got[..n]).lines().next().unwrap_or_default().to_owned())
}

/// More open files, as far as this process may: client and server are both in it.
fn many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(8192, |m| m.min(8192)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn idle_connections_give_way_to_whoever_comes() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let server = mirror(&[&lab.bundle("lab.labimg")]);
    many_files();
    // More than are served at a time, each of them kept: every one is answered all the same.
    let mut all: Vec<TcpStream> = Vec::new();
    for n in 0..700 {
        let (stream, status) = kept_alive(server.address);
        assert_eq!(status, "HTTP/1.1 200 OK", "{n}");
        all.push(stream);
    }
    // Those that were idle for longest were closed, and not reset: a client that is about to send again sees it.
    let mut rest = Vec::new();
    all[0].read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    // The last one is as good as ever.
    let last = all.last_mut().unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut got = String::new();
    last.read_to_string(&mut got).unwrap();
    assert!(got.starts_with("HTTP/1.1 200 OK"), "{got}");
}

#[test]
fn silent_and_slow_connections_give_way_too() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    let server = registry(&bundle, &lab.dir.path().join("pushes"), None);
    many_files();
    let starts =
        ["", "GET /v2/ HTTP/1.1\r\nX: ", "PUT /v2/x/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"];
    let all: Vec<TcpStream> = (0..520)
        .map(|n| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(starts[n % starts.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    // All places are taken, and some wait. It takes a second until the silent ones go.
    assert_eq!(kept_alive(server.address).1, "HTTP/1.1 200 OK");
    drop(all);
}

#[test]
fn abandoned_uploads_give_way_and_those_with_bytes_stay() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    let pushes = lab.dir.path().join("pushes");
    let server = registry(&bundle, &pushes, None);
    let begun = server.ask("POST", "/v2/a/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    assert_eq!(server.ask("PATCH", &begun, &[], b"half").status, 202);
    // One client starts more than there can be, over one connection, and never goes on with them.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let post = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let mut got = Vec::new();
    for _ in 0..600 {
        stream.write_all(post).unwrap();
        let mut some = [0; 1024];
        let n = stream.read(&mut some).unwrap();
        got.extend_from_slice(&some[..n]);
    }
    let got = String::from_utf8_lossy(&got);
    assert_eq!(got.matches("HTTP/1.1 202 ").count(), 600, "{}", got.lines().next().unwrap());
    assert_eq!(std::fs::read_dir(pushes.join("uploads")).unwrap().count(), 1, "what has no bytes takes no file");
    let digest = Digest::of(b"half and half");
    let done = server.ask("PUT", &format!("{begun}?digest={digest}"), &[], b" and half");
    assert_eq!(done.status, 201, "{}", String::from_utf8_lossy(&done.body));
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).body, b"half and half");
}

#[test]
fn half_a_manifest_waits_on_the_disk_and_is_gone_with_its_client() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    let pushes = lab.dir.path().join("pushes");
    let server = registry(&bundle, &pushes, None);
    let spooled = || -> u64 {
        let files = std::fs::read_dir(pushes.join("uploads")).unwrap();
        // One that is gone by now holds nothing.
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    };
    let until = |what: &str, done: &dyn Fn() -> bool| {
        for _ in 0..1000 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}");
    };
    let head = "PUT /v2/x/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 4000000\r\n\r\n";
    let halves: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b' '; 1_000_000]).unwrap();
            stream
        })
        .collect();
    // All but a few chunks of each.
    until("twenty halves are not on the disk", &|| spooled() > 20 * 800_000);
    // A whole one that is as large is taken meanwhile, and comes back as it was.
    let config = json!({"mediaType": "a/b", "digest": Digest::of(b"{}"), "size": 2});
    assert_eq!(
        server.ask("POST", &format!("/v2/x/blobs/uploads/?digest={}", Digest::of(b"{}")), &[], b"{}").status,
        201
    );
    let note = "n".repeat(3_000_000);
    let text = json!({"schemaVersion": 2, "config": config, "layers": [], "annotations": {"note": note}}).to_string();
    let put = server.ask("PUT", "/v2/x/manifests/large", &[("Content-Type", OCI_MANIFEST)], text.as_bytes());
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    let got = server.get("/v2/x/manifests/large");
    assert_eq!((got.status, got.header("content-type"), got.body == text.as_bytes()), (200, Some(OCI_MANIFEST), true));
    let length = text.len().to_string();
    assert_eq!(server.head("/v2/x/manifests/large").header("content-length"), Some(length.as_str()));
    drop(halves);
    until("halves are left on the disk", &|| spooled() == 0);
}

#[test]
fn a_request_has_one_host() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    for server in [mirror(&[&bundle]), registry(&bundle, &lab.dir.path().join("pushes"), None)] {
        for (text, status) in [
            ("GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
            ("GET /v2/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
            ("GET /v2/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
            ("GET http://x/v2/ HTTP/1.1\r\n\r\n", 400),
            ("GET /v2/ HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 200),
            ("GET /v2/ HTTP/1.0\r\n\r\n", 200),
        ] {
            assert_eq!(server.raw(text.as_bytes()).status, status, "{text}");
        }
    }
}

#[test]
fn a_name_that_can_be_no_tag_is_not_found() {
    let mut lab = Lab::new();
    lab.image("docker.io/library/x:1", &[bytes(1, 10)]);
    let bundle = lab.bundle("lab.labimg");
    for server in [mirror(&[&bundle]), registry(&bundle, &lab.dir.path().join("pushes"), None)] {
        for tag in [".INVALID_MANIFEST_NAME", "-x", "a%20b", &"t".repeat(129)] {
            let path = format!("/v2/x/manifests/{tag}");
            assert_eq!(server.get(&path).refused(), (404, "MANIFEST_UNKNOWN".to_owned()), "{tag}");
            assert_eq!(server.head(&path).status, 404, "{tag}");
        }
        let put = server.ask("PUT", "/v2/x/manifests/.INVALID", &[("Content-Type", "a/b")], b"{}");
        assert_eq!(put.refused(), (400, "MANIFEST_INVALID".to_owned()));
    }
}
