"""What every job's spec is asked, whatever its kind: known keys, a name, numbers in range."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, NoReturn

import msgspec

from meted.domain.job import JobSpec

DEFAULT_TENANT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_keys(mapping: Mapping[str, Any], spec: type[JobSpec]) -> None:
    """Raises ValueError for a key that this kind of job does not have, and for a missing one."""
    what = f"a {spec.kind} spec"
    known = tuple(field.name for field in fields(spec))
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {what}; {hint}")
    missing = [name for name in required(spec) if mapping.get(name) is None]
    if missing:
        raise ValueError(f"{what} needs {' and '.join(missing)}; add what is missing")


def required(spec: type[JobSpec]) -> tuple[str, ...]:
    """The fields that a user must give."""
    return tuple(
        field.name for field in fields(spec) if field.default is MISSING and field.name != "tenant"
    )


def convert(mapping: Mapping[str, Any], spec: type[JobSpec], *, strict: bool) -> Any:
    """The spec of a mapping with known keys. Raises ValueError for a value of a wrong type."""
    completed = {"tenant": DEFAULT_TENANT, **mapping}
    try:
        return msgspec.convert(completed, spec, strict=strict)
    except msgspec.ValidationError as error:
        raise ValueError(f"wrong value in a {spec.kind} spec: {error}") from None


def check_common(spec: JobSpec) -> None:
    """Raises ValueError for a bad name, or a blank base, data or tenant."""
    if not _NAME.fullmatch(spec.name):
        refuse("name", spec.name, "1 to 64 letters, digits, '.', '_' or '-', not starting with .-")
    for field in ("base", "data", "tenant"):
        if not getattr(spec, field).strip():
            refuse(field, getattr(spec, field), "something other than blank")


def check_number(
    field: str, value: float | None, *, low: float, high: float, open_low: bool = False
) -> None:
    """Raises ValueError for a number out of its range; None is none that was given."""
    if value is None:
        return
    fits = math.isfinite(value) and low <= value <= high and not (open_low and value == low)
    if not fits or isinstance(value, bool):
        at_least = f"more than {low}" if open_low else f"at least {low}"
        refuse(field, value, f"{at_least} and at most {high}")


def refuse(field: str, value: object, expected: str) -> NoReturn:
    raise ValueError(f"{field} is {value!r}, expected {expected}; correct it and submit again")
