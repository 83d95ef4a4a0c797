//! Migrations one by one, on data; append-only tables refuse changes.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::harness::Database;

/// Rows that exist once a migration has run. Every migration has an entry.
const ROWS: &[(i64, &str)] = &[
    (
        20_261_120_000_001,
        "insert into secrets values ('00000000-0000-7000-8000-000000000001', 'k', '\\x00', '\\x00', now());
         insert into platform_keys values ('run-token', '00000000-0000-7000-8000-000000000001', '\\x00', now());
         insert into projects values ('00000000-0000-7000-8000-000000000002', 'demo', 'file', now());
         insert into repositories (repository_id, project_id, full_name, full_name_key, source, current_secret_id, managed, created_at)
           values ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000002', 'o/r', 'o/r', 'r', '00000000-0000-7000-8000-000000000001', 'file', now());
         insert into members values ('00000000-0000-7000-8000-000000000002', 'octocat', 'admin', 'file');
         insert into workers (worker_id, name, public_key, enrolled_by, enrolled_at) values ('00000000-0000-7000-8000-000000000004', 'local', '\\x00', 'file', now());
         insert into worker_projects values ('00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000002');",
    ),
    (
        20_261_120_000_002,
        "insert into deliveries (delivery_id, source, guid, event, headers, body, trace_id, received_at, stored_at)
           values ('00000000-0000-7000-8000-000000000005', 'r', 'g', 'issues', '{}', '{}', 't', now(), now());
         insert into decisions (decision_id, delivery_id, repository_id, issue_number, channel, subject, decision, reason, rule, remedy, decided_at)
           values ('00000000-0000-7000-8000-000000000006', '00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000003', 7, 'webhook', 'issues.labeled', 'start', 'trigger_label', '', '', now());",
    ),
    (
        20_261_120_000_003,
        "insert into runs (run_id, project_id, repository_id, issue_number, stage, decision_id, actor, state, message, priority, trace_id, received_at, created_at, available_at)
           values ('00000000-0000-7000-8000-000000000007', '00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000003', 7, 'dev', '00000000-0000-7000-8000-000000000006', 'mona', 'active', '', 0, 't', now(), now(), now());
         insert into attempts (attempt_id, run_id, number, worker_id, state, fence, lease_expires_at, deadline_at, leased_at)
           values ('00000000-0000-7000-8000-000000000008', '00000000-0000-7000-8000-000000000007', 1, '00000000-0000-7000-8000-000000000004', 'running', 1, now(), now(), now());
         insert into run_events values ('00000000-0000-7000-8000-000000000009', '00000000-0000-7000-8000-000000000007', 'queued', '', now());
         insert into transcript_chunks values ('00000000-0000-7000-8000-000000000008', 0, '[]', 2, now());",
    ),
    (
        20_261_120_000_004,
        "insert into publications (publication_id, run_id, attempt_id, state, created_at)
           values ('00000000-0000-7000-8000-00000000000a', '00000000-0000-7000-8000-000000000007', '00000000-0000-7000-8000-000000000008', 'checking', now());
         insert into status_comments values ('00000000-0000-7000-8000-000000000007', 1, '', '', now());
         insert into effects (effect_id, repository_id, kind, payload, state, available_at, trace_id, created_at)
           values ('00000000-0000-7000-8000-00000000000b', '00000000-0000-7000-8000-000000000003', 'react', '{}', 'pending', now(), 't', now());
         insert into audit values ('00000000-0000-7000-8000-00000000000c', null, now(), 'a', 'b', 'run:00000000-0000-7000-8000-000000000007', '{}', null);",
    ),
    (
        20_261_121_000_001,
        "select events_add('00000000-0000-7000-8000-00000000000d', now(), null, null, 'a', 'b', 'c', '', '{}', null);
         update events set sequence = ordinal;
         insert into seals values ('00000000-0000-0000-0000-000000000000', 1, current_date, '{1}', '', '', '', now());
         insert into chains values ('00000000-0000-0000-0000-000000000000', 1, 1, '');
         insert into audit_checkpoints values ('00000000-0000-0000-0000-000000000000', 1, 1, '', current_date, false, now(), '');",
    ),
    (
        20_261_121_000_002,
        "insert into checkpoints (attempt_id, run_id, base_sha, changeset_key, number, files, bytes, taken_at)
           values ('00000000-0000-7000-8000-000000000008', '00000000-0000-7000-8000-000000000007', 'a', 'k', 1, 1, 1, now());
         update attempts set restored_from = attempt_id, start_note = 'x';",
    ),
    (20_261_121_000_003, "update attempts set transcript_key = 'k', open_key_blocks = '{stdout}';"),
    (
        20_261_121_000_004,
        "insert into worker_processes values ('00000000-0000-7000-8000-00000000000d', '00000000-0000-7000-8000-000000000004', now());
         update workers set process_id = '00000000-0000-7000-8000-00000000000d';",
    ),
    (
        20_261_121_000_006,
        "update publications set head_moved_to = 'x', released_by = 'uid:0', release_reason = '';
         update runs set input_changeset_key = 'k';
         insert into pauses values ('00000000-0000-7000-8000-00000000000e', null, 'dev', 'uid:0', '', now());",
    ),
    (
        20_261_121_000_007,
        "insert into retention values ('transcripts', now(), 1, 1);
         insert into unneeded_objects values ('p/prompts/d', now());",
    ),
    (
        20_261_122_000_001,
        "update runs set kind = 'revise', pull_request = 8, continues = run_id, definition = '{}', model = 'm', reasoning = 'low', steering_sha = 'a';
         update attempts set findings = '{}';
         update decisions set trace = '[]';
         update effects set echoed_at = now();
         update publications set head_sha = 'a', ended_at = now(), merged = true, merged_by = 'mona';
         insert into approvals (approval_id, repository_id, pull_request, run_id, head_sha, review_id, approved_by, by_right, decision_id, approved_at)
           values ('00000000-0000-7000-8000-00000000000f', '00000000-0000-7000-8000-000000000003', 8, '00000000-0000-7000-8000-000000000007', 'a', 1, 'mona', 'maintain', '00000000-0000-7000-8000-000000000006', now());
         insert into discussions values ('00000000-0000-7000-8000-000000000010', '00000000-0000-7000-8000-000000000003', 7, 'mona', now(), null);
         insert into parameter_labels values ('00000000-0000-7000-8000-000000000003', 7, 'ai-model:m', 'mona', now());
         insert into policies values ('00000000-0000-7000-8000-000000000003', 'a', null, null, now());
         update repositories set archived_at = now(), gone_at = now(), forge_id = 1;",
    ),
    (
        20_261_122_000_002,
        "update projects set ceilings = '{\"time_limit_minutes\": 60}', bots = '{helper[bot]}';
         update repositories set renamed_from = 'o/was';",
    ),
    (
        20_261_122_000_003,
        "update runs set review_base_sha = 'a'; update attempts set session_from = attempt_id;",
    ),
    (20_261_122_000_004, "update runs set asked_url = 'https://github.com/o/r/issues/7#issuecomment-1';"),
    (
        20_261_123_000_001,
        "update deliveries set provenance = 'fetched'; update decisions set label = 'run:dev';
         insert into recovery_hooks values ('00000000-0000-7000-8000-000000000003', 1, now(), now(), 'on');
         insert into recovery_labels values ('00000000-0000-7000-8000-000000000003', now());
         insert into gaps values ('00000000-0000-7000-8000-000000000011', '00000000-0000-7000-8000-000000000003', now(), now(), 1, null);
         insert into missed_deliveries values ('hello', 'g', '00000000-0000-7000-8000-000000000011', 1, 'issues', now());",
    ),
    (
        20_261_123_000_003,
        "update repositories set installation_id = 7, own_hook = false, no_access_why = 'suspended', no_access_since = now(), access_asked_at = now();",
    ),
    (
        20_261_123_000_006,
        "update repositories set hook_id = 1, hook_secret_id = current_secret_id, secret_rotated_at = now();",
    ),
    (20_261_123_000_070, "update effects set priority = 0; update deliveries set put_off_because = 'x';"),
    (
        20_261_124_000_001,
        "update attempts set object_namespace = 'n', object_name = 'a', object_digest = 'd', object_uid = 'u', waits_for = 'x', drained_at = now();
         update workers set is_cluster = true, declared_labels = '{}', labels = '{\"gpu\": \"a100\"}', cordoned_at = now(), drained_at = now(), heard_at = now();
         update runs set no_worker = 'x', no_worker_since = now();
         insert into foreign_objects values ('u', '00000000-0000-7000-8000-000000000004', 'n', 'a', now());",
    ),
    (
        20_261_124_000_020,
        "update projects set pods = '{\"cpu_millis\": 500}', pod_ceilings = '{\"max_cpu_millis\": 500}';",
    ),
    (20_261_125_000_001, "update worker_projects set last_turn_at = now();"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_runs_on_a_database_with_data() {
    let database = Database::empty();
    let mut connection = PgConnection::connect(&database.url).await.expect("connected");
    for migration in control_plane::MIGRATOR.iter() {
        connection
            .execute(AssertSqlSafe(migration.sql.as_str().to_owned()))
            .await
            .unwrap_or_else(|e| panic!("{}: {e}", migration.description));
        let rows = ROWS
            .iter()
            .find(|(version, _)| *version == migration.version)
            .unwrap_or_else(|| panic!("{} has no rows in this test", migration.version));
        connection.execute(rows.1).await.unwrap_or_else(|e| panic!("rows of {}: {e}", migration.description));
    }
    assert_eq!(ROWS.len(), control_plane::MIGRATOR.iter().count());
}

/// Rows of the release before are copied, and what it writes while it is being replaced ends
/// up in the log too.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_release_before_writes_is_in_the_log() {
    let database = Database::empty();
    let mut connection = PgConnection::connect(&database.url).await.expect("connected");
    for migration in control_plane::MIGRATOR.iter() {
        connection.execute(AssertSqlSafe(migration.sql.as_str().to_owned())).await.expect("migrated");
        if let Some((_, rows)) = ROWS.iter().find(|(v, _)| *v == migration.version && *v < 20_261_121_000_001)
        {
            connection.execute(*rows).await.expect("rows");
        }
    }
    let run = "00000000-0000-7000-8000-000000000007";
    for statement in [
        "insert into audit values ('00000000-0000-7000-8000-0000000000a1', null, now(), 'mona', 'run.active', 'run:RUN', '{}', 't')",
        "insert into run_events values ('00000000-0000-7000-8000-0000000000a2', 'RUN', 'attempt_lost', 'Attempt 1: lost', now())",
    ] {
        connection.execute(AssertSqlSafe(statement.replace("RUN", run))).await.expect("written");
    }
    let log: Vec<(String, String, bool)> = sqlx::query_as(
        "select action, text, run_id = '00000000-0000-7000-8000-000000000007' from events order by ordinal",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the log");
    let said: Vec<_> =
        log.iter().map(|(action, text, of_run)| (action.as_str(), text.as_str(), *of_run)).collect();
    assert_eq!(
        said,
        [
            ("run.queued", "", true),
            ("b", "", true),
            ("run.active", "", true),
            ("attempt.lost", "Attempt 1: lost", true)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_never_changed() {
    let database = Database::migrated();
    let mut connection = PgConnection::connect(&database.url).await.expect("connected");
    connection
        .execute("select events_add('00000000-0000-7000-8000-00000000000c', '2026-11-05T00:00:00Z', null, null, 'a', 'b', 'c', '', '{}', null);
                  insert into audit values ('00000000-0000-7000-8000-00000000000d', null, '2026-11-05T00:00:00Z', 'a', 'b', 'c', '{}', null);
                  update events set sequence = ordinal")
        .await
        .expect("added and numbered");
    for change in [
        "update events set actor = 'x'",
        "update events set sequence = 9",
        "update events set sequence = null",
        "delete from events",
        "truncate events",
        "truncate events_2026_11",
        "update audit set actor = 'x'",
        "delete from audit",
        "truncate audit",
        "truncate seals",
        "truncate audit_checkpoints",
    ] {
        let error = connection.execute(change).await.expect_err(change).to_string();
        assert!(error.contains("never changed"), "{error}");
    }
}
