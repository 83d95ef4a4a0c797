-- The platform as a GitHub App: where it is installed, and which repositories it reaches.

-- The installation that covers the repository, as far as it was told.
alter table repositories add column installation_id bigint;
-- False: its deliveries come by the App's webhook. Its source is then its name, which no
-- address can hold, and its secret the App's.
alter table repositories add column own_hook boolean not null default true;
-- Why the code host does not let us at it, a sentence; null: it does, as far as we know.
alter table repositories add column no_access_why text;
alter table repositories add column no_access_since timestamptz;
-- When it was last asked whether it does again.
alter table repositories add column access_asked_at timestamptz;
