//! The log of events: numbered without a gap, chained, verified, dropped by month.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use callboard::Platform;
use chrono::TimeDelta;
use domain::ids::Ids;
use proto::admin::{
    AuditEvent, CheckRequest, EventsRequest, VerifyAuditRequest, VerifyAuditResponse,
    admin_service_client::AdminServiceClient,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use telemetry::address::Address;

use crate::harness::{PATIENCE, TestClock, World, clock, program};

async fn connect(world: &World) -> PgConnection {
    PgConnection::connect(&world.database.url).await.expect("connected")
}

async fn verify(world: &World) -> VerifyAuditResponse {
    world.admin().verify_audit(VerifyAuditRequest::default()).await.expect("verified").into_inner()
}

/// Everything that was recorded has its number.
async fn sealed(world: &World) {
    let left = world.platform().control_plane().settled(PATIENCE).await.expect("Postgres answers");
    assert!(left.is_empty(), "{left:#?}");
}

const WRITERS: u32 = 6;
const EACH: u32 = 40;

/// Writes events in transactions of different lengths, some of which come to nothing.
async fn write(url: String, writer: u32) {
    let ids = Ids::seeded(clock(), writer.into());
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    let mut written = 0;
    while written < EACH {
        let mut tx = connection.begin().await.expect("begun");
        let events = 1 + u32::from(ids.bytes::<1>()[0] % 3);
        for n in written..written + events {
            let statement = format!(
                "select events_add(gen_random_uuid(), now(), null, null, 'writer:{writer}', 'test.written', '{n}', '', '{{}}', null)"
            );
            tx.execute(AssertSqlSafe(statement)).await.expect("written");
            if ids.fraction() < 0.3 {
                tokio::task::yield_now().await;
            }
        }
        // Numbers drawn by what is rolled back must not leave a hole.
        if ids.fraction() < 0.2 {
            tx.rollback().await.expect("rolled back");
        } else {
            tx.execute("commit").await.expect("committed");
            drop(tx);
            written += events;
        }
    }
}

/// Another control plane on the same database, in a folder of its own.
async fn second(world: &World) -> Platform {
    let first = std::fs::read(world.folder().join("callboard.yaml")).expect("read");
    let mut config: serde_json::Value = serde_json::from_slice(&first).expect("JSON");
    config["data_dir"] = world.folder().join("second").display().to_string().into();
    config["key_file"] = world.folder().join("data/key").display().to_string().into();
    let path = world.folder().join("second.yaml");
    std::fs::write(&path, config.to_string()).expect("written");
    let config = callboard::config::load(&path, &|_| None).expect("a valid configuration");
    let clock: Arc<dyn domain::clock::Clock> = Arc::<TestClock>::clone(&world.clock);
    let ids = Ids::from_os(Arc::clone(&clock));
    let options = callboard::Options { clock, ids, runner: Some(program("agent-runner")) };
    Platform::start(&config, options).await.expect("the second platform starts")
}

/// Reads on after `last` until some events came, none comes, or the platform goes away.
async fn read_some(socket: &Path, last: &mut i64, some: u8, mut each: impl FnMut(AuditEvent)) {
    let channel = Address::Unix(socket.to_path_buf()).channel().expect("a socket");
    let request = EventsRequest { after: *last, project: String::new(), follow: true };
    let Ok(events) = AdminServiceClient::new(channel).events(request).await else { return };
    let mut events = events.into_inner();
    for _ in 0..=some {
        let next = tokio::time::timeout(Duration::from_millis(300), events.message()).await;
        let Ok(Ok(Some(event))) = next else { return };
        assert_eq!(event.sequence, *last + 1, "no gap, nothing twice: {event:#?}");
        *last = event.sequence;
        each(event);
    }
    // The connection is cut in the middle.
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_and_goes_sees_every_event_once() {
    let mut world = World::start().await;
    let second = second(&world).await;
    let sockets = [world.platform().admin_socket(), second.admin_socket()];
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(world.database.url.clone(), n))).collect();
    let ids = Ids::seeded(clock(), 7);
    let (mut last, mut subjects) = (0, vec![Vec::new(); WRITERS as usize]);
    let patience = Instant::now() + PATIENCE;
    let mut both = true;
    while subjects.iter().any(|s: &Vec<u32>| s.len() < EACH as usize) {
        assert!(Instant::now() < patience, "not everything came: {last}");
        let [socket, some] = ids.bytes();
        let socket = &sockets[if both { usize::from(socket % 2) } else { 1 }];
        read_some(socket, &mut last, some % 40, |event| {
            if let Some(writer) = event.actor.strip_prefix("writer:") {
                let writer: usize = writer.parse().expect("a number");
                subjects[writer].push(event.subject.parse().expect("a number"));
            }
        })
        .await;
        if both && last > i64::from(WRITERS * EACH / 3) {
            // The one that seals ends; the other takes over.
            world.down().await;
            both = false;
        }
    }
    assert!(!both, "the first one has ended");
    for writer in writers {
        writer.await.expect("it wrote");
    }
    for subject in subjects {
        assert!(subject.is_sorted(), "a writer's own order is kept: {subject:?}");
    }
    assert!(second.stop().await, "every part ends in time");
    world.up().await;
    sealed(&world).await;
    assert_eq!(verify(&world).await.problems, Vec::<String>::new());
    world.end().await;
}

