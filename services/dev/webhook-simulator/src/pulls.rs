//! What takes git to do with a pull request: opening, reviewing and merging it, the same for the
//! REST API and for tests. Rights are checked by the callers.

use domain::rights::Permission;
use http::StatusCode;

use crate::{
    Simulator,
    actions::{NewRemark, NewReview},
    git::{
        Bare,
        commit::{NewCommit, Signature},
    },
    refusal::Refusal,
    world::{Pull, ReviewState, Side, World},
};

/// A pull request to be opened.
#[derive(Debug)]
pub(crate) struct NewPull {
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    /// A branch; after `owner:`, one of that owner's fork.
    pub(crate) head: String,
    pub(crate) base: String,
    pub(crate) draft: bool,
}

/// How to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Merge,
    Squash,
}

/// What a merge looks at.
struct Standing {
    bare: Bare,
    refs: std::sync::Arc<tokio::sync::Mutex<()>>,
    pull: Pull,
    open: bool,
    title: String,
    label: String,
    signature: Signature,
}

impl Simulator {
    /// Opens a pull request and gives its number.
    pub(crate) async fn open_pull(&self, key: &str, actor: &str, new: NewPull) -> Result<u64, Refusal> {
        if new.title.trim().is_empty() {
            return Err(Refusal::invalid("PullRequest", "title", "missing_field"));
        }
        let missing = |field: &str| Refusal::invalid("PullRequest", field, "invalid");
        let owner = key.split('/').next().unwrap_or_default();
        let (of, head) = new.head.split_once(':').unwrap_or((owner, &new.head));
        let fork = if of.eq_ignore_ascii_case(owner) {
            None
        } else {
            Some(self.read(|world| world.fork_by(key, of, actor)).ok_or_else(|| missing("head"))?)
        };
        let bare = self.bare(key)?;
        let head_bare = self.bare(fork.as_deref().unwrap_or(key))?;
        let base_sha = bare.branch(&new.base).await?.ok_or_else(|| missing("base"))?;
        let head_sha = head_bare.branch(head).await?.ok_or_else(|| missing("head"))?;
        let Some(from) = bare.merge_base(&base_sha, &head_sha).await? else {
            let message = format!("The {head} branch has no history in common with {}", new.base);
            return Err(Refusal::custom("PullRequest", &message));
        };
        if from == head_sha {
            let message = format!("No commits between {owner}:{} and {of}:{head}", new.base);
            return Err(Refusal::custom("PullRequest", &message));
        }
        let pull = Pull {
            head: head.to_owned(),
            base: new.base,
            stat: bare.stat(&from, &head_sha).await?,
            head_sha: head_sha.clone(),
            base_sha,
            draft: new.draft,
            fork,
            reviews: Vec::new(),
            merge: None,
        };
        let body = new.body.as_deref();
        let number = self.change(|world| world.open_issue(key, actor, &new.title, body, Some(pull)))?;
        bare.set_ref(&format!("refs/pull/{number}/head"), &head_sha).await?;
        Ok(number)
    }

    /// Submits a review and gives its id. Nobody approves their own work, and remarks are on
    /// lines of the change.
    pub(crate) async fn submit_review(
        &self,
        key: &str,
        number: u64,
        actor: &str,
        new: NewReview,
    ) -> Result<u64, Refusal> {
        let (bare, pull, author) = self.read(|world| {
            let (repository, issue) = world.issue(key, number)?;
            let pull = issue.pull.clone().ok_or_else(Refusal::not_found)?;
            Ok::<_, Refusal>((repository.bare.clone(), pull, issue.author.clone()))
        })?;
        let own = author.eq_ignore_ascii_case(actor);
        let blank = new.body.trim().is_empty();
        match new.state {
            ReviewState::Approved if own => {
                return Err(Refusal::errors("Can not approve your own pull request"));
            }
            ReviewState::ChangesRequested if own => {
                return Err(Refusal::errors("Can not request changes on your own pull request"));
            }
            ReviewState::ChangesRequested if blank => {
                return Err(Refusal::errors("Body can't be blank"));
            }
            ReviewState::Commented if blank && new.remarks.is_empty() => {
                return Err(Refusal::errors("Body can't be blank"));
            }
            ReviewState::Approved
            | ReviewState::ChangesRequested
            | ReviewState::Commented
            | ReviewState::Dismissed => {}
        }
        if bare.commit(&new.commit).await?.is_none() || !bare.is_ancestor(&new.commit, &pull.head_sha).await?
        {
            return Err(Refusal::errors("The commit_id is not part of the pull request"));
        }
        if !new.remarks.is_empty() {
            let from = bare.merge_base(&pull.base_sha, &new.commit).await?.unwrap_or(pull.base_sha);
            let files = bare.changed_files(&from, &new.commit).await?;
            for NewRemark { path, line, side, body } in &new.remarks {
                let file = files.iter().find(|f| f.path == *path);
                let file = file.ok_or_else(|| Refusal::errors("Path could not be resolved"))?;
                if !file.patch.as_deref().is_some_and(|patch| shows(patch, *side, *line)) {
                    return Err(Refusal::errors("Pull request review thread line must be part of the diff"));
                }
                if body.trim().is_empty() {
                    return Err(Refusal::errors("Body can't be blank"));
                }
            }
        }
        self.change(|world| world.add_review(key, number, new, actor))
    }

