//! The bytes of an answer: from memory, or a blob in chunks, the last of which waits for the blob's check.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::check::Checker;
use super::pool::{Buffer, CHUNK, Pool};
use super::source::OpenBlob;
use super::traffic::Ticket;

/// The body of an answer.
pub(super) enum ReplyBody {
    Whole(Option<Bytes>),
    /// As `Whole`, with the right to have so much in memory.
    Large(Option<Bytes>, #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit),
    Blob(Box<BlobBody>),
}

/// A part of a blob on its way.
pub(super) struct BlobBody {
    blob: Arc<OpenBlob>,
    at: u64,
    end: u64,
    checker: Arc<Checker>,
    pool: Arc<Pool>,
    ticket: Option<Ticket>,
    doing: Doing,
}

enum Doing {
    Next,
    /// The disk is waited for, on a thread of its own.
    Reading(JoinHandle<io::Result<Buffer>>),
    /// The last chunk waits for the check.
    Checking(Pin<Box<dyn Future<Output = io::Result<()>> + Send>>),
    Checked,
    Failed,
}

impl BlobBody {
    /// The bytes from `at` to `end` (not included), which must lie in the blob.
    pub(super) fn new(
        blob: Arc<OpenBlob>,
        (at, end): (u64, u64),
        checker: Arc<Checker>,
        pool: Arc<Pool>,
        ticket: Option<Ticket>,
    ) -> Self {
        Self { blob, at, end, checker, pool, ticket, doing: Doing::Next }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match &mut self.doing {
                Doing::Failed => return Poll::Ready(None),
                Doing::Next if self.at < self.end && self.end - self.at <= CHUNK as u64 => {
                    self.doing = match self.checker.is_good(&self.blob) {
                        true => Doing::Checked,
                        false => Doing::Checking(Box::pin(self.checker.clone().ensure(self.blob.clone()))),
                    };
                }
                Doing::Checking(check) => {
                    ready!(check.as_mut().poll(cx))?;
                    self.doing = Doing::Checked;
                }
                Doing::Next | Doing::Checked if self.at == self.end => return Poll::Ready(None),
                Doing::Next | Doing::Checked => match self.read_now()? {
                    Some(buffer) => return Poll::Ready(Some(Ok(self.hand_out(buffer)))),
                    None => self.doing = Doing::Reading(self.read_later()),
                },
                Doing::Reading(read) => {
                    let buffer = ready!(Pin::new(read).poll(cx)).unwrap_or_else(|e| Err(io::Error::other(e)))?;
                    let bytes = self.hand_out(buffer);
                    self.doing = Doing::Next;
                    return Poll::Ready(Some(Ok(bytes)));
                }
            }
        }
    }

    fn want(&self) -> usize {
        usize::try_from(self.end - self.at).unwrap_or(CHUNK).min(CHUNK)
    }

    fn read_now(&self) -> io::Result<Option<Buffer>> {
        let mut buffer = self.pool.take();
        let read = self.blob.read_cached(buffer.room(self.want()), self.at)?;
        Ok(read.map(|n| {
            buffer.fill(n);
            buffer
        }))
    }

    fn read_later(&self) -> JoinHandle<io::Result<Buffer>> {
        let (blob, pool, at, want) = (self.blob.clone(), self.pool.clone(), self.at, self.want());
        tokio::task::spawn_blocking(move || {
            let mut buffer = pool.take();
            let n = blob.read_at(buffer.room(want), at)?;
            buffer.fill(n);
            Ok(buffer)
        })
    }

    fn hand_out(&mut self, buffer: Buffer) -> Bytes {
        let bytes = Bytes::from_owner(buffer);
        self.at += bytes.len() as u64;
        if let Some(ticket) = &mut self.ticket {
            ticket.count(bytes.len());
        }
        bytes
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) | Self::Large(bytes, _) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Self::Blob(body) => {
                let next = ready!(body.poll_next(cx));
                if let Some(Err(_)) = next {
                    body.doing = Doing::Failed;
                }
                Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) | Self::Large(bytes, _) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Blob(body) => body.at == body.end,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(Some(bytes)) | Self::Large(Some(bytes), _) => SizeHint::with_exact(bytes.len() as u64),
            // The answer to HEAD has the length in its header.
            Self::Whole(None) | Self::Large(None, _) => SizeHint::new(),
            Self::Blob(body) => SizeHint::with_exact(body.end - body.at),
        }
    }
}
