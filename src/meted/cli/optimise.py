"""`meted optimise`: which levers save, measured before anything is believed."""

import click

from meted.cli.common import Verbs, common_options, examples
from meted.cli.optimise_model import model
from meted.live.home import Home


@click.group(
    cls=Verbs,
    epilog=examples("meted optimise model smollm2-135m --data notes/ --levers int8,int4-g64"),
)
@common_options
def optimise(home: Home, as_json: bool) -> None:
    """Try what makes a model cheaper, and measure what it costs in quality."""


optimise.add_command(model)
