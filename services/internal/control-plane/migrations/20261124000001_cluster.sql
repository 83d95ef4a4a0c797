-- Attempts that run as pods of a cluster, and workers that can be told to rest.

-- The object that stands for the attempt: its name is stored before it is made, what the cluster
-- calls it before anything is made for it.
alter table attempts add column object_namespace text;
alter table attempts add column object_name text;
alter table attempts add column object_digest text;
alter table attempts add column object_uid text;
-- Why it does not run yet, a sentence; null once it runs.
alter table attempts add column waits_for text;
-- It was told to leave its worker, which is drained; null otherwise.
alter table attempts add column drained_at timestamptz;
create unique index attempts_object on attempts (object_namespace, object_name);

-- What the worker says of itself.
alter table workers add column is_cluster boolean not null default false;
alter table workers add column declared_labels jsonb;
-- What it was enrolled with; runs may ask for them.
alter table workers add column labels jsonb not null default '{}';
-- It gets nothing new.
alter table workers add column cordoned_at timestamptz;
-- What it has is to move to others.
alter table workers add column drained_at timestamptz;
-- Its last sign of life by the database's clock, as leases have it.
alter table workers add column heard_at timestamptz;

-- Why there is no worker for a queued run, a sentence, and since when.
alter table runs add column no_worker text;
alter table runs add column no_worker_since timestamptz;

-- An object that nobody asked for; said once.
create table foreign_objects (
    uid        text primary key,
    worker_id  uuid not null references workers,
    namespace  text not null,
    name       text not null,
    found_at   timestamptz not null
);
create index foreign_objects_found on foreign_objects (found_at);
