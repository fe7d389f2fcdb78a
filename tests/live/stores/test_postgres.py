"""PostgreSQL as the store: the conformance suite against a real server."""

from meted.live.stores import open_store
from meted.testing.check_store import check_store


def test_postgres_is_a_store(postgres_dsn: str) -> None:
    check_store(lambda house="here": open_store(postgres_dsn, house=house))
