//! Issues, comments, labels and reactions.

use std::collections::HashMap;

use super::*;

/// Answers like GitHub for an issue with `total` comments, at most `page_size` at a time.
fn comment_pages(total: u64, page_size: u64, links: bool) -> impl Fn(&Seen) -> Reply {
    move |seen| {
        let query: HashMap<_, _> =
            seen.target.split_once('?').unwrap().1.split('&').filter_map(|p| p.split_once('=')).collect();
        let page: u64 = query["page"].parse().unwrap();
        let last = total.div_ceil(page_size);
        let ids = ((page - 1) * page_size + 1)..=(page * page_size).min(total);
        let (status, mut headers, body) = json_reply(200, &ids.map(comment_body).collect());
        if links && page < last {
            let to = |page, relation| format!("<https://elsewhere.example/?page={page}>; rel=\"{relation}\"");
            headers.push(("link", format!("{}, {}", to(page + 1, "next"), to(last, "last"))));
        }
        (status, headers, body)
    }
}

#[tokio::test]
async fn all_comments_are_read_page_by_page() {
    // With links and a smaller page than asked for; without links; none; a full page that may not be the last.
    for (total, page_size, links, pages) in
        [(120, 50, true, 3), (230, 100, false, 3), (0, 100, false, 1), (100, 100, true, 2)]
    {
        let server = Server::start(comment_pages(total, page_size, links)).await;
        let comments = server.forge.comments(&repository(), 7).await.unwrap();
        let ids: Vec<u64> = comments.iter().map(|c| c.id).collect();
        assert_eq!(ids, (1..=total).collect::<Vec<_>>());
        assert_eq!(server.calls().len(), pages);
    }
}

#[tokio::test]
async fn of_very_many_comments_the_newest_thousand_are_read() {
    let server = Server::start(comment_pages(2450, 100, true)).await;
    let comments = server.forge.comments(&repository(), 7).await.unwrap();
    assert_eq!((comments.first().unwrap().id, comments.last().unwrap().id), (1501, 2450));
    let endless = Server::start(comment_pages(u64::MAX / 1000, 100, false)).await;
    assert_eq!(endless.forge.comments(&repository(), 7).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn an_issue_with_everything_missing_that_may_be() {
    let server =
        Server::start(|_| json_reply(200, &issue_body(&json!(["bug", { "name": "run:dev" }])))).await;
    let issue = server.forge.issue(&repository(), 7).await.unwrap();
    assert_eq!(
        (issue.author.as_str(), issue.body.as_str(), issue.open, issue.is_pull_request),
        ("ghost", "", true, false)
    );
    assert_eq!(issue.labels, ["bug", "run:dev"]);
}

#[tokio::test]
async fn a_label_that_is_not_there_is_taken_off() {
    let with_labels = |labels: Value| {
        move |seen: &Seen| match seen.method {
            Method::DELETE => refused(404, "Label does not exist"),
            _ => json_reply(200, &issue_body(&labels)),
        }
    };
    let server = Server::start(with_labels(json!([]))).await;
    server.forge.remove_label(&repository(), 7, "run:dev/ä").await.unwrap();
    assert_eq!(server.calls(), ["DELETE /issues/7/labels/run:dev%2F%C3%A4", "GET /issues/7"]);
    // The server says it is not there, and it stands.
    let server = Server::start(with_labels(json!([{ "name": "Run:dev" }]))).await;
    assert!(matches!(
        server.forge.remove_label(&repository(), 7, "run:dev").await,
        Err(ForgeError::Missing { .. })
    ));
    // No such issue.
    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert!(matches!(
        server.forge.remove_label(&repository(), 7, "run:dev").await,
        Err(ForgeError::Missing { .. })
    ));
}

#[tokio::test]
async fn labels_comments_and_reactions_are_written() {
    let server = Server::start(|_| json_reply(200, &comment_body(5))).await;
    server.forge.add_labels(&repository(), 7, &["a".to_owned(), "b".to_owned()]).await.unwrap();
    server.forge.react(&repository(), 7, Reaction::Eyes).await.unwrap();
    server.forge.react_to_comment(&repository(), 5, Reaction::ThumbsUp).await.unwrap();
    assert_eq!(server.forge.update_comment(&repository(), 5, "new").await.unwrap().id, 5);
    assert_eq!(
        server.calls(),
        [
            "POST /issues/7/labels",
            "POST /issues/7/reactions",
            "POST /issues/comments/5/reactions",
            "PATCH /issues/comments/5"
        ]
    );
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(
        bodies,
        [
            json!({ "labels": ["a", "b"] }),
            json!({ "content": "eyes" }),
            json!({ "content": "+1" }),
            json!({ "body": "new" })
        ]
    );
}

#[tokio::test]
async fn a_server_without_reactions_says_so() {
    let server = Server::start(|seen| match seen.method {
        Method::POST => refused(404, "404 page not found"),
        _ => json_reply(200, &issue_body(&json!([]))),
    });
    let forge = server.await.forge;
    let error = forge.react(&repository(), 7, Reaction::Eyes).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unsupported { .. }), "{error:?}");
    let error = forge.react_to_comment(&repository(), 5, Reaction::Eyes).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unsupported { .. }), "{error:?}");
    let server = Server::start(|_| refused(404, "Not Found")).await;
    let error = server.forge.react_to_comment(&repository(), 5, Reaction::Eyes).await.unwrap_err();
    assert!(matches!(error, ForgeError::Missing { .. }), "the comment is gone: {error:?}");
}

#[tokio::test]
async fn a_comment_is_deleted_once() {
    let server = Server::start(|_| (204, Vec::new(), String::new())).await;
    server.forge.delete_comment(&repository(), 5).await.unwrap();
    assert_eq!(server.calls(), ["DELETE /issues/comments/5"]);
    // It is gone already: the repository tells that apart from being locked out.
    let server = Server::start(|seen| match seen.method {
        Method::DELETE => refused(404, "Not Found"),
        _ => json_reply(200, &repository_body()),
    })
    .await;
    server.forge.delete_comment(&repository(), 5).await.unwrap();
    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert!(matches!(server.forge.delete_comment(&repository(), 5).await, Err(ForgeError::Missing { .. })));
}
