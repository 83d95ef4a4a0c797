-- The whole process: kinds of runs, who waits behind whom, approvals, discussions, and the
-- rules a project brings along.

-- work, revise, review or discussion.
alter table runs add column kind text not null default 'work';
-- The pull request it goes on with or reviews.
alter table runs add column pull_request bigint;
-- The run whose session it goes on with.
alter table runs add column continues uuid references runs;
-- The run it waits for; it is not leased before that one is over.
alter table runs add column behind uuid references runs;
-- The stage as the rules had it when the run was asked for; null: the product's own.
alter table runs add column definition jsonb;
-- What labels asked for; null: the stage's or the operator's.
alter table runs add column model text;
alter table runs add column reasoning text;
alter table runs add column language text not null default 'en';
-- How many runs led one to the other up to this one.
alter table runs add column chain integer not null default 0;
-- Head of the default branch when the run was pinned: steering files come from there.
alter table runs add column steering_sha text;
-- Structured result of a review: {summary, findings: [{path, line, severity, body}]}.
alter table attempts add column findings jsonb;

-- One run of an issue at a time; what waits behind it is not counted.
create unique index runs_one_in_front on runs (repository_id, issue_number)
    where state in ('queued', 'active', 'waiting') and behind is null;
create unique index runs_one_behind on runs (behind) where state = 'queued' and behind is not null;
drop index runs_one_under_way;
create index runs_by_issue on runs (repository_id, issue_number, created_at desc);
create index runs_by_pull_request on runs (repository_id, pull_request) where pull_request is not null;

-- Every rule that was looked at: [{rule, passed, found}].
alter table decisions add column trace jsonb not null default '[]';

-- When the event that an effect of ours causes at the code host came back.
alter table effects add column echoed_at timestamptz;

-- How a published result's pull request is by now.
alter table publications add column head_sha text;
alter table publications add column ended_at timestamptz;
alter table publications add column merged boolean not null default false;
alter table publications add column merged_by text;

-- Who approved which result, at which head, by which right. Withdrawn, never deleted.
create table approvals (
    approval_id    uuid primary key,
    repository_id  uuid not null references repositories,
    pull_request   bigint not null,
    run_id         uuid not null references runs,
    head_sha       text not null,
    review_id      bigint not null,
    approved_by    text not null,
    by_right       text not null,
    decision_id    uuid not null references decisions,
    approved_at    timestamptz not null,
    withdrawn_at   timestamptz,
    withdrawn_why  text
);
create unique index approvals_standing on approvals (repository_id, pull_request) where withdrawn_at is null;

-- Discussions on issues; open while closed_at is null.
create table discussions (
    discussion_id uuid primary key,
    repository_id uuid not null references repositories,
    issue_number  bigint not null,
    opened_by     text not null,
    opened_at     timestamptz not null,
    closed_at     timestamptz
);
create unique index discussions_open on discussions (repository_id, issue_number) where closed_at is null;

-- Who last set a parameter label that is on.
create table parameter_labels (
    repository_id uuid not null references repositories,
    number        bigint not null,
    -- In lower case.
    label         text not null,
    set_by        text not null,
    set_at        timestamptz not null,
    primary key (repository_id, number, label)
);

-- The newest version of a project's files that reads.
create table policies (
    repository_id uuid primary key references repositories,
    -- Head of the default branch it was read at.
    commit_sha    text not null,
    -- `.callboard/stages.yaml`; null: there is none.
    stages        text,
    -- What the newest version is spoilt by, while an older one holds.
    problem       text,
    read_at       timestamptz not null
);

-- Null: it takes changes. What people call it may change; its id at the code host does not.
alter table repositories add column archived_at timestamptz;
alter table repositories add column gone_at timestamptz;
alter table repositories add column forge_id bigint;
