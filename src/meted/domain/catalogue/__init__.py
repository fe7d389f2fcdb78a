"""Built-in facts: architectures and device kinds by name, each with its source."""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from meted.domain.architecture import Architecture
from meted.domain.catalogue.architectures import ALIASES as MODEL_ALIASES
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import ALIASES as DEVICE_ALIASES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.domain.device_kind import DeviceKind

Fact = TypeVar("Fact")


class UnknownFactError(ValueError):
    """A name that no fact is known under; the sentence has near matches and the next move."""


_TUNED = re.compile(r"-(instruct|chat|hf|base|it|pt|text|preview|gguf|bf16|fp16)$")
"""Ends of a checkpoint's name that say how its weights came about, not what shape they have."""

_TUNED_VERSION = re.compile(r"-(instruct|chat)(?=-v\d)")

_VENDOR = re.compile(r"^(nvidia|amd|google|tesla|geforce|openai|meta|eleutherai)-")
_FORM = re.compile(r"-(sxm\d?|hbm\d\w?)(?=-|$)")


def lookup_architecture(name: str, more: Mapping[str, Architecture] | None = None) -> Architecture:
    """The architecture of that name: as people say it, or as Hugging Face writes it.

    more: architectures that win over the built-in ones. Raises UnknownFactError.
    """
    return _lookup(
        "model",
        name,
        facts={**ARCHITECTURES, **(more or {})},
        aliases=MODEL_ALIASES,
        readings=_model_names,
        otherwise="give a config.json, its folder or a .gguf file, or describe it in a facts file",
    )


def lookup_device_kind(name: str, more: Mapping[str, DeviceKind] | None = None) -> DeviceKind:
    """The device kind of that name: as people, clouds or drivers say it.

    more: device kinds that win over the built-in ones. Raises UnknownFactError.
    """
    return _lookup(
        "device kind",
        name,
        facts={**DEVICE_KINDS, **(more or {})},
        aliases=DEVICE_ALIASES,
        readings=_device_names,
        otherwise="describe it in a facts file",
    )


def _lookup(
    what: str,
    name: str,
    *,
    facts: Mapping[str, Fact],
    aliases: Mapping[str, str],
    readings: Callable[[str], Iterable[str]],
    otherwise: str,
) -> Fact:
    if name in facts:
        return facts[name]
    known = {_compact(alias): target for alias, target in aliases.items()}
    known.update({_compact(one): one for one in facts})
    for reading in readings(name):
        found = known.get(_compact(reading))
        if found is not None:
            return facts[found]
    raise UnknownFactError(
        f"{what} {name!r} is not known; {_near(name, facts, aliases, readings)}; take one "
        f"of these, or {otherwise}"
    )


def _near(
    name: str,
    facts: Mapping[str, object],
    aliases: Mapping[str, str],
    readings: Callable[[str], Iterable[str]],
) -> str:
    """What to say instead: near names first, else all of them."""
    asked = list(readings(name))[-1]
    near: list[str] = []
    for one in get_close_matches(asked, [*facts, *aliases], n=8, cutoff=0.6):
        target = aliases.get(one, one)
        if target not in near:
            near.append(target)
    return f"near names: {', '.join(near[:4])}" if near else f"known are {', '.join(facts)}"


def _model_names(name: str) -> Iterable[str]:
    """The name, then without owner, then with one end after the other taken off."""
    short = _plain(name.rsplit("/", 1)[-1])
    yield short
    short = _VENDOR.sub("", short)
    yield short
    short = _TUNED_VERSION.sub("", short)
    yield short
    while (shorter := _TUNED.sub("", short)) != short:
        short = shorter
        yield short


def _device_names(name: str) -> Iterable[str]:
    """The name, then without its maker, then without its form of board."""
    short = _plain(name)
    yield short
    while (shorter := _VENDOR.sub("", short)) != short:
        short = shorter
        yield short
    yield _FORM.sub("", short)


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())


def _compact(name: str) -> str:
    """Without what people leave out or write in another way: `gpt-3` is `gpt3`."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())
