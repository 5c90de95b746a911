-- postgres.sql: the schema, and every statement that the native road runs: each begins with its name (postgres.c finds it by that), and is
-- prepared once on every connection. One call is one operation: a write is one PL/pgSQL function. Money is in cents; instants are milliseconds
-- since 1970 UTC, by the server's clock. Everything stands in a schema of its own, called by its full name: whatever else is in the database is
-- none of our business.

-- name: SCHEMA_1
-- A released schema is never edited: the next one is a script of its own, which takes this one further.
CREATE SCHEMA forno;
CREATE TABLE forno.meta (application text NOT NULL, version bigint NOT NULL);
INSERT INTO forno.meta VALUES ('forno', 1);

CREATE TABLE forno.accounts ( -- of customers alone. The house has no row: it is 0 (the bank) and -1 (the till) in the ledger
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL,
    token_hash    bytea NOT NULL UNIQUE,
    balance_cents bigint NOT NULL CHECK (balance_cents BETWEEN 0 AND 9007199254740991),
    opened_at_ms  bigint NOT NULL,
    latest_ms     bigint NOT NULL -- when something last happened to it: whatever comes next does not come before
) WITH (fillfactor = 50); -- room beside a row for its next version: no index has to learn of it

CREATE TABLE forno.orders (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      bigint NOT NULL,
    flavor          text NOT NULL,
    pizzas          bigint NOT NULL CHECK (pizzas > 0),
    price_cents     bigint NOT NULL CHECK (price_cents > 0),
    placed_at_ms    bigint NOT NULL,
    ready_at_ms     bigint NOT NULL CHECK (ready_at_ms >= placed_at_ms),
    cancelled_at_ms bigint CHECK (cancelled_at_ms < ready_at_ms)
);
-- By its number an order stands in one of two indexes: so whoever asks for one kind does not walk through all of the other, and a new order is
-- entered in no more of them than if there were one for all.
CREATE INDEX orders_standing ON forno.orders (account_id, id) WHERE cancelled_at_ms IS NULL;
CREATE INDEX orders_cancelled ON forno.orders (account_id, id) WHERE cancelled_at_ms IS NOT NULL;
CREATE INDEX orders_by_ready ON forno.orders (account_id, ready_at_ms, id) WHERE cancelled_at_ms IS NULL;
CREATE INDEX orders_by_cancelled ON forno.orders (account_id, cancelled_at_ms, id) WHERE cancelled_at_ms IS NOT NULL;

-- The ledger. Every movement of money is two entries that share a movement_id, the id of the first, and sum to zero. No foreign keys: each
-- would be a look at a row, and a lock on it, for every insert; the audit looks whether every reference leads somewhere.
-- Trap: torn pairs. Both ids come from one number that is drawn once and held in a variable; what was drawn last (currval) may be another's.
CREATE SEQUENCE forno.movements INCREMENT BY 2;
CREATE TABLE forno.entries (
    id           bigint PRIMARY KEY,
    movement_id  bigint NOT NULL,
    account_id   bigint NOT NULL,
    peer_id      bigint NOT NULL,
    kind         text NOT NULL CHECK (kind = 'order' OR kind = 'transfer' OR kind = 'opening' OR kind = 'refund'),
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),
    order_id     bigint,
    note         text,
    at_ms        bigint NOT NULL
);
CREATE INDEX entries_by_account ON forno.entries (account_id, id) WHERE account_id > 0; -- nobody pages through the house's

-- The first outcome under each Idempotency-Key. subject_id: the order, or the transfer's movement.
CREATE TABLE forno.keys (
    account_id    bigint NOT NULL,
    key           text NOT NULL,
    fingerprint   bytea NOT NULL,
    outcome       text NOT NULL,
    subject_id    bigint NOT NULL,
    balance_cents bigint NOT NULL,
    PRIMARY KEY (account_id, key)
);

CREATE FUNCTION forno.clock_ms() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT floor(date_part('epoch', clock_timestamp()) * 1000)::bigint $$;

