"""A job's process: `python -m meted.live.job_worker --fd N --spec JSON ...`."""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from meted.domain.job import TrainingSpec
from meted.domain.search_job import ServingSearch, VariantSearch
from meted.domain.units import NanoUSD
from meted.live.job_codec import spec_of_json
from meted.live.leash import cap_threads, die_with_parent
from meted.live.wire import Channel, ToTrainer


def main() -> int:
    """Read the arguments, tie this process to the house and run the job."""
    arguments = _arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    cap_threads(arguments.threads)
    spec = spec_of_json(arguments.spec)
    link = Channel(socket.socket(fileno=arguments.fd), ToTrainer)
    places = {"registry_folder": arguments.registry, "workdir": arguments.workdir}
    # Imported only now, because libraries size their thread pools when they load.
    match spec:
        case TrainingSpec():
            _spin_less()
            from meted.live.training.worker import run_job

            return run_job(spec=spec, threads=arguments.threads, link=link, **places)
        case VariantSearch():
            _spin_less()
            from meted.live.variants.worker import run_variants

            return run_variants(spec, threads=arguments.threads, link=link, **places)
        case ServingSearch():
            from meted.live.tuning.worker import run_serving

            return run_serving(
                spec,
                calibrations=arguments.calibrations,
                devices=arguments.devices,
                price=NanoUSD(arguments.price),
                link=link,
                **places,
            )
        case _:
            raise TypeError(f"{spec!r} is no spec of a job")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m meted.live.job_worker")
    parser.add_argument("--fd", type=int, required=True, help="the house's socket")
    parser.add_argument("--spec", required=True, help="a JobSpec as JSON")
    parser.add_argument("--registry", type=Path, required=True, help="folder of all checkpoints")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of this job")
    parser.add_argument("--calibrations", type=Path, help="what was measured of this machine")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--devices", type=_devices, default=(), help="indices, by commas")
    parser.add_argument("--price", type=int, default=0, help="nano-USD of a device-hour")
    return parser.parse_args()


def _devices(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",") if one)


def _spin_less() -> None:
    """By default a thread spins for milliseconds while another one, displaced by serving, stands
    still: 51.5 CPU-seconds against 39.4 (two cores, about half of each taken away)."""
    os.environ["GOMP_SPINCOUNT"] = "20000"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is durable and told. Taking the libraries down in order costs 2 to 7 core-seconds that
    # nobody would pay for.
    os._exit(status)
