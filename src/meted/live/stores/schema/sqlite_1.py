"""SQLite's first schema: what Meted 0.1 wrote. Never edit it; migrations go forward only."""

_TABLES = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    resolved INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE intervals (
    session INTEGER NOT NULL REFERENCES sessions (id),
    number INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    devices INTEGER NOT NULL,
    nano_usd_per_device_hour INTEGER NOT NULL,
    capacity_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX intervals_by_start ON intervals (started);

CREATE TABLE lines (
    session INTEGER NOT NULL,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT,
    deployment TEXT,
    job TEXT,
    request TEXT,
    note TEXT NOT NULL,
    device_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, number, position),
    FOREIGN KEY (session, number) REFERENCES intervals (session, number)
        DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_by_job ON lines (job, device_nanos, amount) WHERE job IS NOT NULL;

CREATE TABLE provisional (
    session INTEGER PRIMARY KEY REFERENCES sessions (id),
    number INTEGER NOT NULL,
    interval BLOB NOT NULL
) STRICT;

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deployment TEXT NOT NULL,
    arrived INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    ttft_us INTEGER,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE losses (
    job TEXT NOT NULL,
    step INTEGER NOT NULL,
    moment TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    loss REAL,
    held_out REAL,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    PRIMARY KEY (job, step, moment)
) STRICT;

CREATE TABLE deployments (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE jobs (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    admin INTEGER NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What is closed is closed: an interval's lines come before it, and nothing follows.
CREATE TRIGGER lines_are_complete BEFORE INSERT ON lines
WHEN EXISTS (SELECT 1 FROM intervals WHERE session = NEW.session AND number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'the interval is closed; a later one may correct it'); END;
"""

_APPEND_ONLY = """
CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only; a later interval may correct them'); END;
"""

FIRST = _TABLES + "".join(
    _APPEND_ONLY.format(table=table, verb=verb)
    for table in ("intervals", "lines", "requests")
    for verb in ("UPDATE", "DELETE")
)
