//! Commits, trees, refs and pushes.

use chrono::Utc;
use domain::names::RepositoryName;
use serde_json::{Value, json};

use super::{Urls, node_id, time};
use crate::{
    git::{
        Ref, ZERO,
        commit::{Commit, Signature},
        diff::ChangedFile,
        tree::Entry,
    },
    world::{CommitStatus, World},
};

fn signature(signature: &Signature) -> Value {
    json!({
        "name": signature.name,
        "email": signature.email,
        "date": time(signature.date.with_timezone(&Utc)),
    })
}

/// What GitHub says of a commit it signed itself.
pub(crate) fn verified() -> Value {
    json!({
        "verified": true, "reason": "valid", "verified_at": null,
        "signature": "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n", "payload": "",
    })
}

/// Nobody else signs on the stand-in.
fn verification() -> Value {
    json!({ "verified": false, "reason": "unsigned", "signature": null, "payload": null, "verified_at": null })
}

/// A commit of the Git data API.
pub(crate) fn git_commit(urls: &Urls, name: &RepositoryName, commit: &Commit) -> Value {
    let (api, web) = (urls.repository_api(name), urls.repository_web(name));
    let link = |sha: &str| {
        json!({
            "sha": sha,
            "url": format!("{api}/git/commits/{sha}"),
            "html_url": format!("{web}/commit/{sha}"),
        })
    };
    let mut value = link(&commit.sha);
    let content = &commit.content;
    value["node_id"] = json!(node_id("Commit", &commit.sha));
    value["author"] = signature(&content.author);
    value["committer"] = signature(&content.committer);
    value["message"] = json!(content.message);
    value["tree"] = json!({ "sha": content.tree, "url": format!("{api}/git/trees/{}", content.tree) });
    value["parents"] = content.parents.iter().map(|p| link(p)).collect();
    value["verification"] = verification();
    value
}

/// A commit of the repository's API.
pub(crate) fn commit(urls: &Urls, name: &RepositoryName, commit: &Commit) -> Value {
    let (api, sha) = (urls.repository_api(name), &commit.sha);
    let git = git_commit(urls, name, commit);
    json!({
        "sha": sha,
        "node_id": git["node_id"],
        "url": format!("{api}/commits/{sha}"),
        "html_url": git["html_url"],
        "comments_url": format!("{api}/commits/{sha}/comments"),
        "commit": {
            "author": git["author"],
            "committer": git["committer"],
            "message": git["message"],
            "tree": git["tree"],
            "url": git["url"],
            "comment_count": 0,
            "verification": verification(),
        },
        "author": null,
        "committer": null,
        "parents": git["parents"],
    })
}

/// A branch with its head commit.
pub(crate) fn branch(urls: &Urls, name: &RepositoryName, branch: &str, head: &Commit) -> Value {
    let (api, web) = (urls.repository_api(name), urls.repository_web(name));
    let url = format!("{api}/branches/{branch}");
    json!({
        "name": branch,
        "commit": commit(urls, name, head),
        "_links": { "self": url, "html": format!("{web}/tree/{branch}") },
        "protected": false,
        "protection": { "enabled": false, "required_status_checks": {
            "enforcement_level": "off", "contexts": [], "checks": [],
        } },
        "protection_url": format!("{url}/protection"),
    })
}

pub(crate) fn reference(urls: &Urls, name: &RepositoryName, reference: &Ref) -> Value {
    let api = urls.repository_api(name);
    let (full, sha, kind) = (&reference.name, &reference.sha, &reference.kind);
    json!({
        "ref": full,
        "node_id": node_id("Ref", full),
        "url": format!("{api}/git/{full}"),
        "object": { "sha": sha, "type": kind, "url": format!("{api}/git/{kind}s/{sha}") },
    })
}

pub(crate) fn tree(urls: &Urls, name: &RepositoryName, sha: &str, entries: &[Entry]) -> Value {
    let api = urls.repository_api(name);
    let line = |entry: &Entry| {
        let mut value = json!({
            "path": entry.path,
            "mode": entry.mode,
            "type": entry.kind,
            "sha": entry.sha,
        });
        if let Some(size) = entry.size {
            value["size"] = json!(size);
        }
        // Submodules have no address here.
        if entry.kind != "commit" {
            value["url"] = json!(format!("{api}/git/{}s/{}", entry.kind, entry.sha));
        }
        value
    };
    json!({
        "sha": sha,
        "url": format!("{api}/git/trees/{sha}"),
        "tree": entries.iter().map(line).collect::<Vec<_>>(),
        "truncated": false,
    })
}

