//! The gateway's memory: bounded, however much arrives at once.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tonic::codegen::Bytes;

use crate::harness::{sign, story::Story};

/// The greatest payload GitHub sends.
const LARGEST: usize = 26_214_400;
/// What `docs/ops/configuration.md` states for the gateway.
const BOUND_MIB: u64 = 512;
const AT_ONCE: usize = 16;
const SECRET: &str = "the secret of the processes' story";

/// Most memory the process ever had, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib / 1024
}

/// Posts a delivery once; false when it was put off.
async fn taken(api: SocketAddr, guid: usize, body: Bytes, signature: &str) -> bool {
    let request = reqwest::Client::new()
        .post(format!("http://{api}/webhooks/github/hello-world"))
        .header("content-type", "application/json")
        .header("x-github-event", "star")
        .header("x-github-delivery", format!("large-{guid}"))
        .header("x-hub-signature-256", signature)
        .body(body);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => true,
        // On a machine that is busy a body may take longer than its 10 s.
        Ok(answer) if answer.status() == 408 => false,
        Ok(answer) => {
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
            false
        }
        // A refused body is not taken to its end: the connection may break off before the answer.
        Err(_) => false,
    }
}

/// Sends `head`, then pieces until the server answers; returns the answer and how many bytes of
/// the body went out.
fn refused(api: SocketAddr, head: &str, pieces: usize) -> (String, usize) {
    let mut stream = TcpStream::connect(api).expect("it listens");
    stream.write_all(head.as_bytes()).expect("sent");
    let piece = vec![b' '; 64 * 1024];
    let mut sent = 0;
    for _ in 0..pieces {
        // The server has said no and closed: that is the point.
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(&piece);
        chunk.extend_from_slice(b"\r\n");
        if stream.write_all(&chunk).is_err() {
            break;
        }
        sent += piece.len();
    }
    let mut answer = [0; 12];
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let read = stream.read(&mut answer).unwrap_or_default();
    (String::from_utf8_lossy(&answer[..read]).into_owned(), sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_of_the_greatest_at_once_stay_below_the_bound() {
    let mut story = Story::prepare();
    story.serve("control-plane");
    story.serve("api-gateway");
    let gateway = story.services[1].1.0.id();
    let started = peak_mib(gateway);
    let mut body = br#"{"repository":{"full_name":"octocat/hello-world"},"padding":""#.to_vec();
    body.resize(LARGEST - 2, b'x');
    body.extend_from_slice(br#""}"#);
    let signature = sign(SECRET, &body);
    let api = story.api;
    let body = Bytes::from(body);
    let at_once = join_all((0..AT_ONCE).map(|guid| taken(api, guid, body.clone(), &signature))).await;
    let put_off: Vec<usize> = (0..AT_ONCE).filter(|guid| !at_once[*guid]).collect();
    // What was put off is sent again later, one after the other.
    let patience = Instant::now() + Duration::from_secs(300);
    for guid in &put_off {
        while !taken(api, *guid, body.clone(), &signature).await {
            assert!(Instant::now() < patience, "never taken");
        }
    }
    let (peak, control_plane) = (peak_mib(gateway), peak_mib(story.services[0].1.0.id()));
    eprintln!(
        "{AT_ONCE} deliveries of {LARGEST} bytes at once: the gateway took at most {peak} MiB ({started} at its start), the control plane {control_plane} MiB; {} were put off",
        put_off.len()
    );
    assert!(peak < BOUND_MIB, "the gateway took {peak} MiB; it is to stay below {BOUND_MIB}");

    // One byte more is refused: announced, before any of it is sent; unannounced, as soon as it
    // is read, without waiting for the end.
    let head = |length: &str| {
        format!(
            "POST /webhooks/github/hello-world HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        )
    };
    let (answer, _) = refused(api, &head(&format!("content-length: {}", LARGEST + 1)), 0);
    assert_eq!(answer, "HTTP/1.1 413");
    let all = 64 * 1024 * 1024;
    let (answer, sent) = refused(api, &head("transfer-encoding: chunked"), all / (64 * 1024));
    assert!(sent < all && (answer == "HTTP/1.1 413" || answer.is_empty()), "{answer}, {sent} bytes went out");
    // Exactly one piece over the limit and no end: it is answered all the same.
    let (answer, sent) = refused(api, &head("transfer-encoding: chunked"), LARGEST / (64 * 1024) + 1);
    assert!(sent > LARGEST);
    assert_eq!(answer, "HTTP/1.1 413");
}
