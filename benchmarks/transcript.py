"""What a user types and sees, as a transcript: verbs of the CLI, with seconds since the start."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from meted.testing.house import METED

KEPT = {
    "train": r"is done|held-out \d.*to finish|serve it",
    "optimise": r"VARIANT|--|loss increase|serve one",
    "rollout": r"block \d|^(from|to|predicted|measured|quality|status) ",
}
"""Which lines of a verb's output matter; of other verbs, all."""


class LoopError(Exception):
    """What did not hold, as a sentence."""


def require(holds: object, sentence: str) -> None:
    """Raises LoopError with the sentence unless it holds."""
    if not holds:
        raise LoopError(sentence)


class Transcript:
    """What a user types and sees, with seconds since the beginning."""

    def __init__(self, home: Path) -> None:
        self._began = time.monotonic()
        self._environment = {**os.environ, "METED_HOME": str(home)}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, line: str) -> None:
        print(f"{self.seconds:7.1f}  {line}", flush=True)

    def meted(self, *words: str, quiet: bool = False) -> str:
        """Run a verb and show its lines that matter, each kind of progress once; all it printed.

        quiet: show the command alone. Raises LoopError if it fails.
        """
        self.say(f"$ meted {' '.join(words)}")
        kept, said, lines = re.compile(KEPT.get(words[0], "")), "", list[str]()
        with subprocess.Popen(
            [*METED, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                told, moment = line.rstrip(), _progress(line)
                if told and moment != said and not quiet and kept.search(told):
                    self.say(f"  {told}")
                said = moment
        printed = "".join(lines)
        last = (printed.strip().splitlines() or ["it said nothing"])[-1]
        require(not process.returncode, f"`meted {words[0]}` ended with an error: {last}")
        return printed

    def asked(self, *words: str) -> Any:
        """What a verb says with --json, not shown: for the checks and the table."""
        done = subprocess.run(
            [*METED, *words, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        require(not done.returncode, f"`meted {' '.join(words)} --json` failed: {done.stderr}")
        return json.loads(done.stdout)


def _progress(line: str) -> str:
    """Of a line of training, its phase and held-out loss alone, so that each is shown once; of a
    rollout, its block and the saving; any other line itself."""
    found = re.match(r"(\w+)  \d+/\d+  .*?(held-out \S+)", line)
    if found:
        return " ".join(found.groups())
    found = re.match(r"\w+, (block \d+)", line)
    return found[1] if found else line
