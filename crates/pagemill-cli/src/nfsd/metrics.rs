//! Statistics over HTTP, for Prometheus: GET and HEAD of `/metrics`.
//!
//! One thread serves all connections, so that one that is idle or slow delays no other. There are at
//! most [`MAX_CONNECTIONS`]; beyond that, the oldest is closed for the newest.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::convert::Infallible;
use core::fmt;
use core::time::Duration;
use std::io;
use std::net;
use std::thread;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::AbortHandle;
use tracing::debug;

/// Connections at a time. A scrape takes one for some milliseconds; the descriptors come out of
/// those that the server does not use for files.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last in all.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of a request that are looked at.
const MAX_REQUEST_BYTES: usize = 8192;
/// How long to wait where no connection can be accepted, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The format that Prometheus' client library writes.
///
/// # Source
/// `openmetrics` "Protocol Negotiation"
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Writes the statistics of the moment.
pub(crate) type Exposition = Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>;

/// Serves what `exposition` writes for as long as the process lives, on a thread of its own.
///
/// # Errors
/// What the system refuses.
pub(crate) fn start(listener: net::TcpListener, exposition: Exposition) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.context("cannot watch sockets for --metrics")?;
    listener.set_nonblocking(true).context("cannot use the socket for --metrics")?;
    let serve = move || {
        let served: io::Result<Infallible> = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            Ok(accept(&listener, &exposition).await)
        });
        let Err(error) = served;
        tracing::error!(%error, "cannot serve --metrics");
    };
    let thread = thread::Builder::new().name("metrics".into()).spawn(serve);
    thread.map(drop).context("cannot start the thread for --metrics")
}

/// Serves each connection in a task of its own.
#[expect(clippy::infinite_loop, reason = "statistics are served for as long as the process lives")]
async fn accept(listener: &TcpListener, exposition: &Exposition) -> Infallible {
    let mut connections = VecDeque::<AbortHandle>::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept connections for --metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() == MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(serve(stream, Arc::clone(exposition)));
        connections.push_back(connection.abort_handle());
    }
}

async fn serve(stream: TcpStream, exposition: Exposition) {
    let service = service_fn(move |request| {
        let response = answer(&request, &exposition);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a request for metrics failed"),
        Err(_elapsed) => debug!("a request for metrics took too long"),
    }
}

fn answer(request: &Request<Incoming>, exposition: &Exposition) -> Response<String> {
    let is_known = matches!(request.uri().path(), "/" | "/metrics");
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match (is_known, is_read) {
        (false, _) => plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
        (true, false) => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
            response.headers_mut().insert(ALLOW, const { HeaderValue::from_static("GET, HEAD") });
            response
        }
        (true, true) => match exposition() {
            Ok(text) => respond(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the metrics\n"),
        },
    }
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    respond(status, PLAIN, text.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// Serves a text, and returns the address.
    fn served(text: &'static str) -> net::SocketAddr {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        start(listener, Arc::new(|| Ok(text.to_owned()))).unwrap();
        addr
    }

    fn ask(addr: net::SocketAddr, line: &str) -> String {
        let mut stream = net::TcpStream::connect(addr).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn paths_queries_and_methods_are_told_apart() {
        let addr = served("all is well\n");
        for target in ["/metrics", "/", "/metrics?name=x&y", "http://other:1/metrics"] {
            let text = ask(addr, &format!("GET {target}"));
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {text}");
            assert!(text.ends_with("\r\n\r\nall is well\n"), "{target}: {text}");
        }
        let head = ask(addr, "HEAD /metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-length: 12\r\n"), "{head}");
        assert!(head.contains(&format!("content-type: {OPEN_METRICS}\r\n")), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(addr, "GET /metrics/x").starts_with("HTTP/1.1 404 "));
        let post = ask(addr, "POST /metrics");
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    }

    #[test]
    fn any_number_of_idle_connections_delays_no_scrape() {
        let addr = served("here\n");
        let mut idle: Vec<_> = (0..4 * MAX_CONNECTIONS)
            .map(|number| {
                let mut stream = net::TcpStream::connect(addr).unwrap();
                if number % 2 == 0 {
                    stream.write_all(b"GET /metr").unwrap();
                }
                stream
            })
            .collect();
        // None of them has reached its time limit when this is answered: the oldest, which would be
        // the first to, is closed because there are too many.
        assert!(ask(addr, "GET /metrics").ends_with("here\n"));
        let newest = idle.last().unwrap();
        newest.set_nonblocking(true).unwrap();
        let waits =
            newest.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(waits, "the newest is open");
        // An aborted connection ends, with or without a reset.
        let _ended = idle[1].read(&mut [0]);
    }
}
