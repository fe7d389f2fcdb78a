"""Where a checkpoint comes from, as it stands on disk: transformations with their names."""

from dataclasses import asdict
from typing import Any

import msgspec

from meted.domain.variant import (
    Distil,
    ExportFloat,
    FineTune,
    LineageStep,
    PruneHeads,
    PruneLayers,
    PruneNeurons,
    Quantise,
    QuantiseGguf,
    Transformation,
)

KINDS: dict[str, type[Transformation]] = {
    "float": ExportFloat,
    "quantise": Quantise,
    "gguf": QuantiseGguf,
    "prune_layers": PruneLayers,
    "prune_heads": PruneHeads,
    "prune_neurons": PruneNeurons,
    "distil": Distil,
    "fine_tune": FineTune,
}


class StepOnDisk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`LineageStep` in JSON."""

    parent: str
    kind: str
    settings: dict[str, Any]


def kind_of(transformation: Transformation) -> str:
    """The name of a transformation's kind."""
    return next(name for name, kind in KINDS.items() if isinstance(transformation, kind))


def encode_lineage(lineage: tuple[LineageStep, ...]) -> tuple[StepOnDisk, ...]:
    """The steps as they are written."""
    return tuple(
        StepOnDisk(
            parent=step.parent,
            kind=kind_of(step.transformation),
            settings=asdict(step.transformation),
        )
        for step in lineage
    )


def decode_lineage(steps: tuple[StepOnDisk, ...]) -> tuple[LineageStep, ...]:
    """The steps as they were written. Raises ValueError for one of a kind that is unknown."""
    return tuple(
        LineageStep(parent=step.parent, transformation=_transformation(step)) for step in steps
    )


def _transformation(step: StepOnDisk) -> Transformation:
    if step.kind not in KINDS:
        raise ValueError(
            f"lineage has a step {step.kind!r}, expected one of {', '.join(KINDS)}; "
            "a newer Meted may have written it"
        )
    return msgspec.convert(step.settings, KINDS[step.kind])
