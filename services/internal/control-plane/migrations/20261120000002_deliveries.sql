-- What the code host told us, and what we decided.

create table deliveries (
    delivery_id uuid primary key,
    source      text not null,
    guid        text not null,
    event       text not null,
    headers     jsonb not null,
    body        bytea not null,
    trace_id    text not null,
    received_at timestamptz not null,
    stored_at   timestamptz not null,
    -- Null until a decision stands.
    decided_at  timestamptz,
    -- Set when deciding failed on our side; tried again after this time.
    retry_at    timestamptz,
    tries       integer not null default 0,
    unique (source, guid)
);
create index deliveries_undecided on deliveries (received_at) where decided_at is null;
create index deliveries_guid on deliveries (guid);

create table decisions (
    decision_id   uuid primary key,
    -- Null for commands.
    delivery_id   uuid unique references deliveries,
    project_id    uuid references projects,
    repository_id uuid references repositories,
    issue_number  bigint,
    channel       text not null check (channel in ('webhook', 'command_line')),
    actor         text,
    -- "issues.labeled"
    subject       text not null,
    decision      text not null,
    reason        text not null,
    rule          text not null,
    remedy        text not null,
    decided_at    timestamptz not null
);
create index decisions_by_issue on decisions (repository_id, issue_number, decided_at);
