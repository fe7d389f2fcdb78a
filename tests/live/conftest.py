"""The built-in checkpoints, imported once for all tests that need a real model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from meted.live.checkpoints import CheckpointRegistry


def import_builtin(folder: Path, name: str) -> list[dict[str, str]]:
    """Import as the house does it: in a process of its own, which says how it goes."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "meted.live.checkpoints", "import", "--builtin"),
            *("--name", name, "--folder", str(folder), "--threads", "2"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, (said, done.stderr)
    return said


@pytest.fixture(scope="session")
def checkpoints_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that all tests with real checkpoints share."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="session")
def smollm2(checkpoints_folder: Path) -> CheckpointRegistry:
    """A registry that holds smollm2-135m."""
    said = import_builtin(checkpoints_folder, "smollm2-135m")
    assert said[-1] == {"checkpoint": "smollm2-135m"}
    return CheckpointRegistry(checkpoints_folder)


@pytest.fixture(scope="session")
def minilm(checkpoints_folder: Path) -> CheckpointRegistry:
    """A registry that holds all-minilm-l6-v2."""
    import_builtin(checkpoints_folder, "all-minilm-l6-v2")
    return CheckpointRegistry(checkpoints_folder)
