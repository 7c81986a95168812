//! Port-forwards that outlive the pods they lead to: every connection finds a ready pod anew.
//!
//! Bytes that were not taken by a pod are offered to the next one: as long as a pod's end has answered nothing and says that
//! it could not connect, the client's first bytes are kept and sent again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::error::LabError;
use super::kube::Api;
use super::kube::pods::{self, Target, TargetKind, worded};
use crate::base::report::Reporter;

/// How long a connection waits for a ready pod.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Most bytes of a client kept for another try.
const KEPT: usize = 64 << 10;
/// How much later than its end a connection's reason may come.
const LATE: Duration = Duration::from_millis(200);
/// Most connections open at once through one forward.
const MOST_OPEN: usize = 1024;
/// How long a pod may be silent before a client that sends no more is taken to be gone.
const LINGER: Duration = Duration::from_secs(10);

/// What is forwarded to.
#[derive(Debug, Clone)]
pub struct To {
    /// Namespace.
    pub namespace: String,
    /// Service, workload or pod.
    pub target: Target,
    /// Port of it: a number, or a name.
    pub port: String,
}

/// A forward under way; it ends when dropped.
#[derive(Debug)]
pub struct Forward {
    /// Where it listens.
    pub local: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forward {
    /// Closes the listener and every connection, and waits until they are.
    pub async fn stop(mut self) {
        self.task.abort();
        // It was aborted: how it ended says nothing.
        let _ = (&mut self.task).await;
    }
}

/// Reads `PORT` or `LOCAL:PORT`: the local port (0 takes any) and the port of the target, which may be a name.
///
/// # Errors
/// Any other text.
pub fn ports(text: &str) -> Result<(u16, String), LabError> {
    let bad = || LabError::failed(format!("`{text}`"), "it is neither `PORT` nor `LOCAL:PORT`");
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let named = !remote.is_empty() && remote.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let local = match (local.parse(), text.contains(':')) {
        (Ok(port), _) => port,
        // A name alone: any local port will do.
        (Err(_), false) => 0,
        (Err(_), true) => return Err(bad()),
    };
    let number_fits = !remote.chars().all(|c| c.is_ascii_digit()) || remote.parse::<u16>().is_ok_and(|p| p > 0);
    if named && number_fits { Ok((local, remote.to_owned())) } else { Err(bad()) }
}

/// Listens on `127.0.0.1:local` (0: any port) and leads every connection to a ready pod.
///
/// # Errors
/// A local port that is taken, or a target that is not there or has no such port; a target without a ready pod is waited for
/// by each connection.
pub async fn open(api: &Api, to: &To, local: u16, reporter: Arc<dyn Reporter>) -> Result<Forward, LabError> {
    find(api, to).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).await.map_err(|e| {
        LabError::failed(format!("listen at 127.0.0.1:{local}"), e).hint("`0:PORT` takes any port that is free")
    })?;
    let local = listener.local_addr()?;
    let (api, to) = (api.clone(), to.clone());
    let task = tokio::spawn(async move {
        // Connections end with this task: a JoinSet aborts what it holds.
        let mut open = JoinSet::new();
        loop {
            let Ok((client, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while open.try_join_next().is_some() {}
            if open.len() < MOST_OPEN {
                open.spawn(connection(api.clone(), to.clone(), client, Arc::clone(&reporter)));
            }
        }
    });
    Ok(Forward { local, task })
}

async fn connection(api: Api, to: To, mut client: TcpStream, reporter: Arc<dyn Reporter>) {
    let mut connect = || {
        let (api, to) = (api.clone(), to.clone());
        async move { dial(&api, &to).await }
    };
    if let Err(why) = relay(&mut client, &mut connect, PATIENCE).await {
        reporter.warn(&format!("{} port {}: {why}", to.target, to.port));
    }
}

/// A pod's end of a connection, with what it says when it fails.
struct End {
    stream: DuplexStream,
    error: futures_util::future::BoxFuture<'static, Option<String>>,
}

/// The ready pods behind a target and the port there; none where it has none just now.
async fn find(api: &Api, to: &To) -> Result<Vec<(String, u16)>, LabError> {
    let what = || format!("{} in namespace `{}`", to.target, to.namespace);
    let wanted = match to.target.kind {
        TargetKind::Service => {
            let services: kube::Api<Service> = kube::Api::namespaced(api.client.clone(), &to.namespace);
            let service = services.get(&to.target.name).await.map_err(|e| LabError::failed(what(), worded(&e)))?;
            target_port(&service, &to.port).ok_or_else(|| {
                LabError::failed(what(), format!("it has no port `{}`; it has: {}", to.port, ports_of(&service)))
            })?
        }
        _ => to.port.clone(),
    };
    let ready = pods::of(api, &to.namespace, &to.target).await?.into_iter().filter(pods::is_ready);
    Ok(ready.filter_map(|pod| Some((pod.metadata.name.clone()?, container_port(&pod, &wanted)?))).collect())
}

fn ports_of(service: &Service) -> String {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.map(|p| p.port.to_string()).collect::<Vec<_>>().join(", ")
}

/// The port of pods, as number or name, that a service's port leads to.
fn target_port(service: &Service, port: &str) -> Option<String> {
    let mut ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let found = ports.find(|p| p.port.to_string() == port || p.name.as_deref() == Some(port))?;
    Some(match &found.target_port {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(name)) => name.clone(),
        None => found.port.to_string(),
    })
}

fn container_port(pod: &Pod, port: &str) -> Option<u16> {
    if let Ok(number) = port.parse() {
        return Some(number);
    }
    let mut ports = pod.spec.iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
    u16::try_from(ports.find(|p| p.name.as_deref() == Some(port))?.container_port).ok()
}

/// Opens a stream to the first ready pod that takes one.
async fn dial(api: &Api, to: &To) -> Result<End, String> {
    let all: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), &to.namespace);
    let mut why = "no pod is ready".to_owned();
    for (pod, port) in find(api, to).await.map_err(|e| e.to_string())? {
        let mut forward = match all.portforward(&pod, &[port]).await {
            Ok(forward) => forward,
            Err(error) => {
                why = format!("pod `{pod}`: {}", worded(&error));
                continue;
            }
        };
        if let (Some(stream), Some(error)) = (forward.take_stream(port), forward.take_error(port)) {
            return Ok(End { stream, error: Box::pin(error) });
        }
    }
    Err(why)
}

