-- Who waits for an effect: 0 a result, 1 words for people, 2 labels, 3 niceties. What the release
-- before this one stores counts as words, and keeps its order.
alter table effects add column priority smallint not null default 1;
-- Why a decision is put off, in a sentence.
alter table deliveries add column put_off_because text;
