-- The tables of one gateway. `user_version` counts their changes.

CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    models TEXT NOT NULL DEFAULT '[]'
) STRICT;

CREATE TABLE IF NOT EXISTS revisions (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS keys_added AFTER INSERT ON keys BEGIN
    INSERT INTO revisions VALUES ('keys', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;

CREATE TRIGGER IF NOT EXISTS keys_changed AFTER UPDATE ON keys BEGIN
    INSERT INTO revisions VALUES ('keys', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;

-- What the configuration says of tenants, projects, keys and plans, so that reports can be read without it.
CREATE TABLE IF NOT EXISTS plans (
    name TEXT PRIMARY KEY,
    weight INTEGER NOT NULL,
    limits TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS tenants (
    id TEXT PRIMARY KEY,
    plan TEXT NOT NULL,
    tier TEXT NOT NULL,
    enabled INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS projects (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT;

-- Keys that stand in the configuration, by the id that records call them by; their secrets are not kept.
CREATE TABLE IF NOT EXISTS configured_keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL
) STRICT;

-- One row a call. `detail` is JSON: attempts, durations, stamps, tags and what else no query filters by.
CREATE TABLE IF NOT EXISTS records (
    request_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    tenant TEXT,
    project TEXT,
    key TEXT,
    operation TEXT NOT NULL,
    model TEXT,
    deployment TEXT,
    priority TEXT NOT NULL,
    stream INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    owner TEXT NOT NULL,
    status INTEGER NOT NULL,
    error TEXT,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL,
    saved_tokens INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    fingerprint TEXT,
    normalised_fingerprint TEXT,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS records_by_id ON records (request_id);
CREATE INDEX IF NOT EXISTS records_by_time ON records (at);
