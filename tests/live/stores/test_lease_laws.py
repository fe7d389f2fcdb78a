"""The laws of leases on both databases; see `lease_machine`."""

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .lease_machine import LeaseMachine


def run_laws(target: str, *, examples: int) -> None:
    class Machine(LeaseMachine):
        pass

    Machine.target = staticmethod(lambda: target)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_laws_of_leases_on_sqlite(tmp_path: Path) -> None:
    run_laws(str(tmp_path / "books.sqlite"), examples=40)


def test_laws_of_leases_on_postgres(postgres_dsn: str) -> None:
    """Fewer runs, because each step waits for a disk several times."""
    run_laws(postgres_dsn, examples=15)
