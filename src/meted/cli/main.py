"""`meted`: all verbs in one command."""

import click

from meted import __version__
from meted.cli.audit import audit
from meted.cli.bill import bill
from meted.cli.budgets import budgets
from meted.cli.common import Verbs, examples
from meted.cli.compact import books
from meted.cli.deploy import deploy
from meted.cli.down import down
from meted.cli.facts import facts
from meted.cli.jobs import jobs
from meted.cli.keys import keys
from meted.cli.models import models
from meted.cli.optimise import optimise
from meted.cli.plan import plan
from meted.cli.predict import predict
from meted.cli.prices import prices
from meted.cli.rates import rates
from meted.cli.report import report
from meted.cli.rollout import rollout
from meted.cli.savings import savings
from meted.cli.simulate import simulate
from meted.cli.status import status
from meted.cli.train import train
from meted.cli.undeploy import undeploy
from meted.cli.up import up
from meted.cli.version import version

VERBS = (
    up,
    down,
    status,
    models,
    deploy,
    undeploy,
    train,
    jobs,
    predict,
    plan,
    simulate,
    optimise,
    rollout,
    savings,
    keys,
    budgets,
    prices,
    rates,
    bill,
    report,
    books,
    audit,
    facts,
    version,
)


class InOrder(Verbs):
    """Lists its verbs in the order in which one meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("meted up", "meted keys create --tenant acme", "meted bill --by tenant"),
)
@click.version_option(__version__, package_name="meted")
def main() -> None:
    """Cost control for large models that you run yourself.

    Exit codes: 0 done, 1 it failed (or `bill --check` found an imbalance), 2 usage, 3 no house
    runs or answers, 4 the house refused the key.
    """


for verb in VERBS:
    main.add_command(verb)
