//! On real repositories, with an agent that means harm.

use std::{
    ffi::OsStr,
    fs::Permissions,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

/// A repository with one commit, as the agent finds it.
struct Repository {
    _folder: tempfile::TempDir,
    git: Git,
    repo: PathBuf,
    base: Base,
}

impl Repository {
    /// Commits what `fill` puts into the folder.
    async fn with(fill: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let repo = folder.path().join("repo");
        fs::create_dir(&repo).expect("made");
        run_git(&repo, &["init", "-q"]);
        fill(&repo);
        run_git(&repo, &["add", "-A"]);
        run_git(&repo, &["commit", "-q", "-m", "base"]);
        let git = Git::new(folder.path(), folder.path());
        let base = git.tree(&repo, "HEAD").await.expect("a tree");
        Self { _folder: folder, git, repo, base }
    }

    async fn changes(&self) -> Vec<(String, Mode, Vec<u8>)> {
        let changeset =
            compute(&self.git, &self.base, &self.repo, 0, Specials::Remove).await.expect("a changeset");
        changeset
            .changes
            .into_iter()
            .map(|change| (String::from_utf8_lossy(&change.path).into_owned(), change.mode, change.content))
            .collect()
    }
}

fn run_git(folder: &Path, arguments: &[&str]) {
    let mut command = subprocess::command("git", folder);
    command.env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1").args([
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@b.c",
    ]);
    let output = command.args(arguments).output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn executable(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("set");
}

#[tokio::test]
async fn modes_deletions_renames_binaries_and_links_survive() {
    let repository = Repository::with(|repo| {
        fs::create_dir_all(repo.join("src")).unwrap();
        for name in ["kept", "changed", "deleted", "src/old", "tool.sh", "becomes-folder"] {
            fs::write(repo.join(name), format!("{name}\n")).unwrap();
        }
        symlink("kept", repo.join("link")).unwrap();
        symlink("kept", repo.join("same-link")).unwrap();
    })
    .await;
    assert_eq!(repository.changes().await, []);

    let repo = &repository.repo;
    // As long as before: the content must be compared.
    fs::write(repo.join("changed"), "CHANGED\n").unwrap();
    fs::remove_file(repo.join("deleted")).unwrap();
    fs::rename(repo.join("src/old"), repo.join("src/new")).unwrap();
    executable(&repo.join("tool.sh"));
    fs::remove_file(repo.join("becomes-folder")).unwrap();
    fs::create_dir(repo.join("becomes-folder")).unwrap();
    fs::write(repo.join("becomes-folder/inner"), "i").unwrap();
    fs::remove_file(repo.join("link")).unwrap();
    symlink("/etc/passwd", repo.join("link")).unwrap();
    let binary: Vec<u8> = (0..=255).cycle().take(3000).collect();
    fs::write(repo.join("image.png"), &binary).unwrap();
    fs::write(repo.join(OsStr::from_bytes(b"caf\xe9")), "latin1").unwrap();
    fs::write(repo.join("with\nbreak"), "x").unwrap();

    let expected = [
        ("becomes-folder", Mode::Deleted, b"".to_vec()),
        ("becomes-folder/inner", Mode::File, b"i".to_vec()),
        ("caf\u{fffd}", Mode::File, b"latin1".to_vec()),
        ("changed", Mode::File, b"CHANGED\n".to_vec()),
        ("deleted", Mode::Deleted, b"".to_vec()),
        ("image.png", Mode::File, binary),
        ("link", Mode::Symlink, b"/etc/passwd".to_vec()),
        ("src/new", Mode::File, b"src/old\n".to_vec()),
        ("src/old", Mode::Deleted, b"".to_vec()),
        ("tool.sh", Mode::Executable, b"tool.sh\n".to_vec()),
        ("with\nbreak", Mode::File, b"x".to_vec()),
    ];
    assert_eq!(
        repository.changes().await,
        expected.map(|(path, mode, content)| (path.to_owned(), mode, content))
    );
}

#[tokio::test]
async fn what_is_ignored_is_left_out_unless_it_was_there_before() {
    let repository = Repository::with(|repo| {
        fs::create_dir_all(repo.join("dist")).unwrap();
        fs::write(repo.join("dist/tracked.js"), "1").unwrap();
        fs::write(repo.join("keep.log"), "1").unwrap();
        run_git(repo, &["add", "-A"]);
        fs::write(repo.join(".gitignore"), "dist/\n*.log\n!important.log\n").unwrap();
    })
    .await;
    let repo = &repository.repo;
    for name in ["dist/tracked.js", "dist/new.js", "keep.log", "other.log", "important.log"] {
        fs::write(repo.join(name), "22").unwrap();
    }
    fs::create_dir(repo.join("sub")).unwrap();
    fs::write(repo.join("sub/.gitignore"), "*\n!.gitignore\n").unwrap();
    fs::write(repo.join("sub/hidden"), "x").unwrap();
    let paths: Vec<_> = repository.changes().await.into_iter().map(|change| change.0).collect();
    assert_eq!(paths, ["dist/tracked.js", "important.log", "keep.log", "sub/.gitignore"]);
}

