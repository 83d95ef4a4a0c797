-- What is deleted after a time, and that it was.

alter table deliveries add column body_deleted_at timestamptz;
alter table runs add column prompt_deleted_at timestamptz;
alter table attempts add column transcript_deleted_at timestamptz;
-- Changeset and session.
alter table attempts add column result_deleted_at timestamptz;
-- What is still to be deleted some day.
create index deliveries_with_body on deliveries (decided_at) where body_deleted_at is null;
create index attempts_with_transcript on attempts (run_id) where transcript_deleted_at is null and output_bytes > 0;
create index attempts_with_result on attempts (run_id) where changeset_key is not null or session_key is not null;
create index runs_with_prompt on runs (finished_at) where prompt_key is not null and prompt_deleted_at is null;
create index runs_finished on runs (finished_at) where finished_at is not null;
create index effects_finished on effects (finished_at) where state in ('done', 'skipped');
-- Who needs an object?
create index runs_by_prompt on runs (prompt_key) where prompt_key is not null;
create index attempts_by_changeset on attempts (changeset_key) where changeset_key is not null;
create index attempts_by_session on attempts (session_key) where session_key is not null;

-- Per kind: when the job was last there, and what it deleted.
create table retention (
    kind          text primary key,
    ran_at        timestamptz not null,
    deleted       bigint not null,
    deleted_total bigint not null
);

-- Objects no row needs any more. They are deleted a day later: a backup that has read the
-- rows has that long to read the objects. Storing the same bytes again takes the row away.
create table unneeded_objects (
    object_key text primary key,
    since      timestamptz not null
);
