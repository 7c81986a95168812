//! Connections: accepted up to a number, each with time limits, ended gracefully.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};

use super::pool::CHUNK;
use super::{State, route};

/// How many connections are open at a time; more wait to be accepted.
const CONNECTIONS: usize = 512;
/// How long a request's headers may take, and how long a connection may be idle.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a client may take nothing of what is sent to it.
const STALL: Duration = Duration::from_secs(60);
/// How long requests under way may go on when the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// The largest head of a request, and how much of an answer is buffered, in bytes.
const BUFFERED: usize = CHUNK;

/// Accepts connections until `stop` is ready, then waits for those that are open.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (tell, stopping) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (state, stopping) = (state.clone(), stopping.clone());
                tokio::spawn(async move {
                    serve(stream, peer, state, stopping).await;
                    drop(place);
                });
            }
            // Out of file descriptors, or a client that went away: the next may have more luck.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    drop(listener);
    let _ = tell.send(true);
    let _ = tokio::time::timeout(GRACE, places.acquire_many(CONNECTIONS as u32)).await;
}

async fn serve(stream: TcpStream, peer: SocketAddr, state: Arc<State>, mut stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    match tokio::time::timeout(HEADERS_WITHIN, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first == [TLS_HANDSHAKE] => return refuse_tls(stream).await,
        Ok(Ok(1)) => {}
        _ => return,
    }
    let client = peer.ip().to_canonical();
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, std::convert::Infallible>(route::answer(&state, client, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(BUFFERED);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Patient::new(stream)), service));
    // What goes wrong on a connection is its client's affair: it was told, or is gone.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = async { stopping.wait_for(|stopping| *stopping).await.map_or((), |_| ()) } => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
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

/// A connection whose patience ends: a client that takes nothing for [`STALL`] is cut off, or it would hold memory for ever.
struct Patient {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, deadline: Box::pin(tokio::time::sleep(STALL)), waiting: false }
    }

    fn limited<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + STALL);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limited(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
