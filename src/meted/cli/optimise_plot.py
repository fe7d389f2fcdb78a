"""The Pareto front of a search of serving: dollars against latency, loss by colour."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import figure as mpl_figure

from meted.cli.optimise_serving_tables import points
from meted.cli.report_plots import COLOURS, INK, STYLE
from meted.optimise.pareto import front

if TYPE_CHECKING:
    from meted.live.tuning.searching import Found
    from meted.live.tuning.session import Prepared


def plot_front(prepared: "Prepared", found: "Found", path: Path) -> None:
    """One dot for each measured configuration that keeps the SLO; names on the front's members."""
    measured = points(prepared, found)
    members = set(front(measured).members)
    context: Any = getattr(mpl, "rc_context")  # noqa: B009
    with context(STYLE):
        figure: Any = mpl_figure.Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        dots = axes.scatter(
            [one.dollars for one in measured],
            [one.latency * 1e3 for one in measured],
            c=[one.loss for one in measured],
            cmap="viridis",
            s=[60 if one.key in members else 24 for one in measured],
            zorder=3,
        )
        for one in measured:
            if one.key in members or one.key == str(found.chosen):
                mark = " (chosen)" if one.key == str(found.chosen) else ""
                axes.annotate(
                    f"{one.key}{mark}",
                    (one.dollars, one.latency * 1e3),
                    textcoords="offset points",
                    xytext=(6, 4),
                    fontsize=7,
                    color=COLOURS["request"] if mark else INK,
                )
        figure.colorbar(dots, label="nats per token more than the parent")
        axes.set_xlabel("USD per million tokens")
        axes.set_ylabel("TTFT p95, ms")
        figure.savefig(path, dpi=160)
