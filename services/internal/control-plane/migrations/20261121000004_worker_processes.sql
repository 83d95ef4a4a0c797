-- Which process of a worker is the present one. A worker that was restarted has lost its
-- attempts, and nobody has to wait for their leases to run out.

create table worker_processes (
    process_id    uuid primary key,
    worker_id     uuid not null references workers,
    first_seen_at timestamptz not null
);
create index worker_processes_by_worker on worker_processes (worker_id);

-- Null: a worker of a release that does not say.
alter table workers add column process_id uuid;
alter table attempts add column process_id uuid;
