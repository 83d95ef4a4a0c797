//! Going on from the checkpoint of an earlier attempt: all of it or nothing. Another pod made
//! it, so it is looked at like anything a pod says, and written without following any link.

use std::{fs, io::Write, os::fd::OwnedFd, path::Path};

use anyhow::{Context, bail, ensure};
use domain::changeset::{Change, Changeset, FileChange, Mode};
use proto::v1::{Assignment, CheckpointEnd, CheckpointPart, checkpoint_part::Part, file_change};
use rustix::{
    fs::{AtFlags, Mode as FileMode, OFlags, mkdirat, openat, symlinkat, unlinkat},
    io::Errno,
};

use crate::{changeset, checkpoint::Fingerprint, gateway::Gateway, git::Git, session, steering::Steering};

/// Makes working tree and session those of the checkpoint, if the assignment asks for both.
/// `None`: the attempt starts afresh; where it should not have, the platform knows.
///
/// # Errors
/// When the clone could not be made clean again, or the platform could not be told.
pub(crate) async fn restore(
    gateway: &Gateway,
    assignment: &Assignment,
    git: &Git,
    repo: &Path,
    steering: &Steering,
    sessions: Option<&Path>,
) -> anyhow::Result<Option<(Fingerprint, usize)>> {
    if assignment.restore.as_ref().is_none_or(|point| point.session_only) {
        return Ok(None);
    }
    let restored = async {
        let parts = gateway.restore().await.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        let (changeset, session) = read(parts, &assignment.base_sha)?;
        changeset.restorable()?;
        let (repo, sessions) = (repo.to_owned(), sessions.map(Path::to_owned));
        tokio::task::spawn_blocking(move || {
            write(&changeset, &repo)?;
            if !session.is_empty() {
                let sessions = sessions.context("it has a session, and this agent keeps none")?;
                session::unpack(&session, &sessions).context("the session")?;
            }
            anyhow::Ok((fingerprint(&changeset, &session), changeset.files.len()))
        })
        .await?
    };
    match restored.await {
        Ok(restored) => Ok(Some(restored)),
        Err(error) => {
            git.reset(repo, &assignment.base_sha).await.context("the clone cannot be made clean again")?;
            steering.put_back(repo)?;
            forget(sessions)?;
            let reason = format!("{error:#}");
            gateway.afresh(&reason).await.context("the platform could not be told")?;
            Ok(None)
        }
    }
}

fn forget(sessions: Option<&Path>) -> anyhow::Result<()> {
    match sessions.filter(|sessions| sessions.exists()) {
        Some(sessions) => fs::remove_dir_all(sessions).context("the session cannot be removed again"),
        None => Ok(()),
    }
}

/// Puts what an earlier attempt wrote before the branch moved into `folder`, beside the clone:
/// the prompt names its files, deleted ones included. Gives the agent the session of an earlier
/// run. Each where the assignment says so; returns how many files are there.
///
/// # Errors
/// When it cannot be fetched or written; the attempt goes on without.
pub(crate) async fn earlier_work(
    gateway: &Gateway,
    assignment: &Assignment,
    folder: &Path,
    sessions: Option<&Path>,
) -> anyhow::Result<usize> {
    let parts = gateway.restore().await.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    let earlier = !assignment.earlier_base_sha.is_empty();
    let base = if earlier { &assignment.earlier_base_sha } else { &assignment.base_sha };
    let (mut changeset, session) = read(parts, base)?;
    changeset.restorable()?;
    changeset.files.retain(|file| matches!(file.change, Change::Put { .. }));
    let (folder, sessions) = (folder.to_owned(), sessions.map(Path::to_owned));
    tokio::task::spawn_blocking(move || {
        if earlier {
            fs::create_dir_all(&folder)?;
            write(&changeset, &folder)?;
        }
        if !session.is_empty() {
            let sessions = sessions.context("there is a session, and this agent keeps none")?;
            if let Err(error) = session::unpack(&session, &sessions) {
                forget(Some(&sessions))?;
                return Err(anyhow::Error::from(error).context("the session"));
            }
        }
        Ok(changeset.files.len())
    })
    .await?
}

