use proptest::prelude::*;
use secrecy::SecretString;

use super::*;

const PIN: &str = "0123456789abcdef0123456789abcdef01234567";
const SECRET: &str = "ghp_thisIsSecret42";

fn put(path: &str, content: &str) -> FileChange {
    let change = Change::Put { mode: Mode::Regular, content: content.as_bytes().to_vec() };
    FileChange { path: path.as_bytes().to_vec(), change }
}

fn link(path: &str, target: &str) -> FileChange {
    let change = Change::Put { mode: Mode::Symlink, content: target.as_bytes().to_vec() };
    FileChange { path: path.as_bytes().to_vec(), change }
}

fn other(path: &str, change: Change) -> FileChange {
    FileChange { path: path.as_bytes().to_vec(), change }
}

fn judged_in(scope: &[&str], base: &str, files: Vec<FileChange>) -> Verdict {
    judged_by(scope, base, false, files)
}

fn judged_by(scope: &[&str], base: &str, needs_approver: bool, files: Vec<FileChange>) -> Verdict {
    let pin = PIN.parse().unwrap();
    let write_scope: Vec<String> = scope.iter().map(|s| (*s).to_owned()).collect();
    let secrets = Censor::new([SecretString::from(SECRET)]);
    let rules = Rules {
        pin: &pin,
        write_scope: &write_scope,
        max_bytes: 1000,
        max_files: 60,
        max_lines: 100,
        needs_approver,
        secrets: &secrets,
    };
    judge(&Changeset { base: base.parse().unwrap(), files }.searched(), &rules)
}

fn judged(files: Vec<FileChange>) -> Verdict {
    judged_in(&["**"], PIN, files)
}

fn codes(verdict: &Verdict) -> Vec<FindingCode> {
    match verdict {
        Verdict::Empty | Verdict::Publish => Vec::new(),
        Verdict::Hold(findings) | Verdict::Refuse(findings) => findings.iter().map(|f| f.code).collect(),
    }
}

#[test]
fn an_ordinary_changeset_is_published() {
    let files = vec![
        put("src/main.rs", "fn main() {}"),
        link("docs/readme", "../README.md"),
        other("old.txt", Change::Delete),
        // A file that became a folder, and a file that changed case.
        other("a", Change::Delete),
        put("a/b", ""),
        other("Readme.md", Change::Delete),
        put("README.md", ""),
    ];
    assert_eq!(judged(files), Verdict::Publish);
    assert_eq!(judged(Vec::new()), Verdict::Empty);
    assert_eq!(judged_in(&["**"], &"a".repeat(40), Vec::new()), Verdict::Empty);
}

