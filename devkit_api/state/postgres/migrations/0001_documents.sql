-- The documents of the devkit's state, and which devkit may write them.
-- No role but the schema's owner sees any of it, least of all the one that runs users' SQL.

CREATE TABLE devkit_state.owner (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    state_id uuid NOT NULL DEFAULT gen_random_uuid(),
    epoch bigint NOT NULL DEFAULT 0,  -- one more with each devkit that takes over; a write names the one it belongs to
    holder text NOT NULL DEFAULT '',  -- for people
    taken_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO devkit_state.owner DEFAULT VALUES;

-- json, not jsonb: a document comes back byte for byte, \u0000 in a text included.
CREATE TABLE devkit_state.documents (
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    document json NOT NULL CHECK (json_typeof(document) = 'object'),
    PRIMARY KEY (collection, key)
) WITH (fillfactor = 80);  -- a run is written again as it moves on

REVOKE ALL ON SCHEMA devkit_state FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA devkit_state FROM PUBLIC;
