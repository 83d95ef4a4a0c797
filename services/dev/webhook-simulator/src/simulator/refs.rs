//! What follows when refs move.

use super::Simulator;
use crate::{git::ZERO, payload::code::Push, refusal::Refusal};

/// Commits a `push` delivery lists at most.
const COMMITS_IN_PUSH: usize = 20;

impl Simulator {
    /// Reports refs that moved: deliveries, and pull requests that follow.
    pub(crate) async fn refs_moved(
        &self,
        key: &str,
        moves: Vec<(String, String, String)>,
        actor: &str,
    ) -> anyhow::Result<()> {
        let bare = self.read(|world| world.repository(key).map(|r| r.bare.clone()))?;
        for (name, before, after) in moves {
            let mut push = Push { name, before, after, forced: false, commits: Vec::new() };
            let mut stats = Vec::new();
            if push.after != ZERO {
                let created = push.before == ZERO;
                push.forced = !created && !bare.is_ancestor(&push.before, &push.after).await?;
                let default = self.read(|w| w.repository(key).map(|r| r.default_branch.clone()))?;
                let base = if created { bare.branch(&default).await? } else { Some(push.before.clone()) };
                for sha in bare.commits_between(base.as_deref(), &push.after, COMMITS_IN_PUSH).await? {
                    let Some(commit) = bare.commit(&sha).await? else { continue };
                    let files = match commit.content.parents.first() {
                        Some(parent) => bare.changed_files(parent, &sha).await?,
                        None => Vec::new(),
                    };
                    push.commits.push((commit, files));
                }
                for (home, number) in self.read(|w| w.pulls_of(key, &push.name)) {
                    let found = self.read(|w| {
                        let (repository, issue) = w.issue(&home, number)?;
                        let base = issue.pull.as_ref().map(|p| p.base_sha.clone());
                        Ok::<_, Refusal>(base.map(|base| (repository.bare.clone(), base)))
                    })?;
                    if let Some((bare, base)) = found {
                        let from = bare.merge_base(&base, &push.after).await?.unwrap_or(base);
                        let stat = bare.stat(&from, &push.after).await?;
                        bare.set_ref(&format!("refs/pull/{number}/head"), &push.after).await?;
                        stats.push(((home, number), stat));
                    }
                }
            }
            self.change(|world| world.pushed(key, &push, &stats, actor))?;
        }
        Ok(())
    }
}
