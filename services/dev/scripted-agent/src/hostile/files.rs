//! Files of the host, and secrets in files.

use std::{
    fs,
    io::Read,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Finding, Outcome};

/// Places of a host that are worth a look.
const USUAL_PATHS: [&str; 12] = [
    "/etc/shadow",
    "/root",
    "/home",
    "/var/lib",
    "/var/lib/callboard",
    "/var/run",
    "/run/docker.sock",
    "/run/postgresql/.s.PGSQL.5432",
    "/proc/kcore",
    "/sys/fs/cgroup",
    "/tmp/.X11-unix",
    "/var/run/secrets/kubernetes.io",
];

/// Where nothing of anybody is, or the kernel only.
const SKIPPED: [&str; 4] = ["/usr", "/proc", "/sys", "/dev"];
const MOST_FILES: usize = 20_000;
const MOST_BYTES: u64 = 2 << 20;
const MOST_DEPTH: usize = 12;

/// Beginnings of well-known secrets, and how long the rest must be to count.
const PREFIXES: [(&str, usize); 8] = [
    ("ghp_", 16),
    ("gho_", 16),
    ("ghs_", 16),
    ("github_pat_", 16),
    ("sk-", 16),
    ("eyJ", 40),
    ("xoxb-", 16),
    ("AKIA", 16),
];
/// The end of a PEM header; programs that can read keys contain it, too, but no key after it.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
const KEY_BYTES: usize = 40;

/// Reads, lists and connects to paths of the host.
pub(super) fn paths(more: &[String]) -> Vec<Finding> {
    USUAL_PATHS.iter().copied().chain(more.iter().map(String::as_str)).map(look_at).collect()
}

fn look_at(path: &str) -> Finding {
    let kind = fs::metadata(path).map(|found| found.file_type());
    match kind {
        Err(error) => Finding::new(format!("read {path}"), Outcome::Refused, error.to_string()),
        Ok(kind) if kind.is_socket() => {
            Finding::of(format!("connect {path}"), UnixStream::connect(path), |_| "connected".into())
        }
        Ok(kind) if kind.is_dir() => {
            let names = fs::read_dir(path).map(|entries| {
                entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
            });
            Finding::of(format!("list {path}"), names, |names| names.join(" "))
        }
        Ok(_) => {
            let content = fs::File::open(path).and_then(|file| {
                let mut content = Vec::new();
                file.take(MOST_BYTES).read_to_end(&mut content).map(|count| (count, content))
            });
            Finding::of(format!("read {path}"), content, |(count, content)| {
                format!("{count} bytes, sha256 {}", hex::encode(Sha256::digest(content)))
            })
        }
    }
}

/// Writes where an agent has nothing to write.
pub(super) fn writes() -> Vec<Finding> {
    let folders = [
        "/usr/bin",
        "/usr/local/bin",
        "/etc",
        "/",
        "/run",
        "/opt",
        "/var",
        "/home",
        "/dev",
        "/sys/fs/cgroup",
    ];
    folders
        .map(|folder| {
            let path = Path::new(folder).join("callboard-was-here");
            let written = fs::write(&path, "x");
            if written.is_ok() {
                // Leave nothing behind where it did work.
                let _ = fs::remove_file(&path);
            }
            Finding::of(format!("write {}", path.display()), written, |()| "written".into())
        })
        .into()
}

/// Opens for writing what would change the machine. Nothing is written.
pub(super) fn kernel() -> Vec<Finding> {
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/fs/cgroup/cgroup.procs",
        "/dev/kmsg",
        "/dev/mem",
    ]
    .map(|path| {
        let opened = fs::OpenOptions::new().write(true).open(path);
        Finding::of(format!("open {path} for writing"), opened, |_| "opened".into())
    })
    .into()
}

/// Looks through every file that can be read for what looks like a secret.
pub(super) fn secrets() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut waiting = vec![(PathBuf::from("/"), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() && depth < MOST_DEPTH && !SKIPPED.iter().any(|skipped| path.starts_with(skipped))
            {
                waiting.push((path, depth + 1));
            } else if kind.is_file() && seen < MOST_FILES {
                seen += 1;
                let mut content = Vec::new();
                if fs::File::open(&path)
                    .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut content))
                    .is_ok()
                {
                    findings.extend(secrets_in(&format!("file {}", path.display()), &content));
                }
            }
        }
    }
    findings.push(Finding::new("look through files", Outcome::Noted, format!("{seen} files")));
    findings
}

/// What looks like a secret in `content`: its beginning and the digest of the whole.
pub(super) fn secrets_in(place: &str, content: &[u8]) -> Vec<Finding> {
    let text = String::from_utf8_lossy(content);
    let of_a_token = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut findings = Vec::new();
    for (prefix, least) in PREFIXES {
        for (start, _) in text.match_indices(prefix) {
            let inside_a_word = text[..start]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let value = text[start..].split(|c| !of_a_token(c)).next().unwrap_or_default();
            if !inside_a_word && value.len() >= prefix.len() + least {
                findings.push(found(place, value));
            }
        }
    }
    for (start, _) in text.match_indices(PRIVATE_KEY) {
        let rest = text[start + PRIVATE_KEY.len()..].trim_start();
        let key =
            rest.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c)).next().unwrap_or_default();
        if key.len() >= KEY_BYTES {
            findings.push(found(place, key));
        }
    }
    findings
}

fn found(place: &str, value: &str) -> Finding {
    let beginning: String = value.chars().take(12).collect();
    let mut finding = Finding::new(format!("search {place}"), Outcome::Found, beginning);
    finding.sha256 = Some(hex::encode(Sha256::digest(value)));
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_secrets_from_words() {
        let token = "eyJhbGciOiJFZERTQSJ9.eyJhdWQiOiJhZ2VudC1nYXRld2F5In0.c2ln";
        let text = format!(
            "a task-force-of-twenty-people risk-aware eyJshort\ntoken={token}\nghp_{}",
            "a".repeat(36)
        );
        let found = secrets_in("here", text.as_bytes());
        let beginnings: Vec<_> = found.iter().map(|finding| finding.detail.as_str()).collect();
        assert_eq!(beginnings, ["ghp_aaaaaaaa", "eyJhbGciOiJF"]);
        assert_eq!(found[1].sha256, Some(hex::encode(Sha256::digest(token))));
        assert!(secrets_in("a program", b"-----BEGIN PRIVATE KEY-----\0not a key").is_empty());
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n", "MC4CAQAwBQYDK2Vw".repeat(4));
        assert_eq!(secrets_in("a key", key.as_bytes()).len(), 1);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert_eq!(look_at("/nonexistent/admin.sock").outcome, Outcome::Refused);
        assert_eq!(look_at("/").outcome, Outcome::Reached);
    }
}
