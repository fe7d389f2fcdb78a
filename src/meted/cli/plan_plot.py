"""Cost against SLO: what a stricter or looser limit would cost, with the chosen plan marked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import figure as mpl_figure

from meted.cli.report_plots import COLOURS, INK, OTHERS, STYLE
from meted.domain.units import Micros, NanoUSD
from meted.policy.fleet.plan import FleetPlan, InfeasibleError
from meted.policy.fleet.planner import plan_fleet
from meted.policy.fleet.traffic import HOURS_PER_MONTH
from meted.policy.fleet.wish import FleetWish, LatencyLimit

FACTORS = (0.35, 0.5, 0.7, 1.4, 2.0, 3.0)
"""Limits that are planned for besides the wished one."""
NANOS = 1e9


def plot_plan(wish: FleetWish, plan: FleetPlan, path: Path) -> None:
    """One curve for each limit, the others as wished; and each kind of device alone."""
    limits = wish.limits
    context: Any = getattr(mpl, "rc_context")  # noqa: B009
    with context(STYLE):
        figure: Any = mpl_figure.Figure(
            figsize=(4.6 * max(1, len(limits)), 3.8), layout="constrained"
        )
        axes = figure.subplots(1, max(1, len(limits)), squeeze=False, sharey=True)[0]
        for limit, one in zip(limits, axes, strict=True):
            _curve(one, wish, plan, limit)
        axes[0].set_ylabel("USD a month, replayed plans")
        axes[0].yaxis.set_major_formatter("{x:,.0f}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=4
        )
        figure.suptitle(f"{wish.architecture.name}: cost against its limits", color=INK)
        figure.savefig(path, dpi=160)


def _curve(axes: Any, wish: FleetWish, plan: FleetPlan, limit: LatencyLimit) -> None:
    points = [(limit.micros, plan.nano_usd_per_month)]
    impossible: list[int] = []
    for factor in FACTORS:
        micros = Micros(round(limit.micros * factor))
        price = _price(wish, limit, micros)
        if price is None:
            impossible.append(micros)
        else:
            points.append((micros, price))
    points.sort()
    x = [micros / 1000 for micros, _ in points]
    y = [price / NANOS for _, price in points]
    axes.plot(x, y, color=COLOURS["request"], marker="o", markersize=4, label="cheapest fleet")
    axes.plot(
        limit.micros / 1000,
        plan.nano_usd_per_month / NANOS,
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=2,
        linestyle="",
        color=COLOURS["lost"],
        label="this plan",
    )
    for number, alone in enumerate(plan.single_kind):
        if alone.nano_usd_per_hour is not None:
            axes.plot(
                limit.micros / 1000,
                alone.nano_usd_per_hour * HOURS_PER_MONTH / NANOS,
                marker="x",
                linestyle="",
                color=OTHERS[(number + 1) % len(OTHERS)],
                label=f"{alone.name}, not replayed",
            )
    if impossible:
        axes.axvspan(0.8 * min(impossible) / 1000, max(impossible) / 1000, color="#f3e3e1", lw=0)
    axes.set_xscale("log")
    axes.set_xlabel(f"limit on {limit.name}, ms" + ("; shaded: no fleet" if impossible else ""))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xticks([round(one, 1) for one in x[:: max(1, len(x) // 4)]])


def _price(wish: FleetWish, limit: LatencyLimit, micros: Micros) -> NanoUSD | None:
    limits = tuple(replace(one, micros=micros) if one is limit else one for one in wish.limits)
    try:
        return plan_fleet(replace(wish, limits=limits)).nano_usd_per_month
    except InfeasibleError:
        return None
