//! The result of an attempt on its way to the control plane: streamed through part by part, and
//! never taken for complete when it is not.
//!
//! tonic's servers take a request stream that was cancelled for one that ended, and its
//! generated clients can end a call early in no other way than cancelling. So a result that
//! breaks off must fail as a stream: the codec here encodes parts that may be errors, and an
//! error resets the call with an error of its own.

use std::time::Duration;

use futures::{FutureExt, Stream, future::BoxFuture, stream};
use http::uri::PathAndQuery;
use prost::Message;
use proto::v1::{AttemptRef, AttemptReturnPart, ReturnPart, ReturnResponse};
use telemetry::identity::AuthenticatedChannel;
use tokio::sync::oneshot;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use crate::problem::{Refusal, from_control_plane};

/// Most bytes of everything an attempt returns: changeset and session.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long a result may go on after its attempt ended: returning one ends the attempt before
/// the control plane has answered.
const GRACE: Duration = Duration::from_secs(30);

/// Resolves when a result must not go on, given what cuts other streams.
pub(crate) fn cut_late(cut: BoxFuture<'static, Refusal>) -> BoxFuture<'static, Refusal> {
    async {
        let refusal = cut.await;
        if refusal != Refusal::Closing {
            tokio::time::sleep(GRACE).await;
        }
        refusal
    }
    .boxed()
}

/// Passes a result on and waits for the control plane's word about it.
///
/// # Errors
/// What the runner did wrong, or what the control plane says.
pub(crate) async fn pass_on(
    channel: AuthenticatedChannel,
    attempt: AttemptRef,
    incoming: Streaming<ReturnPart>,
    cut: BoxFuture<'static, Refusal>,
) -> Result<ReturnResponse, Status> {
    let cut = cut.shared();
    let (broke, broken) = oneshot::channel();
    // A task of its own: dropped with the runner's call it would be cancelled, and see above.
    let call = tokio::spawn(call(channel, parts(attempt, incoming, cut.clone(), broke)));
    tokio::select! {
        biased;
        Ok(failure) = broken => Err(failure),
        answer = call => {
            let answer = answer.map_err(|_| Status::internal("passing the result on failed"))?;
            Ok(answer.map_err(|status| from_control_plane(&status))?.into_inner())
        }
        refusal = cut => Err(refusal.into()),
    }
}

async fn call<S>(channel: AuthenticatedChannel, parts: S) -> Result<Response<ReturnResponse>, Status>
where
    S: Stream<Item = Result<AttemptReturnPart, Status>> + Send + 'static,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/callboard.v1.AttemptService/Return");
    client.client_streaming(Request::new(parts), path, PartCodec).await
}

/// The runner's parts as the control plane takes them. The first failure ends them, and `broke`
/// is told.
fn parts(
    attempt: AttemptRef,
    incoming: Streaming<ReturnPart>,
    cut: impl Future<Output = Refusal> + Clone + Send + 'static,
    broke: oneshot::Sender<Status>,
) -> impl Stream<Item = Result<AttemptReturnPart, Status>> + Send + 'static {
    let start = Some((incoming, Some(attempt), MAX_BYTES, cut, broke));
    stream::unfold(start, |state| async move {
        let (mut incoming, attempt, left, cut, broke) = state?;
        let next = tokio::select! {
            next = incoming.message() => next,
            refusal = cut.clone() => Err(refusal.into()),
        };
        let failure = match next {
            Ok(None) => return None,
            Ok(Some(part)) => match left.checked_sub(part.encoded_len()) {
                Some(left) => {
                    let part = AttemptReturnPart { attempt, part: Some(part) };
                    return Some((Ok(part), Some((incoming, None, left, cut, broke))));
                }
                None => {
                    Status::resource_exhausted("the result is larger than 64 MiB; nothing of it was kept")
                }
            },
            Err(status) => Status::new(status.code(), status.message()),
        };
        // Nobody listens when the runner is gone.
        drop(broke.send(failure));
        Some((Err(Status::aborted("the result broke off")), None))
    })
}

struct PartCodec;

impl Codec for PartCodec {
    type Encode = Result<AttemptReturnPart, Status>;
    type Decode = ReturnResponse;
    type Encoder = PartEncoder;
    type Decoder = ProstDecoder<ReturnResponse>;

    fn encoder(&mut self) -> PartEncoder {
        PartEncoder
    }
    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

struct PartEncoder;

impl Encoder for PartEncoder {
    type Item = Result<AttemptReturnPart, Status>;
    type Error = Status;

    fn encode(&mut self, part: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        part?.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_attempt_leaves_time_and_a_shutdown_does_not() {
        for (refusal, after) in [(Refusal::Ended, GRACE), (Refusal::Closing, Duration::ZERO)] {
            let started = Instant::now();
            assert_eq!(cut_late(std::future::ready(refusal).boxed()).await, refusal);
            assert_eq!(started.elapsed(), after);
        }
    }
}
