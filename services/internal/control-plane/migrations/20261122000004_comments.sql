-- Where people see how a run was asked for: the comment, the review, the issue. Null: on a
-- command line, or by the release before.
alter table runs add column asked_url text;
