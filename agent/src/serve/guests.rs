//! A TCP listener in, a bounded number of connections out, plain or with TLS, each of which is cut when it idles.

use crate::serve::door::Doors;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep;
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

/// How long connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a TLS handshake, from the first byte to the last.
    pub handshake: Duration,
    /// Without a byte of an answer. What a guest sends does not renew it, so nobody stays by sending slowly.
    pub idle: Duration,
}

/// The listener.
#[derive(Debug)]
pub struct Guests {
    listener: TcpListener,
    room: Arc<Semaphore>,
    patience: Patience,
    doors: Doors,
}

impl Guests {
    /// At most `most` connections at a time, with the TLS that the door has when they come.
    pub fn new(listener: TcpListener, most: usize, patience: Patience, doors: Doors) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(most)), patience, doors }
    }
}

impl Listener for Guests {
    type Io = Guest;
    type Addr = Peer;

    async fn accept(&mut self) -> (Guest, Peer) {
        // The semaphore is never closed; were it, a connection without a permit would still be served.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let peer = Peer { address, certified: Arc::default() };
        let acceptor = self.doors.borrow().acceptor();
        let (wire, patience) = match acceptor {
            Some(acceptor) => (Wire::Greets(Box::new(acceptor.accept(stream))), self.patience.handshake),
            None => (Wire::Plain(stream), self.patience.idle),
        };
        let certified = Arc::clone(&peer.certified);
        let (idle, patience) = (self.patience.idle, Box::pin(sleep(patience)));
        (Guest { wire, idle, patience, certified, _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.listener.local_addr()?, certified: Arc::default() })
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where.
    pub address: SocketAddr,
    /// Known when the handshake is over, which is before the first request.
    certified: Arc<AtomicBool>,
}

impl Peer {
    /// Whether it showed a certificate, which is then a good one.
    pub fn certified(&self) -> bool {
        self.certified.load(Ordering::Relaxed)
    }
}

impl Connected<IncomingStream<'_, Guests>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Guests>) -> Self {
        stream.remote_addr().clone()
    }
}

/// What bytes go over. The handshake is part of the connection, so that it keeps nobody else waiting.
enum Wire {
    Plain(TcpStream),
    Greets(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection.
pub struct Guest {
    wire: Wire,
    idle: Duration,
    patience: Pin<Box<Sleep>>,
    certified: Arc<AtomicBool>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Bytes, both ways.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

impl Guest {
    /// The bytes, once the handshake is over.
    fn bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Bytes>>> {
        if let Wire::Greets(accept) = &mut self.wire {
            let stream = ready!(Pin::new(accept).poll(context))?;
            let shown = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
            self.certified.store(shown, Ordering::Relaxed);
            self.wire = Wire::Tls(Box::new(stream));
            self.renew();
        }
        Poll::Ready(match &mut self.wire {
            Wire::Plain(stream) => Ok(Pin::new(stream)),
            Wire::Tls(stream) => Ok(Pin::new(stream)),
            Wire::Greets(_) => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    fn renew(&mut self) {
        self.patience.as_mut().reset(Instant::now() + self.idle);
    }

    /// Ends the connection when it has waited too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        self.patience.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guest {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = match self.bytes(context) {
            Poll::Ready(bytes) => bytes?.poll_read(context, buf),
            Poll::Pending => Poll::Pending,
        };
        self.judge(context, outcome)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = match self.bytes(context) {
            Poll::Ready(bytes) => bytes?.poll_write(context, buf),
            Poll::Pending => Poll::Pending,
        };
        if outcome.is_ready() {
            self.renew();
        }
        self.judge(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = match self.bytes(context) {
            Poll::Ready(bytes) => bytes?.poll_flush(context),
            Poll::Pending => Poll::Pending,
        };
        self.judge(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            // Dropping it closes the connection.
            Wire::Greets(_) => Poll::Ready(Ok(())),
        };
        self.judge(context, outcome)
    }
}
