"""Example prices: what devices were listed for in 2025. Check them before you rely on them."""

from meted.domain.market import Offer, Purchase
from meted.domain.units import NanoUSD

_CHECK = "; an example, check it before you rely on it"
_PER_MONTH = 1 / 730
_OFTEN = 0.2 * _PER_MONTH
"""AWS's Spot Instance Advisor puts GPU instances at 15 to 20 % or more a month."""


def _list(
    kind: str,
    nano_usd: int,
    what: str,
    *,
    provider: str,
    region: str,
    devices: int = 1,
    dated: str = "2025-06-05",
) -> Offer:
    return Offer(
        kind=kind,
        purchase=Purchase.ON_DEMAND,
        nano_usd_per_device_hour=NanoUSD(nano_usd),
        devices=devices,
        provider=provider,
        region=region,
        dated=dated,
        source=f"{provider} list price of {what}{_CHECK}",
    )


def _aws(kind: str, nano_usd: int, what: str, *, devices: int = 1) -> Offer:
    return _list(kind, nano_usd, what, provider="aws", region="us-east-1", devices=devices)


def _google(kind: str, nano_usd: int, what: str, *, devices: int = 1) -> Offer:
    return _list(kind, nano_usd, what, provider="gcp", region="us-central1", devices=devices)


def _lambda(kind: str, nano_usd: int, what: str, *, devices: int = 1) -> Offer:
    return _list(kind, nano_usd, what, provider="lambda", region="", devices=devices)


def _runpod(kind: str, nano_usd: int, what: str) -> Offer:
    return _list(kind, nano_usd, what, provider="runpod", region="")


def _spot(kind: str, nano_usd: int, what: str, *, devices: int = 1) -> Offer:
    return Offer(
        kind=kind,
        purchase=Purchase.SPOT,
        nano_usd_per_device_hour=NanoUSD(nano_usd),
        devices=devices,
        provider="aws",
        region="us-east-1",
        interruptions_per_device_hour=_OFTEN,
        dated="2025-06-05",
        source=f"usual aws spot price of {what} that month, it changes by the hour{_CHECK}",
    )


def _owned(kind: str, nano_usd: int, *, devices: int, how: str) -> Offer:
    return Offer(
        kind=kind,
        purchase=Purchase.OWNED,
        nano_usd_per_device_hour=NanoUSD(nano_usd),
        devices=devices,
        provider="own",
        dated="2025-06-05",
        source=f"{how}; an example, put in your own",
    )


EXAMPLE_PRICES: tuple[Offer, ...] = (
    _aws("t4", 526_000_000, "g4dn.xlarge"),
    _aws("v100-16gb", 3_060_000_000, "p3.2xlarge"),
    _aws("a10g", 1_006_000_000, "g5.xlarge"),
    _aws("l4", 804_800_000, "g6.xlarge"),
    _aws("l40s", 1_861_000_000, "g6e.xlarge"),
    _aws("a100-40gb", 2_744_705_000, "p4d.24xlarge, 21.95764 for eight", devices=8),
    _aws("a100-80gb", 3_430_881_250, "p4de.24xlarge, 27.44705 for eight", devices=8),
    _aws("h100-80gb", 6_880_000_000, "p5.48xlarge, 55.04 for eight", devices=8),
    _aws("h200-141gb", 7_912_000_000, "p5en.48xlarge, 63.296 for eight", devices=8),
    _aws("b200-180gb", 14_241_600_000, "p6-b200.48xlarge, 113.9328 for eight", devices=8),
    _aws("cpu-core", 89_250_000, "c7i.large, whose two vCPUs are one core"),
    _google("k80", 450_000_000, "a K80, without its host"),
    _google("p100", 1_460_000_000, "a P100, without its host"),
    _google("tpu-v5e", 1_200_000_000, "TPU v5e"),
    _google("tpu-v5p", 4_200_000_000, "TPU v5p", devices=4),
    _lambda("a100-80gb", 1_790_000_000, "8x A100 SXM 80 GB", devices=8),
    _lambda("h100-80gb", 2_990_000_000, "8x H100 SXM", devices=8),
    _lambda("h100-pcie", 2_490_000_000, "1x H100 PCIe"),
    _runpod("rtx-4090", 690_000_000, "RTX 4090, secure cloud"),
    _runpod("rtx-pro-6000", 1_790_000_000, "RTX PRO 6000"),
    _runpod("mi300x", 2_490_000_000, "MI300X"),
    _spot("t4", 210_000_000, "g4dn.xlarge"),
    _spot("a10g", 450_000_000, "g5.xlarge"),
    _spot("l4", 350_000_000, "g6.xlarge"),
    _spot("l40s", 900_000_000, "g6e.xlarge"),
    _spot("a100-40gb", 1_400_000_000, "p4d.24xlarge", devices=8),
    _spot("h100-80gb", 3_000_000_000, "p5.48xlarge", devices=8),
    _owned(
        "h100-80gb", 1_397_530_137, devices=8,
        how="an eighth of a node: 35,000 USD over 4 years, 1275 W at 0.12 USD per kWh with a PUE "
        "of 1.3, 1,750 USD a year for staff, space and repairs",
    ),
    _owned(
        "rtx-4090", 239_200_914, devices=1,
        how="2,600 USD with its part of the computer over 4 years, 550 W at 0.30 USD per kWh",
    ),
)  # fmt: skip
"""Dollars of the day on which a provider listed them, for one device of the offer."""
