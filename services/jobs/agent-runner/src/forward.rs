//! A loopback port for programs that speak TCP only, joined to the gateway.

use std::io;

use tokio::net::TcpListener;

use crate::connect::Connector;

/// Listens on a free port of 127.0.0.1 and passes every connection on, byte for byte.
/// Whoever connects needs the run token like anybody else.
pub(crate) async fn listen(gateway: Connector) -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        // Fails when no descriptors are left; the next connection may find one.
        loop {
            let Ok((mut near, _)) = listener.accept().await else { continue };
            let gateway = gateway.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = gateway.any().await {
                    // A connection that breaks is seen at both ends.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    Ok(port)
}
