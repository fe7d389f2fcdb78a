"""What tests of several rooms share: a real PostgreSQL, started once."""

from collections.abc import Iterator

import pytest

from meted.testing.postgres import NoPostgresError, PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the whole session; a test that stops or kills it starts it again."""
    try:
        server = PostgresServer()
    except NoPostgresError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database."""
    with postgres_server.fresh_database() as dsn:
        yield dsn