fn fingerprint(changeset: &Changeset, session: &[u8]) -> Fingerprint {
    let changes: Vec<_> = changeset
        .files
        .iter()
        .map(|file| {
            let (mode, content) = match &file.change {
                Change::Put { mode: Mode::Regular, content } => (file_change::Mode::File, content.clone()),
                Change::Put { mode: Mode::Executable, content } => {
                    (file_change::Mode::Executable, content.clone())
                }
                Change::Put { mode: Mode::Symlink, content } => (file_change::Mode::Symlink, content.clone()),
                Change::Delete => (file_change::Mode::Deleted, Vec::new()),
                Change::Submodule => (file_change::Mode::Submodule, Vec::new()),
            };
            changeset::Change { path: file.path.clone(), mode, content }
        })
        .collect();
    Fingerprint::of(&changes, session)
}

/// A whole checkpoint of this base, or an error.
fn read(parts: Vec<CheckpointPart>, base_sha: &str) -> anyhow::Result<(Changeset, Vec<u8>)> {
    let mut parts = parts.into_iter().filter_map(|part| part.part);
    let Some(Part::Head(head)) = parts.next() else { bail!("it has no beginning") };
    ensure!(head.base_sha == base_sha, "it was made on another commit");
    let mut changeset = Changeset { base: base_sha.parse()?, files: Vec::new() };
    let (mut session, mut end) = (Vec::new(), None);
    for part in parts {
        ensure!(end.is_none(), "it goes on after its end");
        match part {
            Part::Head(_) => bail!("it begins twice"),
            Part::File(file) => {
                let put = |mode, content| Change::Put { mode, content };
                let change = match file.mode() {
                    file_change::Mode::File => put(Mode::Regular, file.content),
                    file_change::Mode::Executable => put(Mode::Executable, file.content),
                    file_change::Mode::Symlink => put(Mode::Symlink, file.content),
                    file_change::Mode::Deleted => Change::Delete,
                    file_change::Mode::Submodule => Change::Submodule,
                    file_change::Mode::Unspecified => bail!("a file has no mode"),
                };
                changeset.files.push(FileChange { path: file.path, change });
            }
            Part::MoreContent(more) => match changeset.files.last_mut().map(|file| &mut file.change) {
                Some(Change::Put { content, .. }) => content.extend(more),
                Some(Change::Delete | Change::Submodule) | None => bail!("content belongs to no file"),
            },
            Part::Session(more) => session.extend(more),
            Part::End(said) => end = Some(said),
        }
    }
    let counted = CheckpointEnd {
        files: u32::try_from(changeset.files.len()).unwrap_or(u32::MAX),
        bytes: changeset.files.iter().map(|file| size(&file.change)).sum(),
        session_bytes: session.len() as u64,
    };
    ensure!(end == Some(counted), "a part of it is missing");
    Ok((changeset, session))
}

fn size(change: &Change) -> u64 {
    match change {
        Change::Put { content, .. } => content.len() as u64,
        Change::Delete | Change::Submodule => 0,
    }
}

