-- The transcript of an attempt that is over becomes one object, and its chunks go.

-- Object store; null while the chunks are here.
alter table attempts add column transcript_key text;
-- Streams in which a private key has begun and not ended; its lines are censored.
alter table attempts add column open_key_blocks text[] not null default '{}';
