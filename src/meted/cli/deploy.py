"""`meted deploy`: serve a checkpoint under a name."""

import time
from pathlib import Path
from typing import Any

import click

from meted.cli.client import IMPORT_TIMEOUT_SECONDS, HouseClient, connect
from meted.cli.common import common_options, examples, print_json
from meted.cli.settings_words import settings_from_words
from meted.cli.spinner import spinner
from meted.live.config import ConfigError
from meted.live.engine_settings import settings_from_mapping
from meted.live.home import Home

POLL_SECONDS = 0.2


@click.command(
    epilog=examples(
        "meted deploy night-shift",
        "meted deploy chat --checkpoint smollm2-135m --replicas 2",
        "meted deploy mine --path ~/models/mine.gguf",
        "meted deploy quick --checkpoint smollm2-135m --settings engine=llamacpp",
        "meted deploy guess --checkpoint smollm2-135m --settings speculation.kind=prompt_lookup",
    )
)
@click.argument("name")
@click.option("--checkpoint", help="The checkpoint to serve; default: the one called NAME.")
@click.option(
    "--path",
    type=click.Path(exists=True, path_type=Path),
    help="A GGUF file, Hugging Face or OpenVINO folder to import the checkpoint from.",
)
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--settings",
    multiple=True,
    metavar="FILE|KEY=VALUE",
    help="How its engine runs: a YAML file, or one key; may be repeated, the later one wins.",
)
@click.option("--wait/--no-wait", default=True, help="Wait until a replica answers (default).")
@common_options
def deploy(
    name: str,
    checkpoint: str | None,
    path: Path | None,
    replicas: int,
    settings: tuple[str, ...],
    wait: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Serve a checkpoint under NAME, importing it first if --path is given."""
    wanted = _settings(settings)
    client = connect(home)
    body = {
        "name": name,
        "checkpoint": checkpoint or name,
        "path": None if path is None else str(path.absolute()),
        "replicas": replicas,
        **({"settings": wanted} if wanted else {}),
    }
    with spinner(f"{name}: preparing the checkpoint and starting {replicas} replica(s)"):
        answer = client.post("deployments", body=body, timeout=IMPORT_TIMEOUT_SECONDS)
        if wait:
            answer = _wait_until_ready(client, name)
    if as_json:
        print_json(answer)
    elif wait:
        click.echo(f'{name} answers; use it as model "{name}" at {client.url}/v1')
    else:
        click.echo(f"{name} is starting; `meted status` shows when it is ready")


def _settings(words: tuple[str, ...]) -> dict[str, Any]:
    """The settings for the body, checked before the house is asked."""
    try:
        found = settings_from_words(words)
        settings_from_mapping(found, at="--settings")
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return found


def _wait_until_ready(client: HouseClient, name: str) -> dict[str, Any]:
    """The deployment once one of its replicas is ready. Fails when a start of one has failed."""
    while True:
        body = client.get("status")
        one = next((one for one in body["deployments"] if one["name"] == name), None)
        if one is None:
            raise click.ClickException(f"{name} was undeployed while it was starting")
        statuses = [replica["status"] for replica in one["replicas"]]
        if "ready" in statuses:
            return one
        if "backoff" in statuses:
            reasons = [
                decision["reason"] for decision in body["decisions"] if name in decision["reason"]
            ]
            last = reasons[-1] if reasons else "its log says why"
            raise click.ClickException(
                f"a replica of {name} did not start: {last}; it is tried again, "
                f"`meted undeploy {name}` gives it up"
            )
        time.sleep(POLL_SECONDS)
