//! Reading a body from somebody who is not proven yet: bounded in size, time and in what
//! all of them hold together.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The greatest payload GitHub sends.
pub(crate) const MAX_BODY_BYTES: usize = 26_214_400;
/// From the first to the last byte.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(10);
/// All bodies in memory at one time: four of the greatest, or thousands of usual ones. Each is
/// there twice while it is handed on.
const MAX_HELD_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLarge,
    TooSlow,
    /// The sender went away, or broke the protocol.
    BrokenOff,
    /// The others hold too much.
    Busy,
}

/// A whole body, and the room it takes until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldBody {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// The room all bodies share.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_HELD_BYTES)))
    }
}

impl Room {
    /// Reads to the end. Room is taken as bytes arrive, so that announcing much and sending
    /// nothing takes none.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<HeldBody, Unread> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > MAX_BODY_BYTES as u64) {
            return Err(Unread::TooLarge);
        }
        let announced = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
        tokio::time::timeout(READ_WITHIN, self.collect(body, announced)).await.unwrap_or(Err(Unread::TooSlow))
    }

    async fn collect(&self, mut body: Body, announced: usize) -> Result<HeldBody, Unread> {
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::BrokenOff)?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_BODY_BYTES {
                return Err(Unread::TooLarge);
            }
            // Cannot fail: a piece is no longer than the limit above.
            let length = u32::try_from(data.len()).map_err(|_| Unread::TooLarge)?;
            let more = Arc::clone(&self.0).try_acquire_many_owned(length).map_err(|_| Unread::Busy)?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            if bytes.is_empty() {
                // In one piece: one that grows leaves holes as large as itself. Pages that are never
                // written to take no memory.
                bytes.reserve_exact(announced);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(HeldBody { bytes: bytes.into(), room })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use futures::{StreamExt, stream};

    use super::*;

    fn pieces(sizes: &[usize]) -> Body {
        let pieces: Vec<_> =
            sizes.iter().map(|size| Ok::<_, Infallible>(Bytes::from(vec![b'x'; *size]))).collect();
        Body::from_stream(stream::iter(pieces))
    }

    async fn outcome(body: Body) -> Result<usize, Unread> {
        Room::default().read(&HeaderMap::new(), body).await.map(|held| held.bytes.len())
    }

    #[tokio::test]
    async fn the_size_is_bounded_as_announced_and_as_read() {
        assert_eq!(outcome(pieces(&[MAX_BODY_BYTES - 1, 1])).await, Ok(MAX_BODY_BYTES));
        assert_eq!(outcome(pieces(&[MAX_BODY_BYTES, 1])).await, Err(Unread::TooLarge));
        let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, "26214401".parse().unwrap())]);
        // Not one byte of it is asked for.
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(Room::default().read(&announced, never).await.unwrap_err(), Unread::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up() {
        let started = tokio::time::Instant::now();
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        assert_eq!(outcome(Body::from_stream(trickle.boxed())).await, Err(Unread::TooSlow));
        assert_eq!(started.elapsed(), READ_WITHIN);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_told_apart() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(io::Error::other("gone"))]);
        assert_eq!(outcome(Body::from_stream(broken)).await, Err(Unread::BrokenOff));
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let room = Room(Arc::new(Semaphore::new(1000)));
        let read = |size: usize| {
            let room = room.clone();
            async move { room.read(&HeaderMap::new(), pieces(&[size / 2, size / 2])).await }
        };
        let first = read(800).await.expect("there is room");
        assert_eq!(read(400).await.unwrap_err(), Unread::Busy);
        // What a refused body had taken is given back.
        let second = read(200).await.expect("there is room");
        drop((first, second));
        assert_eq!(read(1000).await.expect("there is room again").bytes.len(), 1000);
    }
}