/// The tables of the log, kept aside and put back after each change.
const TABLES: [&str; 5] = ["events", "seals", "chains", "audit_checkpoints", "sealer"];

async fn change(connection: &mut PgConnection, statement: &str) {
    // What somebody with every right in the database does.
    connection.execute("set session_replication_role = replica").await.expect("triggers are off");
    connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap_or_else(|e| panic!("{statement}: {e}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_is_found_and_named() {
    let world = World::start().await;
    let mut connection = connect(&world).await;
    let project: sqlx::types::Uuid =
        sqlx::query_scalar("select project_id from projects").fetch_one(&mut connection).await.expect("it");
    for n in 0..6 {
        // Each alone, so that the chain has several seals.
        let statement = format!(
            "select events_add('00000000-0000-7000-8000-00000000000{n}', now(), '{project}', '00000000-0000-7000-8000-0000000000aa',
                               'mona', 'run.noted', 'run:x', 'A sentence.', '{{\"n\": {n}}}', 'trace')"
        );
        connection.execute(AssertSqlSafe(statement)).await.expect("written");
        sealed(&world).await;
    }
    let clean = verify(&world).await;
    assert_eq!(clean.problems, Vec::<String>::new());
    assert_eq!(clean.chains.len(), 2, "the project's and the platform's: {:#?}", clean.chains);
    for table in TABLES {
        change(&mut connection, &format!("create table kept_{table} as select * from {table}")).await;
    }
    let id = "00000000-0000-7000-8000-000000000003";
    let (sequence, seal): (i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "select e.sequence, s.number from events e join seals s on e.sequence = any(s.sequences) where event_id = '{id}'"
    )))
    .fetch_one(&mut connection)
    .await
    .expect("sealed");
    let (end, last): (i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "select number, sequence from chains where chain = '{project}'"
    )))
    .fetch_one(&mut connection)
    .await
    .expect("a head");

    let mut cases: Vec<(String, Vec<String>)> = Vec::new();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select column_name::text, data_type::text from information_schema.columns where table_name = 'events' order by ordinal_position",
    )
    .fetch_all(&mut connection)
    .await
    .expect("columns");
    assert_eq!(columns.len(), 12, "{columns:?}");
    for (column, kind) in columns {
        let value = match kind.as_str() {
            "uuid" => format!("overlay({column}::text placing 'f' from 1)::uuid"),
            "timestamp with time zone" => format!("{column} + interval '1 microsecond'"),
            "bigint" => format!("{column} + 1000000"),
            "text" => format!("overlay({column} placing '_' from 1 for 1)"),
            "jsonb" => format!("{column} || '{{\"n\": 3.0}}'"),
            other => panic!("a column of another kind: {other}"),
        };
        let named = match column.as_str() {
            "event_id" => vec![format!("Event f{} (sequence {sequence},", &id[1..])],
            "sequence" => vec![
                format!("Event {id} (sequence {},", sequence + 1_000_000),
                format!("sequence {sequence} of project demo is missing"),
            ],
            _ => vec![format!("Event {id} (sequence {sequence},")],
        };
        cases.push((format!("update events set {column} = {value} where event_id = '{id}'"), named));
        let nullable = ["project_id", "run_id", "trace_id"].contains(&column.as_str());
        if nullable {
            let named = vec![format!("Event {id} (sequence {sequence},")];
            cases.push((format!("update events set {column} = null where event_id = '{id}'"), named));
        }
    }
    let mut case = |statement: String, said: String| cases.push((statement, vec![said]));
    case(
        format!("delete from events where event_id = '{id}'"),
        format!("The event with sequence {sequence} of project demo is missing"),
    );
    case(
        format!(
            "delete from events where sequence = {last}; delete from seals where chain = '{project}' and number = {end}"
        ),
        format!("Seals {end} to {end} of project demo are missing"),
    );
    case(
        format!(
            "delete from seals where chain = '{project}' and number = {seal}; delete from events where event_id = '{id}'"
        ),
        format!("Seals {seal} to {seal} of project demo are missing"),
    );
    case(
        format!(
            "update events set sequence = case sequence when {sequence} then {last} else {sequence} end where sequence in ({sequence}, {last})"
        ),
        format!("Event {id} (sequence {last},"),
    );
    case(
        format!(
            "insert into events select 'f0000000-0000-7000-8000-000000000000', happened_at, ordinal, project_id, run_id, actor, action, subject, text, detail, trace_id, sequence from events where event_id = '{id}'"
        ),
        format!("Event f0000000-0000-7000-8000-000000000000 (sequence {sequence},"),
    );
    for (column, value) in [
        ("month", "month + 31"),
        ("sequences", "sequences || 99999::bigint"),
        ("digests", "set_byte(digests, 0, get_byte(digests, 0) # 1)"),
        ("previous", "set_byte(previous, 0, get_byte(previous, 0) # 1)"),
        ("hash", "set_byte(hash, 0, get_byte(hash, 0) # 1)"),
    ] {
        case(
            format!("update seals set {column} = {value} where chain = '{project}' and number = {seal}"),
            format!("Seal {seal} of project demo was changed"),
        );
    }
    case(
        format!("update chains set sequence = 1 where chain = '{project}'"),
        "The head of project demo is wrong".to_owned(),
    );
    case(
        format!("delete from chains where chain = '{project}'"),
        "The head of project demo is missing".to_owned(),
    );
    case(
        "update sealer set sequence = sequence + 1".to_owned(),
        format!("No seal covers the sequence numbers from {} to {}", last + 1, last + 1),
    );
    case(
        "update audit_checkpoints set taken_at = taken_at + interval '1 hour'".to_owned(),
        "has a bad signature".to_owned(),
    );
    case(
        format!(
            "delete from seals where chain = '{project}'; delete from chains where chain = '{project}'; delete from events where project_id = '{project}'"
        ),
        "The end of project demo is missing: the platform signed".to_owned(),
    );

    // A signature under a seal is no word that what is before it may be gone.
    case(
        format!(
            "with signed as (select max(number) as number from audit_checkpoints where chain = '{project}'),
                  gone as (delete from seals s using signed where chain = '{project}' and s.number <= signed.number returning sequences)
             delete from events e using gone where e.sequence = any(gone.sequences)"
        ),
        "of project demo are missing, and no checkpoint says that they were dropped".to_owned(),
    );

    for (statement, named) in cases {
        change(&mut connection, &statement).await;
        let found = verify(&world).await.problems;
        for name in named {
            assert!(
                found.iter().any(|p| p.contains(&name)),
                "{statement}\nwanted: {name}\nfound: {found:#?}"
            );
        }
        for table in TABLES {
            change(
                &mut connection,
                &format!("delete from {table}; insert into {table} select * from kept_{table}"),
            )
            .await;
        }
    }
    assert_eq!(verify(&world).await.problems, Vec::<String>::new(), "put back");
    world.end().await;
}