-- An account is locked by its id among the advisory locks, not by its row: so a reader too can wait for whoever is writing, without writing.
CREATE FUNCTION forno.lock_of(account bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT 5075401121841807360 + account $$; -- "Forn" in the upper half

-- Double entry: what leaves one account arrives in another. Returns the movement.
-- Trap: the hot row. A balance of the till, stored, would make every order wait for the one before. It is the sum of its entries.
CREATE FUNCTION forno.move(a_kind text, a_from bigint, a_to bigint, amount bigint, an_order bigint, a_note text, at bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    movement bigint := nextval('forno.movements');
BEGIN
    INSERT INTO forno.entries (id, movement_id, account_id, peer_id, kind, amount_cents, order_id, note, at_ms)
    VALUES (movement, movement, a_from, a_to, a_kind, -amount, an_order, a_note, at),
           (movement + 1, movement, a_to, a_from, a_kind, amount, an_order, a_note, at);
    UPDATE forno.accounts SET balance_cents = balance_cents + CASE id WHEN a_from THEN -amount ELSE amount END, latest_ms = at
    WHERE id IN (a_from, a_to);
    RETURN movement;
END $$;

-- The token is its own key: who asks again, because no answer came, is given what was opened.
CREATE FUNCTION forno.open_account(a_name text, a_token bytea, credit bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := forno.clock_ms();
    account bigint;
BEGIN
    INSERT INTO forno.accounts (name, token_hash, balance_cents, opened_at_ms, latest_ms) VALUES (a_name, a_token, 0, now_ms, now_ms)
    ON CONFLICT (token_hash) DO NOTHING RETURNING id INTO account;
    IF account IS NULL THEN
        SELECT id INTO account FROM forno.accounts WHERE token_hash = a_token;
    ELSIF credit > 0 THEN
        PERFORM forno.move('opening', 0, account, credit, NULL, NULL, now_ms);
    END IF;
    RETURN account;
END $$;

-- Trap: the early subscriber. First the lock, then the clock, then a look with fresh eyes (each statement of a function has a snapshot of its
-- own): whoever was told the time while he held the lock, is told later of everything that got it after him.
CREATE FUNCTION forno.place_order(a_token bytea, a_key text, a_print bytea, a_flavor text, pizzas bigint, price bigint, bake_ms bigint,
    OUT outcome text, OUT replayed boolean, OUT now_ms bigint, OUT placed forno.orders) LANGUAGE plpgsql AS $$
DECLARE
    account bigint;
    balance bigint;
    kept forno.keys;
BEGIN
    replayed := false;
    SELECT id INTO account FROM forno.accounts WHERE token_hash = a_token;
    IF account IS NULL THEN
        outcome := 'no-account';
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(forno.lock_of(account));
    SELECT balance_cents, greatest(forno.clock_ms(), latest_ms) INTO balance, now_ms FROM forno.accounts WHERE id = account;
    IF a_key IS NOT NULL THEN
        SELECT * INTO kept FROM forno.keys WHERE account_id = account AND key = a_key;
        IF FOUND THEN
            replayed := kept.fingerprint = a_print;
            outcome := CASE WHEN replayed THEN kept.outcome ELSE 'key-reused' END;
            IF outcome = 'ok' THEN
                SELECT * INTO placed FROM forno.orders WHERE id = kept.subject_id;
            END IF;
            RETURN;
        END IF;
    END IF;
    IF price > balance THEN
        outcome := 'insufficient-funds';
    ELSE
        outcome := 'ok';
        INSERT INTO forno.orders AS o (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms)
        VALUES (account, a_flavor, place_order.pizzas, price, now_ms, now_ms + bake_ms) RETURNING o.* INTO placed;
        PERFORM forno.move('order', account, -1, price, placed.id, NULL, now_ms);
    END IF;
    IF a_key IS NOT NULL THEN
        INSERT INTO forno.keys (account_id, key, fingerprint, outcome, subject_id, balance_cents)
        VALUES (account, a_key, a_print, place_order.outcome, coalesce(placed.id, 0), 0);
    END IF;
END $$;

CREATE FUNCTION forno.cancel_order(a_token bytea, an_order bigint, OUT outcome text, OUT now_ms bigint, OUT cancelled forno.orders)
LANGUAGE plpgsql AS $$
DECLARE
    account bigint;
    balance bigint;
BEGIN
    SELECT id INTO account FROM forno.accounts WHERE token_hash = a_token;
    IF account IS NULL THEN
        outcome := 'no-account';
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(forno.lock_of(account));
    SELECT balance_cents, greatest(forno.clock_ms(), latest_ms) INTO balance, now_ms FROM forno.accounts WHERE id = account;
    SELECT * INTO cancelled FROM forno.orders WHERE id = an_order AND account_id = account;
    outcome := CASE
        WHEN cancelled.id IS NULL THEN 'not-found'
        WHEN cancelled.cancelled_at_ms IS NOT NULL THEN 'already-cancelled'
        WHEN cancelled.ready_at_ms <= now_ms THEN 'already-ready'
        -- Who has been paid up to the limit meanwhile keeps the pizza until he has spent some.
        WHEN cancelled.price_cents > 9007199254740991 - balance THEN 'too-much'
        ELSE 'ok' END;
    IF outcome = 'ok' THEN
        cancelled.cancelled_at_ms := now_ms;
        UPDATE forno.orders SET cancelled_at_ms = now_ms WHERE id = an_order;
        PERFORM forno.move('refund', -1, account, cancelled.price_cents, an_order, NULL, now_ms);
    END IF;
END $$;

-- Both accounts are locked in the order in which groups lock theirs: of the hashes. By their ids, one of these and a group would now and then
-- wait for each other (trap: groups that deadlock).
CREATE FUNCTION forno.transfer(a_token bytea, a_key text, a_print bytea, receiver bigint, amount bigint, a_note text,
    OUT outcome text, OUT replayed boolean, OUT movement bigint, OUT balance bigint) LANGUAGE plpgsql AS $$
DECLARE
    sender bigint;
    party bigint;
    has bigint; -- the receiver
    now_ms bigint;
    kept forno.keys;
BEGIN
    replayed := false;
    movement := 0;
    balance := 0;
    SELECT id INTO sender FROM forno.accounts WHERE token_hash = a_token;
    IF sender IS NULL THEN
        outcome := 'no-account';
        RETURN;
    END IF;
    FOR party IN SELECT id FROM forno.accounts WHERE id IN (sender, receiver) ORDER BY token_hash LOOP
        PERFORM pg_advisory_xact_lock(forno.lock_of(party));
    END LOOP;
    IF a_key IS NOT NULL THEN
        SELECT * INTO kept FROM forno.keys WHERE account_id = sender AND key = a_key;
        IF FOUND THEN
            replayed := kept.fingerprint = a_print;
            outcome := CASE WHEN replayed THEN kept.outcome ELSE 'key-reused' END;
            movement := kept.subject_id;
            balance := kept.balance_cents;
            RETURN;
        END IF;
    END IF;
    SELECT greatest(forno.clock_ms(), max(latest_ms)) INTO now_ms FROM forno.accounts WHERE id IN (sender, receiver);
    SELECT balance_cents INTO balance FROM forno.accounts WHERE id = sender;
    SELECT balance_cents INTO has FROM forno.accounts WHERE id = receiver;
    outcome := CASE
        WHEN receiver = sender THEN 'to-oneself'
        WHEN has IS NULL THEN 'no-receiver'
        WHEN amount > balance THEN 'insufficient-funds'
        WHEN amount > 9007199254740991 - has THEN 'too-much'
        ELSE 'ok' END;
    IF outcome = 'ok' THEN
        movement := forno.move('transfer', sender, receiver, amount, NULL, nullif(a_note, ''), now_ms);
        balance := balance - amount;
    END IF;
    IF a_key IS NOT NULL THEN
        INSERT INTO forno.keys (account_id, key, fingerprint, outcome, subject_id, balance_cents)
        VALUES (sender, a_key, a_print, transfer.outcome, movement, balance);
    END IF;
END $$;

-- What has happened to an account's orders after a point, at most `room` of it, in the order of (happened_ms, id, event). There is always a row:
-- when nothing has happened, one without an order. missed: how much has happened, counted to `told` + 1.
-- The lock is shared, and is there for the time: see forno.place_order. What was placed, and stands, is found by walking back from the newest
-- order to the first that is too old; what was placed and cancelled, by its cancellation, which came later.
CREATE FUNCTION forno.events(a_token bytea, an_account bigint, reading boolean, after_ms bigint, after_id bigint, after_event bigint,
    room bigint, told bigint)
RETURNS TABLE (account bigint, now_ms bigint, next_ms bigint, missed bigint, happened_ms bigint, event bigint, o forno.orders)
LANGUAGE plpgsql AS $$
DECLARE
    last bigint := 9223372036854775807;
BEGIN
    IF an_account = 0 THEN
        SELECT id INTO an_account FROM forno.accounts WHERE token_hash = a_token;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(forno.lock_of(an_account));
    SELECT greatest(forno.clock_ms(), latest_ms) INTO now_ms FROM forno.accounts WHERE id = an_account;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(min(at_ms), 0) INTO next_ms FROM (
        (SELECT placed_at_ms AS at_ms FROM (
            SELECT placed_at_ms FROM forno.orders WHERE account_id >= an_account AND (account_id, id) <= (an_account, last)
                AND cancelled_at_ms IS NULL ORDER BY account_id DESC, id DESC LIMIT 1
        ) newest WHERE placed_at_ms >= now_ms)
        UNION ALL (SELECT ready_at_ms FROM forno.orders
            WHERE account_id = an_account AND ready_at_ms >= now_ms AND cancelled_at_ms IS NULL ORDER BY ready_at_ms LIMIT 1)
        UNION ALL (SELECT cancelled_at_ms FROM forno.orders
            WHERE account_id = an_account AND cancelled_at_ms >= now_ms ORDER BY cancelled_at_ms LIMIT 1)
    ) coming;
    RETURN QUERY
    SELECT an_account, events.now_ms, events.next_ms, coalesce(e.many, 0), e.happened, e.kind, e.o
    FROM (SELECT 1) AS always LEFT JOIN LATERAL (
        SELECT count(*) OVER () AS many, first.* FROM (
            SELECT * FROM (
                (SELECT p.placed_at_ms AS happened, 0::bigint AS kind, p AS o FROM forno.orders p
                    WHERE (account_id, id) <= (an_account, last) AND placed_at_ms < events.now_ms AND cancelled_at_ms IS NULL
                    AND (account_id, id) > (an_account, coalesce((
                        SELECT id FROM (
                            SELECT id, placed_at_ms FROM forno.orders WHERE account_id >= an_account AND (account_id, id) <= (an_account, last)
                            AND placed_at_ms < events.now_ms AND cancelled_at_ms IS NULL ORDER BY account_id DESC, id DESC LIMIT told + 1
                        ) latest WHERE placed_at_ms < after_ms LIMIT 1
                    ), 0)) ORDER BY account_id DESC, id DESC LIMIT told + 1)
                UNION ALL (SELECT placed_at_ms, 0, p FROM forno.orders p WHERE account_id = an_account AND cancelled_at_ms >= after_ms
                    AND placed_at_ms < events.now_ms AND (placed_at_ms, id, 0) > (after_ms, after_id, after_event)
                    ORDER BY cancelled_at_ms, id LIMIT told + 1)
                UNION ALL (SELECT ready_at_ms, 1, r FROM forno.orders r WHERE account_id = an_account AND ready_at_ms >= after_ms
                    AND ready_at_ms < events.now_ms AND cancelled_at_ms IS NULL
                    AND (ready_at_ms, id, 1) > (after_ms, after_id, after_event) ORDER BY ready_at_ms, id LIMIT told + 1)
                UNION ALL (SELECT cancelled_at_ms, 2, c FROM forno.orders c WHERE account_id = an_account
                    AND cancelled_at_ms >= after_ms AND cancelled_at_ms < events.now_ms
                    AND (cancelled_at_ms, id, 2) > (after_ms, after_id, after_event) ORDER BY cancelled_at_ms, id LIMIT told + 1)
            ) happened WHERE reading AND after_ms < events.now_ms
                AND (happened.happened, (happened.o).id, happened.kind) > (after_ms, after_id, after_event)
            ORDER BY happened.happened, (happened.o).id, happened.kind LIMIT told + 1
        ) first ORDER BY first.happened, (first.o).id, first.kind LIMIT room
    ) e ON true;
END $$;

-- Can it be written to? Without a reason to doubt it, being the one that could be is enough.
CREATE FUNCTION forno.ping(doubtful boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM forno.accounts WHERE id = 1; -- whether it is there does not matter
    PERFORM 1 FROM forno.orders WHERE id = 1;
    IF doubtful THEN
        UPDATE forno.meta SET version = version;
    END IF;
    RETURN NOT pg_is_in_recovery();
END $$;

-- Whether others can reach us by LISTEN. A pooler may not let us: then it is switched off, ?options=-c%20forno.listen%3Doff in the URL.
CREATE FUNCTION forno.listen() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('forno.listen', true) = 'off' THEN
        RETURN false;
    END IF;
    LISTEN forno;
    RETURN true;
END $$;

-- At start: what we rely on and is missing, or of another type. (What a function's body calls nobody looks at before it is called.)
-- name: WRONG
SELECT 'column ' || wanted FROM unnest(ARRAY[
    'meta.version bigint', 'accounts.id bigint', 'accounts.name text', 'accounts.token_hash bytea', 'accounts.balance_cents bigint',
    'accounts.opened_at_ms bigint', 'accounts.latest_ms bigint', 'orders.id bigint', 'orders.account_id bigint', 'orders.flavor text',
    'orders.pizzas bigint', 'orders.price_cents bigint', 'orders.placed_at_ms bigint', 'orders.ready_at_ms bigint',
    'orders.cancelled_at_ms bigint', 'entries.id bigint', 'entries.movement_id bigint', 'entries.account_id bigint',
    'entries.peer_id bigint', 'entries.kind text', 'entries.amount_cents bigint', 'entries.order_id bigint', 'entries.note text',
    'entries.at_ms bigint', 'keys.account_id bigint', 'keys.key text', 'keys.fingerprint bytea', 'keys.outcome text',
    'keys.subject_id bigint', 'keys.balance_cents bigint']) AS wanted
WHERE NOT EXISTS (
    SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'forno' AND a.attnum > 0 AND c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, NULL) = wanted)
UNION ALL SELECT 'function ' || wanted FROM unnest(ARRAY[
    'clock_ms()', 'lock_of(bigint)', 'move(text,bigint,bigint,bigint,bigint,text,bigint)']) AS wanted
WHERE to_regprocedure('forno.' || wanted) IS NULL
UNION ALL SELECT 'index or sequence ' || wanted FROM unnest(ARRAY['accounts_pkey', 'accounts_token_hash_key', 'orders_pkey',
    'orders_standing', 'orders_cancelled', 'orders_by_ready', 'orders_by_cancelled', 'movements', 'entries_pkey', 'entries_by_account', 'keys_pkey']) AS wanted
WHERE to_regclass('forno.' || wanted) IS NULL
UNION ALL SELECT 'right to change ' || wanted FROM unnest(ARRAY['meta', 'accounts', 'orders', 'entries', 'keys']) AS wanted
WHERE NOT has_table_privilege(to_regclass('forno.' || wanted), 'INSERT')
    OR wanted IN ('meta', 'accounts', 'orders') AND NOT has_table_privilege(to_regclass('forno.' || wanted), 'UPDATE')
LIMIT 1;

-- What a lane needs before its first statement. A write that was answered is on the disk, whatever the server's default is; of what only reads,
-- nothing has to be (a NOTIFY would wait for the disk). A plan is made once, and goes by an index even if made when there was nothing to index.
-- Who waits for a lock gives up before we do: then it is certain that nothing was done. Who has vanished does not hold one for hours.
-- Trap: what the administrator has set for everybody. The functions look with fresh eyes after each lock, which "repeatable read" would not let
-- them; that a wait for a standby was cancelled is only a warning; a lane has its own deadlines, and is idle when nobody asks
-- (idle_session_timeout is there since version 14).
-- And nobody's operators are ours but the system's: a better fitting one in "public" would be taken for it.
-- name: SESSION
SELECT set_config('synchronous_commit', CASE WHEN NOT $1::boolean THEN 'off' WHEN current_setting('synchronous_commit') = 'off' THEN 'on'
    ELSE current_setting('synchronous_commit') END, false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
    set_config('lock_timeout', '2s', false), set_config('tcp_keepalives_idle', '15', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('client_min_messages', 'warning', false), set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', '0', false), set_config('search_path', '', false),
    CASE WHEN current_setting('idle_session_timeout', true) IS NOT NULL THEN set_config('idle_session_timeout', '0', false) END;
-- name: LISTEN
SELECT forno.listen();
-- name: NOTIFY
SELECT pg_notify('forno', $1);
-- Changes whenever anybody commits anything. It names all transactions under way, any number of them: so a hash of it.
-- name: LOOK
SELECT hashtextextended(pg_current_snapshot()::text, 0);

-- name: ACCOUNT_OPEN
SELECT forno.open_account($1, $2, $3);
-- name: ACCOUNT_BY_TOKEN
SELECT id, name, balance_cents FROM forno.accounts WHERE token_hash = $1::bytea;
-- name: TRANSFER
SELECT outcome, replayed, movement, balance FROM forno.transfer($1, $2, $3, $4, $5, $6);
-- Of whom, and then what: there is a row for whoever asks, even without entries. Where few have done much, the planner would take the primary
-- key, and walk through everybody's newer entries; by account and id at once, it cannot.
-- name: ENTRIES_OF
SELECT a.id, coalesce(e.id, 0), coalesce(e.kind, ''), coalesce(e.amount_cents, 0), coalesce(e.at_ms, 0), coalesce(e.order_id, 0),
    coalesce(e.movement_id, 0), coalesce(e.peer_id, 0), coalesce(e.note, '')
FROM forno.accounts a LEFT JOIN LATERAL (
    SELECT * FROM forno.entries WHERE account_id >= a.id AND (account_id, id) < (a.id, $3::bigint) AND account_id > 0 AND a.id = $2::bigint
    ORDER BY account_id DESC, id DESC LIMIT $4::bigint
) e ON true WHERE a.token_hash = $1::bytea ORDER BY e.id DESC;

-- name: ORDER_PLACE
SELECT outcome, replayed, coalesce(now_ms, 0), coalesce((placed).id, 0), coalesce((placed).account_id, 0), coalesce((placed).flavor, ''),
    coalesce((placed).pizzas, 0), coalesce((placed).price_cents, 0), coalesce((placed).placed_at_ms, 0), coalesce((placed).ready_at_ms, 0),
    coalesce((placed).cancelled_at_ms, 0)
FROM forno.place_order($1, $2, $3, $4, $5, $6, $7);
-- name: ORDER_CANCEL
SELECT outcome, coalesce(now_ms, 0), coalesce((cancelled).id, 0), coalesce((cancelled).account_id, 0), coalesce((cancelled).flavor, ''),
    coalesce((cancelled).pizzas, 0), coalesce((cancelled).price_cents, 0), coalesce((cancelled).placed_at_ms, 0), coalesce((cancelled).ready_at_ms, 0),
    coalesce((cancelled).cancelled_at_ms, 0)
FROM forno.cancel_order($1, $2);
-- name: ORDER_OF
SELECT greatest(forno.clock_ms(), a.latest_ms), coalesce(o.id, 0), a.id, coalesce(o.flavor, ''), coalesce(o.pizzas, 0),
    coalesce(o.price_cents, 0), coalesce(o.placed_at_ms, 0), coalesce(o.ready_at_ms, 0), coalesce(o.cancelled_at_ms, 0)
FROM forno.accounts a LEFT JOIN forno.orders o ON o.id = $2::bigint AND o.account_id = a.id WHERE a.token_hash = $1::bytea;

-- Pages of orders, newest first, as with entries: before the id $2, $3 of them.
-- name: ORDERS_OF
WITH who AS MATERIALIZED (SELECT id, greatest(forno.clock_ms(), latest_ms) AS now_ms FROM forno.accounts WHERE token_hash = $1::bytea)
SELECT who.now_ms, coalesce(o.id, 0), who.id, coalesce(o.flavor, ''), coalesce(o.pizzas, 0), coalesce(o.price_cents, 0),
    coalesce(o.placed_at_ms, 0), coalesce(o.ready_at_ms, 0), coalesce(o.cancelled_at_ms, 0)
FROM who LEFT JOIN LATERAL (
    (SELECT * FROM forno.orders WHERE account_id >= who.id AND (account_id, id) < (who.id, $2::bigint) AND cancelled_at_ms IS NULL
        ORDER BY account_id DESC, id DESC LIMIT $3::bigint)
    UNION ALL (SELECT * FROM forno.orders WHERE account_id >= who.id AND (account_id, id) < (who.id, $2::bigint) AND cancelled_at_ms IS NOT NULL
        ORDER BY account_id DESC, id DESC LIMIT $3::bigint)
    ORDER BY id DESC LIMIT $3::bigint
) o ON true ORDER BY o.id DESC;
-- Few bake: "id + 0" is in no index, so they are found by when they are ready, not by walking back through all that there ever were.
-- name: ORDERS_BAKING
WITH who AS MATERIALIZED (SELECT id, greatest(forno.clock_ms(), latest_ms) AS now_ms FROM forno.accounts WHERE token_hash = $1::bytea)
SELECT who.now_ms, coalesce(o.id, 0), who.id, coalesce(o.flavor, ''), coalesce(o.pizzas, 0), coalesce(o.price_cents, 0),
    coalesce(o.placed_at_ms, 0), coalesce(o.ready_at_ms, 0), coalesce(o.cancelled_at_ms, 0)
FROM who LEFT JOIN LATERAL (
    SELECT * FROM forno.orders WHERE account_id = who.id AND ready_at_ms > who.now_ms AND cancelled_at_ms IS NULL AND id + 0 < $2::bigint
    ORDER BY id + 0 DESC LIMIT $3::bigint
) o ON true ORDER BY o.id DESC;
-- name: ORDERS_READY
WITH who AS MATERIALIZED (SELECT id, greatest(forno.clock_ms(), latest_ms) AS now_ms FROM forno.accounts WHERE token_hash = $1::bytea)
SELECT who.now_ms, coalesce(o.id, 0), who.id, coalesce(o.flavor, ''), coalesce(o.pizzas, 0), coalesce(o.price_cents, 0),
    coalesce(o.placed_at_ms, 0), coalesce(o.ready_at_ms, 0), coalesce(o.cancelled_at_ms, 0)
FROM who LEFT JOIN LATERAL (
    SELECT * FROM forno.orders WHERE account_id >= who.id AND (account_id, id) < (who.id, $2::bigint) AND cancelled_at_ms IS NULL
        AND ready_at_ms <= who.now_ms ORDER BY account_id DESC, id DESC LIMIT $3::bigint
) o ON true ORDER BY o.id DESC;
-- name: ORDERS_CANCELLED
WITH who AS MATERIALIZED (SELECT id, greatest(forno.clock_ms(), latest_ms) AS now_ms FROM forno.accounts WHERE token_hash = $1::bytea)
SELECT who.now_ms, coalesce(o.id, 0), who.id, coalesce(o.flavor, ''), coalesce(o.pizzas, 0), coalesce(o.price_cents, 0),
    coalesce(o.placed_at_ms, 0), coalesce(o.ready_at_ms, 0), coalesce(o.cancelled_at_ms, 0)
FROM who LEFT JOIN LATERAL (
    SELECT * FROM forno.orders WHERE account_id >= who.id AND (account_id, id) < (who.id, $2::bigint) AND cancelled_at_ms IS NOT NULL
        ORDER BY account_id DESC, id DESC LIMIT $3::bigint
) o ON true ORDER BY o.id DESC;

-- name: EVENTS
SELECT account, now_ms, next_ms, missed, coalesce(happened_ms, 0), coalesce(event, 0), coalesce((o).id, 0), coalesce((o).account_id, 0),
    coalesce((o).flavor, ''), coalesce((o).pizzas, 0), coalesce((o).price_cents, 0), coalesce((o).placed_at_ms, 0),
    coalesce((o).ready_at_ms, 0), coalesce((o).cancelled_at_ms, 0)
FROM forno.events($1, $2, $3, $4, $5, $6, $7, $8);

-- And whose tables are they by now?
-- name: PING
SELECT forno.ping($1), coalesce((SELECT version FROM forno.meta LIMIT 1), 0);
-- The lab's slow query, one nap of it: nothing that runs can be called off without waiting for it, so it is many short ones.
-- name: NAP
SELECT count(*) FROM generate_series(1, 1000), pg_sleep($1::bigint / 1000.0);
