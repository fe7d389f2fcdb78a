"""`meted keys`: credentials of tenants, straight in the store; a running house notices."""

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime

import click

from meted.cli.common import Verbs, common_options, examples, print_json
from meted.cli.render import print_table
from meted.domain.units import TenantName
from meted.live.home import Home
from meted.live.sqlite_store import SqliteStore


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    epilog=examples("meted keys", "meted keys create --tenant acme", "meted keys list --json"),
)
@common_options
@click.pass_context
def keys(ctx: click.Context, home: Home, as_json: bool) -> None:
    """Create, list and revoke the keys with which tenants come in."""
    if ctx.invoked_subcommand is None:
        _list(home, as_json=as_json)


@keys.command(
    epilog=examples(
        "meted keys create --tenant acme", "meted keys create --tenant ops --name laptop --admin"
    )
)
@click.option("--tenant", required=True, help="Who pays for what is asked with this key.")
@click.option("--name", default="", help="A label, to tell keys apart.")
@click.option("--admin", is_flag=True, help="Let it also deploy, train and stop the house.")
@common_options
def create(tenant: str, name: str, admin: bool, home: Home, as_json: bool) -> None:
    """Make a key and print its secret, once: only its hash is stored."""
    if not tenant.strip():
        raise click.BadParameter("the tenant's name is empty", param_hint="--tenant")
    home.prepare()
    with closing(SqliteStore(home.books)) as store:
        key, secret = store.create_key(tenant=TenantName(tenant), name=name, admin=admin)
    if as_json:
        print_json({**asdict(key), "secret": secret})
        return
    click.echo(secret)
    click.echo(
        f"{key.id} for tenant {tenant}{', admin' if admin else ''}; shown only now", err=True
    )


@keys.command("list", epilog=examples("meted keys list", "meted keys list --json"))
@common_options
def list_keys(home: Home, as_json: bool) -> None:
    """List keys, without their secrets."""
    _list(home, as_json=as_json)


@keys.command(epilog=examples("meted keys revoke key-1f2e3d4c5b6a"))
@click.argument("key_id", metavar="ID")
@common_options
def revoke(key_id: str, home: Home, as_json: bool) -> None:
    """Refuse a key from now on; what it was used for stays in the books."""
    home.prepare()
    with closing(SqliteStore(home.books)) as store:
        store.revoke_key(key_id)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        click.echo(f"{key_id} is revoked")


def _list(home: Home, *, as_json: bool) -> None:
    home.prepare()
    with closing(SqliteStore(home.books)) as store:
        found = store.keys()
    if as_json:
        print_json([asdict(key) for key in found])
    elif found:
        print_table(
            ("id", "tenant", "name", "prefix", "may", "created"),
            [
                (
                    *(key.id, key.tenant, key.name, f"{key.prefix}..."),
                    "nothing: revoked" if key.revoked else "everything" if key.admin else "ask",
                    datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d %H:%MZ"),
                )
                for key in found
            ],
        )
    else:
        click.echo("no keys yet; `meted keys create --tenant acme` makes one")
