-- sqlite.sql: the schema, and every statement that the thread road runs: each begins with its name (sqlite.c finds it by that, and refuses to
-- start if one is missing or unknown), and is prepared once. Money is in cents; instants are milliseconds since 1970 UTC.

-- name: SCHEMA_1
-- A released schema is never edited: the next one is a script of its own, which takes this one further.
CREATE TABLE accounts (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    token_hash    BLOB, -- NULL: the house, nobody can sign in
    balance_cents INTEGER NOT NULL CHECK (balance_cents >= 0 OR id <= 0),
    opened_at_ms  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX accounts_by_token ON accounts (token_hash);

CREATE TABLE orders (
    id              INTEGER PRIMARY KEY,
    account_id      INTEGER NOT NULL REFERENCES accounts (id),
    flavor          TEXT NOT NULL,
    pizzas          INTEGER NOT NULL CHECK (pizzas > 0),
    price_cents     INTEGER NOT NULL CHECK (price_cents > 0),
    placed_at_ms    INTEGER NOT NULL,
    ready_at_ms     INTEGER NOT NULL CHECK (ready_at_ms >= placed_at_ms),
    cancelled_at_ms INTEGER CHECK (cancelled_at_ms < ready_at_ms)
) STRICT;
CREATE INDEX orders_by_account ON orders (account_id); -- and by id: every index ends with the rowid
CREATE INDEX orders_by_ready ON orders (account_id, ready_at_ms) WHERE cancelled_at_ms IS NULL;
CREATE INDEX orders_by_cancelled ON orders (account_id, cancelled_at_ms) WHERE cancelled_at_ms IS NOT NULL;
CREATE INDEX orders_cancelled ON orders (account_id) WHERE cancelled_at_ms IS NOT NULL;

-- The ledger. Every movement of money is two entries that share a movement_id, the id of the first, and sum to zero.
CREATE TABLE entries (
    id           INTEGER PRIMARY KEY,
    movement_id  INTEGER NOT NULL,
    account_id   INTEGER NOT NULL REFERENCES accounts (id),
    peer_id      INTEGER NOT NULL,
    -- not IN (…): SQLite would build a b-tree of the four at every insert, a third of an order's instructions
    kind         TEXT NOT NULL CHECK (kind = 'order' OR kind = 'transfer' OR kind = 'opening' OR kind = 'refund'),
    amount_cents INTEGER NOT NULL CHECK (amount_cents <> 0),
    order_id     INTEGER REFERENCES orders (id),
    note         TEXT,
    at_ms        INTEGER NOT NULL
) STRICT;
CREATE INDEX entries_by_account ON entries (account_id) WHERE account_id > 0; -- nobody pages through the house's

-- The first outcome under each Idempotency-Key. Kept for ever: the simplest promise. A service that lives for years would forget them
-- after some days. subject_id: the order, or the transfer's movement.
CREATE TABLE keys (
    account_id    INTEGER NOT NULL REFERENCES accounts (id),
    key           TEXT NOT NULL,
    fingerprint   BLOB NOT NULL,
    outcome       TEXT NOT NULL,
    subject_id    INTEGER NOT NULL,
    balance_cents INTEGER NOT NULL,
    PRIMARY KEY (account_id, key)
) STRICT, WITHOUT ROWID;

INSERT INTO accounts (id, name, balance_cents, opened_at_ms) VALUES (0, 'the bank', 0, 0), (-1, 'the till', 0, 0);

-- Transactions: the reads of a batch in one, the writes of a group in one, each of these in a savepoint.
-- name: BEGIN_READ
BEGIN;
-- name: BEGIN_WRITE
BEGIN IMMEDIATE;
-- name: COMMIT
COMMIT;
-- name: ROLLBACK
ROLLBACK;
-- name: SAVEPOINT
SAVEPOINT job;
-- name: RELEASE
RELEASE job;
-- name: ROLLBACK_TO
ROLLBACK TO job;

-- name: ACCOUNT_BY_TOKEN
SELECT id, name, balance_cents, token_hash FROM accounts WHERE token_hash = ?;
-- name: BALANCE_OF
SELECT balance_cents FROM accounts WHERE id = ? AND id > 0;
-- name: ACCOUNT_OPEN
INSERT INTO accounts (name, token_hash, balance_cents, opened_at_ms) VALUES (?, ?, 0, ?);
-- name: ACCOUNT_ADD
UPDATE accounts SET balance_cents = balance_cents + ? WHERE id = ?;

-- name: ENTRY_FIRST
INSERT INTO entries (movement_id, account_id, peer_id, kind, amount_cents, order_id, note, at_ms)
VALUES ((SELECT coalesce(max(id), 0) + 1 FROM entries), ?, ?, ?, ?, nullif(?, 0), nullif(?, ''), ?);
-- name: ENTRY_SECOND
INSERT INTO entries (movement_id, account_id, peer_id, kind, amount_cents, order_id, note, at_ms)
VALUES (last_insert_rowid(), ?, ?, ?, ?, nullif(?, 0), nullif(?, ''), ?);
-- name: ENTRIES_OF
SELECT id, kind, amount_cents, at_ms, coalesce(order_id, 0), movement_id, peer_id, coalesce(note, '')
FROM entries WHERE account_id = ? AND account_id > 0 AND id < ? ORDER BY id DESC LIMIT ?;
-- When the last thing happened.
-- name: LATEST
SELECT at_ms FROM entries WHERE id = (SELECT max(id) FROM entries);

-- name: KEY_FIND
SELECT fingerprint, outcome, subject_id, balance_cents FROM keys WHERE account_id = ? AND key = ?;
-- name: KEY_KEEP
INSERT INTO keys (account_id, key, fingerprint, outcome, subject_id, balance_cents) VALUES (?, ?, ?, ?, ?, ?);

-- name: ORDER_PLACE
INSERT INTO orders (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms) VALUES (?, ?, ?, ?, ?, ?);
-- name: ORDER_OF
SELECT id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0)
FROM orders WHERE id = ? AND account_id = ?;
-- name: ORDER_CANCEL
UPDATE orders SET cancelled_at_ms = ? WHERE id = ?;

