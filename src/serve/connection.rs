//! Connections: accepted up to a number, each with time limits, ended gracefully. Where all places are taken, those who come
//! wait for a moment, and somebody gives way (`guests`).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::body::ReplyBody;
use super::guests::{Asking, Guests, Place, Waiter, network};
use super::patient::{Owed, Patient};
use super::pool::CHUNK;
use super::{State, limits, route};

/// How long a request's headers may take, and how long a connection may be idle.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long requests under way may go on when the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked who could give way, while somebody waits.
const LOOK: Duration = Duration::from_millis(500);
/// Who has waited for so long is sent away when even all places to wait are taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest head of a request, and how much of an answer is buffered, in bytes.
const BUFFERED: usize = CHUNK;

/// Somebody for whom there is no place yet.
struct Waiting {
    stream: TcpStream,
    peer: SocketAddr,
    since: Instant,
}

/// Accepts connections until `stop` is ready, then waits for those that are open.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>, stop: impl Future<Output = ()>) {
    let guests = Guests::new(state.limits.connections);
    let (tell, stopping) = watch::channel(false);
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if waiting.len() < limits::WAITING => match accepted {
                Ok((stream, peer)) => waiting.push(Waiting { stream, peer, since: Instant::now() }),
                // Out of file descriptors, or a client that went away: the next may have more luck.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            () = guests.left.notified(), if !waiting.is_empty() => {}
            () = tokio::time::sleep(LOOK), if !waiting.is_empty() => {}
        }
        while let Some((Waiting { stream, peer, .. }, place)) = next(&guests, &mut waiting) {
            tokio::spawn(serve(stream, peer, place, state.clone(), stopping.clone()));
        }
        make_way(&guests, &mut waiting);
    }
    drop((listener, waiting));
    let _ = tell.send(true);
    let all_gone = async {
        while !guests.is_empty() {
            guests.left.notified().await;
        }
    };
    let _ = tokio::time::timeout(GRACE, all_gone).await;
}

/// Whose turn it is, with his place: of the address with the fewest places he who came first.
fn next(guests: &Arc<Guests>, waiting: &mut Vec<Waiting>) -> Option<(Waiting, Place)> {
    let first = match waiting.len() {
        0 => return None,
        1 => 0,
        _ => {
            let shares = guests.shares();
            let share = |w: &Waiting| shares.get(&network(w.peer.ip())).copied().unwrap_or(0);
            waiting.iter().enumerate().min_by_key(|(_, w)| (share(w), w.since)).map_or(0, |(at, _)| at)
        }
    };
    let place = guests.enter(waiting.get(first)?.peer.ip())?;
    Some((waiting.remove(first), place))
}

/// Has others give way to those who wait. When even the places to wait are taken for long, the address with the most of
/// everything loses one of them: among those who were not accepted yet may be somebody else.
fn make_way(guests: &Guests, waiting: &mut Vec<Waiting>) {
    if waiting.is_empty() {
        return;
    }
    let waiters: Vec<Waiter> =
        waiting.iter().map(|w| Waiter { client: w.peer.ip(), waited: w.since.elapsed() }).collect();
    guests.make_way(&waiters);
    if waiting.len() < limits::WAITING {
        return;
    }
    let mut shares = guests.shares();
    for waiter in &waiters {
        *shares.entry(network(waiter.client)).or_insert(0) += 1;
    }
    let share = |w: &Waiting| shares.get(&network(w.peer.ip())).copied().unwrap_or(0);
    let patient = waiting.iter().enumerate().filter(|(_, w)| w.since.elapsed() >= PATIENCE);
    if let Some((at, _)) = patient.max_by_key(|(_, w)| (share(w), w.since.elapsed())) {
        waiting.remove(at);
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    state: Arc<State>,
    mut stopping: watch::Receiver<bool>,
) {
    let guest = place.guest.clone();
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let looked = tokio::select! {
        looked = tokio::time::timeout(HEADERS_WITHIN, stream.peek(&mut first)) => looked,
        _ = guest.told_to_leave() => return,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    match looked {
        Ok(Ok(1)) if first == [TLS_HANDSHAKE] => return refuse_tls(stream).await,
        Ok(Ok(1)) => {}
        _ => return,
    }
    let client = peer.ip().to_canonical();
    let asks = guest.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (state, guest, asking) = (state.clone(), asks.clone(), asks.asks());
        async move {
            let reply = route::answer(&state, client, request.map(|body| Owed::new(body, guest))).await;
            Ok::<_, std::convert::Infallible>(reply.map(|body| Answering { body, _asking: asking }))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(BUFFERED);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Patient::new(stream, guest.clone())), service));
    // What goes wrong on a connection is its client's affair: it was told, or is gone.
    let mut told = false;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            at_once = guest.told_to_leave() => {
                if at_once {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                guest.reconsider();
            }
            _ = stopping.wait_for(|stopping| *stopping), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The body of an answer; with its end the request has ended.
struct Answering {
    body: ReplyBody,
    _asking: Asking,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Clients try TLS first (RFC 8446, section 5.1). An answer in plain HTTP tells them at once to go on without; from a
/// connection that just ends they learn nothing, and try again and again.
async fn refuse_tls(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nplain HTTP only\n";
    let mut hello = [0; 2048];
    let exchange = async {
        // What stays unread would turn the end of the connection into a reset, and the answer would be lost.
        let _ = stream.read(&mut hello).await?;
        stream.write_all(ANSWER).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), exchange).await;
}
