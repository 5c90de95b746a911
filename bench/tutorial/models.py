"""The tutorial's bank and pizzeria as SQLAlchemy models, over SQLite: the same tables, the same promises as Forno's."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, LargeBinary, String, create_engine, event
from sqlalchemy.orm import declarative_base, sessionmaker
from sqlalchemy.pool import QueuePool

Base = declarative_base()

BANK, TILL = 0, -1  # the house's own accounts: where opening credits come from, and where the money for pizzas goes


class Account(Base):
    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("balance_cents >= 0 OR id <= 0"),)

    id = Column(Integer, primary_key=True)
    name = Column(String, nullable=False)
    token_hash = Column(LargeBinary, unique=True)
    balance_cents = Column(BigInteger, nullable=False)


class Order(Base):
    __tablename__ = "orders"

    id = Column(Integer, primary_key=True)
    account_id = Column(ForeignKey("accounts.id"), nullable=False, index=True)
    flavor = Column(String, nullable=False)
    pizzas = Column(Integer, nullable=False)
    price_cents = Column(BigInteger, nullable=False)
    placed_at_ms = Column(BigInteger, nullable=False)
    ready_at_ms = Column(BigInteger, nullable=False)


class Entry(Base):
    """One side of a movement of money; the other side has the opposite amount, and both name each other's account."""

    __tablename__ = "entries"

    id = Column(Integer, primary_key=True)
    account_id = Column(ForeignKey("accounts.id"), nullable=False, index=True)
    peer_id = Column(Integer, nullable=False)
    kind = Column(String, nullable=False)
    amount_cents = Column(BigInteger, nullable=False)
    order_id = Column(ForeignKey("orders.id"))
    at_ms = Column(BigInteger, nullable=False)


def open_database(path, connections):
    """Two session makers over one pool: for reading, and for writing.

    A writing transaction says so when it begins: one that starts by reading and writes later may be told "database is locked"
    in the middle, whatever the timeout."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,  # connections are kept; by default SQLAlchemy 1.4 opens a file anew for every session
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 30},
    )

    @event.listens_for(engine, "connect")
    def connected(connection, _):
        connection.isolation_level = None  # we say BEGIN ourselves, below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begun(connection):
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    Base.metadata.create_all(engine)
    reading = sessionmaker(engine, expire_on_commit=False)
    writing = sessionmaker(engine.execution_options(writes=True), expire_on_commit=False)
    with writing.begin() as session:
        for id_, name in ((BANK, "the bank"), (TILL, "the till")):
            if not session.get(Account, id_):
                session.add(Account(id=id_, name=name, balance_cents=0))
    return reading, writing
