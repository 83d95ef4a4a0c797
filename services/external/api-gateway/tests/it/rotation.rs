//! Secrets change while deliveries come in. Time is paused: whoever waits until the secrets may be
//! asked for again waits no real second, and no slow machine makes it longer than an answer may take.

use super::*;

fn delivery(guid: &str, secret: &str) -> Delivery {
    Delivery::new(guid, ISSUE_LABELED).signed_with(secret)
}

#[tokio::test]
async fn a_secret_is_rotated_without_losing_a_delivery() {
    let gateway = Gateway::start().await;
    tokio::time::pause();
    let status = async |guid, secret| gateway.send(delivery(guid, secret)).await.status.as_u16();
    assert_eq!(status("guid-1", SECRET).await, 202);
    // The platform knows the new one; GitHub still signs with the old one, then with the new one.
    gateway.control_plane.set_source("hello-world", "second secret", Some(SECRET));
    assert_eq!(status("guid-2", SECRET).await, 202);
    assert_eq!(status("guid-3", "second secret").await, 202);
    assert_eq!(status("guid-4", SECRET).await, 202);
    let stored = gateway.control_plane.stored();
    let by: Vec<_> =
        stored.iter().map(|one| one.headers.get(proto::SIGNED_WITH).map(String::as_str)).collect();
    // With the second one it was not known yet that there is a new secret.
    assert_eq!(by, [None, None, None, Some(proto::PREVIOUS_SECRET)]);
    // The rotation is over: the old one is worth nothing, once that is known.
    gateway.control_plane.set_source("hello-world", "second secret", None);
    assert_eq!(status("guid-5", "unknown").await, 401);
    assert_eq!(status("guid-6", SECRET).await, 401);
    assert_eq!(status("guid-7", "second secret").await, 202);
}

#[tokio::test]
async fn a_new_source_is_known_at_once() {
    let gateway = Gateway::start().await;
    tokio::time::pause();
    assert_eq!(gateway.send(delivery("guid-1", SECRET)).await.status, 202);
    gateway.control_plane.set_source("second", "second secret", None);
    let to_second = delivery("guid-2", "second secret").to("/webhooks/github/second");
    assert_eq!(gateway.send(to_second).await.status, 202);
    assert_eq!(gateway.control_plane.stored()[1].source, "second");
}

#[tokio::test]
async fn noise_does_not_become_calls_to_the_control_plane() {
    let gateway = Gateway::start().await;
    tokio::time::pause();
    assert_eq!(gateway.send(delivery("guid-1", SECRET)).await.status, 202);
    let before = gateway.control_plane.asked_for_sources();
    let noise = (0..200).map(|_| gateway.send(delivery("guid-2", "a guess")));
    let answers = futures::future::join_all(noise).await;
    assert!(answers.iter().all(|answer| answer.status == 401));
    // All of them wait for one answer; two when some arrived after it was asked for.
    let asked = gateway.control_plane.asked_for_sources() - before;
    assert!((1..=2).contains(&asked), "{asked}");
    // Without a signature there is nothing to ask for.
    gateway.send(Delivery::new("guid-3", ISSUE_LABELED).with("x-hub-signature-256", "")).await.problem(401);
    assert_eq!(gateway.control_plane.asked_for_sources() - before, asked);
}
