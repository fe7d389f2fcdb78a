"""The pool of a simulation, from one word of the command line or from a YAML file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from meted.domain.catalogue import UnknownFactError, lookup_device_kind
from meted.domain.catalogue.example_prices import EXAMPLE_PRICES
from meted.domain.device_kind import DeviceKind
from meted.domain.market import Offer, Purchase
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.dollars import decimal, nano_dollars, shortened
from meted.live.facts.described import Described
from meted.live.facts.errors import FactError
from meted.live.facts.facts_file import read_mapping

EXAMPLE = "8xV100@0.74,16xP100@0.43,2x8xH100@2.50/2.50/0"
_PART = re.compile(
    r"(?:([0-9]{1,6})x)?([0-9]{1,6})x([A-Za-z][A-Za-z0-9._-]*)"
    r"(?:@([0-9.]+)(?:/([0-9.]+))?(?:/([0-9.]+))?)?(:spot)?",
    re.ASCII,
)
MOST_DEVICES = 100_000
KEYS = ("nodes", "kinds")
NODE_KEYS = ("count", "devices", "kind")
KIND_KEYS = (
    *("usd_per_device_hour", "idle", "parked", "spot"),
    *("interruptions_per_device_hour", "back_minutes"),
)
BACK_MINUTES = 10


class PoolError(ValueError):
    """A pool that cannot be understood: which part, its value, what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanishing:
    """How spot devices of a kind go. back: until a device like it can be had again."""

    per_device_hour: float
    back: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPool:
    """facts: of the kinds that are known, by the pool's name of them. told: where prices come
    from. vanishing: by kind, of spot devices."""

    pool: Pool
    facts: Mapping[str, DeviceKind]
    told: tuple[str, ...]
    vanishing: Mapping[str, Vanishing] = field(default_factory=dict[str, Vanishing])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """nodes: None, as many as the kind usually has devices in one."""

    nodes: int | None
    devices: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priced:
    """None: as the catalogue's example offers it."""

    price: Price | None = None
    spot: bool = False
    vanishing: Vanishing | None = None


def read_pool(
    text: str,
    *,
    more: Mapping[str, DeviceKind] | None = None,
    offers: Sequence[Offer] = EXAMPLE_PRICES,
) -> ReadPool:
    """The pool that `8xV100@0.74,2x8xH100` or a YAML file describes.

    `2x8xH100` is two nodes of eight; `8xV100` lies in nodes as large as usual, of one device where
    the kind is not known. Prices are of a busy, idle and parked device: `@2.5/2.5/0`. more: kinds
    of a facts file. offers: prices of kinds that come without.
    Raises PoolError naming the part, its value and what was expected.
    """
    path = Path(text).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        nodes, prices = _from_file(path)
    else:
        nodes, prices = _from_word(text)
    facts = {one.kind: found for one in nodes if (found := _facts(one.kind, more)) is not None}
    devices = _devices(nodes, facts)
    kinds = list(dict.fromkeys(one.kind for one in nodes))
    told: list[str] = []
    priced: dict[str, Price] = {}
    vanishing: dict[str, Vanishing] = {}
    for kind in kinds:
        given = prices.get(kind, _Priced())
        offer = None if given.price else _offer(kind, facts.get(kind), given.spot, offers)
        if given.price is not None:
            priced[kind] = given.price
        elif offer is not None:
            priced[kind] = Price(nano_usd_per_device_hour=offer.nano_usd_per_device_hour)
            told.append(f"{kind}: {_words(offer)}")
        if given.vanishing is not None:
            vanishing[kind] = given.vanishing
        elif given.spot and offer is not None and offer.interruptions_per_device_hour > 0:
            vanishing[kind] = Vanishing(
                per_device_hour=offer.interruptions_per_device_hour, back=_minutes(BACK_MINUTES)
            )
    pool = Pool(
        devices=devices,
        price=priced[kinds[0]],
        prices=priced,
        shared=False,
        spot=frozenset(kind for kind in kinds if prices.get(kind, _Priced()).spot),
    )
    return ReadPool(pool=pool, facts=facts, told=tuple(told), vanishing=vanishing)


def _from_word(text: str) -> tuple[list[_Nodes], dict[str, _Priced]]:
    nodes: list[_Nodes] = []
    prices: dict[str, _Priced] = {}
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise PoolError(
                f"--pool says {shortened(part.strip())}, expected devices such as {EXAMPLE}, or "
                "the path of a YAML file"
            )
        count, devices, name, busy, idle, parked, spot = found.groups()
        kind = name.lower()
        nodes.append(
            _Nodes(nodes=None if count is None else int(count), devices=int(devices), kind=kind)
        )
        try:
            price = None if busy is None else _price(kind, busy, idle, parked)
        except ValueError as error:
            raise PoolError(f"--pool: {error}") from error
        priced = _Priced(price=price, spot=spot is not None)
        if prices.setdefault(kind, priced) != priced:
            raise PoolError(f"--pool prices {name} twice; give it another name, or one price")
    return nodes, prices