#[test]
fn what_people_read() {
    let refused = judged_in(
        &["src/**", "*.md"],
        &"a".repeat(40),
        vec![
            put("src/a", &"x".repeat(1000)),
            put("docs/guide.md", ""),
            put("src/../../etc/passwd", ""),
            put("src/.git/config", ""),
            put("src/one\ntwo", ""),
            put("src/a/b", ""),
            put("src/A", ""),
            put("src/twice", ""),
            other("src/twice", Change::Delete),
            other("src/module", Change::Submodule),
            link("src/link", "/etc/passwd"),
            link("src/link2", "../.git/config"),
            put("src/leak", SECRET),
            put(&format!("src/{SECRET}"), ""),
            put(".github/workflows/ci.yml", ""),
        ],
    );
    let Verdict::Refuse(findings) = refused else { panic!("{refused:?}") };
    let text: Vec<String> = findings.iter().map(|f| format!("{:?}: {}", f.code, f.sentence)).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    WrongBase: The changeset was made on commit aaaaaaa, but the run was pinned to 0123456.
    TooLarge: The changeset has 1218 bytes; this stage may write 1000.
    HostilePath: The path `src/../../etc/passwd` has a part `.` or `..`.
    GitFolder: `src/.git/config` touches git's own folder.
    HostilePath: The path `src/one\u{a}two` has control characters.
    Submodule: `src/module` is a submodule, and submodules are never published.
    SymlinkTarget: The target of the symbolic link `src/link` is absolute.
    SymlinkTarget: The target of the symbolic link `src/link2` is in git's own folder.
    KnownSecret: `src/leak` contains a secret of this platform. Replace the secret: the agent should never have seen it.
    KnownSecret: The path `src/[censored]` contains a secret of this platform.
    DuplicatePath: `src/twice` is in the changeset more than once.
    CaseConflict: `src/A` and `src/a` are the same file where case does not count.
    FileAndFolder: `src/a` is a file, and `src/a/b` needs a folder of that name.
    ");

    let held =
        judged(vec![put(".GitHub/workflows/ci.yml", ""), put("src/a", ""), link("notes", "./sub/AGENTS.md")]);
    let Verdict::Hold(findings) = held else { panic!("{held:?}") };
    let text: Vec<String> = findings.iter().map(|f| format!("{:?}: {}", f.code, f.sentence)).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    ProtectedPath: `.GitHub/workflows/ci.yml` is protected (GitHub's workflows and settings); a person has to look at it first.
    LinkToProtectedPath: `notes` is a symbolic link to something protected (what steers agents); a person has to look at it first.
    ");
}

#[test]
fn a_star_stops_at_a_folder() {
    assert_eq!(judged_in(&["docs/*.md"], PIN, vec![put("docs/a.md", "")]), Verdict::Publish);
    let deeper = judged_in(&["docs/*.md"], PIN, vec![put("docs/sub/a.md", "")]);
    assert_eq!(codes(&deeper), [FindingCode::OutsideWriteScope]);
    assert_eq!(codes(&judged_in(&["a["], PIN, vec![put("a[", "")])), [FindingCode::OutsideWriteScope]);
}

#[test]
fn outside_the_write_scope_is_for_a_person_and_nothing_may_be_written_means_nothing() {
    let held = judged_in(&["docs/**"], PIN, vec![put("docs/a.md", ""), put("src/a.rs", "")]);
    let Verdict::Hold(findings) = held else { panic!("{held:?}") };
    insta::assert_snapshot!(findings[0].sentence, @"`src/a.rs` is outside what this stage may write (docs/**); a person has to look at it first.");
    assert_eq!(findings.len(), 1);

    let refused = judged_in(&[], PIN, vec![put("a", "")]);
    let Verdict::Refuse(findings) = refused else { panic!("{refused:?}") };
    insta::assert_snapshot!(findings[0].sentence, @"`a` was changed, and this stage writes nothing.");
}

#[test]
fn a_stage_can_have_every_result_looked_at() {
    let held = judged_by(&["**"], PIN, true, vec![put("a", "")]);
    let Verdict::Hold(findings) = held else { panic!("{held:?}") };
    assert_eq!(findings[0].sentence, "Every result of this stage needs an approver.");
    // Nothing to publish needs nobody, and what is refused is not offered for release.
    assert_eq!(judged_by(&["**"], PIN, true, Vec::new()), Verdict::Empty);
    assert!(matches!(judged_by(&["**"], PIN, true, vec![put("../a", "")]), Verdict::Refuse(_)));
}

#[test]
fn lines_are_those_of_the_new_contents_of_text_files() {
    let many = judged(vec![put("a", &"\n".repeat(60)), put("b", &format!("{}x", "x\n".repeat(40)))]);
    let Verdict::Hold(findings) = many else { panic!("{many:?}") };
    insta::assert_snapshot!(findings[0].sentence, @"The files of the changeset have 101 lines; this stage writes 100 by itself; a person has to look at it first.");
    let binary = put("image", &format!("\0{}", "\n".repeat(200)));
    assert_eq!(judged(vec![put("a", &"x\n".repeat(100)), binary]), Verdict::Publish);
}

#[test]
fn no_number_of_other_findings_hides_a_secret() {
    let mut files: Vec<FileChange> = (0..55).map(|n| put(&format!(".github/{n}"), "")).collect();
    files.push(put("z", "glpat-a1B2c3D4e5F6g7H8i9J0"));
    let verdict = judged(files);
    assert_eq!(codes(&verdict).len(), 50);
    assert_eq!(codes(&verdict)[0], FindingCode::SecretPattern);
}

#[test]
fn at_most_fifty_findings_and_refusing_wins() {
    let mut files: Vec<FileChange> = (0..55).map(|n| put(&format!(".github/{n}"), "")).collect();
    let Verdict::Hold(findings) = judged(files.clone()) else { panic!("held") };
    assert_eq!(findings.len(), 50);
    files.push(put("/absolute", ""));
    assert_eq!(codes(&judged(files)), [FindingCode::HostilePath]);
    let many = judged((0..61).map(|n| put(&format!("../{n}"), "")).collect());
    assert_eq!(codes(&many).len(), 50);
}

#[test]
fn a_file_hides_no_folder_whatever_stands_between() {
    for files in [
        vec![put("a", ""), put("a-b", ""), put("a.b", ""), put("a/z", "")],
        vec![link("A", "docs"), put("a/x", "")],
        vec![other("a", Change::Submodule), put("a/x/y", "")],
    ] {
        let verdict = judged(files);
        assert!(codes(&verdict).contains(&FindingCode::FileAndFolder), "{verdict:?}");
    }
}

#[test]
fn what_looks_like_a_token_is_for_a_person_and_a_known_secret_for_nobody() {
    let token = "glpat-a1B2c3D4e5F6g7H8i9J0";
    let held = judged(vec![put("config.toml", token), put(&format!("tokens/{token}"), "")]);
    let Verdict::Hold(findings) = held else { panic!("{held:?}") };
    let text: Vec<String> = findings.iter().map(|f| format!("{:?}: {}", f.code, f.sentence)).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    SecretPattern: `config.toml` contains what looks like a GitLab token in line 1; a person has to look at it first.
    SecretPattern: The path `tokens/[censored]` contains what looks like a GitLab token; a person has to look at it first.
    ");
    let both = judged(vec![put("config.toml", token), put("leak", SECRET)]);
    assert!(matches!(&both, Verdict::Refuse(findings) if findings[0].code == FindingCode::KnownSecret));
}

#[test]
fn codes_are_stable() {
    assert_eq!(serde_json::to_string(&FindingCode::OutsideWriteScope).unwrap(), "\"outside_write_scope\"");
    assert_eq!(serde_json::to_string(&FindingCode::SecretPattern).unwrap(), "\"secret_pattern\"");
    let finding = Finding { code: FindingCode::TooLarge, path: None, sentence: "s".to_owned() };
    let json = serde_json::to_string(&finding).unwrap();
    assert_eq!(json, r#"{"code":"too_large","path":null,"sentence":"s"}"#);
    assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
}

fn any_change() -> impl Strategy<Value = Change> {
    let mode = proptest::sample::select(vec![Mode::Regular, Mode::Executable, Mode::Symlink]);
    prop_oneof![
        4 => (mode, any::<Vec<u8>>()).prop_map(|(mode, content)| Change::Put { mode, content }),
        1 => Just(Change::Delete),
        1 => Just(Change::Submodule),
    ]
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let part = proptest::sample::select(vec![
        "/",
        ".git",
        ".GIT",
        "git~1",
        ".",
        "..",
        " ",
        "a",
        "A",
        "b",
        "\\",
        ":",
        "\u{200c}",
        "\n",
        ".github",
        "AGENTS.md",
    ]);
    prop_oneof![
        any::<Vec<u8>>(),
        proptest::collection::vec(part, 1..8).prop_map(|parts| parts.concat().into_bytes())
    ]
}

proptest! {
    /// Whatever bytes come: judging ends, lists at most fifty findings, and prints no secret.
    #[test]
    fn judging_never_panics(files in proptest::collection::vec((any_path(), any_change()), 0..12)) {
        let files = files.into_iter().map(|(path, change)| FileChange { path, change }).collect();
        prop_assert!(codes(&judged(files)).len() <= 50);
    }

    /// No spelling of git's own folder is ever published, whatever stands around it.
    #[test]
    fn the_git_folder_is_never_published(
        before in "([a-z]{1,4}/){0,3}",
        git in "(?i)(\\.git|git~[1-9])[ .]{0,3}(:[a-z]{0,4})?",
        ignored in proptest::sample::select(vec!["", "\u{200c}", "\u{206a}", "\u{feff}"]),
        at in 0..4_usize,
        after in "(/[a-z]{1,4}){0,3}",
        change in any_change(),
    ) {
        let spelled = format!("{}{ignored}{}", &git[..at], &git[at..]);
        let path = format!("{before}{spelled}{after}");
        let refused = matches!(judged(vec![other(&path, change)]), Verdict::Refuse(_));
        prop_assert!(refused);
        let refused = matches!(judged(vec![link("link", &path)]), Verdict::Refuse(_));
        prop_assert!(refused);
    }
}
