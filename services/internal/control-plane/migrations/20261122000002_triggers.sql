-- What a project's own files can only narrow, and the bots that may ask like people: as the
-- configuration has it.
alter table projects add column ceilings jsonb not null default '{}';
alter table projects add column bots text[] not null default '{}';

-- Where a repository was renamed at the code host: the name the configuration still has, in
-- lower case.
alter table repositories add column renamed_from text;
create unique index repositories_renamed_from on repositories (renamed_from) where renamed_from is not null;

create index publications_by_pull_request on publications (pull_request_number) where pull_request_number is not null;
