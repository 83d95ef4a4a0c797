//! Serving HTTP to callers who are not trusted: bounded in connections, and in how long a
//! caller may take to say what it wants.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

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

/// The connection a request came by; every request has it among its extensions.
#[derive(Clone, Debug, Default)]
pub struct Connection(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    /// A request has come.
    asked: CancellationToken,
    ending: CancellationToken,
}

impl Connection {
    /// Takes no further request on it: ends it when what is being answered is answered.
    pub fn end(&self) {
        self.0.ending.cancel();
    }

    /// Something that ends with the connection, and tells it from others.
    pub fn mark(&self) -> Mark {
        Mark(Arc::downgrade(&self.0))
    }
}

/// Knows a connection without keeping it.
#[derive(Clone, Debug)]
pub struct Mark(std::sync::Weak<Signals>);

impl Mark {
    /// Is the connection still there?
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Is it this connection's?
    pub fn is_of(&self, connection: &Connection) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&connection.0))
    }
}

/// Connections on which nothing was asked yet, the oldest first.
#[derive(Default)]
struct Silent(VecDeque<Mark>);

impl Silent {
    fn add(&mut self, connection: &Connection) {
        self.0.retain(|mark| mark.0.upgrade().is_some_and(|signals| !signals.asked.is_cancelled()));
        self.0.push_back(connection.mark());
    }

    /// Ends the oldest, if there is one.
    fn end_oldest(&mut self) {
        while let Some(mark) = self.0.pop_front() {
            if let Some(signals) = mark.0.upgrade().filter(|signals| !signals.asked.is_cancelled()) {
                signals.ending.cancel();
                return;
            }
        }
    }
}

/// Serves HTTP/1 and HTTP/2 until `shutdown`, and then until every request that was taken is
/// answered. At most `max_connections` are open at a time: the oldest on which nothing was asked
/// yet makes room for the next one, which waits when there is none.
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
    let mut silent = Silent::default();
    loop {
        let accepted = async {
            let stream = listener.accept().await.0;
            if places.available_permits() == 0 {
                silent.end_oldest();
            }
            (Arc::clone(&places).acquire_owned().await.expect("it is never closed"), stream)
        };
        let (place, stream) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        let connection = Connection::default();
        silent.add(&connection);
        let (http, router, shutdown) = (http.clone(), router.clone(), shutdown.clone());
        connections.spawn(async move {
            converse(&http, stream, router, &connection, &shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn converse<I>(
    http: &Builder<TokioExecutor>,
    stream: I,
    router: Router,
    connection: &Connection,
    shutdown: &CancellationToken,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let Signals { asked, ending } = &*connection.0;
    let service = router.map_request({
        let connection = connection.clone();
        move |mut request: http::Request<_>| {
            connection.0.asked.cancel();
            request.extensions_mut().insert(connection.clone());
            request
        }
    });
    // hyper's own timer starts only when it knows the version of the protocol.
    let silent = async {
        tokio::select! {
            // What was asked may be what ends it, and is answered first.
            biased;
            () = asked.cancelled() => std::future::pending().await,
            () = ending.cancelled() => {}
            () = tokio::time::sleep(HEAD_WITHIN) => {}
        }
    };
    let over = async {
        asked.cancelled().await;
        ending.cancelled().await;
    };
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = silent => return,
        () = async { tokio::select! { () = shutdown.cancelled() => {}, () = over => {} } } => {
            serving.as_mut().graceful_shutdown();
            serving.await
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
            Self::of(Router::new().route("/", get(|| async { "hello" })), max_connections)
        }

        fn of(router: Router, max_connections: usize) -> Self {
            let (callers, accepted) = mpsc::unbounded_channel();
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
    async fn one_connection_too_many_takes_the_place_of_the_oldest_silent_one_or_waits() {
        let server = Server::start(2);
        let mut used = server.connect();
        used.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        used.read_u8().await.expect("an answer");
        let started = Instant::now();
        let (silent, mut third) = (server.connect(), server.connect());
        assert_eq!(rest(silent).await, "", "it made room");
        third.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        third.read_u8().await.expect("an answer");
        assert_eq!(started.elapsed(), Duration::ZERO);
        let mut fourth = server.connect();
        fourth.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
        assert!(rest(fourth).await.ends_with("hello"));
        assert_eq!(started.elapsed().as_secs(), HEAD_WITHIN.as_secs(), "until one is idle for too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_can_be_ended_by_what_is_asked_on_it() {
        let router = Router::new().route(
            "/",
            get(|request: axum::extract::Request| async move {
                request.extensions().get::<Connection>().expect("there").end();
                "the last"
            }),
        );
        let server = Server::of(router, 9);
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        let started = Instant::now();
        assert!(rest(stream).await.ends_with("the last"));
        assert_eq!(started.elapsed(), Duration::ZERO);
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
