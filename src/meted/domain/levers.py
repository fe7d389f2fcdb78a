"""Names of levers on weights: what `--levers` takes, and the transformations that they stand for.

`+` joins steps: `layers-10%+int4-g64` prunes, repairs, and then quantises what came out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from meted.domain.variant import (
    PER_CHANNEL,
    Calibration,
    Distil,
    ExportFloat,
    FloatType,
    GgufType,
    IntType,
    PruneHeads,
    PruneLayers,
    PruneNeurons,
    Quantise,
    QuantiseGguf,
    Transformation,
)

PLAIN: Mapping[str, Transformation] = {
    **{str(one): ExportFloat(type=one) for one in FloatType},
    **{str(one): Quantise(type=one) for one in (IntType.INT8, IntType.INT8_SYM)},
    **{f"gguf-{one}": QuantiseGguf(type=one) for one in GgufType},
}
"""Levers without numbers, by name."""

ALL = (
    *("bf16", "fp16", "int8", "int8-sym"),
    *("int4-g32", "int4-g64", "int4-g128", "int4-sym-g64", "int4-g64-r0.8"),
    *("int4-g64-awq", "int4-g64-gptq"),
    *("gguf-q8_0", "gguf-q5_1", "gguf-q5_0", "gguf-q4_1", "gguf-q4_0"),
    *("layers-10%", "heads-1", "neurons-20%", "distil-33%"),
)
"""What `--levers all` tries, in this order."""

FORMS = (
    "fp16, bf16, int8, int8-sym, int4[-sym][-g32|-g64|-g128][-r0.8][-awq|-gptq], "
    "gguf-q8_0 (q5_1, q5_0, q4_1, q4_0, f16, bf16), layers-10%, heads-1, neurons-20%, distil-33%; "
    "with + between steps"
)

_FOUR_BITS = re.compile(
    r"(?P<type>int4(?:-sym)?)(?:-g(?P<group>32|64|128))?(?:-r(?P<ratio>[01](?:\.\d+)?))?"
    r"(?:-(?P<calibration>awq|gptq))?"
)
_PERCENT = re.compile(r"(?P<kind>layers|neurons|distil)-(?P<percent>\d{1,2})%")
_HEADS = re.compile(r"heads-(?P<groups>\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """Transformations one after the other, each with its part of the name."""

    name: str
    steps: tuple[tuple[str, Transformation], ...]


def parse_lever(name: str, *, training_steps: int | None = None) -> Lever:
    """The lever of this name. training_steps: of each repair and distillation, in place of theirs.

    Raises ValueError, naming the forms there are.
    """
    steps = tuple((part, _step(part, name)) for part in name.split("+"))
    if training_steps is None:
        return Lever(name=name, steps=steps)
    return Lever(
        name=name, steps=tuple((part, _trained(step, training_steps)) for part, step in steps)
    )


def _trained(step: Transformation, steps: int) -> Transformation:
    match step:
        case Distil():
            return replace(step, steps=steps)
        case PruneLayers() | PruneHeads() | PruneNeurons():
            return replace(step, repair=replace(step.repair, steps=steps))
        case _:
            return step


def _step(part: str, whole: str) -> Transformation:
    if part in PLAIN:
        return PLAIN[part]
    try:
        if found := _FOUR_BITS.fullmatch(part):
            calibration = found["calibration"]
            return Quantise(
                type=IntType(found["type"]),
                group_size=int(found["group"] or PER_CHANNEL),
                ratio=float(found["ratio"] or 1),
                calibration=Calibration(calibration) if calibration else None,
            )
        if found := _PERCENT.fullmatch(part):
            kinds = {"layers": PruneLayers, "neurons": PruneNeurons, "distil": Distil}
            return kinds[found["kind"]](share=int(found["percent"]) / 100)
        if found := _HEADS.fullmatch(part):
            return PruneHeads(groups=int(found["groups"]))
    except ValueError as error:
        raise ValueError(f"lever {whole!r}: {error}") from None
    raise ValueError(f"{part!r} in lever {whole!r} is no lever; there are: {FORMS}")