#[tokio::test]
async fn a_tampered_git_folder_runs_nothing_and_hides_nothing() {
    let repository = Repository::with(|repo| {
        fs::write(repo.join("a.txt"), "one\n").unwrap();
        fs::write(repo.join("b.txt"), "one\n").unwrap();
    })
    .await;
    let (repo, trap) = (&repository.repo, repository.repo.with_file_name("trap"));
    let spring = repo.with_file_name("spring.sh");
    fs::write(&spring, format!("#!/bin/sh\ntouch {}\ncat\n", trap.display())).unwrap();
    executable(&spring);
    let program = spring.to_string_lossy();
    // Everything git can be told to run, told in every place the agent can write to.
    for (key, value) in [
        ("core.fsmonitor", program.as_ref()),
        ("core.hooksPath", ".git/evil-hooks"),
        ("filter.evil.clean", program.as_ref()),
        ("filter.evil.smudge", program.as_ref()),
        ("filter.evil.process", program.as_ref()),
        ("diff.external", program.as_ref()),
        ("core.excludesFile", "/work/everything"),
        ("core.worktree", "/tmp"),
    ] {
        run_git(repo, &["config", key, value]);
    }
    for hook in ["hooks", "evil-hooks"] {
        fs::create_dir_all(repo.join(".git").join(hook)).unwrap();
        for name in ["post-index-change", "fsmonitor-watchman", "pre-commit"] {
            fs::copy(&spring, repo.join(".git").join(hook).join(name)).unwrap();
        }
    }
    fs::write(repo.join(".gitattributes"), "* filter=evil diff=evil text eol=crlf\n").unwrap();
    fs::create_dir_all(repo.join(".git/info")).unwrap();
    fs::write(repo.join(".git/info/attributes"), "* filter=evil\n").unwrap();
    fs::write(repo.join(".git/info/exclude"), "*\n").unwrap();
    fs::write(
        repo.with_file_name(".gitconfig"),
        format!("[core]\nfsmonitor = {program}\nexcludesFile = /x\n"),
    )
    .unwrap();
    fs::create_dir_all(repo.with_file_name(".config").join("git")).unwrap();
    fs::write(repo.with_file_name(".config").join("git/ignore"), "*\n").unwrap();
    // An index that claims the change is none, and a planted folder where ours will be.
    fs::write(repo.join(".git/index"), "garbage").unwrap();
    symlink("/etc", repo.with_file_name("listing.git")).unwrap();
    fs::write(repo.join("a.txt"), "two\n").unwrap();
    fs::write(repo.join("new.txt"), "new\n").unwrap();

    let paths: Vec<_> = repository.changes().await.into_iter().map(|change| (change.0, change.2)).collect();
    let expected = [
        (".gitattributes", "* filter=evil diff=evil text eol=crlf\n"),
        ("a.txt", "two\n"),
        ("new.txt", "new\n"),
    ];
    assert_eq!(paths, expected.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec())));
    assert!(!trap.exists(), "something of the agent's was run");
}

#[tokio::test]
async fn nested_repositories_are_named_not_entered() {
    let repository = Repository::with(|repo| fs::write(repo.join("a"), "1").unwrap()).await;
    let nested = repository.repo.join("vendor/lib");
    fs::create_dir_all(&nested).unwrap();
    run_git(&nested, &["init", "-q"]);
    fs::write(nested.join("file"), "x").unwrap();
    run_git(&nested, &["add", "-A"]);
    run_git(&nested, &["commit", "-q", "-m", "x"]);
    assert_eq!(repository.changes().await, [("vendor/lib".to_owned(), Mode::Submodule, Vec::new())]);
}

#[tokio::test]
async fn a_submodule_that_was_not_fetched_is_unchanged() {
    let id = "0123456789012345678901234567890123456789";
    let repository = Repository::with(|repo| {
        fs::write(repo.join("a"), "1").unwrap();
        run_git(repo, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},module")]);
        fs::create_dir(repo.join("module")).unwrap();
    })
    .await;
    assert_eq!(repository.base.len(), 2);
    assert_eq!(repository.changes().await, []);
    fs::write(repository.repo.join("module/file"), "x").unwrap();
    assert_eq!(repository.changes().await, [("module".to_owned(), Mode::Submodule, Vec::new())]);
}

#[tokio::test]
async fn links_in_the_place_of_folders_are_not_followed() {
    let repository = Repository::with(|repo| {
        fs::create_dir(repo.join("src")).unwrap();
        fs::write(repo.join("src/passwd"), "mine").unwrap();
    })
    .await;
    fs::remove_dir_all(repository.repo.join("src")).unwrap();
    symlink("/etc", repository.repo.join("src")).unwrap();
    let expected = [("src", Mode::Symlink, b"/etc".to_vec()), ("src/passwd", Mode::Deleted, Vec::new())];
    assert_eq!(
        repository.changes().await,
        expected.map(|(path, mode, content)| (path.to_owned(), mode, content))
    );
}

#[tokio::test]
async fn pipes_are_left_out_and_size_is_bounded() {
    let repository = Repository::with(|repo| fs::write(repo.join("a"), "1").unwrap()).await;
    let fifo = repository.repo.join(".gitignore");
    let made = subprocess::command("mkfifo", &repository.repo).arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    let changeset = compute(&repository.git, &repository.base, &repository.repo, 10, Specials::Remove)
        .await
        .expect("a changeset");
    assert!(changeset.changes.is_empty());
    assert!(changeset.notes[0].starts_with("Left out `.gitignore`"), "{:?}", changeset.notes);

    fs::write(repository.repo.join("big"), "01234567890").unwrap();
    let failure = compute(&repository.git, &repository.base, &repository.repo, 10, Specials::Remove)
        .await
        .expect_err("too large");
    let Failure::Agent(message) = failure else { panic!("the agent's doing") };
    assert!(message.contains("larger than 10 bytes") && message.contains("`big` alone has 11"), "{message}");
}
