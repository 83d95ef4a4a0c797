-- Runs on pull requests, and the session a run goes on with.

-- Where the pull request's branch left the branch it is to be merged into; null: the run looks at
-- no pull request.
alter table runs add column review_base_sha text;

-- The attempt of an earlier run whose session this one goes on with.
alter table attempts add column session_from uuid references attempts;
