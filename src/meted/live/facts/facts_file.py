"""A file of facts: models and device kinds that are not built in, or differ from those that are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import yaml

from meted.domain.architecture import Architecture, Experts, LatentAttention
from meted.domain.catalogue import UnknownFactError, lookup_architecture, lookup_device_kind
from meted.domain.device_kind import DeviceKind, Link
from meted.live.facts.errors import FactError

Fact = TypeVar("Fact", Architecture, DeviceKind)
SECTIONS = ("models", "devices")
_PARTS: Mapping[str, type[Any]] = {
    "experts": Experts,
    "latent": LatentAttention,
    "link": Link,
    "network": Link,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsFile:
    """What a facts file adds, by name."""

    models: Mapping[str, Architecture] = field(default_factory=dict[str, Architecture])
    devices: Mapping[str, DeviceKind] = field(default_factory=dict[str, DeviceKind])


def read_facts_file(path: Path) -> FactsFile:
    """The facts in a YAML file. Raises FactError, naming the fact, if one is missing or wrong."""
    sections = read_mapping(path)
    unknown = set(sections) - set(SECTIONS)
    if unknown:
        raise FactError(
            f"{path} has the key {min(unknown)!r}, expected {' or '.join(SECTIONS)}; take it out"
        )
    models: dict[str, Architecture] = {}
    for name, facts in _section(sections, "models", path).items():
        base = facts.pop("like", None)
        with_base = None if base is None else _based(lookup_architecture, base, models, path, name)
        models[name] = _made(Architecture, name, facts, with_base, path)
    devices: dict[str, DeviceKind] = {}
    for name, facts in _section(sections, "devices", path).items():
        base = facts.pop("like", None)
        with_base = None if base is None else _based(lookup_device_kind, base, devices, path, name)
        if "title" not in facts:
            facts["title"] = name
        devices[name] = _made(DeviceKind, name, facts, with_base, path)
    return FactsFile(models=models, devices=devices)


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises FactError if it cannot be read or holds another."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FactError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise FactError(f"{path} holds {type(content).__name__}, expected keys and values")
    return {str(key): value for key, value in cast(dict[Any, Any], content).items()}


def _section(sections: Mapping[str, Any], key: str, path: Path) -> dict[str, dict[str, Any]]:
    found: Any = sections.get(key) or {}
    if not isinstance(found, dict):
        raise FactError(f"{key} of {path} is {found!r}, expected names with their facts")
    made: dict[str, dict[str, Any]] = {}
    for name, facts in cast(dict[Any, Any], found).items():
        if not isinstance(facts, dict):
            raise FactError(f"{name} under {key} of {path} is {facts!r}, expected its facts")
        made[str(name)] = dict(cast(dict[str, Any], facts))
    return made


def _based(lookup: Any, base: Any, known: Mapping[str, Any], path: Path, name: str) -> Any:
    try:
        return lookup(str(base), known)
    except UnknownFactError as error:
        raise FactError(f"like of {name} in {path}: {error}") from error


def _made(
    kind: type[Fact], name: str, facts: Mapping[str, Any], base: Fact | None, path: Path
) -> Fact:
    """A fact from its keys, the others taken from `base`."""
    title = f"{name} in {path}"
    known = {one.name for one in fields(kind)} - {"name"}
    _refuse_unknown(facts, known | {"like"}, title)
    for key, part in _PARTS.items():
        inner = facts.get(key)
        if key in known and isinstance(inner, dict):
            inside = {one.name for one in fields(part)}
            _refuse_unknown(cast(dict[str, Any], inner), inside, f"{key} of {title}")
    values: dict[str, Any] = {} if base is None else _shallow(base)
    values |= {"source": str(path), **facts, "name": name}
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise FactError(f"{title}: {error}; correct it, or start from a known one by `like`") from (
            error
        )
    except ValueError as error:
        raise FactError(f"{path}: {error}") from error


def _refuse_unknown(facts: Mapping[str, Any], known: set[str], title: str) -> None:
    unknown = {str(key) for key in facts} - known
    if unknown:
        raise FactError(
            f"{title} has the key {min(unknown)!r}, expected some of {', '.join(sorted(known))}"
        )


def _shallow(value: Any) -> dict[str, Any]:
    """Fields by name, parts turned into mappings."""
    shown: dict[str, Any] = {}
    for one in fields(value):
        inner = getattr(value, one.name)
        shown[one.name] = _shallow(inner) if is_dataclass(inner) else inner
    return shown
