"""SQLite's second schema: accounts, houses, prices, budgets and folded hours.

Tables whose columns change are made anew beside the old ones, filled from them and renamed.
"""

_ACCOUNTS = """
CREATE TABLE houses (
    id TEXT PRIMARY KEY,
    alive_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE sessions ADD COLUMN house TEXT NOT NULL DEFAULT '';

-- A price could not change within a session.
DROP TRIGGER intervals_no_UPDATE;
DROP TRIGGER intervals_no_DELETE;
ALTER TABLE intervals ADD COLUMN priced_from INTEGER NOT NULL DEFAULT 0;
UPDATE intervals SET priced_from = (
    SELECT began.started FROM intervals AS began
    WHERE began.session = intervals.session ORDER BY began.number LIMIT 1
);
UPDATE provisional SET interval = CAST(json_set(
    CAST(interval AS TEXT), '$.priced_from', coalesce(
        (SELECT priced_from FROM intervals WHERE intervals.session = provisional.session LIMIT 1),
        json_extract(CAST(interval AS TEXT), '$.started')
    )
) AS BLOB);

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deployment TEXT NOT NULL,
    model TEXT NOT NULL,
    job TEXT NOT NULL,
    note TEXT NOT NULL,
    UNIQUE (kind, tenant, project, key_id, deployment, model, job, note)
) STRICT;

-- What was served for a tenant before there were projects belongs to the default one.
CREATE VIEW old_lines AS
SELECT session, number, position, kind, coalesce(lines.tenant, '') AS tenant,
    CASE WHEN lines.tenant IS NULL THEN '' ELSE 'default' END AS project,
    CASE WHEN lines.tenant IS NULL THEN '' ELSE coalesce(requests.key_id, '') END AS key_id,
    coalesce(lines.deployment, '') AS deployment, '' AS model, coalesce(job, '') AS job, note,
    request, lines.device_nanos, amount
FROM lines LEFT JOIN requests ON requests.id = lines.request;

CREATE VIEW old_requests AS
SELECT *, 'request' AS kind, 'default' AS project, '' AS model, '' AS job, '' AS note
FROM requests;

INSERT INTO accounts (kind, tenant, project, key_id, deployment, model, job, note)
SELECT kind, tenant, project, key_id, deployment, model, job, note FROM old_lines
UNION
SELECT kind, tenant, project, key_id, deployment, model, job, note FROM old_requests;
"""

_BOOKS = """
CREATE TABLE new_lines (
    session INTEGER NOT NULL,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id),
    request TEXT,
    device_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, number, position),
    FOREIGN KEY (session, number) REFERENCES intervals (session, number)
        DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

INSERT INTO new_lines
SELECT session, number, position, accounts.id, request, device_nanos, amount
FROM old_lines JOIN accounts USING (kind, tenant, project, key_id, deployment, model, job, note)
ORDER BY session, number, position;

CREATE TABLE new_requests (
    id TEXT PRIMARY KEY,
    session INTEGER REFERENCES sessions (id),
    account INTEGER NOT NULL REFERENCES accounts (id),
    arrived INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    ttft_us INTEGER,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    price INTEGER NOT NULL,
    stopped TEXT NOT NULL DEFAULT ''
) STRICT;

-- Until there were prices, what a request cost was what its tenant was told.
INSERT INTO new_requests (
    id, account, arrived, ended, outcome, prompt_tokens, cached_tokens, completion_tokens,
    ttft_us, device_nanos, cost, price
)
SELECT old_requests.id, accounts.id, arrived, ended, outcome, prompt_tokens, cached_tokens,
    completion_tokens, ttft_us, device_nanos, cost, cost
FROM old_requests
JOIN accounts USING (kind, tenant, project, key_id, deployment, model, job, note)
ORDER BY ended;

DROP VIEW old_lines;
DROP VIEW old_requests;
DROP TABLE lines;
DROP TABLE requests;
ALTER TABLE new_lines RENAME TO lines;
ALTER TABLE new_requests RENAME TO requests;

CREATE INDEX lines_by_account ON lines (account, session, device_nanos, amount)
    WHERE request IS NULL;
CREATE INDEX requests_by_arrival ON requests (arrived);
CREATE INDEX requests_by_session ON requests (session, ended);

CREATE TABLE charges (
    id TEXT PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (id),
    account INTEGER NOT NULL REFERENCES accounts (id),
    at INTEGER NOT NULL,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    price INTEGER NOT NULL
) STRICT;
CREATE INDEX charges_by_moment ON charges (at);

CREATE VIEW postings (id, at, account, cost, price) AS
SELECT id, arrived, account, cost, price FROM requests
UNION ALL SELECT id, at, account, cost, price FROM charges;

CREATE TABLE rerates (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE corrections (
    rerate INTEGER NOT NULL REFERENCES rerates (id),
    session INTEGER NOT NULL REFERENCES sessions (id),
    number INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id),
    request TEXT,
    amount INTEGER NOT NULL
) STRICT;
CREATE INDEX corrections_by_interval ON corrections (session, number);

CREATE TABLE price_corrections (
    rerate INTEGER NOT NULL REFERENCES rerates (id),
    id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (rerate, id)
) STRICT;
CREATE INDEX price_corrections_by_posting ON price_corrections (id);
"""

