"""Versions of a deployment: who pays for them is decided by the name that clients know."""

import pytest

from meted.domain.arms import arm_name, arm_number, public_name
from meted.domain.budget import Budget, Period
from meted.domain.tenancy import Payer
from meted.domain.units import BudgetName, DeploymentName, KeyId, Micros, NanoUSD, TenantName
from meted.ledger.rates import ByCost, RateBook, RateVersion

ACME = Payer(tenant=TenantName("acme"), key=KeyId("k"))


@pytest.mark.parametrize(
    ("name", "public", "number"),
    [
        ("chat", "chat", 1),
        ("chat~2", "chat", 2),
        ("chat~13", "chat", 13),
        ("a~b", "a~b", 1),
        ("chat~0", "chat~0", 1),
        ("chat~02", "chat~02", 1),
        ("~2", "~2", 1),
        ("a~2~3", "a~2", 3),
    ],
)
def test_a_version_knows_its_public_name(name: str, public: str, number: int) -> None:
    assert public_name(name) == public
    assert arm_number(name) == number
    if number > 1:
        assert arm_name(public, number) == name


def test_a_budget_of_a_deployment_covers_its_versions_and_no_other() -> None:
    budget = Budget(
        name=BudgetName("b"),
        tenant=TenantName("acme"),
        deployment=DeploymentName("chat"),
        period=Period.TOTAL,
        limit=NanoUSD(1),
    )
    assert budget.covers(ACME, DeploymentName("chat~2"))
    assert not budget.covers(ACME, DeploymentName("chat2"))
    assert not budget.covers(ACME, None)


def test_a_version_is_charged_by_the_rates_of_its_deployment() -> None:
    cheap, dear = ByCost(markup_permille=0), ByCost(markup_permille=500)
    book = RateBook(
        versions=(
            RateVersion(effective=Micros(0), recorded=Micros(0), rates=cheap),
            RateVersion(
                effective=Micros(0),
                recorded=Micros(0),
                rates=dear,
                deployment=DeploymentName("chat"),
            ),
        )
    )
    assert book.at(ACME.tenant, DeploymentName("chat~2"), Micros(1)) == dear
    assert book.at(ACME.tenant, DeploymentName("words"), Micros(1)) == cheap
