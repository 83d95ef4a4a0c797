//! The REST API. Anything not listed here is answered 404, and logged as `unknown`.

mod account;
mod apps;
mod checks;
mod comments;
mod compare;
mod contents;
mod deliveries;
mod git_data;
mod hooks;
mod issues;
mod labels;
mod pulls;
mod refs;
mod request;
mod reviews;
mod rights;
mod statuses;
mod timeline;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{MethodFilter, get, on, post, put},
};

use crate::{Simulator, etag};

/// Blobs come as base64 in JSON; GitHub takes files up to 100 MB.
const LARGEST_BODY: usize = 150 * 1024 * 1024;

/// GitHub takes POST where it documents PATCH, and octocrab makes use of it.
const EDIT: MethodFilter = MethodFilter::PATCH.or(MethodFilter::POST);

pub(crate) fn routes() -> Router<Simulator> {
    let repository = Router::new()
        .route("/", get(account::repository))
        .route("/installation", get(apps::installation_of_repository))
        .route("/collaborators/{username}/permission", get(account::permission))
        .route("/issues", get(issues::list).post(issues::create))
        .route("/issues/{number}", get(issues::get).on(EDIT, issues::update))
        .route("/issues/{number}/comments", get(comments::list).post(comments::create))
        .route(
            "/issues/comments/{comment}",
            get(comments::get).on(EDIT, comments::update).delete(comments::delete),
        )
        .route("/issues/{number}/labels", get(labels::of_issue).post(labels::add))
        .route("/issues/{number}/labels/{name}", axum::routing::delete(labels::remove))
        .route("/issues/{number}/timeline", get(timeline::timeline))
        .route("/issues/{number}/events", get(timeline::events))
        .route("/issues/{number}/reactions", get(issues::reactions).post(issues::react))
        .route("/issues/comments/{comment}/reactions", get(comments::reactions).post(comments::react))
        .route("/labels", get(labels::list).post(labels::create))
        .route("/labels/{name}", get(labels::get).on(EDIT, labels::update))
        .route("/contents", get(contents::get))
        .route("/contents/{*path}", get(contents::get))
        .route("/git/blobs", post(git_data::create_blob))
        .route("/git/blobs/{sha}", get(git_data::blob))
        .route("/git/trees", post(git_data::create_tree))
        .route("/git/trees/{*tree}", get(git_data::tree))
        .route("/git/commits", post(git_data::create_commit))
        .route("/git/commits/{sha}", get(git_data::commit))
        .route("/git/ref/{*name}", get(refs::get))
        .route("/git/matching-refs/{*name}", get(refs::matching))
        .route("/git/refs", post(refs::create))
        .route("/git/refs/{*name}", on(EDIT, refs::update).delete(refs::delete))
        .route("/compare/{*range}", get(compare::compare))
        .route("/branches/{*branch}", get(refs::branch))
        .route("/pulls", get(pulls::list).post(pulls::create))
        .route("/pulls/{number}", get(pulls::get).on(EDIT, pulls::update))
        .route("/pulls/{number}/files", get(pulls::files))
        .route("/pulls/{number}/merge", put(pulls::merge))
        .route("/pulls/{number}/comments", get(reviews::remarks))
        .route("/pulls/{number}/reviews", get(reviews::list).post(reviews::create))
        .route("/pulls/{number}/reviews/{review}", get(reviews::get))
        .route("/pulls/{number}/reviews/{review}/dismissals", put(reviews::dismiss))
        .route("/statuses/{sha}", post(statuses::create))
        .route("/commits/{sha}/statuses", get(statuses::list))
        .route("/commits/{sha}/check-runs", get(checks::list))
        .route("/check-runs", post(checks::create))
        .route("/check-runs/{check_run}", get(checks::get).on(EDIT, checks::update))
        .route("/hooks", get(hooks::list).post(hooks::create))
        .route("/hooks/{hook}", get(hooks::get).on(EDIT, hooks::update))
        .route("/hooks/{hook}/pings", post(hooks::ping))
        .route("/hooks/{hook}/deliveries", get(hooks::deliveries))
        .route("/hooks/{hook}/deliveries/{delivery}", get(hooks::delivery))
        .route("/hooks/{hook}/deliveries/{delivery}/attempts", post(hooks::redeliver));
    Router::new()
        .route("/user", get(account::user))
        .route("/rate_limit", get(account::rate_limit))
        .route("/meta", get(account::meta))
        .route("/app", get(apps::app))
        .route("/app-manifests/{code}/conversions", post(apps::convert_manifest))
        .route("/app/installations", get(apps::installations))
        .route("/app/installations/{installation}", get(apps::installation))
        .route("/app/installations/{installation}/access_tokens", post(apps::mint))
        .route("/app/hook/config", get(apps::hook_config))
        .route("/app/hook/deliveries", get(apps::sent))
        .route("/app/hook/deliveries/{delivery}", get(apps::delivery))
        .route("/app/hook/deliveries/{delivery}/attempts", post(apps::redeliver))
        .route("/installation/repositories", get(apps::repositories))
        .route("/installation/token", axum::routing::delete(apps::revoke))
        .nest("/repos/{owner}/{repo}", repository)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(axum::middleware::from_fn(etag::pass))
}
