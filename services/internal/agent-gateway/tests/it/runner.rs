//! gRPC of the runner.

use futures::StreamExt;
use proto::v1::{
    AfreshRequest, AttemptRef, CheckpointEnd, CheckpointHead, CheckpointPart, HelloRequest, RestoreRequest,
    ReturnOutcome, ReturnPart, TranscriptChunk, TranscriptLine, checkpoint_part, return_part::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    control_plane::ReturnEnd,
    world::{ATTEMPT, RUN, World},
};

fn own() -> AttemptRef {
    AttemptRef { attempt_id: ATTEMPT.to_owned(), run_id: RUN.to_owned() }
}

fn outcome() -> ReturnPart {
    ReturnPart {
        part: Some(Part::Outcome(ReturnOutcome { summary: "done".into(), ..ReturnOutcome::default() })),
    }
}

fn session(bytes: usize) -> ReturnPart {
    ReturnPart { part: Some(Part::Session(vec![7; bytes])) }
}

#[tokio::test]
async fn over_a_unix_socket_the_attempt_comes_from_the_token() {
    let world = World::new().await;
    let (path, stop, gateway) = world.on_unix_socket().await;
    let mut runner = world.runner(&format!("unix:{}", path.display()), &world.token());

    let assignment =
        runner.hello(HelloRequest { runner_version: "1".into() }).await.expect("an assignment").into_inner();
    assert_eq!((assignment.attempt_id.as_str(), assignment.prompt.as_str()), (ATTEMPT, "do it"));

    let line = TranscriptLine { text: "cloned".into(), ..TranscriptLine::default() };
    for (sequence, stop) in [(0, false), (9, true)] {
        let chunk = TranscriptChunk { sequence, lines: vec![line.clone()] };
        assert_eq!(runner.transcript(chunk).await.expect("taken").into_inner().stop, stop);
    }

    let parts = futures::stream::iter([outcome(), session(1 << 20), session(5)]);
    assert_eq!(runner.r#return(parts).await.expect("taken").into_inner().message, "thank you");

    {
        let seen = world.control_plane.seen();
        assert_eq!(seen.references, [own()]);
        assert!(seen.transcripts.iter().all(|transcript| transcript.attempt == Some(own())));
        let attempts: Vec<_> = seen.parts.iter().map(|part| part.attempt.clone()).collect();
        assert_eq!(attempts, [Some(own()), None, None]);
        assert_eq!(seen.parts[1].part, Some(session(1 << 20)));
    }
    drop((runner, stop));
    gateway.await.expect("no panic").expect("a clean end");
    assert!(!path.exists(), "the socket is left behind");
}

#[tokio::test]
async fn a_result_that_breaks_off_never_looks_complete() {
    let world = World::new().await;
    let mut runner = world.runner(&world.url, &world.token());
    let (send, receive) = mpsc::channel(1);
    let call = tokio::spawn(async move { runner.r#return(ReceiverStream::new(receive)).await });
    send.send(outcome()).await.expect("sent");
    while world.control_plane.seen().parts.is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    let mut returned = world.control_plane.returned.subscribe();
    let end = returned.wait_for(|end| *end != ReturnEnd::Open).await.expect("it ends").clone();
    assert_eq!(end, ReturnEnd::Broken);
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused() {
    let world = World::new().await;
    let mut runner = world.runner(&world.url, &world.token());
    let parts = futures::stream::repeat_with(|| session(1 << 20)).take(70);
    let status = runner.r#return(parts).await.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let mut returned = world.control_plane.returned.subscribe();
    let end = returned.wait_for(|end| *end != ReturnEnd::Open).await.expect("it ends").clone();
    assert_eq!(end, ReturnEnd::Broken);
    assert!(world.control_plane.seen().parts.len() < 65);
}

#[tokio::test]
async fn a_method_that_is_none_is_unimplemented() {
    let world = World::new().await;
    for method in ["callboard.v1.RunnerService/Nothing", "callboard.v1.AttemptService/Keys"] {
        let request = crate::world::http()
            .post(format!("{}/{method}", world.url))
            .bearer_auth(world.token())
            .header("content-type", "application/grpc");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["grpc-status"], "12", "{method}");
    }
}

#[tokio::test]
async fn a_transcript_comes_in_pieces_of_some_lines() {
    let world = World::new().await;
    let mut runner = world.runner(&world.url, &world.token());
    let line = |bytes| TranscriptLine { text: "x".repeat(bytes), ..TranscriptLine::default() };
    for lines in [vec![], vec![line(1); 1025], vec![line(1 << 20); 2]] {
        let status = runner.transcript(TranscriptChunk { sequence: 0, lines }).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    assert!(world.control_plane.seen().transcripts.is_empty());
    runner.transcript(TranscriptChunk { sequence: 0, lines: vec![line(1); 1024] }).await.expect("taken");
}

#[tokio::test]
async fn an_attempt_returns_one_result_at_a_time() {
    let world = World::new().await;
    let (send, receive) = mpsc::channel(1);
    let mut first = world.runner(&world.url, &world.token());
    let first = tokio::spawn(async move { first.r#return(ReceiverStream::new(receive)).await });
    send.send(outcome()).await.expect("sent");
    while world.control_plane.seen().parts.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut second = world.runner(&world.url, &world.token());
    let status = second.r#return(futures::stream::iter([outcome()])).await.expect_err("one at a time");
    assert_eq!(status.code(), Code::Aborted, "{status}");
    drop(send);
    first.await.expect("no panic").expect("taken");
    second.r#return(futures::stream::iter([outcome()])).await.expect("taken");
}

#[tokio::test]
async fn a_checkpoint_goes_in_and_comes_back_in_the_attempts_name() {
    let world = World::new().await;
    let mut runner = world.runner(&world.url, &world.token());
    let part = |part| CheckpointPart { part: Some(part) };
    let parts = vec![
        part(checkpoint_part::Part::Head(CheckpointHead { base_sha: "base".into() })),
        part(checkpoint_part::Part::Session(vec![7; 1 << 20])),
        part(checkpoint_part::Part::End(CheckpointEnd {
            session_bytes: 1 << 20,
            ..CheckpointEnd::default()
        })),
    ];
    let sent = runner.checkpoint(futures::stream::iter(parts.clone())).await.expect("taken");
    assert!(sent.into_inner().stored);
    let attempts: Vec<_> =
        world.control_plane.seen().checkpoint.iter().map(|part| part.attempt.clone()).collect();
    assert_eq!(attempts, [Some(own()), None, None]);
    let back: Vec<_> = runner.restore(RestoreRequest {}).await.expect("there").into_inner().collect().await;
    let back: Vec<_> = back.into_iter().map(|part| part.expect("a part")).collect();
    assert_eq!(back, parts);
    runner.afresh(AfreshRequest { reason: "it is damaged".into() }).await.expect("told");
    let told = world.control_plane.seen().afresh[0].clone();
    assert_eq!(told.attempt, Some(own()));
}
