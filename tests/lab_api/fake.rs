//! An API server of a few pods and services that leads proxies and port-forwards to loopback: what it speaks is real
//! (Kubernetes API; port-forward over WebSocket, `v4.channel.k8s.io`), what stands behind it may be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use labimg::base::base64;
use labimg::lab::kube::{Api, connect};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the cluster holds; changed by tests while it runs.
#[derive(Default)]
pub struct Cluster {
    pub pods: Vec<Value>,
    pub services: Vec<Value>,
    pub deployments: Vec<Value>,
    /// Logs by `pod/container`.
    pub logs: BTreeMap<String, String>,
    /// Where a service's proxy leads: by name, a URL.
    pub proxies: BTreeMap<String, String>,
    /// Where a pod's port leads: by `pod:port`, a port of loopback; others refuse.
    pub ports: BTreeMap<String, u16>,
}

pub type Shared = Arc<Mutex<Cluster>>;

/// A pod that is ready, with one container per status.
pub fn pod(namespace: &str, name: &str, image: &str, id: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": { "nodeName": "n1", "containers": [{ "name": "main", "image": image }] },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }], "containerStatuses": [{ "name": "main",
            "image": image, "imageID": id, "containerID": format!("containerd://{name}"), "ready": true, "restartCount": 0 }] } })
}

/// Starts it; gives its API as labimg sees it.
pub async fn start(cluster: Shared, dir: &std::path::Path) -> Api {
    let app = Router::new().fallback(answer).with_state(cluster);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let path = dir.join("kubeconfig");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: x, clusters: [{{name: x, cluster: {{server: 'http://{at}'}}}}], \
         users: [{{name: x, user: {{}}}}], contexts: [{{name: x, context: {{cluster: x, user: x}}}}]}}"
    );
    std::fs::write(&path, text).unwrap();
    connect("main", &path, None).await.unwrap()
}

fn list(kind: &str, items: Vec<Value>) -> Response {
    axum::Json(json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": items })).into_response()
}

fn missing(what: &str) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404,
        "reason": "NotFound", "message": format!("{what} not found") });
    (StatusCode::NOT_FOUND, axum::Json(status)).into_response()
}

fn named<'a>(all: &'a [Value], name: &str) -> Option<&'a Value> {
    all.iter().find(|o| o["metadata"]["name"] == name)
}

async fn answer(State(cluster): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "v1", "pods"] => list("PodList", cluster.lock().unwrap().pods.clone()),
        ["api", "v1", "services"] => list("ServiceList", cluster.lock().unwrap().services.clone()),
        ["api", "v1", "namespaces", namespace, "pods"] => pods(&cluster, namespace, request.uri().query()),
        ["api", "v1", "namespaces", _, "pods", name] => one(&cluster.lock().unwrap().pods, name),
        ["api", "v1", "namespaces", _, "services", name] => one(&cluster.lock().unwrap().services, name),
        ["apis", "apps", "v1", "namespaces", _, "deployments", name] => one(&cluster.lock().unwrap().deployments, name),
        ["api", "v1", "namespaces", _, "pods", name, "log"] => {
            let log = cluster.lock().unwrap().logs.get(&format!("{name}/main")).cloned();
            log.map_or_else(|| missing("log"), IntoResponse::into_response)
        }
        ["api", "v1", "namespaces", _, "pods", name, "portforward"] => {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let port: u16 = query.split("ports=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
            let to = cluster.lock().unwrap().ports.get(&format!("{name}:{port}")).copied();
            upgrade(request, port, to)
        }
        ["api", "v1", "namespaces", _, "services", service, "proxy", rest @ ..] => {
            let name = service.split(':').nth(1).unwrap_or_default();
            let to = cluster.lock().unwrap().proxies.get(name).cloned();
            proxy(to, &rest.join("/"), request).await
        }
        _ => missing(&path),
    }
}

fn one(all: &[Value], name: &str) -> Response {
    named(all, name).map_or_else(|| missing(name), |o| axum::Json(o.clone()).into_response())
}

/// Pods of a namespace by equality of labels.
fn pods(cluster: &Shared, namespace: &str, query: Option<&str>) -> Response {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let selector = pairs.filter(|(k, _)| k == "labelSelector").map(|(_, v)| v.into_owned()).next().unwrap_or_default();
    let fits = |pod: &Value| {
        pod["metadata"]["namespace"] == namespace
            && selector.split(',').filter(|s| !s.is_empty()).all(|s| {
                let (key, value) = s.split_once('=').unwrap();
                pod["metadata"]["labels"][key] == value
            })
    };
    list("PodList", cluster.lock().unwrap().pods.iter().filter(|p| fits(p)).cloned().collect())
}

