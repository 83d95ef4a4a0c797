-- What a project's stages ask of a cluster, and how far its own files may go.
alter table projects add column pods jsonb not null default '{}';
-- Beside `ceilings`, which the release before reads whole.
alter table projects add column pod_ceilings jsonb not null default '{}';
