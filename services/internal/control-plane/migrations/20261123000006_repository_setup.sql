-- Repositories set up by command: which webhook at the code host is ours, which secret it was
-- given last, and since when a rotation is open.
alter table repositories
    add column hook_id bigint,
    -- Null: none was given by us yet. Compared only, so that a secret can be deleted.
    add column hook_secret_id uuid,
    add column secret_rotated_at timestamptz;

-- A test delivery is waited for.
create index deliveries_pings on deliveries (source, delivery_id) where event = 'ping';
