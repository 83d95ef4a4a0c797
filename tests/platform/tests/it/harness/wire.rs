//! A wire that can be cut: everything that is sent to it goes on to another address.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The wire; it ends with its story.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far, cut.clone()));
            }
        });
        Self { address, is_cut }
    }

    /// What is under way ends in the middle, and what comes is turned away.
    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// It carries again.
    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn carry(mut near: TcpStream, far: SocketAddr, mut cut: watch::Receiver<bool>) {
    if *cut.borrow_and_update() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(far).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}
