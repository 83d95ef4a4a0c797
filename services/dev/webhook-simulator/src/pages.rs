//! Small pages for people, so that the addresses in answers can be opened in a browser.
//! Public repositories only: there is no sign-in.

use axum::{
    Router,
    extract::{Path, State},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use domain::{names::RepositoryName, rights::Permission};

use crate::{
    Simulator,
    refusal::Refusal,
    world::{Issue, Repository, ReviewState, World},
};

const STYLE: &str = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    pre{background:#f4f4f4;padding:1rem;overflow:auto;white-space:pre-wrap}\
    .label{background:#e0e7ff;border-radius:1rem;padding:.1rem .6rem}\
    article{border:1px solid #ccc;border-radius:.4rem;margin:1rem 0;padding:0 1rem}";

pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/{owner}/{repo}", get(repository))
        .route("/{owner}/{repo}/issues/{number}", get(issue))
        .route("/{owner}/{repo}/pull/{number}", get(pull))
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

fn page(title: &str, body: &str) -> Response {
    let title = escape(title);
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>{body}</html>"
    ))
    .into_response()
}

fn public<'w>(world: &'w World, owner: &str, name: &str) -> Result<&'w Repository, Refusal> {
    let name: RepositoryName = format!("{owner}/{name}").parse().map_err(|_| Refusal::not_found())?;
    let repository = world.repository(&name.key())?;
    let readable = world.permission(repository, None) >= Permission::Read;
    readable.then_some(repository).ok_or_else(Refusal::not_found)
}

async fn repository(
    State(simulator): State<Simulator>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    simulator.read(|world| {
        let repository = public(world, &owner, &name)?;
        let line = |i: &Issue| {
            format!(
                "<li><a href=\"{}\">#{} {}</a> {}",
                escape(&world.urls.issue_web(&repository.name, i)),
                i.number,
                escape(&i.title),
                if i.open { String::new() } else { format!("({})", standing(i)) }
            )
        };
        let lines: String = repository.issues.values().rev().map(line).collect();
        Ok(page(&repository.name.to_string(), &format!("<ul>{lines}</ul>")))
    })
}

/// `open`, `closed` or `merged`.
fn standing(issue: &Issue) -> &'static str {
    let merged = issue.pull.as_ref().is_some_and(|p| p.merge.is_some());
    match (issue.open, merged) {
        (true, _) => "open",
        (false, true) => "merged",
        (false, false) => "closed",
    }
}

/// What a review says, for people.
fn verdict(state: ReviewState) -> &'static str {
    match state {
        ReviewState::Approved => "approved",
        ReviewState::ChangesRequested => "requested changes",
        ReviewState::Commented => "reviewed",
        ReviewState::Dismissed => "reviewed, and it was dismissed",
    }
}

/// Title and body of an issue's page.
fn conversation(issue: &Issue) -> (String, String) {
    let state = standing(issue);
    let label = |l: &String| format!("<span class=label>{}</span> ", escape(l));
    let said = |author: &str, text: &str| {
        format!("<article><p><b>{}</b></p><pre>{}</pre></article>", escape(author), escape(text))
    };
    let mut body = format!("<p>{state} {}</p>", issue.labels.iter().map(label).collect::<String>());
    body.push_str(&said(&issue.author, issue.body.as_deref().unwrap_or_default()));
    for comment in &issue.comments {
        body.push_str(&said(&comment.author, &comment.body));
    }
    if let Some(pull) = &issue.pull {
        for review in &pull.reviews {
            body.push_str(&said(&format!("{} {}", review.author, verdict(review.state)), &review.body));
            for remark in &review.remarks {
                let place = remark.line.map_or_else(|| "outdated".to_owned(), |line| format!("line {line}"));
                body.push_str(&said(&format!("{} on {}, {place}", review.author, remark.path), &remark.body));
            }
        }
        if let Some(merge) = &pull.merge {
            let by = escape(&merge.by);
            body.push_str(&format!("<p><b>{by}</b> merged this as {}.</p>", escape(&merge.sha)));
        }
    }
    (format!("#{} {}", issue.number, issue.title), body)
}

async fn issue(
    State(simulator): State<Simulator>,
    Path((owner, name, number)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    simulator.read(|world| {
        let repository = public(world, &owner, &name)?;
        let number: u64 = number.parse().map_err(|_| Refusal::not_found())?;
        let issue = repository.issues.get(&number).ok_or_else(Refusal::not_found)?;
        let (title, body) = conversation(issue);
        Ok(page(&title, &body))
    })
}

/// A pull request; with `.diff` after the number, its change as text.
async fn pull(
    State(simulator): State<Simulator>,
    Path((owner, name, number)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let (number, bare) = match number.strip_suffix(".diff") {
        Some(number) => (number, true),
        None => (number.as_str(), false),
    };
    let number: u64 = number.parse().map_err(|_| Refusal::not_found())?;
    let (title, body) = simulator.read(|world| {
        let issue = public(world, &owner, &name)?.issues.get(&number).filter(|i| i.pull.is_some());
        issue.map(conversation).ok_or_else(Refusal::not_found)
    })?;
    let diff = simulator.pull_request_diff(&format!("{owner}/{name}"), number).await?;
    if bare {
        return Ok(diff.into_response());
    }
    Ok(page(&title, &format!("{body}<h2>Change</h2><pre>{}</pre>", escape(&diff))))
}