def _from_file(path: Path) -> tuple[list[_Nodes], dict[str, _Priced]]:
    try:
        content = read_mapping(path)
        _refuse_unknown(content, KEYS, str(path))
        whole = Described(title=str(path), values=content)
        nodes = [_node(path, number, one) for number, one in enumerate(whole.items("nodes"), 1)]
        if not nodes:
            raise PoolError(f"{path} lacks nodes; list some, such as {{count: 2, devices: 8, "
                            "kind: h100-80gb}")  # fmt: skip
        kinds = whole.inner("kinds")
        prices: dict[str, _Priced] = {}
        for kind in () if kinds is None else kinds.values:
            given = None if kinds is None else kinds.inner(kind)
            if given is not None:
                prices[kind.lower()] = _kind(given)
    except (FactError, PoolError) as error:
        raise PoolError(f"--pool: {error}") from error
    strange = sorted(set(prices) - {one.kind for one in nodes})
    if strange:
        raise PoolError(f"{path}: kinds names {strange[0]}, but no node has it; take it out")
    return nodes, prices


def _node(path: Path, number: int, one: Any) -> _Nodes:
    title = f"node {number} of {path}"
    if not isinstance(one, dict):
        raise PoolError(f"{title} is {shortened(one)}, expected {', '.join(NODE_KEYS)}")
    given = Described(title=title, values=cast(dict[str, Any], one))
    _refuse_unknown(given.values, NODE_KEYS, title)
    return _Nodes(
        nodes=given.integer("count", default=1),
        devices=given.integer("devices", default=1),
        kind=given.text("kind").lower(),
    )


def _kind(given: Described) -> _Priced:
    _refuse_unknown(given.values, KIND_KEYS, given.title)
    texts = {key: given.text(key) for key in ("usd_per_device_hour", "idle", "parked")}
    price = None
    try:
        if texts["usd_per_device_hour"]:
            price = _price(given.title, *(texts[key] or None for key in texts))
    except ValueError as error:
        raise PoolError(str(error)) from error
    rate = given.values.get("interruptions_per_device_hour")
    if rate is not None and not (isinstance(rate, int | float) and rate >= 0):
        raise given.wrong("interruptions_per_device_hour", "a number, 0 or more")
    back = _minutes(given.integer("back_minutes", default=BACK_MINUTES))
    return _Priced(
        price=price,
        spot=given.flag("spot", default=False),
        vanishing=Vanishing(per_device_hour=float(rate), back=back) if rate else None,
    )


def _price(kind: str, busy: str | None, idle: str | None, parked: str | None) -> Price:
    return Price(
        nano_usd_per_device_hour=nano_dollars(busy, f"the price of {kind}"),
        idle=None if idle is None else nano_dollars(idle, f"the idle price of {kind}"),
        parked=None if parked is None else nano_dollars(parked, f"the parked price of {kind}"),
    )


def _devices(nodes: Sequence[_Nodes], facts: Mapping[str, DeviceKind]) -> tuple[Device, ...]:
    whole = sum((one.nodes or 1) * one.devices for one in nodes)
    if not 1 <= whole <= MOST_DEVICES:
        raise PoolError(f"--pool has {whole} devices, expected 1 to {MOST_DEVICES}")
    devices: list[Device] = []
    node = 0
    for one in nodes:
        size = one.devices
        if one.nodes is None:
            known = facts.get(one.kind)
            size = 1 if known is None else min(known.node_devices, one.devices)
        for number in range((one.nodes or 1) * one.devices):
            at = node + number // max(1, size)
            devices.append(Device(index=len(devices), kind=one.kind, node=at))
        node = devices[-1].node + 1 if devices else 0
    return tuple(devices)


def _facts(kind: str, more: Mapping[str, DeviceKind] | None) -> DeviceKind | None:
    """What is known of a kind; a pool may name one that nobody has described."""
    try:
        return lookup_device_kind(kind, more)
    except UnknownFactError:
        return None


def _offer(kind: str, facts: DeviceKind | None, spot: bool, offers: Sequence[Offer]) -> Offer:
    """The cheapest offer of that kind that is spot, or is not."""
    name = kind if facts is None else facts.name
    fitting = [
        one
        for one in offers
        if one.kind == name
        and one.purchase is not Purchase.OWNED
        and (one.purchase is Purchase.SPOT) == spot
    ]
    if not fitting:
        raise PoolError(
            f"--pool gives no {'spot ' if spot else ''}price of {kind}, and none is known; write "
            f"it in dollars an hour, such as 8x{kind}@0.74"
        )
    return min(fitting, key=lambda one: one.nano_usd_per_device_hour)


def _words(offer: Offer) -> str:
    dated = f", dated {offer.dated}" if offer.dated else ""
    return f"{decimal(offer.nano_usd_per_device_hour)} $/h, {offer.source}{dated}"


def _minutes(count: int) -> Micros:
    return Micros(count * 60 * MICROS_PER_SECOND)


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], title: str) -> None:
    for key in given:
        if key not in known:
            raise PoolError(f"{title} has the key {key!r}, expected {', '.join(known)}")
