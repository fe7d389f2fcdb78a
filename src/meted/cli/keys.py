"""`meted keys`: credentials of tenants, straight in the store; a running house obeys at once."""

from datetime import UTC, datetime
from typing import Any

import click

from meted.cli.books import changing_books, named, open_books
from meted.cli.common import Verbs, common_options, examples, print_json
from meted.cli.render import print_table
from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import KeyId, ProjectName, TenantName
from meted.live.doors import Key
from meted.live.home import Home
from meted.live.money_views import key_view
from meted.policy.rate_limit import Limits

MOST_LIMIT = 10**9


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    epilog=examples("meted keys", "meted keys create --tenant acme", "meted keys list --json"),
)
@common_options
@click.pass_context
def keys(ctx: click.Context, home: Home, as_json: bool) -> None:
    """Create, list, rotate and revoke the keys with which tenants come in."""
    if ctx.invoked_subcommand is None:
        _list(home, as_json=as_json)


@keys.command(
    epilog=examples(
        "meted keys create --tenant acme",
        "meted keys create --tenant acme --project chat --requests-per-minute 60 --concurrent 4",
        "meted keys create --tenant ops --name laptop --admin",
    )
)
@click.option(
    "--tenant", required=True, callback=named("tenant"), help="Who pays for what this key asks."
)
@click.option(
    "--project",
    default=DEFAULT_PROJECT,
    show_default=True,
    callback=named("project"),
    help="The part of the tenant that asks.",
)
@click.option(
    "--name",
    default="",
    callback=named("name", empty=True, slash=True),
    help="A label, to tell keys apart.",
)
@click.option("--admin", is_flag=True, help="Let it also deploy, train and stop the house.")
@click.option("--requests-per-minute", type=click.IntRange(1, MOST_LIMIT), help="Default: any.")
@click.option("--tokens-per-minute", type=click.IntRange(1, MOST_LIMIT), help="Default: any.")
@click.option(
    "--concurrent", type=click.IntRange(1, MOST_LIMIT), help="Requests at once; default: any."
)
@common_options
def create(
    tenant: str,
    project: str,
    name: str,
    admin: bool,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrent: int | None,
    home: Home,
    as_json: bool,
) -> None:
    """Make a key and print its secret, once: only its hash is stored."""
    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrent=concurrent,
    )
    with changing_books(home) as books:
        key, secret = books.create_key(
            tenant=TenantName(tenant),
            project=ProjectName(project),
            name=name,
            admin=admin,
            limits=limits,
        )
    _show_secret(key, secret, as_json=as_json)


@keys.command(epilog=examples("meted keys rotate key-1f2e3d4c5b6a"))
@click.argument("key_id", metavar="ID")
@common_options
def rotate(key_id: str, home: Home, as_json: bool) -> None:
    """Give a key a new secret and print it, once; the old one is refused from now on."""
    with changing_books(home) as books:
        key, secret = books.rotate_key(KeyId(key_id))
    _show_secret(key, secret, as_json=as_json)


@keys.command(epilog=examples("meted keys revoke key-1f2e3d4c5b6a"))
@click.argument("key_id", metavar="ID")
@common_options
def revoke(key_id: str, home: Home, as_json: bool) -> None:
    """Refuse a key from now on; what it was used for stays in the books."""
    with changing_books(home) as books:
        books.revoke_key(KeyId(key_id))
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        click.echo(f"{key_id} is revoked")


@keys.command("list", epilog=examples("meted keys list", "meted keys list --json"))
@common_options
def list_keys(home: Home, as_json: bool) -> None:
    """List keys, without their secrets."""
    _list(home, as_json=as_json)


def _show_secret(key: Key, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**key_view(key), "secret": secret})
        return
    click.echo(secret)
    admin = ", admin" if key.admin else ""
    click.echo(f"{key.id} for tenant {key.tenant}{admin}; shown only now", err=True)


def _list(home: Home, *, as_json: bool) -> None:
    with open_books(home) as store:
        found = store.keys()
    if as_json:
        print_json([key_view(key) for key in found])
    elif found:
        print_table(
            ("id", "tenant", "project", "name", "prefix", "may", "limits", "created"),
            [_row(key) for key in found],
        )
    else:
        click.echo("no keys yet; `meted keys create --tenant acme` makes one")


def _row(key: Key) -> tuple[Any, ...]:
    may = "nothing: revoked" if key.revoked else "everything" if key.admin else "ask"
    created = datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d %H:%MZ")
    return (
        *(key.id, key.tenant, key.project, key.name, f"{key.prefix}..."),
        *(may, _limits(key.limits), created),
    )


def _limits(limits: Limits) -> str:
    said = (
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.concurrent, "at once"),
    )
    return ", ".join(f"{limit} {unit}" for limit, unit in said if limit is not None) or "none"
