-- What the control plane keeps (wire-contract F.2, F.8): the contract of a catalog, uploads, ingestions, saved queries.
-- States change by compare-and-set on state_version; an idempotency key is used once per catalog.

ALTER TABLE devkit.catalogs
    ADD COLUMN schema_name text NOT NULL DEFAULT 'observation',
    ADD COLUMN source_tables text[],     -- null: every table
    ADD COLUMN ingestion_tables text[],  -- null: the source tables that imports can fill
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

CREATE TABLE devkit.catalog_uploads (
    upload_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    catalog_id uuid NOT NULL REFERENCES devkit.catalogs ON DELETE CASCADE,
    idempotency_key text NOT NULL,
    filename text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    content_type text NOT NULL,
    part_bytes integer NOT NULL CHECK (part_bytes > 0),
    status text NOT NULL DEFAULT 'uploading'
        CHECK (status IN ('uploading', 'verifying', 'claimed', 'quarantined', 'aborted', 'expired')),
    state_version integer NOT NULL DEFAULT 0,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    UNIQUE (catalog_id, idempotency_key)
);

CREATE TABLE devkit.ingestions (
    job_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    catalog_id uuid NOT NULL REFERENCES devkit.catalogs ON DELETE CASCADE,
    idempotency_key text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('replace', 'append')),
    version_label text,
    sources jsonb NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    state_version integer NOT NULL DEFAULT 0,
    retryable boolean NOT NULL DEFAULT false,
    version_id uuid REFERENCES devkit.catalog_versions,
    cancel_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (catalog_id, idempotency_key),
    CHECK ((status = 'completed') = (version_id IS NOT NULL)),
    CHECK (NOT retryable OR status = 'failed')
);
CREATE INDEX ON devkit.ingestions (status) WHERE status IN ('queued', 'running');

CREATE TABLE devkit.ingestion_attempts (
    job_id uuid NOT NULL REFERENCES devkit.ingestions ON DELETE CASCADE,
    number integer NOT NULL CHECK (number > 0),
    idempotency_key text NOT NULL,
    error jsonb,
    report jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (job_id, number),
    UNIQUE (job_id, idempotency_key)
);

CREATE TABLE devkit.data_views (
    view_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (name <> ''),
    definition jsonb NOT NULL,
    user_id text NOT NULL,
    organization_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON devkit.data_views (created_at DESC, view_id);
