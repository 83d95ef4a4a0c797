//! The result or a checkpoint of an attempt on its way to the control plane: streamed through part
//! by part, and never taken for complete when it is not.
//!
//! tonic's servers take a request stream that was cancelled for one that ended, and its
//! generated clients can end a call early in no other way than cancelling. So an upload that
//! breaks off must fail as a stream: the codec here encodes parts that may be errors, and an
//! error resets the call with an error of its own.

use std::{marker::PhantomData, time::Duration};

use futures::{FutureExt, Stream, future::BoxFuture, stream};
use http::uri::PathAndQuery;
use prost::Message;
use proto::v1::{
    AttemptCheckpointPart, AttemptRef, AttemptReturnPart, CheckpointPart, CheckpointResponse, ReturnPart,
    ReturnResponse,
};
use telemetry::identity::AuthenticatedChannel;
use tokio::sync::oneshot;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use crate::problem::{Refusal, from_control_plane};

/// Most bytes of one upload: changeset and session.
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

/// A part of what a runner uploads, and how the control plane takes it.
pub(crate) trait Upload: Message + Default + 'static {
    /// The part with the attempt it belongs to.
    type Passed: Message + 'static;
    type Answer: Message + Default + 'static;
    const METHOD: &'static str;
    fn of(self, attempt: Option<AttemptRef>) -> Self::Passed;
}

impl Upload for ReturnPart {
    type Passed = AttemptReturnPart;
    type Answer = ReturnResponse;
    const METHOD: &'static str = "/callboard.v1.AttemptService/Return";
    fn of(self, attempt: Option<AttemptRef>) -> AttemptReturnPart {
        AttemptReturnPart { attempt, part: Some(self) }
    }
}

impl Upload for CheckpointPart {
    type Passed = AttemptCheckpointPart;
    type Answer = CheckpointResponse;
    const METHOD: &'static str = "/callboard.v1.AttemptService/Checkpoint";
    fn of(self, attempt: Option<AttemptRef>) -> AttemptCheckpointPart {
        AttemptCheckpointPart { attempt, part: Some(self) }
    }
}

/// Passes an upload on and waits for the control plane's word about it.
///
/// # Errors
/// What the runner did wrong, or what the control plane says.
pub(crate) async fn pass_on<P: Upload>(
    channel: AuthenticatedChannel,
    attempt: AttemptRef,
    incoming: Streaming<P>,
    cut: BoxFuture<'static, Refusal>,
) -> Result<P::Answer, Status> {
    let cut = cut.shared();
    let (broke, broken) = oneshot::channel();
    // A task of its own: dropped with the runner's call it would be cancelled, and see above.
    let call = tokio::spawn(call::<P, _>(channel, parts(attempt, incoming, cut.clone(), broke)));
    tokio::select! {
        biased;
        Ok(failure) = broken => Err(failure),
        answer = call => {
            let answer = answer.map_err(|_| Status::internal("passing the parts on failed"))?;
            Ok(answer.map_err(|status| from_control_plane(&status))?.into_inner())
        }
        refusal = cut => Err(refusal.into()),
    }
}

async fn call<P, S>(channel: AuthenticatedChannel, parts: S) -> Result<Response<P::Answer>, Status>
where
    P: Upload,
    S: Stream<Item = Result<P::Passed, Status>> + Send + 'static,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(P::METHOD);
    client.client_streaming(Request::new(parts), path, PartCodec::<P>(PhantomData)).await
}

/// The runner's parts as the control plane takes them. The first failure ends them, and `broke`
/// is told.
fn parts<P: Upload>(
    attempt: AttemptRef,
    incoming: Streaming<P>,
    cut: impl Future<Output = Refusal> + Clone + Send + 'static,
    broke: oneshot::Sender<Status>,
) -> impl Stream<Item = Result<P::Passed, Status>> + Send + 'static {
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
                    return Some((Ok(part.of(attempt)), Some((incoming, None, left, cut, broke))));
                }
                None => Status::resource_exhausted("it is larger than 64 MiB; nothing of it was kept"),
            },
            Err(status) => Status::new(status.code(), status.message()),
        };
        // Nobody listens when the runner is gone.
        drop(broke.send(failure));
        Some((Err(Status::aborted("the upload broke off")), None))
    })
}

struct PartCodec<P>(PhantomData<P>);

impl<P: Upload> Codec for PartCodec<P> {
    type Encode = Result<P::Passed, Status>;
    type Decode = P::Answer;
    type Encoder = PartEncoder<P>;
    type Decoder = ProstDecoder<P::Answer>;

    fn encoder(&mut self) -> PartEncoder<P> {
        PartEncoder(PhantomData)
    }
    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

struct PartEncoder<P>(PhantomData<P>);

impl<P: Upload> Encoder for PartEncoder<P> {
    type Item = Result<P::Passed, Status>;
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
