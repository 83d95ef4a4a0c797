//! The agent's session as one tar, so that a later run can go on from it.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Component, Path},
};

/// A session beyond this is left behind.
pub(crate) const MOST_BYTES: u64 = 5 * 1024 * 1024;

/// The regular files below `folder`, in order of their names; empty when there are none.
/// `Ok(None)` when they are too large. Follows no links: the agent wrote all of it.
pub(crate) fn pack(folder: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut total = 0;
    let mut archive = tar::Builder::new(Vec::new());
    for path in files {
        total += fs::symlink_metadata(&path)?.len();
        if total > MOST_BYTES {
            return Ok(None);
        }
        let name = path.strip_prefix(folder).map_err(io::Error::other)?;
        let mut content = fs::read(&path)?;
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            // The agent may have been halfway through a line.
            let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            content.truncate(whole);
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner().map(Some)
}

/// What is kept of a session when the agent is done; empty when it cannot be kept.
pub(crate) fn at_the_end(folder: &Path) -> Vec<u8> {
    match pack(folder) {
        Ok(Some(session)) => return session,
        Ok(None) => {
            eprintln!("agent-runner: the session is larger than {MOST_BYTES} bytes and is left behind");
        }
        Err(error) => eprintln!("agent-runner: the session cannot be read: {error}"),
    }
    Vec::new()
}

/// Writes what [`pack`] packed into `folder`, which is ours alone. An earlier pod sent it, so
/// all of it is looked at before anything is written.
pub(crate) fn unpack(session: &[u8], folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    let mut total = 0;
    for entry in tar::Archive::new(session).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        total += entry.size();
        if !entry.header().entry_type().is_file() || !plain || total > MOST_BYTES {
            return Err(io::Error::other(format!("{} does not belong into a session", path.display())));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.push((folder.join(path), content));
    }
    for (path, content) in files {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create_new(path)?.write_all(&content)?;
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back_without_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("2026/11")).expect("made");
        fs::write(from.join("2026/11/rollout.jsonl"), "{}\n{\"half").expect("written");
        let packed = pack(&from).expect("packed").expect("small enough");
        unpack(&packed, &to).expect("unpacked");
        assert_eq!(fs::read_to_string(to.join("2026/11/rollout.jsonl")).expect("there"), "{}\n");
        assert!(unpack(&packed, &to).is_err(), "nothing is overwritten");
    }

    #[test]
    fn a_hostile_session_is_refused_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = |name: &str, kind: tar::EntryType| {
            let mut archive = tar::Builder::new(Vec::new());
            for (name, kind) in [("good.jsonl", tar::EntryType::Regular), (name, kind)] {
                let mut header = tar::Header::new_gnu();
                // Past the checks of the builder, as a hostile pod would do it.
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_entry_type(kind);
                header.set_link_name("/etc").expect("set");
                header.set_size(0);
                header.set_cksum();
                archive.append(&header, io::empty()).expect("appended");
            }
            archive.into_inner().expect("a tar")
        };
        let to = folder.path().join("to");
        for (name, kind) in [
            ("../out", tar::EntryType::Regular),
            ("/tmp/out", tar::EntryType::Regular),
            ("link", tar::EntryType::Symlink),
            ("hard", tar::EntryType::Link),
            ("pipe", tar::EntryType::Fifo),
        ] {
            assert!(unpack(&archive(name, kind), &to).is_err(), "{name}");
            assert!(!to.exists(), "nothing of it is written");
        }
        assert!(unpack(b"no archive at all, but long enough to look at", &to).is_err());
    }

    #[test]
    fn packs_files_and_follows_no_links() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(pack(&folder.path().join("none")).expect("nothing"), Some(Vec::new()));
        fs::create_dir_all(folder.path().join("2026/11")).expect("made");
        fs::write(folder.path().join("2026/11/rollout.jsonl"), "{}\n").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).expect("linked");
        let packed = pack(folder.path()).expect("packed").expect("small enough");
        let names: Vec<_> = tar::Archive::new(packed.as_slice())
            .entries()
            .expect("a tar")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names, ["2026/11/rollout.jsonl"]);
        fs::write(folder.path().join("big"), vec![0; 6 << 20]).expect("written");
        assert_eq!(pack(folder.path()).expect("looked"), None);
    }
}
