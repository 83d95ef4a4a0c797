-- What an attempt can be gone on from when it is lost.

create table checkpoints (
    -- The newest replaces the one before.
    attempt_id    uuid primary key references attempts,
    run_id        uuid not null references runs,
    -- The commit the changeset was made on; both go together.
    base_sha      text not null,
    -- Object store.
    changeset_key text not null,
    -- Null: the agent keeps no session.
    session_key   text,
    -- Counts from 1 per attempt.
    number        integer not null,
    files         integer not null,
    -- Of all contents and the session.
    bytes         bigint not null,
    taken_at      timestamptz not null
);
create index checkpoints_by_run on checkpoints (run_id);

-- The attempt whose checkpoint this one goes on from.
alter table attempts add column restored_from uuid references attempts;
-- Which it was, in a sentence; empty when there was nothing to go on from.
alter table attempts add column start_note text not null default '';
