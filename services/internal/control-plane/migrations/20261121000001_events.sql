-- One append-only log of everything that happened, for people and for auditors. Rows come
-- in without a number; the sealer numbers them and chains them by hash.

create sequence events_ordinal;

create table events (
    event_id    uuid not null,
    -- Injected clock; decides on the partition.
    happened_at timestamptz not null,
    -- Drawn at insert: what was inserted after another row's commit has a higher one.
    ordinal     bigint not null default nextval('events_ordinal'),
    -- No foreign keys: the log outlives what it tells of. Null: the whole platform.
    project_id  uuid,
    run_id      uuid,
    actor       text not null,
    -- "run.active", "attempt.lost", "worker.enrolled"
    action      text not null,
    -- "run:0198…"
    subject     text not null,
    -- A sentence for people; empty where there is none.
    text        text not null,
    detail      jsonb not null,
    trace_id    text,
    -- Gap-free and given once, by the sealer.
    sequence    bigint,
    primary key (event_id, happened_at)
) partition by range (happened_at);
create index events_unsealed on events (ordinal) where sequence is null;
create index events_by_sequence on events (sequence);
create index events_by_chain on events (project_id, sequence);
create index events_by_run on events (run_id, ordinal) where run_id is not null;

create function refuse_event_change() returns trigger language plpgsql as $$
declare
    numbered events;
begin
    if tg_op = 'UPDATE' then
        numbered := old;
        numbered.sequence := new.sequence;
        if old.sequence is null and new.sequence is not null and numbered *= new then
            return new;
        end if;
    end if;
    raise exception 'rows of events are never changed or deleted';
end $$;
create trigger events_append_only before update or delete on events
    for each row execute function refuse_event_change();
create trigger events_no_truncate before truncate on events
    for each statement execute function refuse_change();

-- Makes the partition of a month (UTC) unless it is there; says whether it did. It is made
-- beside the log and then attached, so that nobody who writes has to wait.
create function events_make_month(moment timestamptz) returns boolean language plpgsql as $$
declare
    name  text := 'events_' || to_char(moment at time zone 'UTC', 'YYYY_MM');
    first timestamptz := date_trunc('month', moment at time zone 'UTC') at time zone 'UTC';
    after timestamptz := (date_trunc('month', moment at time zone 'UTC') + interval '1 month') at time zone 'UTC';
begin
    if to_regclass(name) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('months of events', 0));
    if exists (select from pg_class where relname = name and relnamespace = current_schema()::regnamespace) then
        return false;
    end if;
    execute format('create table %I (like events including defaults including constraints)', name);
    -- With this check Postgres need not read the partition while it attaches it.
    execute format('alter table %I add constraint month check (happened_at >= %L and happened_at < %L)', name, first, after);
    -- Triggers on statements are not inherited.
    execute format('create trigger events_no_truncate before truncate on %I for each statement execute function refuse_change()', name);
    execute format('alter table events attach partition %I for values from (%L) to (%L)', name, first, after);
    execute format('alter table %I drop constraint month', name);
    return true;
end $$;

-- Drops the partition of a month (UTC). Gives up after two seconds rather than let writers
-- queue behind it.
create function events_drop_month(month date) returns void language plpgsql set lock_timeout = '2s' as $$
begin
    execute format('drop table %I', 'events_' || to_char(month, 'YYYY_MM'));
end $$;

-- First days of the months that have a partition.
create function events_months() returns setof date language sql stable as $$
    select to_date(right(c.relname, 7), 'YYYY_MM') from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'events'::regclass order by 1
$$;

-- The one way a row comes in. Makes the month's partition where nobody did ahead of time (a
-- machine that slept for a season), and wakes the sealer when the transaction commits.
create function events_add(
    event_id uuid, happened_at timestamptz, project_id uuid, run_id uuid, actor text, action text,
    subject text, sentence text, detail jsonb, trace_id text
) returns void language plpgsql as $$
begin
    perform events_make_month(happened_at);
    insert into events (event_id, happened_at, project_id, run_id, actor, action, subject, text, detail, trace_id)
    values (event_id, happened_at, project_id, run_id, actor, action, subject, sentence, detail, trace_id);
    perform pg_notify('callboard', 'events');
