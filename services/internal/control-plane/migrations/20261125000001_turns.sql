-- When a run of the project was last given to the worker, by the database's clock.
alter table worker_projects add column last_turn_at timestamptz;