async fn months(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select to_char(events_months(), 'YYYY-MM')")
        .fetch_all(connection)
        .await
        .expect("months")
}

#[tokio::test(flavor = "multi_thread")]
async fn old_months_are_dropped_after_a_checkpoint() {
    let world = World::start().await;
    let mut connection = connect(&world).await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let old = world.run_of(issue).await;
    assert!(!world.finished(&old.id).await.events.is_empty());
    // A month goes once all of it is numbered, also what is said of our own changes.
    world.settled().await;
    let first = months(&mut connection).await.remove(0);

    // A machine that slept for more than a year: the months in between were never made.
    world.clock.advance(TimeDelta::days(14 * 31));
    let issue = world.issue("Say hello again", "Please.");
    world.label(issue, "run:dev");
    let new = world.run_of(issue).await;
    world.finished(&new.id).await;
    let patience = Instant::now() + PATIENCE;
    while months(&mut connection).await.contains(&first) {
        assert!(Instant::now() < patience, "{first} is still there");
        tokio::task::yield_now().await;
    }
    sealed(&world).await;
    let verified = verify(&world).await;
    assert_eq!(verified.problems, Vec::<String>::new());
    let run = world.get(&old.id).await;
    assert!(
        run.events.is_empty() && run.notes.iter().any(|n| n.contains("Its events were deleted")),
        "{:?}",
        run.notes
    );
    assert!(!world.get(&new.id).await.events.is_empty());

    let check = world.admin().check(CheckRequest {}).await.expect("checked").into_inner();
    let line = check.findings.iter().find(|f| f.probe == "audit log").expect("a line");
    assert!(line.found.contains("sealed up to") && line.found.contains("last checkpoint 20"), "{line:#?}");
    let line = check.findings.iter().find(|f| f.probe == "retention of events").expect("a line");
    assert!(line.found.contains("kept 13 months"), "{line:#?}");

    // Without the signed word that they were dropped they are missing.
    change(&mut connection, "delete from audit_checkpoints").await;
    let found = verify(&world).await.problems;
    assert!(found.iter().any(|p| p.contains("no checkpoint says that they were dropped")), "{found:#?}");
    world.end().await;
}
