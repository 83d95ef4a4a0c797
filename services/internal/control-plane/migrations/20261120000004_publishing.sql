-- A changeset's way to the code host, every change in the outside world, and the audit log.

create table publications (
    publication_id      uuid primary key,
    run_id              uuid not null unique references runs,
    attempt_id          uuid not null references attempts,
    state               text not null,
    -- [{code, path, sentence}]
    findings            jsonb not null default '[]',
    branch              text,
    commit_sha          text,
    pull_request_number bigint,
    pull_request_url    text,
    created_at          timestamptz not null,
    published_at        timestamptz
);

-- Where a run's status comment is; found here and never by its text.
create table status_comments (
    run_id     uuid primary key references runs,
    comment_id bigint not null,
    url        text not null,
    author     text not null,
    created_at timestamptz not null
);

create table effects (
    effect_id     uuid primary key,
    -- Order of creation. Effects of a run are applied in this order.
    ordinal       bigint generated always as identity unique,
    run_id        uuid references runs,
    repository_id uuid not null references repositories,
    kind          text not null,
    payload       jsonb not null,
    state         text not null check (state in ('pending', 'done', 'skipped', 'dead')),
    tries         integer not null default 0,
    -- Set before the call goes out; tells after a crash that the outcome is unknown.
    tried_at      timestamptz,
    available_at  timestamptz not null,
    last_error    text,
    -- Address of what was made, for people.
    result_url    text,
    result        jsonb,
    trace_id      text not null,
    created_at    timestamptz not null,
    finished_at   timestamptz
);
create index effects_pending on effects (ordinal) where state = 'pending';
create index effects_by_run on effects (run_id, ordinal);

create table audit (
    audit_id    uuid primary key,
    project_id  uuid references projects,
    happened_at timestamptz not null,
    actor       text not null,
    -- "run.started", "run.cancelled", "worker.enrolled"
    action      text not null,
    -- "run:0198…"
    subject     text not null,
    detail      jsonb not null,
    trace_id    text
);
create index audit_by_subject on audit (subject, happened_at);

-- Rows are added and never changed. (plpgsql is part of every Postgres database.)
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'rows of % are never changed or deleted', tg_table_name;
end $$;
create trigger audit_append_only before update or delete on audit
    for each row execute function refuse_change();
create trigger audit_no_truncate before truncate on audit
    for each statement execute function refuse_change();
