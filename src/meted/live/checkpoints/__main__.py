"""Import a checkpoint in a process of its own: `python -m meted.live.checkpoints import ...`.

Prints one JSON object a line: progress, and at the end the checkpoint or the error.
"""

import argparse
import json
import os
import signal
import sys
import warnings
from pathlib import Path

from meted.live.checkpoints.checkpoint import CheckpointError
from meted.live.checkpoints.registry import CheckpointRegistry
from meted.live.leash import cap_threads, die_with_parent


def main() -> int:
    """Import as the arguments say; 0 if the checkpoint is there afterwards."""
    parser = argparse.ArgumentParser(prog="python -m meted.live.checkpoints")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("import", help="import a checkpoint")
    command.add_argument("--name", required=True)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--builtin", action="store_true", help="the built-in of this name")
    source.add_argument("--path", type=Path, help="a GGUF file, Hugging Face or OpenVINO folder")
    command.add_argument("--folder", type=Path, required=True, help="folder of all checkpoints")
    command.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    cap_threads(arguments.threads)
    warnings.simplefilter("ignore")
    registry = CheckpointRegistry(arguments.folder)
    try:
        if arguments.builtin:
            made = registry.ensure_builtin(arguments.name, _progress)
        else:
            made = registry.import_path(arguments.name, arguments.path, _progress)
    except CheckpointError as error:
        _say("error", str(error))
        return 1
    except OSError as error:
        _say("error", f"{arguments.name!r} cannot be imported: {error}; check disk and rights")
        return 1
    except MemoryError:
        _say("error", f"memory ran out while importing {arguments.name!r}; stop something")
        return 1
    _say("checkpoint", made.name)
    return 0


def _progress(text: str) -> None:
    _say("progress", text)


def _say(key: str, text: str) -> None:
    sys.stdout.write(json.dumps({key: text}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
