-- Tenants, their repositories and people, and the secrets that belong to them.

create table secrets (
    secret_id   uuid primary key,
    -- Which key-encryption key wraps the data key; lets keys be rotated row by row.
    key_id      text not null,
    wrapped_key bytea not null,
    ciphertext  bytea not null,
    created_at  timestamptz not null
);

-- Keys of the platform itself: "run-token".
create table platform_keys (
    name       text primary key,
    secret_id  uuid not null references secrets,
    public_key bytea not null,
    created_at timestamptz not null
);

create table projects (
    project_id uuid primary key,
    name       text not null unique,
    -- "file": comes from the configuration file and is read-only elsewhere.
    managed    text not null,
    created_at timestamptz not null
);

create table repositories (
    repository_id      uuid primary key,
    project_id         uuid not null references projects,
    -- "owner/name" as written, and in lower case for comparing.
    full_name          text not null,
    full_name_key      text not null unique,
    -- Last part of the webhook address.
    source             text not null unique,
    -- Null: ask the code host.
    default_branch     text,
    current_secret_id  uuid not null references secrets,
    previous_secret_id uuid references secrets,
    managed            text not null,
    -- False: no longer in the file. Its history stays, nothing starts.
    enabled            boolean not null default true,
    created_at         timestamptz not null
);

create table members (
    project_id uuid not null references projects,
    login_key  text not null,
    role       text not null check (role in ('viewer', 'operator', 'approver', 'admin')),
    managed    text not null,
    primary key (project_id, login_key)
);

create table workers (
    worker_id    uuid primary key,
    name         text not null unique,
    public_key   bytea not null,
    enrolled_by  text not null,
    enrolled_at  timestamptz not null,
    last_seen_at timestamptz
);

-- A worker leases for these projects and no others.
create table worker_projects (
    worker_id  uuid not null references workers,
    project_id uuid not null references projects,
    primary key (worker_id, project_id)
);