-- Pages of orders, newest first: of account ?1, at the instant ?2, before the id ?3, ?4 of them. What has to be sorted to find them are ids
-- in an index, not rows.
-- name: ORDERS_OF
SELECT id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0)
FROM orders WHERE id IN (
    SELECT id FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 AND ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4
) ORDER BY id DESC;
-- name: ORDERS_BAKING
SELECT id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0)
FROM orders WHERE id IN (
    SELECT id FROM orders INDEXED BY orders_by_ready
    WHERE account_id = ?1 AND ready_at_ms > ?2 AND cancelled_at_ms IS NULL AND id < ?3 ORDER BY id DESC LIMIT ?4
) ORDER BY id DESC;
-- It walks over what is baking or cancelled on its way: the price of no index for a rare question.
-- name: ORDERS_READY
SELECT id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0)
FROM orders WHERE id IN (
    SELECT id FROM orders INDEXED BY orders_by_account
    WHERE account_id = ?1 AND ready_at_ms <= ?2 AND cancelled_at_ms IS NULL AND id < ?3 ORDER BY id DESC LIMIT ?4
) ORDER BY id DESC;
-- name: ORDERS_CANCELLED
SELECT id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0)
FROM orders WHERE id IN (
    SELECT id FROM orders INDEXED BY orders_cancelled
    WHERE account_id = ?1 AND cancelled_at_ms IS NOT NULL AND ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4
) ORDER BY id DESC;

-- What happened to the orders of ?1 after (?2, ?4, ?5) and before ?3, ?6 of them. An index by placed_at_ms would make every order dearer by
-- half, so what was placed is found by walking back from the newest order: to the first that is too old, or over ?7 of them.
-- name: EVENTS_AFTER
WITH events AS (
    SELECT placed_at_ms AS happened_ms, 0 AS event, * FROM (
        SELECT * FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 AND placed_at_ms < ?3 AND id > coalesce((
            SELECT id FROM (
                SELECT id, placed_at_ms FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 AND placed_at_ms < ?3
                ORDER BY id DESC LIMIT ?7
            ) WHERE placed_at_ms < ?2 LIMIT 1
        ), 0) ORDER BY id DESC LIMIT ?7
    )
    UNION ALL SELECT ready_at_ms, 1, * FROM orders INDEXED BY orders_by_ready
        WHERE account_id = ?1 AND ready_at_ms >= ?2 AND ready_at_ms < ?3 AND cancelled_at_ms IS NULL
    UNION ALL SELECT cancelled_at_ms, 2, * FROM orders INDEXED BY orders_by_cancelled
        WHERE account_id = ?1 AND cancelled_at_ms >= ?2 AND cancelled_at_ms < ?3
)
SELECT id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0), happened_ms, event
FROM events WHERE (happened_ms, id, event) > (?2, ?4, ?5) ORDER BY happened_ms, id, event LIMIT ?6;
-- How many of these there are.
-- name: EVENTS_LEFT
WITH events AS (
    SELECT placed_at_ms AS happened_ms, 0 AS event, id FROM (
        SELECT id, placed_at_ms FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 AND placed_at_ms < ?3 AND id > coalesce((
            SELECT id FROM (
                SELECT id, placed_at_ms FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 AND placed_at_ms < ?3
                ORDER BY id DESC LIMIT ?7
            ) WHERE placed_at_ms < ?2 LIMIT 1
        ), 0) ORDER BY id DESC LIMIT ?7
    )
    UNION ALL SELECT ready_at_ms, 1, id FROM orders INDEXED BY orders_by_ready
        WHERE account_id = ?1 AND ready_at_ms >= ?2 AND ready_at_ms < ?3 AND cancelled_at_ms IS NULL
    UNION ALL SELECT cancelled_at_ms, 2, id FROM orders INDEXED BY orders_by_cancelled
        WHERE account_id = ?1 AND cancelled_at_ms >= ?2 AND cancelled_at_ms < ?3
)
SELECT count(*) FROM (SELECT id FROM events WHERE (happened_ms, id, event) > (?2, ?4, ?5) LIMIT ?6);
-- When the next thing happens to them, from ?2 on, by itself.
-- name: EVENTS_NEXT
SELECT min(at_ms) FROM (
    SELECT placed_at_ms AS at_ms FROM (
        SELECT placed_at_ms FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 ORDER BY id DESC LIMIT 1
    ) WHERE placed_at_ms >= ?2
    UNION ALL SELECT min(ready_at_ms) FROM orders INDEXED BY orders_by_ready
        WHERE account_id = ?1 AND ready_at_ms >= ?2 AND cancelled_at_ms IS NULL
    UNION ALL SELECT min(cancelled_at_ms) FROM orders INDEXED BY orders_by_cancelled
        WHERE account_id = ?1 AND cancelled_at_ms >= ?2
);

-- To what it is: changes nothing, and yet has to be written.
-- name: PROBE
PRAGMA application_id = 1181708910;
-- Changes when another process has written.
-- name: DATA_VERSION
PRAGMA data_version;
-- name: USER_VERSION
PRAGMA user_version;
-- The lab's slow query. still_busy() is ours.
-- name: SLOW
WITH RECURSIVE spin (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM spin WHERE still_busy()) SELECT max(n) FROM spin;
