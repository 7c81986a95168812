//! Who sees a credential: a registry, its token service, and strangers that redirects and challenges lead to.

#[path = "support/fault.rs"]
#[allow(dead_code)]
mod fault;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use fault::{Fault, Hit, with};
use labimg::base::base64;
use labimg::base::digest::Digest;
use labimg::base::report::Silent;
use labimg::model::image::ImageRef;
use labimg::source::{ErrorKind, Net, NetOptions, SourceError, oci};
use labimg::store::{Access, Store};

const BLOB: &[u8] = b"the layer";

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(&dir.join("store"), Access::Shared).unwrap())
}

/// `Basic` of the user and password that every registry here has.
fn password() -> String {
    format!("Basic {}", base64::encode(b"alice:hunter2"))
}

/// What `auth.json` says of a registry: user and password, or an identity token.
enum Login {
    Password,
    Identity,
    Nobody,
}

fn host(server: &Fault) -> &str {
    server.base.trim_start_matches("http://")
}

fn realm(server: &Fault) -> String {
    format!(r#"Bearer realm="{}/token",service="x""#, server.base)
}

fn refuse(challenge: &str) -> Response<Body> {
    with(401, &[("www-authenticate", challenge)], "")
}

/// Fetches the blob from `registry`, asked itself or as a mirror of another.
async fn fetch(registry: &Fault, login: Login, mirror: bool) -> Result<(), SourceError> {
    let dir = tempfile::tempdir().unwrap();
    let entry = match login {
        Login::Password => format!(r#"{{"auth":"{}"}}"#, base64::encode(b"alice:hunter2")),
        Login::Identity => r#"{"identitytoken":"hunter2"}"#.to_owned(),
        Login::Nobody => "null".to_owned(),
    };
    let file = dir.path().join("auth.json");
    fs_err::write(&file, format!(r#"{{"auths":{{"{}":{entry}}}}}"#, host(registry))).unwrap();
    let mut options = NetOptions {
        tries: 1,
        plain_http: vec![host(registry).to_owned()],
        credential_files: vec![file],
        stall_timeout: Duration::from_secs(5),
        ..NetOptions::default()
    };
    let image: ImageRef = match mirror {
        true => "reg.example/a/b:1".parse().unwrap(),
        false => format!("{}/a/b:1", host(registry)).parse().unwrap(),
    };
    if mirror {
        options.registry_mirrors.insert("reg.example".to_owned(), vec![registry.base.clone()]);
    }
    let net = Net::new(options, Arc::new(Silent));
    let (digest, size) = (Digest::of(BLOB), BLOB.len() as u64);
    oci::fetch_blob(&net, &store(dir.path()), &image, &digest, size, "blob").await
}

/// Whatever of a credential a server saw: headers, and that somebody asked for a token at all.
fn seen(server: &Fault) -> Vec<String> {
    let told = |hit: &Hit| hit.header("authorization").map(|value| format!("{} {value}", hit.path));
    server.hits().iter().filter_map(told).collect()
}

/// A server that gives tokens to everybody.
async fn token_service() -> Fault {
    Fault::start(|_| with(200, &[], r#"{"token":"good"}"#)).await
}

/// A registry that lets in who has the password, or a token; then redirects.
async fn redirecting(challenge: String, location: String) -> Fault {
    Fault::start(move |hit| match hit.header("authorization") {
        None => refuse(&challenge),
        Some(_) => with(307, &[("location", &location)], ""),
    })
    .await
}

#[tokio::test]
async fn a_stranger_s_challenge_is_never_answered() {
    for identity in [false, true] {
        for mirror in [false, true] {
            let (own, third) = (token_service().await, token_service().await);
            let challenge = realm(&third);
            let cdn = Fault::start(move |_| refuse(&challenge)).await;
            let asks = if identity { realm(&own) } else { r#"Basic realm="r""#.to_owned() };
            let registry = redirecting(asks, cdn.url("/blob")).await;
            let login = if identity { Login::Identity } else { Login::Password };
            let error = fetch(&registry, login, mirror).await.unwrap_err();
            assert!(third.hits().is_empty(), "nobody but the registry may send us there");
            assert_eq!(seen(&cdn), Vec::<String>::new());
            assert_eq!((cdn.hits().len(), seen(&registry).len()), (1, 1), "one redirect, not asked again");
            assert_eq!(error.kind(), ErrorKind::Unreachable);
            let (text, hint) = (error.to_string(), error.hint().unwrap());
            assert!(text.contains(&cdn.base) && text.contains("401"), "{text}");
            assert!(hint.contains("gets no password of yours") && !hint.contains("docker login"), "{hint}");
        }
    }
}

#[tokio::test]
async fn a_way_that_left_the_registry_carries_nothing_back_to_it() {
    // The registry itself, reached by a stranger's word: no credential, and its challenge is not answered.
    let own = std::sync::OnceLock::<String>::new();
    let own = Arc::new(own);
    let base = own.clone();
    let cdn = Fault::start(move |_| {
        let back = format!("{}/v2/a/b/blobs/secret", base.get().unwrap());
        with(307, &[("location", &back)], "")
    })
    .await;
    let registry = redirecting(r#"Basic realm="r""#.to_owned(), cdn.url("/blob")).await;
    own.set(registry.base.clone()).unwrap();
    let error = fetch(&registry, Login::Password, false).await.unwrap_err();
    let (blob, secret): (Vec<Hit>, Vec<Hit>) = registry.hits().into_iter().partition(|h| !h.path.ends_with("/secret"));
    assert_eq!((blob.len(), secret.len()), (2, 1), "refused, let in and sent away, and never again");
    assert_eq!(secret[0].header("authorization"), None);
    assert!(matches!(error, SourceError::Image { .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_credential_and_other_ports_do_not() {
    let registry = Fault::start(|hit| match (hit.header("authorization"), hit.path.as_str()) {
        (None, _) => refuse(r#"Basic realm="r""#),
        (_, "/elsewhere") => with(200, &[], BLOB),
        _ => with(302, &[("location", "/elsewhere")], ""),
    })
    .await;
    fetch(&registry, Login::Password, false).await.unwrap();
    assert_eq!(seen(&registry).len(), 2);

    let other = Fault::start(|_| with(200, &[], BLOB)).await;
    // User info in a `Location` is no credential either.
    let location = other.url("/blob").replace("http://", "http://alice:hunter2@");
    let registry = redirecting(r#"Basic realm="r""#.to_owned(), location).await;
    fetch(&registry, Login::Password, false).await.unwrap();
    assert_eq!((other.hits().len(), seen(&other).len()), (1, 0));
}

#[tokio::test]
async fn the_token_service_that_the_registry_names_gets_the_password_and_its_redirects_do_not() {
    let stranger = token_service().await;
    let away = stranger.url("/token");
    for (answer, good) in [(None, true), (Some(away.clone()), true)] {
        let service = Fault::start(move |_| match &answer {
            None => with(200, &[], r#"{"token":"","access_token":"good"}"#),
            Some(location) => with(307, &[("location", location)], ""),
        })
        .await;
        let challenge = realm(&service);
        let registry = Fault::start(move |hit| match hit.header("authorization") {
            Some("Bearer good") => with(200, &[], BLOB),
            _ => refuse(&challenge),
        })
        .await;
        assert_eq!(fetch(&registry, Login::Password, false).await.is_ok(), good);
        assert_eq!(seen(&service), [format!("/token {}", password())]);
        assert_eq!(seen(&stranger), Vec::<String>::new(), "a token service's redirect carries no password");
        assert!(seen(&registry).iter().all(|header| !header.contains("Basic")), "{:?}", seen(&registry));
    }
    assert_eq!(stranger.hits().len(), 1);

    // An identity token travels in a body, which no redirect carries on.
    let service = Fault::start(move |_| with(307, &[("location", &away)], "")).await;
    let registry = redirecting(realm(&service), "/never".to_owned()).await;
    let error = fetch(&registry, Login::Identity, false).await.unwrap_err();
    assert!(error.to_string().contains("a request that carries credentials"), "{error}");
    assert_eq!(stranger.hits().len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_token_is_told_as_that() {
    for answer in [r#"{"token":""}"#, r#"{"token":null,"access_token":null}"#, "{}", r#"{"token":" "}"#, "<html>"] {
        let service = Fault::start(move |_| with(200, &[], answer)).await;
        let registry = redirecting(realm(&service), "/never".to_owned()).await;
        let error = fetch(&registry, Login::Nobody, false).await.unwrap_err();
        let text = format!("{error} {:?}", error.hint());
        assert!(text.contains(&service.url("/token")) && text.contains("gives no token"), "{text}");
        assert!(!text.contains("log in"), "{text}");
        assert_eq!(registry.hits().len(), 1, "an empty token is not sent");
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_is_known_of_the_login() {
    let hint = async |login, challenge: &str| {
        let challenge = challenge.to_owned();
        let registry = Fault::start(move |_| refuse(&challenge)).await;
        let error = fetch(&registry, login, false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        error.hint().unwrap().replace(host(&registry), "HOST")
    };
    let basic = r#"Basic realm="r""#;
    assert!(hint(Login::Nobody, basic).await.starts_with("log in first: docker login HOST"));
    assert!(hint(Login::Password, basic).await.starts_with("HOST refuses the login that is configured for it"));
    assert_eq!(
        hint(Login::Password, "Negotiate").await,
        "HOST wants a login by negotiate; labimg speaks Basic and Bearer"
    );
}
