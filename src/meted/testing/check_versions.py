"""Conformance: what versions of a deployment are charged counts in the budgets of its name."""

from contextlib import closing
from dataclasses import replace

from meted.domain.budget import Budget, Period
from meted.domain.units import BudgetName, DeploymentName, Micros, RequestId, TenantName
from meted.live.store import Batch, RequestRow
from meted.testing.store_rows import START, MakeStore, request_row

TENANT = TenantName("of versions")


def check_versions(make_store: MakeStore) -> None:
    """A budget made after the charges begins with those of all versions, and of no other name."""
    rows = tuple(
        _row(number, name, price=10**number)
        for number, name in enumerate(("chat", "chat~2", "chat~3", "chatter", "chat~x", "chat~02"))
    )
    with closing(make_store()) as store:
        store.write(Batch(session="versions", requests=rows))
        for name, deployment in (("all", None), ("chat's", "chat"), ("one's", "chat~2")):
            store.save_budget(
                Budget(
                    name=BudgetName(f"{name} versions"),
                    tenant=TENANT,
                    deployment=None if deployment is None else DeploymentName(deployment),
                    period=Period.TOTAL,
                    limit=request_row(0, 0, price=10**9).price,
                )
            )
        spent = {
            str(lease.budget.name).split()[0]: lease.all_spent
            for lease in store.standings(now=Micros(START + 1))
            if lease.budget.tenant == TENANT
        }
        assert spent == {"all": 111_111, "chat's": 111, "one's": 10}, spent
        for name in ("all", "chat's", "one's"):
            store.remove_budget(BudgetName(f"{name} versions"))


def _row(number: int, deployment: str, *, price: int) -> RequestRow:
    row = request_row(number, 0, price=price)
    account = replace(
        row.account,
        tenant=TENANT,
        deployment=DeploymentName(deployment),
        request=RequestId(f"version-{number}"),
    )
    return replace(row, account=account)
