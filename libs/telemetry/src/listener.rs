//! Serving HTTP to callers who are not trusted: bounded in connections, and in how long a
//! caller may take to say what it wants.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How long a caller may take for the head of a request, the first one and every other.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How often HTTP/2 asks a caller whether it is still there, and how long it waits for a word.
const STILL_THERE_EVERY: Duration = Duration::from_secs(30);
const STILL_THERE_WITHIN: Duration = Duration::from_secs(20);

/// Serves HTTP/1 and HTTP/2 until `shutdown`, and then until every request that was taken is
/// answered. At most `max_connections` are open at a time; further ones wait to be accepted.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    max_connections: usize,
    shutdown: CancellationToken,
) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(STILL_THERE_EVERY)
        .keep_alive_timeout(STILL_THERE_WITHIN);
    let places = Arc::new(Semaphore::new(max_connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            (place, listener.accept().await.0)
        };
        let (place, stream) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (http, router, shutdown) = (http.clone(), router.clone(), shutdown.clone());
        connections.spawn(async move {
            converse(&http, stream, router, &shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn converse<I>(http: &Builder<TokioExecutor>, stream: I, router: Router, shutdown: &CancellationToken)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let asked = CancellationToken::new();
    let service = router.map_request({
        let asked = asked.clone();
        move |request| {
            asked.cancel();
            request
        }
    });
    // hyper's own timer starts only when it knows the version of the protocol.
    let silent = async {
        if tokio::time::timeout(HEAD_WITHIN, asked.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::mpsc,
        task::JoinHandle,
        time::Instant,
    };

    use super::*;

    /// Connections without sockets, so that time can stand still.
    struct Callers(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Callers {
        type Io = DuplexStream;
        type Addr = ();
        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(stream) => (stream, ()),
                None => std::future::pending().await,
            }
        }
        fn local_addr(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Server {
        callers: mpsc::UnboundedSender<DuplexStream>,
        shutdown: CancellationToken,
        serving: JoinHandle<()>,
    }

    impl Server {
        fn start(max_connections: usize) -> Self {
            let (callers, accepted) = mpsc::unbounded_channel();
            let router = Router::new().route("/", get(|| async { "hello" }));
            let shutdown = CancellationToken::new();
            let serving = serve(Callers(accepted), router, max_connections, shutdown.clone());
            Self { callers, shutdown, serving: tokio::spawn(serving) }
        }

        fn connect(&self) -> DuplexStream {
            let (ours, theirs) = duplex(4096);
            self.callers.send(theirs).expect("serving");
            ours
        }
    }

    async fn rest(mut stream: DuplexStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.expect("an end");
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_is_given_up() {
        let server = Server::start(9);
        for begun in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let started = Instant::now();
            let mut stream = server.connect();
            stream.write_all(begun.as_bytes()).await.expect("sent");
            rest(stream).await;
            assert_eq!(started.elapsed().as_secs(), HEAD_WITHIN.as_secs(), "{begun:?}");
        }
        // Neither may the second request dawdle.
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT").await.expect("sent");
        let started = Instant::now();
        assert!(rest(stream).await.ends_with("hello"));
        assert_eq!(started.elapsed().as_secs(), HEAD_WITHIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_too_many_waits() {
        let server = Server::start(1);
        let silent = server.connect();
        let started = Instant::now();
        let mut waiting = server.connect();
        waiting.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
        assert!(rest(waiting).await.ends_with("hello"));
        assert_eq!(started.elapsed().as_secs(), HEAD_WITHIN.as_secs());
        drop(silent);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_told_to() {
        let server = Server::start(2);
        let mut idle = server.connect();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        idle.read_u8().await.expect("an answer");
        let started = Instant::now();
        server.shutdown.cancel();
        server.serving.await.expect("no panic");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
