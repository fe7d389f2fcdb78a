"""Processor cores as devices: what is believed of an engine on them before it was measured."""

from dataclasses import fields, replace

from meted.domain.device_kind import DeviceKind, Precision
from meted.predict.calibration import HOST, PRIOR, Calibration, FactorPrior, Noise, spread
from meted.predict.roofline import Factors

CORE_PREFIX = "cpu-core"
"""How the names of kinds begin that are groups of processor cores."""

CORES_PRIOR = FactorPrior(
    factors=Factors(
        compute=0.6,
        memory=0.6,
        cache=0.12,
        fixed_micros=2_000.0,
        prompt_micros=10_000.0,
        layer_micros=300.0,
        sequence_micros=800.0,
    ),
    covariance=spread(
        Factors(
            compute=0.3,
            memory=0.4,
            cache=0.5,
            link=0.1,
            spill=0.1,
            fixed_micros=0.7,
            prompt_micros=1.0,
            layer_micros=0.7,
            sequence_micros=0.7,
            message_micros=0.1,
        ),
        {},
    ),
    prompt_noise=Noise(deviation=0.12, points=3.0),
    decode_noise=Noise(deviation=0.06, points=3.0),
)
"""Cores have no second processor that launches their kernels: launching a layer, sampling and
reading a quantised KV cache are arithmetic on the same cores, and dear. Rounded from SmolLM2-135M
measured on two AMX cores (OpenVINO 2026.4, 2026-11-26, benchmarks/this_machine.py), the doubt too,
with a deviation of about a factor of two, for other processors and engines differ."""


def prior_for(kind: DeviceKind) -> FactorPrior:
    """The belief about any engine on a kind of device."""
    return CORES_PRIOR if kind.name.startswith(CORE_PREFIX) else PRIOR


def carried(
    known: Calibration,
    before: DeviceKind,
    after: DeviceKind,
    *,
    device: float = 0.3,
    host: float = 0.6,
) -> FactorPrior:
    """What a calibration of one group of cores says about another, or about other weights on it.

    The host's times are arithmetic on the same cores, so they shrink as these get faster.
    device, host: doubt, as in `Calibration.as_prior`.
    """
    prior = known.as_prior(device=device, host=host)
    slower = _speed(before) / _speed(after)
    times = {one.name: getattr(prior.factors, one.name) for one in fields(Factors)}
    for name in HOST:
        times[name] *= slower
    return replace(prior, factors=Factors(**times))


def _speed(kind: DeviceKind) -> float:
    return kind.peak_flops.get(Precision.FP32) or max(kind.peak_flops.values())