/// Leads a client to what `connect` gives, again and again until one end takes it or `patience` is over.
async fn relay<F>(
    client: &mut TcpStream,
    connect: &mut (dyn FnMut() -> F + Send),
    patience: Duration,
) -> Result<(), String>
where
    F: Future<Output = Result<End, String>>,
{
    let start = tokio::time::Instant::now();
    let mut kept = Vec::new();
    loop {
        let why = match connect().await {
            Ok(end) => match lead(client, end, &mut kept).await {
                Led::Done => return Ok(()),
                Led::NotTaken(why) => why,
            },
            Err(why) => why,
        };
        if start.elapsed() >= patience {
            return Err(why);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a connection went.
enum Led {
    /// Both ends are through with each other.
    Done,
    /// The pod's end never took it: another may.
    NotTaken(String),
}

/// Leads the client's bytes to the pod's end and back. Until that has answered, `kept` holds what the client has sent.
async fn lead(client: &mut TcpStream, end: End, kept: &mut Vec<u8>) -> Led {
    let End { mut stream, mut error } = end;
    if stream.write_all(kept).await.is_err() {
        return Led::NotTaken("the pod's end closed".to_owned());
    }
    let (mut from_client, mut from_pod) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let mut said = None;
    loop {
        tokio::select! {
            biased;
            why = &mut error, if said.is_none() => match why {
                Some(why) if why.contains("connect") => return Led::NotTaken(why),
                // It is over, or fails in a way that may have done something already.
                why => said = Some(why.unwrap_or_default()),
            },
            read = stream.read(&mut from_pod) => match read {
                Ok(n) if n > 0 => {
                    let first = from_pod.get(..n).unwrap_or_default();
                    if client.write_all(first).await.is_ok() {
                        copy(client, &mut stream).await;
                    }
                    return Led::Done;
                }
                _ => {
                    // The end and its reason come together: the reason may be a moment later.
                    let why = match said {
                        Some(_) => None,
                        None => tokio::time::timeout(LATE, &mut error).await.ok().flatten(),
                    };
                    return match why {
                        Some(why) if why.contains("connect") => Led::NotTaken(why),
                        // A pod that ends at once may take its reason with it; what only reads may be asked twice.
                        None if said.as_deref().is_none_or(str::is_empty) && only_reads(kept) => {
                            Led::NotTaken("the pod's end closed".to_owned())
                        }
                        _ => Led::Done,
                    };
                }
            },
            read = client.read(&mut from_client) => match read {
                Ok(n) if n > 0 => {
                    let sent = from_client.get(..n).unwrap_or_default();
                    kept.extend_from_slice(sent);
                    if stream.write_all(sent).await.is_err() {
                        return Led::NotTaken("the pod's end closed".to_owned());
                    }
                    if kept.len() >= KEPT {
                        // Too much to send again: whatever comes now, this end has it.
                        copy(client, &mut stream).await;
                        return Led::Done;
                    }
                }
                _ => {
                    copy(client, &mut stream).await;
                    return Led::Done;
                }
            },
        }
    }
}

/// Whether what a client has sent is an HTTP request that changes nothing (RFC 9110 section 9.2.1).
fn only_reads(sent: &[u8]) -> bool {
    ["GET ", "HEAD ", "OPTIONS "].iter().any(|method| sent.starts_with(method.as_bytes()))
}

/// Both ways, until the pod's end is over, or the client's is and the pod's has been silent for a while. The pod's end is not
/// told that the client's is over: a port-forward over WebSocket knows no half of a connection, and would lose the answer.
async fn copy(client: &mut TcpStream, stream: &mut DuplexStream) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_pod, mut to_pod) = tokio::io::split(stream);
    let gone = AtomicBool::new(false);
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_pod).await;
        gone.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            match tokio::time::timeout(LINGER, from_pod.read(&mut bytes)).await {
                Err(_) if gone.load(Ordering::Relaxed) => return,
                Err(_) => {}
                Ok(Ok(n)) if n > 0 => {
                    if to_client.write_all(bytes.get(..n).unwrap_or_default()).await.is_err() {
                        return;
                    }
                }
                Ok(_) => return drop(to_client.shutdown().await),
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[cfg(test)]
#[path = "port_forward/tests.rs"]
mod tests;
