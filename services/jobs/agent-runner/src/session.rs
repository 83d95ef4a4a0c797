//! The agent's session as one tar, so that a later run can go on from it.

use std::{fs, io, path::Path};

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
        let content = fs::read(&path)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner().map(Some)
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
