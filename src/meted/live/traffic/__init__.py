"""Traffic as users have it: recorded traces in the formats people share, or three numbers."""

from meted.live.traffic.readers import read_trace
from meted.live.traffic.wished import (
    DAYS,
    HOUSE,
    TrafficError,
    WishedTraffic,
    parse_traffic,
    recorded_traffic,
)

__all__ = [
    "DAYS",
    "HOUSE",
    "TrafficError",
    "WishedTraffic",
    "parse_traffic",
    "read_trace",
    "recorded_traffic",
]