pub(crate) fn changed_file(urls: &Urls, name: &RepositoryName, head: &str, file: &ChangedFile) -> Value {
    let (api, web) = (urls.repository_api(name), urls.repository_web(name));
    let path = &file.path;
    let mut value = json!({
        "sha": file.sha,
        "filename": path,
        "status": file.status,
        "additions": file.additions,
        "deletions": file.deletions,
        "changes": file.additions + file.deletions,
        "blob_url": format!("{web}/blob/{head}/{path}"),
        "raw_url": format!("{web}/raw/{head}/{path}"),
        "contents_url": format!("{api}/contents/{path}?ref={head}"),
    });
    if let Some(patch) = &file.patch {
        value["patch"] = json!(patch);
    }
    if let Some(previous) = &file.previous_path {
        value["previous_filename"] = json!(previous);
    }
    value
}

pub(crate) fn status(world: &World, name: &RepositoryName, status: &CommitStatus) -> Value {
    let api = world.urls.repository_api(name);
    json!({
        "id": status.id,
        "node_id": node_id("StatusContext", status.id),
        "url": format!("{api}/statuses/{}", status.sha),
        "avatar_url": null,
        "state": status.state,
        "context": status.context,
        "description": status.description,
        "target_url": status.target_url,
        "creator": super::user(&world.urls, &world.user(&status.creator)),
        "created_at": time(status.created_at),
        "updated_at": time(status.created_at),
    })
}

/// A ref that moved, and the commits it brought.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    /// Full name of the ref.
    pub(crate) name: String,
    /// [`ZERO`] for a new ref.
    pub(crate) before: String,
    /// [`ZERO`] for one that is gone.
    pub(crate) after: String,
    pub(crate) forced: bool,
    /// With the files each one changed, oldest first.
    pub(crate) commits: Vec<(Commit, Vec<ChangedFile>)>,
}

/// The fields of a `push` delivery beside repository and sender.
pub(crate) fn push(
    world: &World,
    name: &RepositoryName,
    push: &Push,
    actor: &str,
) -> Vec<(&'static str, Value)> {
    let web = world.urls.repository_web(name);
    let person = |s: &Signature| json!({ "name": s.name, "email": s.email, "username": s.name });
    let commit = |(commit, files): &(Commit, Vec<ChangedFile>)| {
        let paths = |status: &[&str]| {
            files.iter().filter(|f| status.contains(&f.status)).map(|f| f.path.as_str()).collect::<Vec<_>>()
        };
        json!({
            "id": commit.sha,
            "tree_id": commit.content.tree,
            "distinct": true,
            "message": commit.content.message,
            "timestamp": commit.content.committer.date.to_rfc3339(),
            "url": format!("{web}/commit/{}", commit.sha),
            "author": person(&commit.content.author),
            "committer": person(&commit.content.committer),
            "added": paths(&["added", "copied", "renamed"]),
            "removed": paths(&["removed"]),
            "modified": paths(&["modified", "changed"]),
        })
    };
    let commits: Vec<Value> = push.commits.iter().map(commit).collect();
    let short = |sha: &str| sha.get(..12).unwrap_or(sha).to_owned();
    vec![
        ("ref", json!(push.name)),
        ("before", json!(push.before)),
        ("after", json!(push.after)),
        ("created", json!(push.before == ZERO)),
        ("deleted", json!(push.after == ZERO)),
        ("forced", json!(push.forced)),
        ("base_ref", Value::Null),
        ("compare", json!(format!("{web}/compare/{}...{}", short(&push.before), short(&push.after)))),
        ("head_commit", commits.last().cloned().unwrap_or_default()),
        ("commits", Value::Array(commits)),
        ("pusher", json!({ "name": actor, "email": format!("{actor}@users.noreply.github.com") })),
    ]
}
