//! Statistics over HTTP, for Prometheus: as little of a web server as that needs.

use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// How long a client may take to ask, and then to read.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of a request that are looked at.
const MAX_REQUEST_BYTES: usize = 4096;

/// Answers whoever asks, one after the other, for as long as the process lives.
pub(crate) fn serve(listener: &TcpListener, text: impl Fn() -> String) {
    for stream in listener.incoming() {
        match stream.and_then(|stream| answer(stream, &text)) {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "a request for statistics failed");
                // Where descriptors are short, accepting fails at once, again and again.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn answer(mut stream: TcpStream, text: &impl Fn() -> String) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; MAX_REQUEST_BYTES];
    let mut len = 0;
    while !request[..len].windows(4).any(|window| window == b"\r\n\r\n") {
        // For the whole of the question: others wait until this one is answered.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut request[len..])? {
            0 => return Ok(()),
            more => len += more,
        }
    }
    let is_asked = [&b"GET /metrics "[..], b"GET / "].iter().any(|line| request.starts_with(line));
    let (status, body) = match is_asked {
        true => ("200 OK", text()),
        false => ("404 Not Found", "ask for /metrics\n".to_owned()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_byte_by_byte_does_not_keep_the_others_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut slow = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let answered = std::thread::scope(|scope| {
            let answered = scope.spawn(move || answer(stream, &|| "text".to_owned()));
            // Far more often than each single read could find too late.
            for _ in 0..100 {
                if answered.is_finished() || slow.write_all(b"x").is_err() {
                    break;
                }
                std::thread::sleep(PATIENCE / 20);
            }
            drop(slow);
            answered.join().unwrap()
        });
        assert!(answered.is_err(), "it was listened to until it had enough");
    }
}
