"""The Pareto front of a search of serving: dollars against latency, loss by colour."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import figure as mpl_figure

from meted.cli.report_plots import COLOURS, INK, STYLE


def plot_front(found: dict[str, Any], path: Path) -> None:
    """One dot for each measured configuration that keeps the SLO; names on the front's members."""
    measured = found["points"]
    context: Any = getattr(mpl, "rc_context")  # noqa: B009
    with context(STYLE):
        figure: Any = mpl_figure.Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        dots = axes.scatter(
            [one["usd_per_million"] for one in measured],
            [one["ttft_p95_ms"] for one in measured],
            c=[one["loss"] for one in measured],
            cmap="viridis",
            s=[60 if one["front"] else 24 for one in measured],
            zorder=3,
        )
        for one in measured:
            chosen = one["key"] == found["chosen_key"]
            if one["front"] or chosen:
                mark = " (chosen)" if chosen else ""
                axes.annotate(
                    f"{one['key']}{mark}",
                    (one["usd_per_million"], one["ttft_p95_ms"]),
                    textcoords="offset points",
                    xytext=(6, 4),
                    fontsize=7,
                    color=COLOURS["request"] if mark else INK,
                )
        figure.colorbar(dots, label="nats per token more than the parent")
        axes.set_xlabel("USD per million tokens")
        axes.set_ylabel("TTFT p95, ms")
        figure.savefig(path, dpi=160)
