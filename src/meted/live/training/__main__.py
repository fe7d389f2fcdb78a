"""The trainer's process: `python -m meted.live.training --fd N --spec JSON ...`."""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from meted.domain.job import TrainingSpec
from meted.live.leash import cap_threads, die_with_parent
from meted.live.wire import Channel, ToTrainer


def main() -> int:
    """Read the arguments, tie this process to the house and run the job."""
    parser = argparse.ArgumentParser(prog="python -m meted.live.training")
    parser.add_argument("--fd", type=int, required=True, help="the house's socket")
    parser.add_argument("--spec", required=True, help="a TrainingSpec as JSON")
    parser.add_argument("--registry", type=Path, required=True, help="folder of all checkpoints")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of this job")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    cap_threads(arguments.threads)
    # By default a thread spins for milliseconds while another one, displaced by serving, stands
    # still: 51.5 CPU-seconds against 39.4 (two cores, about half of each taken away).
    os.environ["GOMP_SPINCOUNT"] = "20000"
    channel = Channel(socket.socket(fileno=arguments.fd), ToTrainer)

    # Only now, because libraries size their thread pools when they load.
    from meted.live.training.worker import run_job

    return run_job(
        spec=msgspec.json.decode(arguments.spec, type=TrainingSpec),
        registry_folder=arguments.registry,
        workdir=arguments.workdir,
        threads=arguments.threads,
        link=channel,
    )


if __name__ == "__main__":
    sys.exit(main())
