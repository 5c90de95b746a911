"""roads.py: the two roads, as a test that runs on both needs them: a new database, a look into one past the server, a hand that holds one."""

import sqlite3
from contextlib import contextmanager

import pg


class Sqlite:
    name = "sqlite"

    def new_database(self, directory, number):
        return directory / f"forno-{number}.db"

    def forget(self, db):
        pass  # goes with its directory

    def content(self, db):
        """All that the database keeps, as bytes in which to look for some."""
        files = [db.with_name(db.name + suffix) for suffix in ("", "-wal")]
        return b"".join(file.read_bytes() for file in files if file.exists())

    @contextmanager
    def held(self, db):
        """Nobody else can change anything meanwhile."""
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
        other.close()

    @contextmanager
    def placing(self, db, account, placed_ms, ready_ms):
        """Another process has placed an order, yields its id, and commits at the end."""
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield other.execute("INSERT INTO orders (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms) "
                            "VALUES (?, 'margherita', 1, 3500, ?, ?)", (account, placed_ms, ready_ms)).lastrowid
        other.execute("COMMIT")
        other.close()


class Postgres:
    name = "postgresql"

    def __init__(self, cluster):
        self.cluster = cluster

    def new_database(self, directory, number):
        return self.cluster.new_database()

    def forget(self, db):
        self.cluster.drop(db)

    def content(self, db):
        return self.cluster.workshop.run("pg_dump", "-h", self.cluster.folder, "-p", self.cluster.port, "-U", pg.ADMIN, "--data-only",
                                         pg.database_of(db)).encode()

    def transaction(self, db):
        connection = self.cluster.connect(pg.database_of(db))
        connection.autocommit = False
        return pg.Session(connection)

    @contextmanager
    def held(self, db):
        with self.transaction(db) as sql:
            sql("LOCK TABLE forno.accounts, forno.orders, forno.entries IN EXCLUSIVE MODE")
            yield
            sql.connection.rollback()

    @contextmanager
    def placing(self, db, account, placed_ms, ready_ms):
        with self.transaction(db) as sql:
            sql("SELECT pg_advisory_xact_lock(forno.lock_of(%s))", account)  # whoever changes an account's orders holds the account
            yield sql("INSERT INTO forno.orders (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms) "
                      "VALUES (%s, 'margherita', 1, 3500, %s, %s) RETURNING id", account, placed_ms, ready_ms)[0][0]
            sql.connection.commit()
