"""Calibrations in the home, by model family, device kind and engine version, and what is believed
of a deployment with their help before its first step."""

import os
import re
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.device_kind import DeviceKind, Precision
from meted.live.checkpoints import Checkpoint
from meted.live.facts import facts_of_checkpoint
from meted.predict.calibration import Calibration, CalibrationKey, FactorPrior, calibrate
from meted.predict.cores import CORE_PREFIX, prior_for
from meted.predict.setup import Setup, peak

ENGINE_PACKAGE = "openvino-genai"
CHUNK_TOKENS = 256
NEW_VERSION = 0.25
"""Deviation of log that is added when the engine's version changed: its release notes claim gains
and losses of up to a quarter."""
SAME_VERSION = 0.03
"""Added at each start: the same code may lie otherwise in memory, the machine may be warmer."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A calibration as it lies in a file. peak, bandwidth: of the device, as its factors mean
    them: measured anew, the same cores may come out faster."""

    family: str
    kind: str
    engine: str
    peak: float
    bandwidth: float
    calibration: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What is believed of a deployment's step time. before: as it was before the first step; now:
    with the live steps. origin: in words, where `before` comes from."""

    setup: Setup
    key: CalibrationKey
    prior: FactorPrior
    before: Calibration
    now: Calibration
    origin: str


class Calibrations:
    """Files in one folder, one for each key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, setup: Setup) -> Calibration | None:
        """What was kept for exactly this family, kind, engine version and precision; None if there
        is nothing that this version can read."""
        return self._read(self._path(key_of(setup)), setup)

    def find_other_version(self, setup: Setup) -> tuple[str, Calibration] | None:
        """The latest calibration of another engine version for the same family, kind and weights,
        and that engine."""
        key = key_of(setup)
        weights = key.engine.rpartition("/")[2]
        found: list[tuple[float, str, Calibration]] = []
        for path in self._folder.glob("*.json"):
            kept = self._decode(path)
            if kept is None or (kept.family, kept.kind) != (key.family, key.kind):
                continue
            calibration = self._read(path, setup)
            same_weights = kept.engine.rpartition("/")[2] == weights
            if calibration is not None and same_weights and kept.engine != key.engine:
                found.append((path.stat().st_mtime, kept.engine, calibration))
        return max(found, key=lambda one: one[0])[1:] if found else None

    def save(self, setup: Setup, calibration: Calibration, *, engine: str | None = None) -> None:
        """Keep it, whole or not at all. engine: another version than the one that is installed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = key_of(setup)
        key = replace(key, engine=engine or key.engine)
        path = self._path(key)
        draft = path.with_suffix(f".{os.getpid()}")
        kept = _Kept(
            **asdict(key),
            peak=peak(setup.kind, setup.algorithm.compute),
            bandwidth=setup.kind.bandwidth,
            calibration=calibration.to_dict(),
        )
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1))
        draft.replace(path)

    def _path(self, key: CalibrationKey) -> Path:
        parts = (re.sub(r"[^A-Za-z0-9.]+", "-", one) for one in (key.family, key.kind, key.engine))
        return self._folder / f"{'--'.join(parts)}.json"

    def _decode(self, path: Path) -> _Kept | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError):
            return None

    def _read(self, path: Path, setup: Setup) -> Calibration | None:
        kept = self._decode(path)
        try:
            found = None if kept is None else Calibration.from_dict(kept.calibration)
        except (KeyError, TypeError, ValueError):
            # Another version of Meted wrote it, with other factors.
            return None
        if kept is None or found is None:
            return None
        faster = kept.peak / peak(setup.kind, setup.algorithm.compute)
        wider = kept.bandwidth / setup.kind.bandwidth
        factors = replace(
            found.factors,
            compute=found.factors.compute * faster,
            memory=found.factors.memory * wider,
            cache=found.factors.cache * wider,
        )
        return replace(found, factors=factors)


def key_of(setup: Setup) -> CalibrationKey:
    """What a calibration of this setup is kept under."""
    return CalibrationKey(
        family=setup.architecture.family,
        kind=setup.kind.name,
        engine=engine_version(setup.algorithm.weights),
    )


def engine_version(weights: Precision) -> str:
    """`openvino-genai-2026.4.1.0/int8`: kernels differ by the weights' precision, too."""
    try:
        return f"{ENGINE_PACKAGE}-{version(ENGINE_PACKAGE)}/{weights}"
    except PackageNotFoundError:
        return f"{ENGINE_PACKAGE}/{weights}"


def served_setup(checkpoint: Checkpoint, kind: DeviceKind, *, max_batch: int) -> Setup:
    """How the house's own engine runs a checkpoint on its cores.

    Raises FactError if the checkpoint's architecture cannot be read any more.
    """
    facts = facts_of_checkpoint(checkpoint)
    weights = facts.weights or Precision.INT8
    wanted = (Precision.INT8, Precision.BF16, Precision.FP32)
    if weights in (Precision.FP16, Precision.BF16, Precision.FP32):
        wanted = (Precision.BF16, Precision.FP32)
    compute = next(one for one in wanted if one in kind.peak_flops)
    algorithm = ServingAlgorithm(
        weights=weights,
        kv=Precision.INT8,
        compute=compute,
        chunk_tokens=CHUNK_TOKENS,
        max_batch=max_batch,
    )
    return Setup(architecture=facts.architecture, kind=kind, algorithm=algorithm)


def believe(setup: Setup, kept: Calibrations) -> Belief:
    """What is known before the first step: this engine's calibration, that of another version with
    more doubt, or only what holds of any engine on such devices."""
    key = key_of(setup)
    own = kept.find(setup)
    if own is not None:
        prior = own.as_prior(device=SAME_VERSION, host=SAME_VERSION)
        origin = f"calibration of {key.engine}, {own.points} points"
    elif (other := kept.find_other_version(setup)) is not None:
        prior = other[1].as_prior(device=NEW_VERSION, host=NEW_VERSION)
        origin = f"calibration of {other[0]}, widened for another version"
    else:
        prior = prior_for(setup.kind)
        measured = "of the measured cores" if setup.kind.name.startswith(CORE_PREFIX) else ""
        origin = f"roofline {measured or 'of published facts'}, not yet calibrated"
    before = calibrate([], prior)
    if own is not None:
        before = replace(before, points=own.points)
    return Belief(setup=setup, key=key, prior=prior, before=before, now=before, origin=origin)