async fn proxy(to: Option<String>, path: &str, request: Request) -> Response {
    let Some(base) = to else {
        let status = json!({ "kind": "Status", "status": "Failure", "code": 503, "message": "no endpoints available for service" });
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(status)).into_response();
    };
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut headers = request.headers().clone();
    headers.remove(header::HOST);
    let sent = client.request(request.method().clone(), format!("{base}/{path}{query}")).headers(headers).send().await;
    let Ok(answer) = sent else { return StatusCode::BAD_GATEWAY.into_response() };
    let status = answer.status();
    (status, answer.bytes().await.unwrap()).into_response()
}

/// Switches to WebSocket (RFC 6455 section 4.2.2) and leads it to a port of loopback.
fn upgrade(mut request: Request, port: u16, to: Option<u16>) -> Response {
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].to_str().unwrap();
    let accept = base64::encode(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (read, write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
        let _ = forward(read, write, port, to).await;
    });
    Response::builder()
        .status(101)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
        .header("sec-websocket-accept", accept)
        .body(Body::empty())
        .unwrap()
}

/// Channel 0 is data, channel 1 errors; each starts with the port.
async fn forward<R, W>(mut read: R, mut write: W, port: u16, to: Option<u16>) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let [low, high] = port.to_le_bytes();
    frame(&mut write, 2, &[0, low, high]).await?;
    frame(&mut write, 2, &[1, low, high]).await?;
    let stream = match to {
        Some(to) => TcpStream::connect(("127.0.0.1", to)).await,
        None => Err(std::io::ErrorKind::ConnectionRefused.into()),
    };
    let Ok(stream) = stream else {
        let text = format!("\u{1}failed to connect to localhost:{port} inside namespace: connection refused");
        frame(&mut write, 2, text.as_bytes()).await?;
        frame(&mut write, 8, &[]).await?;
        // Closing with bytes unread would reset the connection, and take the reason with it.
        while next_frame(&mut read).await?.is_some() {}
        return Ok(());
    };
    let (mut from_pod, mut to_pod) = stream.into_split();
    let up = async {
        while let Some((kind, data)) = next_frame(&mut read).await? {
            match (kind, data.split_first()) {
                (2, Some((0, rest))) => to_pod.write_all(rest).await?,
                (8, _) => break,
                _ => {}
            }
        }
        std::io::Result::Ok(())
    };
    let down = async {
        let mut bytes = vec![0; 8192];
        loop {
            let n = from_pod.read(&mut bytes).await.unwrap_or(0);
            if n == 0 {
                return frame(&mut write, 8, &[]).await;
            }
            frame(&mut write, 2, &[&[0], &bytes[..n]].concat()).await?;
        }
    };
    tokio::select! { result = up => result, result = down => result }
}

async fn frame<W: AsyncWrite + Unpin>(write: &mut W, kind: u8, data: &[u8]) -> std::io::Result<()> {
    let mut out = vec![0x80 | kind];
    match data.len() {
        short @ 0..126 => out.push(short as u8),
        long => {
            out.push(126);
            out.extend((long as u16).to_be_bytes());
        }
    }
    out.extend(data);
    write.write_all(&out).await?;
    write.flush().await
}

async fn next_frame<R: AsyncRead + Unpin>(read: &mut R) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let Ok(first) = read.read_u8().await else { return Ok(None) };
    let length = match read.read_u8().await? & 0x7f {
        126 => u64::from(read.read_u16().await?),
        127 => read.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    read.read_exact(&mut mask).await?;
    let mut data = vec![0; length as usize];
    read.read_exact(&mut data).await?;
    data.iter_mut().enumerate().for_each(|(i, b)| *b ^= mask[i % 4]);
    Ok(Some((first & 15, data)))
}

/// SHA-1 (FIPS 180-4): WebSocket's handshake wants it, nothing else here does.
fn sha1(text: &[u8]) -> [u8; 20] {
    let mut data = text.to_vec();
    data.push(0x80);
    data.resize(data.len().next_multiple_of(64) + if data.len() % 64 > 56 { 64 } else { 0 }, 0);
    let end = data.len() - 8;
    data[end..].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    let mut h = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in data.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect();
        for i in 16..80 {
            w.push((w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    out.chunks_mut(4).zip(h).for_each(|(o, part)| o.copy_from_slice(&part.to_be_bytes()));
    out
}
