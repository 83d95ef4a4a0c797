-- A run may have a publication per attempt; what is held is released by a person; what is
-- paused does not start.

alter table publications drop constraint publications_run_id_key;
alter table publications add unique (attempt_id);
create index publications_by_run on publications (run_id, created_at desc);
-- The branch's head when it had moved in files of the changeset; null: it was not in the way.
alter table publications add column head_moved_to text;
-- Who released it from being held, and the words that came with it; null: nobody had to.
alter table publications add column released_by text;
alter table publications add column release_reason text;

-- Object store: what an earlier attempt changed, for the next one to go on from.
alter table runs add column input_changeset_key text;

-- What stands still. One row while it does; the audit log keeps what was. Both columns null:
-- the whole platform.
create table pauses (
    pause_id   uuid primary key,
    project_id uuid references projects,
    stage      text,
    paused_by  text not null,
    reason     text not null,
    paused_at  timestamptz not null,
    unique nulls not distinct (project_id, stage),
    check (project_id is null or stage is null)
);
