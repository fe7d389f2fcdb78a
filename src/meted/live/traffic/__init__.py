"""Traffic as users have it: recorded traces in the formats people share, or three numbers."""

from meted.live.traffic.readers import read_trace
from meted.live.traffic.wished import (
    DAYS,
    TrafficError,
    WishedTraffic,
    parse_traffic,
)

__all__ = ["DAYS", "TrafficError", "WishedTraffic", "parse_traffic", "read_trace"]
