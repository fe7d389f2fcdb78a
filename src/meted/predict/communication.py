"""What devices say to each other: the time of a collective, as micros per byte and a delay."""

import math
from dataclasses import dataclass

from meted.domain.device_kind import DeviceKind, Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A message's cost on ideal links: micros_per_byte of the whole payload, and delay_micros of
    the links that it crosses one after the other, which are `hops`."""

    micros_per_byte: float = 0.0
    delay_micros: float = 0.0
    hops: float = 0.0

    def micros(self, payload_bytes: float) -> float:
        return self.micros_per_byte * payload_bytes + self.delay_micros


NOTHING = Wire()


def all_reduce(kind: DeviceKind, devices: int) -> Wire:
    """Sum over `devices` of a payload that each of them holds whole.

    Bandwidth 2 (d - 1) / d, delay log2(d) hops (Thakur, Rabenseifner, Gropp 2005). Across nodes:
    reduce-scatter in the node, all-reduce of each device's part over its share of the network,
    all-gather in the node.
    """
    inside = min(devices, kind.node_devices)
    nodes = math.ceil(devices / kind.node_devices)
    per_byte = delay = 0.0
    if inside > 1:
        per_byte += 2 * (inside - 1) / inside * _per_byte(kind.link)
        delay += math.log2(inside) * kind.link.latency_micros
    if nodes > 1:
        per_byte += 2 * (nodes - 1) / nodes / inside * _per_byte(kind.network)
        delay += math.log2(nodes) * kind.network.latency_micros
    return Wire(micros_per_byte=per_byte, delay_micros=delay, hops=math.log2(devices))


def all_to_all(kind: DeviceKind, devices: int) -> Wire:
    """Each of `devices` sends its payload spread evenly over all of them, itself included."""
    inside = min(devices, kind.node_devices)
    away = (devices - inside) / devices
    near = (inside - 1) / devices
    delay = kind.link.latency_micros if inside > 1 else 0.0
    if away:
        delay += kind.network.latency_micros
    return Wire(
        micros_per_byte=max(near * _per_byte(kind.link), away * _per_byte(kind.network)),
        delay_micros=delay,
        hops=1.0,
    )


def point_to_point(kind: DeviceKind, *, inside_node: bool) -> Wire:
    """One device to another."""
    link = kind.link if inside_node else kind.network
    return Wire(micros_per_byte=_per_byte(link), delay_micros=link.latency_micros, hops=1.0)


def _per_byte(link: Link) -> float:
    return 1e6 / link.bytes_per_second
