"""What one house remembers: its deployments, its jobs and their loss curves."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from meted.domain.deployment import Deployment
from meted.domain.job import Job
from meted.domain.units import DeploymentName, JobName, NanoUSD
from meted.live.job_codec import job_of_stored
from meted.live.store import LossRow, Total
from meted.live.stores.database import Database, Row, Statements, check_storable, whole

_LOSS = "house, job, step, moment, tokens, loss, held_out, device_nanos, cost"


def encode(value: object) -> str:
    """A body as it is stored."""
    return msgspec.json.encode(value).decode()


def _finite(loss: float | None) -> float | None:
    """A loss that is no finite number is stored as none: databases disagree about those."""
    return loss if loss is not None and math.isfinite(loss) else None


class Memory:
    """Deployments, jobs and loss curves of one house; houses do not see each other's."""

    def __init__(self, database: Database, house: str) -> None:
        self._database = database
        self._house = house

    def adopt(self) -> None:
        """Take over what was written before houses had names, unless this house has its own."""

        def work(db: Statements) -> None:
            for table, name in (("deployments", "name"), ("jobs", "name"), ("losses", "job")):
                db.change(
                    f"UPDATE {table} SET house = ? WHERE house = '' AND {name} NOT IN"
                    f" (SELECT mine.{name} FROM {table} AS mine WHERE mine.house = ?)",
                    *(self._house, self._house),
                )
            db.change("UPDATE sessions SET house = ? WHERE house = ''", self._house)

        self._database.write(work)

    def save(self, table: str, name: str, body: object) -> None:
        """Put this body under its name; a name keeps its place in the order."""
        check_storable(name)
        self._database.write(
            lambda db: db.change(
                f"INSERT INTO {table} (house, name, body) VALUES (?, ?, ?)"
                " ON CONFLICT (house, name) DO UPDATE SET body = excluded.body",
                *(self._house, name, encode(body)),
            )
        )

    def remove_deployment(self, name: DeploymentName) -> None:
        self._database.write(
            lambda db: db.change(
                "DELETE FROM deployments WHERE house = ? AND name = ?", self._house, name
            )
        )

    def deployments(self) -> list[Deployment]:
        return [msgspec.json.decode(body, type=Deployment) for body in self._bodies("deployments")]

    def jobs(self) -> list[Job]:
        return [job_of_stored(body) for body in self._bodies("jobs")]

    def _bodies(self, table: str) -> list[Any]:
        rows = self._rows(f"SELECT body FROM {table} WHERE house = ? ORDER BY position")
        return [body for (body,) in rows]

    def job_totals(self) -> list[Total]:
        """Over all sessions of this house, hours that were folded included."""
        sums: dict[str, list[int]] = {}
        for job, nanos, cost, price in self._database.read(self._job_sums):
            total = sums.setdefault(job, [0, 0, 0])
            for index, value in enumerate((nanos, cost, price)):
                total[index] += whole(value)
        return [
            Total(job=JobName(job), device_nanos=nanos, cost=NanoUSD(cost), price=NanoUSD(price))
            for job, (nanos, cost, price) in sorted(sums.items())
        ]

    def _job_sums(self, db: Statements) -> list[Row]:
        nanos, amount, price = map(db.exact_sum, ("device_nanos", "amount", "price"))
        mine = "accounts.job <> '' AND sessions.house = ? GROUP BY accounts.job"
        lines = db.rows(
            f"SELECT accounts.job, {nanos}, {amount}, 0 FROM accounts"
            " JOIN lines ON lines.account = accounts.id AND lines.request IS NULL"
            f" JOIN sessions ON sessions.id = lines.session WHERE {mine}",
            self._house,
        )
        folded = db.rows(
            f"SELECT accounts.job, {nanos}, {amount}, 0 FROM accounts"
            " JOIN hour_lines ON hour_lines.account = accounts.id"
            f" JOIN sessions ON sessions.id = hour_lines.session WHERE {mine}",
            self._house,
        )
        charged = db.rows(
            f"SELECT accounts.job, 0, 0, {price} FROM accounts"
            " JOIN charges ON charges.account = accounts.id"
            f" JOIN sessions ON sessions.id = charges.session WHERE {mine}",
            self._house,
        )
        return [*lines, *folded, *charged]

    def enter_losses(self, db: Statements, rows: Sequence[LossRow]) -> None:
        """Enter points of loss curves that are not there yet."""
        db.insert_new(
            "losses",
            _LOSS,
            [
                (
                    *(self._house, row.job, row.step, row.when, row.tokens),
                    *(_finite(row.loss), _finite(row.held_out), row.device_nanos, row.cost),
                )
                for row in rows
            ],
            key="house, job, step, moment",
        )

    def losses(self, job: JobName) -> list[LossRow]:
        rows = self._rows(
            "SELECT step, moment, tokens, loss, held_out, device_nanos, cost FROM losses"
            " WHERE house = ? AND job = ? ORDER BY position",
            job,
        )
        return [
            LossRow(
                job=job,
                step=step,
                tokens=tokens,
                loss=loss,
                held_out=held_out,
                when=moment,
                device_nanos=nanos,
                cost=NanoUSD(cost),
            )
            for step, moment, tokens, loss, held_out, nanos, cost in rows
        ]

    def _rows(self, statement: str, *values: str) -> list[Row]:
        return self._database.read(lambda db: db.rows(statement, self._house, *values))
