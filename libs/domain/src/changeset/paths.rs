//! What is wrong with a path, or with the target of a symbolic link.

/// Bytes of a part that every file system takes.
const LONGEST_PART: usize = 255;
/// Bytes of a path that every operating system takes.
const LONGEST_PATH: usize = 4096;

/// Characters that change the direction of what follows, and so what a reviewer sees.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters HFS+ does not see in a name.
fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// A part as the least careful file system reads it: no case, no ignored characters (HFS+),
/// no alternate stream and no dots and spaces at its end (NTFS).
pub(super) fn folded(part: &str) -> String {
    let visible: String = part.chars().filter(|c| !is_ignored_by_hfs(*c)).collect();
    let name = visible.split(':').next().unwrap_or_default();
    name.trim_end_matches([' ', '.']).to_lowercase()
}

/// Every part of a path, folded.
pub(super) fn folded_parts(path: &str) -> Vec<String> {
    path.split('/').map(folded).collect()
}

/// True when some file system takes this part for the repository's own folder. Its short
/// name on NTFS is `git~1`, or a later number when that was taken.
fn is_git_folder(part: &str) -> bool {
    let name = folded(part);
    name == ".git"
        || name.strip_prefix("git~").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hostile {
    /// It touches the repository's own folder.
    GitFolder,
    /// Anything else, in words that follow the path.
    Because(&'static str),
}

/// The path as text.
///
/// # Errors
/// [`Hostile`] says why no repository should have it.
pub(super) fn check(path: &[u8]) -> Result<&str, Hostile> {
    use Hostile::Because;
    let Ok(text) = std::str::from_utf8(path) else { return Err(Because("is not UTF-8")) };
    if text.split(['/', '\\']).any(is_git_folder) {
        return Err(Hostile::GitFolder);
    }
    if text.is_empty() {
        return Err(Because("is empty"));
    }
    if text.len() > LONGEST_PATH {
        return Err(Because("is longer than 4096 bytes"));
    }
    if text.starts_with('/') {
        return Err(Because("is absolute"));
    }
    check_characters(text)?;
    for part in text.split('/') {
        match part {
            "" => return Err(Because("has an empty part")),
            "." | ".." => return Err(Because("has a part `.` or `..`")),
            part if part.len() > LONGEST_PART => return Err(Because("has a part longer than 255 bytes")),
            _ => {}
        }
    }
    Ok(text)
}

fn check_characters(text: &str) -> Result<(), Hostile> {
    if text.contains(char::is_control) {
        return Err(Hostile::Because("has control characters"));
    }
    if text.contains(is_bidi_control) {
        return Err(Hostile::Because("has characters that change the direction of text"));
    }
    if text.contains('\\') {
        return Err(Hostile::Because("has a backslash"));
    }
    Ok(())
}

/// Where the symbolic link at `path` leads, from the root of the repository; empty for the
/// root itself.
///
/// # Errors
/// [`Hostile`] in words that follow the target.
pub(super) fn resolve(path: &str, target: &[u8]) -> Result<String, Hostile> {
    use Hostile::Because;
    let Ok(target) = std::str::from_utf8(target) else { return Err(Because("is not UTF-8")) };
    if target.is_empty() {
        return Err(Because("is empty"));
    }
    if target.split(['/', '\\']).any(is_git_folder) {
        return Err(Hostile::GitFolder);
    }
    if target.len() > LONGEST_PATH {
        return Err(Because("is longer than 4096 bytes"));
    }
    check_characters(target)?;
    let has_drive = matches!(target.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if target.starts_with('/') || has_drive {
        return Err(Because("is absolute"));
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    let mut named_one = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            // Up again after a name: if that name is a link, nobody can say where this ends.
            ".." if named_one => return Err(Because("goes up again after naming a folder")),
            ".." => {
                parts.pop().ok_or(Because("leaves the repository"))?;
            }
            name => {
                named_one = true;
                parts.push(name);
            }
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_git_folder() {
        for path in [
            ".git",
            ".git/config",
            "a/.GIT/hooks/pre-commit",
            ".Git /x",
            ".git./x",
            ".git . ./x",
            "git~1/config",
            "a/GIT~2",
            ".g\u{200c}it/config",
            "\u{feff}.git",
            ".git::$INDEX_ALLOCATION/config",
            ".git\\config",
            "a\\.git\\config",
            "/.git/x",
            "../.git",
        ] {
            assert_eq!(check(path.as_bytes()), Err(Hostile::GitFolder), "{path:?}");
        }
        for path in [".gitignore", "git", "digit/x", ".github", "git~/x", "git~x", "a.git/b"] {
            assert_eq!(check(path.as_bytes()), Ok(path));
        }
    }

    #[test]
    fn hostile_paths() {
        let words = |path: &[u8]| match check(path) {
            Err(Hostile::Because(words)) => words,
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(path)),
        };
        assert_eq!(words(b""), "is empty");
        assert_eq!(words(b"\xff"), "is not UTF-8");
        assert_eq!(words(b"/etc/passwd"), "is absolute");
        assert_eq!(words(b"a//b"), "has an empty part");
        assert_eq!(words(b"a/"), "has an empty part");
        assert_eq!(words(b"../a"), "has a part `.` or `..`");
        assert_eq!(words(b"a/./b"), "has a part `.` or `..`");
        assert_eq!(words(b"a\nb"), "has control characters");
        assert_eq!(words(b"a\0b"), "has control characters");
        assert_eq!(words("a\u{85}b".as_bytes()), "has control characters");
        assert_eq!(words(b"a\\b"), "has a backslash");
        assert_eq!(words("a\u{202e}gnp.exe".as_bytes()), "has characters that change the direction of text");
        assert_eq!(words("x".repeat(256).as_bytes()), "has a part longer than 255 bytes");
        assert_eq!(words("x/".repeat(2050).as_bytes()), "is longer than 4096 bytes");
        assert_eq!(check("naïve/файл 1.txt".as_bytes()), Ok("naïve/файл 1.txt"));
    }

    #[test]
    fn where_links_lead() {
        assert_eq!(resolve("a/b/link", b"../c"), Ok("a/c".to_owned()));
        assert_eq!(resolve("a/link", b"./x//y"), Ok("a/x/y".to_owned()));
        assert_eq!(resolve("a/link", b".."), Ok(String::new()));
        assert_eq!(resolve("link", b".."), Err(Hostile::Because("leaves the repository")));
        assert_eq!(resolve("a/link", b"../../x"), Err(Hostile::Because("leaves the repository")));
        assert_eq!(
            resolve("a/link", b"b/../../../x"),
            Err(Hostile::Because("goes up again after naming a folder"))
        );
        assert_eq!(resolve("link", b"/etc/passwd"), Err(Hostile::Because("is absolute")));
        assert_eq!(resolve("link", b"C:/x"), Err(Hostile::Because("is absolute")));
        assert_eq!(resolve("link", b"\\\\host\\x"), Err(Hostile::Because("has a backslash")));
        assert_eq!(resolve("link", b""), Err(Hostile::Because("is empty")));
        assert_eq!(resolve("link", b"a\0b"), Err(Hostile::Because("has control characters")));
        assert_eq!(resolve("link", b"\xff"), Err(Hostile::Because("is not UTF-8")));
        assert_eq!(resolve("link", b".GIT/config"), Err(Hostile::GitFolder));
        assert_eq!(resolve("sub/link", b"../git~1"), Err(Hostile::GitFolder));
    }
}
