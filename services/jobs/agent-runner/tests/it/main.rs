//! The runner as a process, against an agent gateway of the test's own.

use proto::v1::{
    CheckpointEnd, CheckpointHead, CheckpointPart, FileChange, checkpoint_part::Part, file_change::Mode,
    return_outcome::Status, transcript_line::Stream,
};

mod gateway;
mod pod;

use gateway::Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gets_the_prompt_and_its_changes_are_returned() {
    let gateway = Gateway::with_agent(
        r##"
        cat > prompt.txt
        echo "more" >> README.md
        chmod +x a.crlf
        head -c 2000000 /dev/zero > big.bin
        env | sort > "$TMPDIR/../environment"
        echo "working"; echo "a complaint" >&2
        printf '# Summary\n\nDone.\n' > "$CALLBOARD_SUMMARY_FILE"
        setsid sleep 86397 < /dev/null > /dev/null 2>&1 &
        echo $! > "$TMPDIR/../left-running"
        "##,
        |assignment| assignment.max_changeset_bytes = 3_000_000,
    )
    .await
    .fail_returns(&[tonic::Code::Unavailable, tonic::Code::Unavailable]);
    let output = gateway.run().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "agent-runner: returned: thank you\n");

    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::Done, "{}", received.outcome.message);
    assert_eq!(
        (received.outcome.summary.as_str(), received.outcome.agent_exit_code),
        ("# Summary\n\nDone.\n", Some(0))
    );
    let files: Vec<_> = received
        .files
        .iter()
        .map(|file| {
            (
                String::from_utf8_lossy(&file.path).into_owned(),
                file.mode(),
                file.content.len() as u64 == file.size,
            )
        })
        .collect();
    let expected = [
        ("README.md", Mode::File),
        ("a.crlf", Mode::Executable),
        ("big.bin", Mode::File),
        ("prompt.txt", Mode::File),
    ];
    assert_eq!(files, expected.map(|(path, mode)| (path.to_owned(), mode, true)));
    assert_eq!(received.files[0].content, b"# Hello\nmore\n");
    assert_eq!(received.files[1].content, b"one\ntwo\n", "not converted");
    assert_eq!(received.files[3].content, b"Do the thing.\n");

    assert_eq!(gateway.lines(Stream::Stdout), ["working"]);
    assert_eq!(gateway.lines(Stream::Stderr), ["a complaint"]);
    let runner = gateway.lines(Stream::Runner);
    assert!(
        runner[0].starts_with("Cloned octo/hello at ") && runner[0].ends_with("(4 files)."),
        "{runner:?}"
    );

    let work = gateway.folder.path().join("work");
    let environment = std::fs::read_to_string(work.join("environment")).unwrap();
    let names: Vec<_> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(
        names,
        [
            "CALLBOARD_ATTEMPT_ID",
            "CALLBOARD_FINDINGS_FILE",
            "CALLBOARD_GATEWAY",
            "CALLBOARD_RUN_ID",
            "CALLBOARD_SESSION_DIR",
            "CALLBOARD_SUMMARY_FILE",
            "HOME",
            "LANG",
            "LOGNAME",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "PATH",
            "PWD",
            "TMPDIR",
            "USER"
        ]
    );
    let left = std::fs::read_to_string(work.join("left-running")).unwrap();
    let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", left.trim())).unwrap_or_default();
    assert!(!command_line.contains("86397"), "what the agent left running was ended");
    let config = std::fs::read_to_string(work.join("repo/.git/config")).unwrap();
    assert!(!config.contains("run-token"), "{config}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_fails_returns_no_changes() {
    let gateway = Gateway::with_agent("echo last words; echo x > new; exit 3", |_| {}).await;
    assert!(gateway.run().await.status.success());
    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::AgentFailed);
    assert_eq!(received.outcome.message, "The agent failed: exit status: 3.");
    assert_eq!(
        (received.outcome.summary.as_str(), received.outcome.agent_exit_code),
        ("last words", Some(3))
    );
    assert!(received.files.is_empty() && received.session.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_changed_is_a_result() {
    let gateway = Gateway::with_agent("true", |_| {}).await;
    assert!(gateway.run().await.status.success());
    let received = gateway.received();
    assert_eq!((received.outcome.status(), received.files.len()), (Status::Done, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platform_can_stop_the_agent_through_the_transcript() {
    let gateway =
        Gateway::with_agent("echo too much; sleep 86396 & sleep 86396", |_| {}).await.stop_at("too much");
    assert!(gateway.run().await.status.success());
    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::AgentFailed);
    assert!(
        received.outcome.message.starts_with("The platform ended the agent"),
        "{}",
        received.outcome.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_cannot_be_cloned_is_said() {
    let gateway =
        Gateway::with_agent("true", |assignment| assignment.repository = "octo/missing".into()).await;
    assert!(gateway.run().await.status.success());
    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::RunnerFailed);
    assert!(
        received.outcome.message.starts_with("octo/missing could not be cloned at "),
        "{}",
        received.outcome.message
    );
    assert!(!received.outcome.message.contains("run-token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_a_change_is_the_agents_failure() {
    let gateway =
        Gateway::with_agent("head -c 100 /dev/zero > big", |assignment| assignment.max_changeset_bytes = 99)
            .await;
    assert!(gateway.run().await.status.success());
    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::AgentFailed);
    assert!(received.outcome.message.contains("larger than 99 bytes"), "{}", received.outcome.message);
    assert!(received.files.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_valid_token_nothing_is_done() {
    let gateway = Gateway::with_agent("true", |_| {}).await.token("of-another-attempt");
    let output = gateway.run().await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("agent-runner: the agent gateway did not say what to do: "), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert!(gateway.returned_nothing());
}

/// Names and modes of the files in a checkpoint, whose end is there.
fn files(checkpoint: &[CheckpointPart]) -> Vec<(String, Mode)> {
    assert!(matches!(checkpoint.last().and_then(|part| part.part.as_ref()), Some(Part::End(_))));
    checkpoint
        .iter()
        .filter_map(|part| match &part.part {
            Some(Part::File(file)) => Some((String::from_utf8_lossy(&file.path).into_owned(), file.mode())),
            Some(Part::Head(_) | Part::MoreContent(_) | Part::Session(_) | Part::End(_)) | None => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_taken_while_the_agent_works_and_only_when_something_changed() {
    let gateway = Gateway::with_agent(
        r#"
        echo one > one.txt; rm README.md; mkfifo pipe; ln -s one.txt link
        while [ ! -e ../../taken ]; do sleep 0.05; done
        echo two > ../two && mv ../two two.txt
        while [ ! -e ../../taken-again ]; do sleep 0.05; done
        sleep 1.5
        "#,
        |assignment| assignment.checkpoint_seconds = 1,
    )
    .await;
    // However slow the machine is: the agent goes on when its last step has arrived, and a file is
    // there with its content or not at all.
    let marks = async {
        for (count, mark) in [(3, "taken"), (4, "taken-again")] {
            while gateway.checkpoints().last().is_none_or(|last| files(last).len() < count) {
                tokio::task::yield_now().await;
            }
            std::fs::write(gateway.folder.path().join(mark), "").expect("written");
        }
    };
    let (output, ()) = tokio::join!(gateway.run(), marks);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let taken: Vec<_> = gateway.checkpoints().iter().map(|checkpoint| files(checkpoint)).collect();
    let [link, one, two] = [("link", Mode::Symlink), ("one.txt", Mode::File), ("two.txt", Mode::File)];
    let named = |files: &[(&str, Mode)]| -> Vec<_> {
        files.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect()
    };
    let [.., before, last] = taken.as_slice() else { panic!("{taken:?}") };
    assert_eq!(before, &named(&[("README.md", Mode::Deleted), link, one]));
    assert_eq!(last, &named(&[("README.md", Mode::Deleted), link, one, two]), "and none without a change");
    let said = gateway.lines(Stream::Runner);
    assert!(said.iter().any(|line| line == "Checkpoint taken: 3 files changed, 11 bytes."), "{said:?}");
}

fn part(part: Part) -> CheckpointPart {
    CheckpointPart { part: Some(part) }
}

/// A checkpoint of one file, with an end that fits.
fn checkpoint_of(base: &str, path: &str, mode: Mode, content: &str) -> Vec<CheckpointPart> {
    let size = content.len() as u64;
    vec![
        part(Part::Head(CheckpointHead { base_sha: base.to_owned() })),
        part(Part::File(FileChange { path: path.into(), mode: mode.into(), content: content.into(), size })),
        part(Part::End(CheckpointEnd { files: 1, bytes: size, session_bytes: 0 })),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_on_from_the_files_of_an_earlier_attempt_and_is_told() {
    let gateway = Gateway::restoring(
        r#"cat > prompt.txt; echo "restored: $CALLBOARD_RESTORED" >> half.txt"#,
        |_| {},
        |base| checkpoint_of(base, "half.txt", Mode::File, "half\n"),
    )
    .await;
    assert!(gateway.run().await.status.success());
    let received = gateway.received();
    assert_eq!(received.files[0].content, b"half\nrestored: 1\n");
    let prompt = String::from_utf8_lossy(&received.files[1].content).into_owned();
    assert!(prompt.starts_with("Do the thing.\n") && prompt.contains("you go on from them"), "{prompt}");
    assert!(gateway.afresh().is_empty());
}

/// A hostile checkpoint, or half of one, is refused whole, and the platform is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_restored_whole_is_not_restored_at_all() {
    type Made = fn(&str) -> Vec<CheckpointPart>;
    let cases: [(&str, Made); 4] = [
        ("has a part `.` or `..`", |base| checkpoint_of(base, "../../out", Mode::File, "x")),
        ("git's own folder", |base| checkpoint_of(base, ".git/hooks/post-checkout", Mode::Executable, "x")),
        ("is absolute", |base| checkpoint_of(base, "link", Mode::Symlink, "/etc")),
        ("a part of it is missing", |base| {
            let mut half = checkpoint_of(base, "half.txt", Mode::File, "half");
            half.insert(2, part(Part::Session(vec![1, 2, 3])));
            half
        }),
    ];
    for (why, made) in cases {
        let script = r#"git status --porcelain > seen; echo "restored: $CALLBOARD_RESTORED" >> seen"#;
        let gateway = Gateway::restoring(script, |_| {}, made).await;
        assert!(gateway.run().await.status.success());
        let received = gateway.received();
        let names: Vec<_> = received.files.iter().map(|file| file.path.as_slice()).collect();
        assert_eq!(names, [b"seen"]);
        assert_eq!(received.files[0].content, b"?? seen\nrestored: \n");
        assert!(gateway.afresh().iter().any(|reason| reason.contains(why)), "{:?}", gateway.afresh());
        assert!(!gateway.folder.path().join("out").exists());
    }
}
