"""Prefix blocks of recorded requests, for worlds that keep a prefix cache of their own."""

import json
from pathlib import Path
from typing import Any

from meted.live.traffic.errors import TrafficError


def read_prefixes(path: Path) -> list[tuple[int, ...]]:
    """Ids of each request's prompt blocks (Mooncake's hash_ids), in the order of `read_trace`.

    Empty for a trace without them. Raises TrafficError as `read_trace` does for a broken line.
    """
    found: list[tuple[float, tuple[int, ...]]] = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if number == 1 and not line.lstrip().startswith("{"):
                return []
            try:
                row: Any = json.loads(line)
                found.append((float(row["timestamp"]), tuple(row["hash_ids"])))
            except (ValueError, TypeError, KeyError):
                if number == 1:
                    return []
                raise TrafficError(
                    f"{path}, line {number} has no timestamp or hash_ids as line 1 has"
                ) from None
    found.sort(key=lambda one: one[0])
    return [blocks for _, blocks in found]
