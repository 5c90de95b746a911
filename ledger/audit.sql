-- audit.sql: what must be true of a ledger. Each rule's query returns the id of whatever breaks it. It is SQL that both roads understand, but for
-- the rules of one kind of database. On a server the house has no balance: it is the sum of its entries, so there is nothing to compare.

-- rule: every movement is a pair that sums to zero
SELECT movement_id FROM entries GROUP BY movement_id HAVING count(*) <> 2 OR sum(amount_cents) <> 0;

-- rule: both sides of a movement tell the same story
SELECT a.id FROM entries a LEFT JOIN entries b ON b.id = a.movement_id
WHERE b.id IS NULL OR (a.id <> b.id AND (a.kind <> b.kind OR a.at_ms <> b.at_ms OR a.account_id <> b.peer_id OR a.peer_id <> b.account_id
    OR coalesce(a.order_id, 0) <> coalesce(b.order_id, 0)));

-- rule: credit comes from the bank, the till takes and refunds, customers pay customers
SELECT id FROM entries WHERE (kind = 'order' OR kind = 'refund') <> (order_id IS NOT NULL) OR (account_id > 0
    AND CASE kind WHEN 'opening' THEN peer_id <> 0 WHEN 'transfer' THEN peer_id <= 0 ELSE peer_id <> -1 END);

-- rule: nobody is given credit twice
SELECT account_id FROM entries WHERE kind = 'opening' AND account_id > 0 GROUP BY account_id HAVING count(*) > 1;

-- rule: all entries together sum to zero
SELECT sum(amount_cents) FROM entries HAVING sum(amount_cents) <> 0;

-- rule: every balance is the sum of its entries
SELECT a.id FROM accounts a
LEFT JOIN (SELECT account_id, sum(amount_cents) AS total FROM entries GROUP BY account_id) e ON e.account_id = a.id
WHERE a.balance_cents <> coalesce(e.total, 0);

-- rule: no balance is beyond exact numbers
SELECT id FROM accounts WHERE id > 0 AND balance_cents > 9007199254740991;

-- rule: no customer owes anything
SELECT id FROM accounts WHERE id > 0 AND balance_cents < 0;

-- rule: every order is paid, once, in full
SELECT o.id FROM orders o
LEFT JOIN (
    SELECT order_id, max(account_id) AS account_id, count(*) AS n, sum(amount_cents) AS total FROM entries
    WHERE kind = 'order' AND account_id > 0 GROUP BY order_id
) e ON e.order_id = o.id
WHERE coalesce(e.n, 0) <> 1 OR e.total <> -o.price_cents OR e.account_id <> o.account_id;

-- rule: every cancelled order is refunded, once, in full, and no other
SELECT o.id FROM orders o
LEFT JOIN (
    SELECT order_id, max(account_id) AS account_id, count(*) AS n, sum(amount_cents) AS total FROM entries
    WHERE kind = 'refund' AND account_id > 0 GROUP BY order_id
) e ON e.order_id = o.id
WHERE CASE WHEN o.cancelled_at_ms IS NULL THEN e.n IS NOT NULL
    ELSE coalesce(e.n, 0) <> 1 OR e.total <> o.price_cents OR e.account_id <> o.account_id END;

-- rule: every key leads to what its owner has ordered or sent
SELECT k.key FROM keys k WHERE k.outcome = 'ok'
    AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = k.subject_id AND o.account_id = k.account_id)
    AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.id = k.subject_id AND e.account_id = k.account_id AND e.kind = 'transfer');

-- rule of a file: every reference leads somewhere
SELECT "table" || coalesce(' ' || rowid, '') FROM pragma_foreign_key_check;

-- rule of a file: the file is sound
SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok';

-- rule of a server: every reference leads somewhere
SELECT 'entry ' || e.id FROM entries e WHERE e.account_id > 0 AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = e.account_id)
UNION ALL SELECT 'entry ' || e.id FROM entries e WHERE e.account_id NOT IN (0, -1) AND e.account_id <= 0
UNION ALL SELECT 'entry ' || e.id FROM entries e WHERE e.order_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = e.order_id)
UNION ALL SELECT 'order ' || o.id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = o.account_id)
UNION ALL SELECT 'key ' || k.key FROM keys k WHERE NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = k.account_id);
