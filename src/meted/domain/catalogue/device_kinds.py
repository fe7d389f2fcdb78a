"""Device kinds by name, and the other names under which people know them."""

from collections.abc import Mapping
from types import MappingProxyType

from meted.domain.catalogue.nvidia_data_centre import NVIDIA_DATA_CENTRE
from meted.domain.catalogue.nvidia_pcie import NVIDIA_PCIE
from meted.domain.catalogue.other_devices import OTHER_DEVICES
from meted.domain.device_kind import DeviceKind

DEVICE_KINDS: Mapping[str, DeviceKind] = MappingProxyType(
    {one.name: one for one in (*NVIDIA_PCIE, *NVIDIA_DATA_CENTRE, *OTHER_DEVICES)}
)

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "v100": "v100-16gb",
        "v100-sxm2": "v100-16gb",
        "a100": "a100-80gb",
        "a100-sxm": "a100-80gb",
        "h100": "h100-80gb",
        "h100-sxm": "h100-80gb",
        "h100-pcie-80gb": "h100-pcie",
        "h200": "h200-141gb",
        "h200-sxm": "h200-141gb",
        "b200": "b200-180gb",
        "b200-sxm": "b200-180gb",
        "p100-pcie-16gb": "p100",
        "p100-16gb": "p100",
        "t4-16gb": "t4",
        "a10g-24gb": "a10g",
        "l4-24gb": "l4",
        "l40s-48gb": "l40s",
        "4090": "rtx-4090",
        "pro-6000": "rtx-pro-6000",
        "rtx-pro-6000-blackwell": "rtx-pro-6000",
        "rtx-pro-6000-blackwell-workstation-edition": "rtx-pro-6000",
        "rtx-pro-6000-blackwell-server-edition": "rtx-pro-6000",
        "mi300x-192gb": "mi300x",
        "instinct-mi300x": "mi300x",
        "v5e": "tpu-v5e",
        "v5p": "tpu-v5p",
        "v5litepod": "tpu-v5e",
        "tpu-v5litepod": "tpu-v5e",
        "cpu": "cpu-core",
        "core": "cpu-core",
    }
)
"""What people mean when they do not say it all: an A100 has 80 GB, a V100 16, an H100 is SXM."""
