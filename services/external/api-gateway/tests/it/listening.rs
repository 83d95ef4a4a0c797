//! The whole gateway on a real port.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::*;

/// A delivery as bytes on the wire; the body may be shorter than announced.
fn on_the_wire(delivery: &Delivery, announced: usize) -> Vec<u8> {
    let mut text = format!(
        "POST {} HTTP/1.1\r\nhost: callboard\r\nconnection: close\r\ncontent-length: {announced}\r\n",
        delivery.path
    );
    for (name, value) in &delivery.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), &delivery.body].concat()
}

#[tokio::test]
async fn it_serves_until_told_to_stop() {
    let control_plane = ControlPlane::start().await;
    control_plane.set_source("hello-world", SECRET, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(api_gateway::run(settings(&control_plane), listener, shutdown.clone()));

    let delivery = Delivery::new("guid-1", ISSUE_LABELED);
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&on_the_wire(&delivery, ISSUE_LABELED.len())).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");

    // A body that breaks off: half of it, then the end of the stream.
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&on_the_wire(&delivery, ISSUE_LABELED.len() + 10)).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert_eq!(control_plane.stored().len(), 1);

    // A delivery that is on its way when the end comes is still answered.
    let mut connection = TcpStream::connect(address).await.unwrap();
    let bytes = on_the_wire(&Delivery::new("guid-2", ISSUE_LABELED), ISSUE_LABELED.len());
    let (first, rest) = bytes.split_at(bytes.len() - 10);
    connection.write_all(first).await.unwrap();
    // The gateway has taken this connection once it answers a later one.
    let mut later = TcpStream::connect(address).await.unwrap();
    later.write_all(&on_the_wire(&delivery, ISSUE_LABELED.len())).await.unwrap();
    later.read_to_end(&mut Vec::new()).await.unwrap();
    shutdown.cancel();
    connection.write_all(rest).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    running.await.unwrap().unwrap();
}