/// Writes the changes of a restorable changeset into a clone of its base: what is gone first,
/// links last.
pub(crate) fn write(changeset: &Changeset, repo: &Path) -> anyhow::Result<()> {
    let root = rustix::fs::open(repo, FOLDER, FileMode::empty())?;
    let in_order = |step: usize| {
        changeset.files.iter().filter(move |file| {
            step == match &file.change {
                Change::Delete | Change::Submodule => 0,
                Change::Put { mode: Mode::Regular | Mode::Executable, .. } => 1,
                Change::Put { mode: Mode::Symlink, .. } => 2,
            }
        })
    };
    for file in (0..3).flat_map(in_order) {
        let path = std::str::from_utf8(&file.path)?;
        write_one(&root, path, &file.change).with_context(|| format!("`{path}` cannot be written"))?;
    }
    Ok(())
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn write_one(root: &OwnedFd, path: &str, change: &Change) -> anyhow::Result<()> {
    let (folders, name) = path.rsplit_once('/').map_or(("", path), |(folders, name)| (folders, name));
    let folders: Vec<_> = folders.split('/').filter(|part| !part.is_empty()).collect();
    let wanted = matches!(change, Change::Put { .. });
    let mut opened = vec![root.try_clone()?];
    for part in &folders {
        let here = &opened[opened.len() - 1];
        if wanted {
            match mkdirat(here, *part, FileMode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match openat(here, *part, FOLDER, FileMode::empty()) {
            Ok(folder) => opened.push(folder),
            // Gone with an entry above it.
            Err(Errno::NOENT) if !wanted => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    let here = &opened[opened.len() - 1];
    match unlinkat(here, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        // What was in it is deleted already.
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(here, name, AtFlags::REMOVEDIR)?,
        Err(error) => return Err(error.into()),
    }
    match change {
        Change::Put { mode: Mode::Symlink, content } => {
            symlinkat(std::str::from_utf8(content)?, here, name)?;
        }
        Change::Put { mode, content } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let raw = if *mode == Mode::Executable { 0o755 } else { 0o644 };
            let file = openat(here, name, flags, FileMode::from_raw_mode(raw))?;
            fs::File::from(file).write_all(content)?;
        }
        Change::Delete | Change::Submodule => {
            // Git knows no empty folders.
            for (level, part) in folders.iter().enumerate().rev() {
                if unlinkat(&opened[level], *part, AtFlags::REMOVEDIR).is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const BASE: &str = "0123456789abcdef0123456789abcdef01234567";

    fn put(path: &str, mode: Mode, content: &str) -> FileChange {
        FileChange { path: path.into(), change: Change::Put { mode, content: content.into() } }
    }

    fn deleted(path: &str) -> FileChange {
        FileChange { path: path.into(), change: Change::Delete }
    }

    fn changeset(files: Vec<FileChange>) -> Changeset {
        Changeset { base: BASE.parse().expect("a sha"), files }
    }

    #[test]
    fn files_folders_and_links_take_each_others_places() {
        let repo = tempfile::tempdir().expect("a folder");
        let at = |path: &str| repo.path().join(path);
        fs::create_dir_all(at("folder/deep")).expect("made");
        fs::write(at("folder/deep/a"), "a").expect("written");
        fs::write(at("file"), "old").expect("written");
        fs::write(at("kept"), "kept").expect("written");
        symlink("kept", at("link")).expect("linked");
        let files = vec![
            put("new/deep/x", Mode::Executable, "#!/bin/sh\n"),
            deleted("folder/deep/a"),
            put("folder", Mode::Regular, "now a file"),
            deleted("file"),
            put("file/inside", Mode::Regular, "now a folder"),
            put("link", Mode::Regular, "now a file"),
            put("latest", Mode::Symlink, "new/deep/x"),
        ];
        write(&changeset(files), repo.path()).expect("written");
        assert_eq!(fs::read_to_string(at("folder")).expect("there"), "now a file");
        assert_eq!(fs::read_to_string(at("file/inside")).expect("there"), "now a folder");
        assert_eq!(fs::read_to_string(at("link")).expect("there"), "now a file");
        assert_eq!(fs::read_to_string(at("kept")).expect("there"), "kept", "not through the link");
        assert_eq!(fs::read_link(at("latest")).expect("a link"), Path::new("new/deep/x"));
        assert_ne!(fs::metadata(at("new/deep/x")).expect("there").permissions().mode() & 0o100, 0);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (repo, outside) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        symlink(outside.path(), repo.path().join("out")).expect("linked");
        for file in [put("out/file", Mode::Regular, "x"), deleted("out/kept")] {
            fs::write(outside.path().join("kept"), "x").expect("written");
            assert!(write(&changeset(vec![file]), repo.path()).is_err());
            assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 1);
        }
    }

    #[test]
    fn half_a_checkpoint_is_none() {
        use proto::v1::CheckpointHead;
        let head = || Part::Head(CheckpointHead { base_sha: BASE.into() });
        let end = |session_bytes| Part::End(CheckpointEnd { files: 0, bytes: 0, session_bytes });
        let read = |parts: Vec<Part>| {
            let parts = parts.into_iter().map(|part| CheckpointPart { part: Some(part) }).collect();
            read(parts, BASE).map(|(_, session)| session).map_err(|error| error.to_string())
        };
        assert_eq!(read(vec![head(), Part::Session(vec![1, 2]), end(2)]), Ok(vec![1, 2]));
        for parts in [
            vec![],
            vec![end(0)],
            vec![head()],
            vec![head(), Part::Session(vec![1, 2])],
            vec![head(), Part::Session(vec![1]), end(2)],
            vec![head(), Part::MoreContent(vec![1]), end(0)],
            vec![head(), end(0), end(0)],
        ] {
            assert!(read(parts.clone()).is_err(), "{parts:?}");
        }
    }
}
