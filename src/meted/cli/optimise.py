"""`meted optimise`: which levers save, measured before anything is believed."""

import click

from meted.cli.common import Verbs, common_options, examples
from meted.cli.optimise_model import model
from meted.cli.optimise_serving import serving
from meted.cli.optimise_training import training
from meted.live.home import Home


@click.group(
    cls=Verbs,
    epilog=examples(
        "meted optimise model smollm2-135m --data notes/ --levers int8,int4-g64",
        "meted optimise serving smollm2-135m --data notes/ --traffic house --out chosen.yaml",
    ),
)
@common_options
def optimise(home: Home, as_json: bool) -> None:
    """Try what makes a model cheaper, and measure what it costs in quality."""


optimise.add_command(model)
optimise.add_command(serving)
optimise.add_command(training)
