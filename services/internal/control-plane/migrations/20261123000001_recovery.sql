-- What was missed, and how it is made up for.

-- webhook: sent to us and signed. fetched: read at the code host's API, with our credential.
-- reconciled: made of an issue's history, which told of a label that no delivery told of.
alter table deliveries add column provenance text not null default 'webhook'
    check (provenance in ('webhook', 'fetched', 'reconciled'));

-- Since when the repository is looked after, where it was not for a while; null: since it is known.
alter table repositories add column enabled_since timestamptz;

-- The label the event was about; null for events about none, and in older rows.
alter table decisions add column label text;

-- The webhook whose deliveries are looked through for a repository, and how far.
create table recovery_hooks (
    repository_id uuid primary key references repositories,
    -- Its id at the code host; null: the App's, or not known.
    hook_id       bigint,
    -- What was sent before then was looked at; null: nothing yet.
    looked_to     timestamptz,
    -- When the code host was asked last.
    asked_at      timestamptz not null,
    -- no_right: the credential may not see it. no_hook: none sends to our address.
    state         text not null check (state in ('on', 'no_right', 'no_hook'))
);

-- How far a repository's issues were looked through for labels without a decision.
create table recovery_labels (
    repository_id uuid primary key references repositories,
    -- What changed before then was looked at.
    looked_to     timestamptz not null
);

-- A time in which something of a repository was missed.
create table gaps (
    gap_id        uuid primary key,
    repository_id uuid not null references repositories,
    -- The first and the last that was missed.
    started_at    timestamptz not null,
    ended_at      timestamptz not null,
    -- Labels that no delivery told of.
    reconciled    integer not null default 0,
    -- Null while something of it is still looked for.
    closed_at     timestamptz
);
create unique index gaps_one_open on gaps (repository_id) where closed_at is null;
create index gaps_closed on gaps (closed_at);

-- A delivery that the code host made and we do not have.
create table missed_deliveries (
    source       text not null,
    guid         text not null,
    gap_id       uuid not null references gaps,
    -- Id of its newest attempt at the code host, when we looked.
    host_id      bigint not null,
    event        text not null,
    -- When it was sent first.
    delivered_at timestamptz not null,
    -- When the code host was asked to send it again, fetched for us, and when it was here.
    asked_at     timestamptz,
    fetched_at   timestamptz,
    recovered_at timestamptz,
    given_up_at  timestamptz,
    -- Why it was given up, or what the last try said.
    words        text not null default '',
    primary key (source, guid)
);
create index missed_deliveries_open on missed_deliveries (source) where recovered_at is null and given_up_at is null;
create index missed_deliveries_gap on missed_deliveries (gap_id);
