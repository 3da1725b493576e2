-- The role that runs users' SQL, and what it may see.
--
-- The role logs in by itself: a role taken on with SET ROLE could be left again from within a query. What it sees of
-- the catalog tables is decided by row-level security from `devkit.scope`, a setting that holds segments and a
-- signature; the secret is readable by the owner alone, so a query that sets the setting itself sees nothing.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'devkit_sql') THEN
        CREATE ROLE devkit_sql;
    END IF;
    ALTER ROLE devkit_sql LOGIN NOINHERIT CONNECTION LIMIT 30;
    ALTER ROLE devkit_sql SET default_transaction_read_only = on;
    ALTER ROLE devkit_sql SET search_path = observation, vocabulary, reference;
    IF current_setting('is_superuser') = 'on' THEN
        ALTER ROLE devkit_sql SET temp_file_limit = '2GB';
    ELSE
        -- To stop its queries.
        EXECUTE 'GRANT devkit_sql TO CURRENT_USER';
    END IF;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE 'REVOKE ALL ON SCHEMA public FROM PUBLIC';
END $$;

-- Functions that reach beyond the tables. They are the server's own: only a superuser can close them, which the
-- embedded server's owner is; elsewhere the parser's list of refused functions stands before them.
DO $$
DECLARE f record;
BEGIN
    FOR f IN SELECT p.oid::regprocedure AS signature FROM pg_proc p
              WHERE p.pronamespace = 'pg_catalog'::regnamespace
                AND (p.proname IN ('set_config', 'pg_sleep', 'pg_sleep_for', 'pg_sleep_until', 'pg_notify',
                                   'query_to_xml', 'query_to_xmlschema', 'query_to_xml_and_xmlschema', 'cursor_to_xml',
                                   'cursor_to_xmlschema', 'table_to_xml', 'table_to_xmlschema',
                                   'table_to_xml_and_xmlschema', 'schema_to_xml', 'schema_to_xmlschema',
                                   'schema_to_xml_and_xmlschema', 'database_to_xml', 'database_to_xmlschema',
                                   'database_to_xml_and_xmlschema', 'ts_stat', 'pg_cancel_backend',
                                   'pg_terminate_backend', 'pg_get_functiondef', 'pg_get_viewdef', 'current_setting')
                     OR p.proname LIKE 'lo\_%' OR p.proname LIKE 'pg\_%advisory%' OR p.proname LIKE 'pg\_read\_%'
                     OR p.proname LIKE 'pg\_ls\_%' OR p.proname LIKE 'pg\_stat\_%' OR p.proname LIKE 'pg\_logical%') LOOP
        BEGIN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.signature);
        EXCEPTION WHEN insufficient_privilege THEN
            EXIT;
        END;
    END LOOP;
END $$;

CREATE TABLE devkit.secret (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), value text NOT NULL);
INSERT INTO devkit.secret (value) VALUES (gen_random_uuid()::text || gen_random_uuid()::text);

CREATE FUNCTION devkit.sign_scope(segments text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT segments || '|' || encode(sha256(convert_to(value || sha256(convert_to(value || segments, 'UTF8'))::text,
                                                       'UTF8')), 'hex')
      FROM devkit.secret
$$;

CREATE SCHEMA devkit_door;

-- The segments a query may see. Runs as its owner: the caller can read neither the secret nor the setting's key.
CREATE FUNCTION devkit_door.scope() RETURNS integer[] LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    signed text := current_setting('devkit.scope', true);
BEGIN
    IF signed IS NULL OR signed = '' OR signed <> devkit.sign_scope(split_part(signed, '|', 1)) THEN
        RETURN '{}';
    END IF;
    RETURN split_part(signed, '|', 1)::integer[];
END $$;

-- Opens a cursor: the server itself refuses several statements, and statements that are no query.
CREATE FUNCTION devkit_door.open_query(query text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE c refcursor := 'devkit_query';
BEGIN
    OPEN c NO SCROLL FOR EXECUTE query;
END $$;

-- Rows as JSON objects, up to the limits; more is an error, not a shorter answer. A row is measured before it leaves.
CREATE FUNCTION devkit_door.drain(max_rows bigint, max_bytes bigint) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c refcursor := 'devkit_query';
    r record;
    line text;
    found_rows bigint := 0;
    found_bytes bigint := 0;
BEGIN
    LOOP
        FETCH c INTO r;
        EXIT WHEN NOT FOUND;
        found_rows := found_rows + 1;
        IF found_rows > max_rows THEN
            RAISE EXCEPTION 'rows' USING ERRCODE = 'DK001';
        END IF;
        -- Before it is written out as text, which takes many times its size.
        IF found_bytes + pg_column_size(r) > max_bytes + 65536 THEN
            RAISE EXCEPTION 'bytes' USING ERRCODE = 'DK002';
        END IF;
        line := row_to_json(r)::text;
        found_bytes := found_bytes + octet_length(line) + 1;
        IF found_bytes > max_bytes THEN
            RAISE EXCEPTION 'bytes' USING ERRCODE = 'DK002';
        END IF;
        RETURN NEXT line;
    END LOOP;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA devkit, devkit_door FROM PUBLIC;
GRANT USAGE ON SCHEMA observation, vocabulary, reference, devkit_door TO devkit_sql;
GRANT SELECT ON ALL TABLES IN SCHEMA observation, vocabulary, reference TO devkit_sql;
GRANT EXECUTE ON FUNCTION devkit_door.scope(), devkit_door.open_query(text), devkit_door.drain(bigint, bigint)
    TO devkit_sql;

DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT table_schema, table_name FROM information_schema.columns
              WHERE column_name = 'segment' AND table_schema IN ('observation', 'vocabulary') LOOP
        EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', t.table_schema, t.table_name);
        EXECUTE format('CREATE POLICY version_scope ON %I.%I FOR SELECT TO devkit_sql
                        USING (segment = ANY ((SELECT devkit_door.scope())::integer[]))', t.table_schema, t.table_name);
    END LOOP;
END $$;