end $$;

-- What was written before, in its order.
do $$
declare
    month timestamptz;
begin
    for month in select distinct date_trunc('month', happened_at at time zone 'UTC') at time zone 'UTC'
                 from (select happened_at from audit union all select happened_at from run_events) old
    loop
        perform events_make_month(month);
    end loop;
end $$;
create function events_run_in(subject text, detail jsonb) returns uuid language sql immutable as $$
    select case when subject ~ '^run:[0-9a-f-]{36}$' then substr(subject, 5)::uuid
                when detail ->> 'run' ~ '^[0-9a-f-]{36}$' then (detail ->> 'run')::uuid end
$$;
create function events_action_of(kind text) returns text language sql immutable as $$
    select case when kind like 'attempt\_%' then 'attempt.' || substr(kind, 9) else 'run.' || kind end
$$;
insert into events (event_id, happened_at, project_id, run_id, actor, action, subject, text, detail, trace_id)
select event_id, happened_at, project_id, run_id, actor, action, subject, text, detail, trace_id
from (
    select audit_id as event_id, happened_at, project_id, events_run_in(subject, detail) as run_id, actor, action, subject,
           '' as text, detail, trace_id
    from audit
    union all
    select e.run_event_id, e.happened_at, r.project_id, e.run_id, 'platform', events_action_of(e.kind), 'run:' || e.run_id,
           e.text, '{}', r.trace_id
    from run_events e join runs r using (run_id)
) old
order by happened_at, event_id;

-- The release before this one goes on writing its two tables while it is being replaced;
-- what it writes ends up here too.
create function events_from_audit() returns trigger language plpgsql as $$
begin
    perform events_add(new.audit_id, new.happened_at, new.project_id, events_run_in(new.subject, new.detail),
                       new.actor, new.action, new.subject, '', new.detail, new.trace_id);
    return null;
end $$;
create trigger audit_to_events after insert on audit for each row execute function events_from_audit();
create function events_from_run_events() returns trigger language plpgsql as $$
begin
    perform events_add(new.run_event_id, new.happened_at, r.project_id, r.run_id, 'platform', events_action_of(new.kind),
                       'run:' || r.run_id, new.text, '{}', r.trace_id)
    from runs r where r.run_id = new.run_id;
    return null;
end $$;
create trigger run_events_to_events after insert on run_events for each row execute function events_from_run_events();

-- The sealer's one row: the last number given.
create table sealer (
    only_row boolean primary key default true check (only_row),
    sequence bigint not null
);
insert into sealer (sequence) values (0);

-- A seal closes consecutive rows of one chain and one month. Chains are projects; the rows
-- of the whole platform are the chain 00000000-….
create table seals (
    chain     uuid not null,
    number    bigint not null,
    month     date not null,
    -- Numbers of its rows, rising, and the SHA-256 of each, in the same order.
    sequences bigint[] not null,
    digests   bytea not null,
    -- Hash of the seal before, and of this one.
    previous  bytea not null,
    hash      bytea not null,
    sealed_at timestamptz not null,
    primary key (chain, number)
);
create trigger seals_append_only before update on seals for each row execute function refuse_change();
create trigger seals_no_truncate before truncate on seals for each statement execute function refuse_change();

-- The end of each chain.
create table chains (
    chain    uuid primary key,
    number   bigint not null,
    sequence bigint not null,
    hash     bytea not null
);

-- Signed words about a seal: whoever has no key cannot write the chain anew before it.
create table audit_checkpoints (
    chain     uuid not null,
    number    bigint not null,
    sequence  bigint not null,
    hash      bytea not null,
    -- Rows of months before this one are gone.
    kept_from date not null,
    -- True: the chain begins after this seal; it and the ones before were dropped.
    begins    boolean not null,
    taken_at  timestamptz not null,
    -- Ed25519, by the platform's key "audit".
    signature bytea not null,
    primary key (chain, number, kept_from, begins)
);
create trigger audit_checkpoints_append_only before update or delete on audit_checkpoints
    for each row execute function refuse_change();
create trigger audit_checkpoints_no_truncate before truncate on audit_checkpoints
    for each statement execute function refuse_change();