    /// Merges a pull request and gives the new commit of the base branch. `expected` is the head
    /// it has to have.
    pub(crate) async fn merge_pull(
        &self,
        key: &str,
        number: u64,
        actor: &str,
        method: Method,
        expected: Option<&str>,
    ) -> Result<String, Refusal> {
        let not_mergeable = || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Pull Request is not mergeable");
        let refs = self.standing(key, number, actor)?.refs;
        let guard = refs.lock().await;
        let it = self.standing(key, number, actor)?;
        if !it.open {
            return Err(not_mergeable());
        }
        if expected.is_some_and(|sha| sha != it.pull.head_sha) {
            let words = "Head branch was modified. Review and try the merge again.";
            return Err(Refusal::new(StatusCode::CONFLICT, words));
        }
        let (base, head) = (&it.pull.base, &it.pull.head_sha);
        let onto = it.bare.branch(base).await?.ok_or_else(not_mergeable)?;
        let tree = it.bare.merged_tree(&onto, head).await?.ok_or_else(not_mergeable)?;
        let (parents, message) = match method {
            Method::Merge => (
                vec![onto.clone(), head.clone()],
                format!("Merge pull request #{number} from {}\n\n{}\n", it.label, it.title),
            ),
            Method::Squash => (vec![onto.clone()], format!("{} (#{number})\n", it.title)),
        };
        let (author, committer) = (it.signature.clone(), it.signature.clone());
        let commit = NewCommit { tree, parents, message, author, committer };
        let sha = it.bare.write_commit(&commit).await?.ok_or_else(not_mergeable)?;
        let name = format!("refs/heads/{base}");
        it.bare.set_ref(&name, &sha).await?;
        self.change(|world| world.merged(key, number, &sha, actor))?;
        self.refs_moved(key, vec![(name, onto, sha.clone())], actor).await?;
        drop(guard);
        Ok(sha)
    }

    fn standing(&self, key: &str, number: u64, actor: &str) -> Result<Standing, Refusal> {
        self.read(|world| {
            let (repository, issue) = world.issue(key, number)?;
            let pull = issue.pull.clone().ok_or_else(Refusal::not_found)?;
            let head = pull.head_key(repository);
            let head_owner = head.split('/').next().unwrap_or_default();
            Ok(Standing {
                bare: repository.bare.clone(),
                refs: repository.refs.clone(),
                open: issue.open,
                title: issue.title.clone(),
                label: format!("{head_owner}/{}", pull.head),
                pull,
                signature: world.signature(actor),
            })
        })
    }

    pub(crate) fn bare(&self, key: &str) -> Result<Bare, Refusal> {
        self.read(|world| world.repository(key).map(|r| r.bare.clone()))
    }
}

impl World {
    /// What an account's commits are signed off with.
    pub(crate) fn signature(&self, login: &str) -> Signature {
        let user = self.user(login);
        Signature {
            email: format!("{}+{}@users.noreply.github.com", user.id, user.login),
            name: user.login,
            date: self.now().fixed_offset(),
        }
    }

    /// The fork an account has of a repository; both `owner/name` in lower case.
    fn fork_by(&self, key: &str, owner: &str, actor: &str) -> Option<String> {
        let of_owner = |r: &crate::world::Repository| {
            r.fork_of.as_deref() == Some(key)
                && r.name.owner().eq_ignore_ascii_case(owner)
                && (owner.eq_ignore_ascii_case(actor) || self.permission(r, None) >= Permission::Read)
        };
        self.repositories.iter().find(|(_, r)| of_owner(r)).map(|(key, _)| key.clone())
    }
}

/// True when a patch shows the line, as changed or around a change.
fn shows(patch: &str, side: Side, line: u64) -> bool {
    let (mut old, mut new) = (0_u64, 0_u64);
    for text in patch.lines() {
        if let Some(hunk) = text.strip_prefix("@@ -") {
            // `@@ -a,b +c,d @@`
            let start = |part: Option<&str>| {
                let number = part.and_then(|p| p.split([',', ' ']).next()).and_then(|n| n.parse().ok());
                number.unwrap_or(0)
            };
            let mut parts = hunk.split('+');
            (old, new) = (start(parts.next()), start(parts.next()));
            continue;
        }
        let (on_left, on_right) = match text.as_bytes().first() {
            Some(b'-') => (true, false),
            Some(b'+') => (false, true),
            Some(b'\\') => continue,
            _ => (true, true),
        };
        let here = match side {
            Side::Left => on_left && old == line,
            Side::Right => on_right && new == line,
        };
        if here {
            return true;
        }
        old += u64::from(on_left);
        new += u64::from(on_right);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_patch() {
        let patch = "@@ -1,3 +1,4 @@ fn main() {\n a\n-b\n+B\n+C\n d\n@@ -10 +11 @@\n-x\n+y\n\\ No newline at end of file\n";
        let right: Vec<u64> = (0..20).filter(|line| shows(patch, Side::Right, *line)).collect();
        let left: Vec<u64> = (0..20).filter(|line| shows(patch, Side::Left, *line)).collect();
        assert_eq!((right, left), (vec![1, 2, 3, 4, 11], vec![1, 2, 3, 10]));
    }
}
