//! How much of the gateway one caller can hold.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::World;

/// A connection on which something was asked, and the status it was answered with.
async fn asked(world: &World, token: &str) -> (TcpStream, String) {
    let address = world.url.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.expect("an answer");
    (stream, String::from_utf8_lossy(&status[9..]).into_owned())
}

/// Reads on until the other side ends it.
async fn is_ended(mut stream: TcpStream) -> bool {
    stream.read_to_end(&mut Vec::new()).await.is_ok()
}

#[tokio::test]
async fn an_attempt_holds_so_many_connections_and_others_none_at_all() {
    let world = World::new().await;
    let mut held = Vec::new();
    for _ in 0..32 {
        let (stream, status) = asked(&world, &world.token()).await;
        assert_eq!(status, "404");
        held.push(stream);
    }
    let started = std::time::Instant::now();
    let (stream, status) = asked(&world, &world.token()).await;
    assert_eq!(status, "429");
    assert!(is_ended(stream).await, "one too many is not kept");
    let (stream, status) = asked(&world, "of nobody").await;
    assert_eq!(status, "401");
    assert!(is_ended(stream).await, "one by which no attempt comes is not kept");
    assert!(started.elapsed().as_secs() < 9, "and not because it was idle");
    drop(held.pop());
    while asked(&world, &world.token()).await.1 != "404" {
        assert!(started.elapsed().as_secs() < 9, "the place of one that was closed is free");
    }
}