_HOURS = """
CREATE TABLE hours (
    session INTEGER NOT NULL REFERENCES sessions (id),
    hour INTEGER NOT NULL,
    intervals INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    priced_from INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    devices INTEGER NOT NULL,
    nano_usd_per_device_hour INTEGER NOT NULL,
    capacity_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX hours_by_hour ON hours (hour);

CREATE TABLE hour_lines (
    session INTEGER NOT NULL,
    first INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id),
    device_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, first, account),
    FOREIGN KEY (session, first) REFERENCES hours (session, first) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

CREATE TABLE hour_requests (
    hour INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id),
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    price INTEGER NOT NULL,
    PRIMARY KEY (hour, account, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE hour_charges (
    hour INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id),
    charges INTEGER NOT NULL,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    price INTEGER NOT NULL,
    PRIMARY KEY (hour, account)
) STRICT, WITHOUT ROWID;

-- A transaction that folds hours holds a row here, which it cannot commit: nothing has id 0.
CREATE TABLE no_row (id INTEGER PRIMARY KEY CHECK (id <> 0)) STRICT;
CREATE TABLE folding (
    open INTEGER NOT NULL DEFAULT 0 CHECK (open = 0)
        REFERENCES no_row (id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- What is closed is closed: an interval's lines come before it, and nothing follows.
CREATE TRIGGER lines_are_complete BEFORE INSERT ON lines
WHEN EXISTS (SELECT 1 FROM intervals WHERE session = NEW.session AND number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'the interval is closed; a later one may correct it'); END;
"""

_MEMORY = """
CREATE TABLE new_losses (
    position INTEGER PRIMARY KEY,
    house TEXT NOT NULL,
    job TEXT NOT NULL,
    step INTEGER NOT NULL,
    moment TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    loss REAL,
    held_out REAL,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    UNIQUE (house, job, step, moment)
) STRICT;
INSERT INTO new_losses
SELECT rowid, '', job, step, moment, tokens, loss, held_out, device_nanos, cost FROM losses;
DROP TABLE losses;
ALTER TABLE new_losses RENAME TO losses;

CREATE TABLE new_deployments (
    position INTEGER PRIMARY KEY,
    house TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (house, name)
) STRICT;
INSERT INTO new_deployments SELECT rowid, '', name, CAST(body AS TEXT) FROM deployments;
DROP TABLE deployments;
ALTER TABLE new_deployments RENAME TO deployments;

CREATE TABLE new_jobs (
    position INTEGER PRIMARY KEY,
    house TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (house, name)
) STRICT;
INSERT INTO new_jobs SELECT rowid, '', name, CAST(body AS TEXT) FROM jobs;
DROP TABLE jobs;
ALTER TABLE new_jobs RENAME TO jobs;

CREATE TABLE new_keys (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    admin INTEGER NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0,
    limits TEXT NOT NULL
) STRICT;
INSERT INTO new_keys
SELECT rowid, id, tenant, 'default', name, admin, hash, prefix, created, revoked, '{}' FROM keys;
DROP TABLE keys;
ALTER TABLE new_keys RENAME TO keys;

CREATE TABLE budgets (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE budget_windows (
    budget TEXT NOT NULL,
    starts INTEGER NOT NULL,
    ends INTEGER,
    PRIMARY KEY (budget, starts)
) STRICT, WITHOUT ROWID;

-- House '' holds what was charged before or outside of all leases.
CREATE TABLE budget_leases (
    budget TEXT NOT NULL,
    starts INTEGER NOT NULL,
    house TEXT NOT NULL,
    granted INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    PRIMARY KEY (budget, starts, house),
    CHECK (spent <= granted)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_leases_by_house ON budget_leases (house) WHERE closed = 0;

CREATE TABLE price_versions (seq INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE rate_versions (seq INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

-- One row, counted up with each change of keys, budgets, prices or rates.
CREATE TABLE revision (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL) STRICT;
INSERT INTO revision VALUES (1, 1);
"""

NEVER_UPDATED = """
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only; a later entry may correct it'); END;
"""
NEVER_DELETED = """
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only; a later entry may correct it'); END;
"""
_DELETED_BY_FOLDING = """
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
WHEN NOT EXISTS (SELECT 1 FROM folding)
BEGIN SELECT RAISE(ABORT, '{table} is append-only; only folding into hours takes away'); END;
"""

FOLDED = ("intervals", "lines", "requests", "charges", "corrections", "price_corrections")
"""Append-only until old entries are folded into hours, in a transaction that says so."""
KEPT = ("rerates", "price_versions", "rate_versions", "audit")
"""Append-only for ever."""

SECOND = (
    _ACCOUNTS
    + _BOOKS
    + _HOURS
    + _MEMORY
    + "".join(NEVER_UPDATED.format(table=table) for table in (*FOLDED, *KEPT))
    + "".join(_DELETED_BY_FOLDING.format(table=table) for table in FOLDED)
    + "".join(NEVER_DELETED.format(table=table) for table in KEPT)
)
