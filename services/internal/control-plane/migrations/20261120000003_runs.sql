-- Runs, their attempts, and what came back.

create table runs (
    run_id         uuid primary key,
    project_id     uuid not null references projects,
    repository_id  uuid not null references repositories,
    issue_number   bigint not null,
    stage          text not null,
    decision_id    uuid not null references decisions,
    retry_of       uuid references runs,
    actor          text not null,
    -- State and what kind of it; moves go through domain::run.
    state          text not null,
    state_kind     text,
    -- One sentence for people.
    message        text not null,
    priority       integer not null,
    trace_id       text not null,
    -- What the run is about, fixed when it is prepared.
    base_branch    text,
    base_sha       text,
    -- {title, body, author, url} as it was when the run was asked for; null: read it when the run is prepared.
    issue          jsonb,
    -- Object store; ends with the prompt's SHA-256.
    prompt_key     text,
    -- When the delivery's last byte arrived, for the breakdown.
    received_at    timestamptz not null,
    created_at     timestamptz not null,
    -- Not leased before this time (backoff).
    available_at   timestamptz not null,
    finished_at    timestamptz
);
-- One run of an issue at a time.
create unique index runs_one_under_way on runs (repository_id, issue_number)
    where state in ('queued', 'active', 'waiting');
create index runs_queue on runs (priority desc, created_at) where state = 'queued';
create index runs_recent on runs (created_at desc);

create table attempts (
    attempt_id       uuid primary key,
    run_id           uuid not null references runs,
    number           integer not null,
    worker_id        uuid not null references workers,
    state            text not null,
    -- Rises with every lease of the run; reports under an older one change nothing.
    fence            bigint not null,
    -- Database clock: several machines have to agree on it.
    lease_expires_at timestamptz not null,
    -- Injected clock.
    deadline_at      timestamptz not null,
    isolation        text,
    unsandboxed      boolean not null default false,
    message          text not null default '',
    -- Why another attempt was needed: infrastructure, provider, preparing.
    setback          text,
    output_bytes     bigint not null default 0,
    -- What it returned.
    summary          text,
    changeset_key    text,
    session_key      text,
    leased_at        timestamptz not null,
    running_at       timestamptz,
    returned_at      timestamptz,
    ended_at         timestamptz,
    unique (run_id, number)
);
create unique index attempts_one_live on attempts (run_id) where state in ('leased', 'preparing', 'running');
create index attempts_live on attempts (lease_expires_at) where state in ('leased', 'preparing', 'running');

-- What happened to a run, for people.
create table run_events (
    run_event_id uuid primary key,
    run_id       uuid not null references runs,
    kind         text not null,
    text         text not null,
    happened_at  timestamptz not null
);
create index run_events_by_run on run_events (run_id, happened_at);

create table transcript_chunks (
    attempt_id uuid not null references attempts,
    sequence   bigint not null,
    -- [{stream, text, at_ms}]
    lines      jsonb not null,
    bytes      integer not null,
    stored_at  timestamptz not null,
    primary key (attempt_id, sequence)
);
