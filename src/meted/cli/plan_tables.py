"""A fleet plan for people: the answer first, then what it rests on."""

from collections.abc import Iterable, Sequence

import click

from meted.cli.render import decimal, print_table
from meted.domain.market import Offer
from meted.domain.units import NanoUSD
from meted.live.planning import Wished
from meted.policy.fleet.plan import Alternative, FleetPlan, FleetRow, LimitVerdict
from meted.policy.training_plan import TrainingPlan
from meted.predict.estimate import Estimate

NANOS_PER_CENT = 10_000_000


def usd(nano_usd: NanoUSD | int | None) -> str:
    """Dollars to the cent, since rent is not billed finer."""
    if nano_usd is None:
        return "-"
    cents = round(nano_usd / NANOS_PER_CENT)
    return f"${cents // 100:,}.{cents % 100:02d}"


def milliseconds(micros: float) -> str:
    return f"{micros / 1000:,.0f} ms" if micros >= 10_000 else f"{micros / 1000:.1f} ms"


def offer_words(offer: Offer) -> str:
    place = " ".join(part for part in (offer.provider, offer.region) if part)
    return f"{offer.purchase}{f' ({place})' if place else ''}"


def counts(numbers: Iterable[int]) -> str:
    """One number where all periods agree, else one for each."""
    found = list(numbers)
    return str(found[0]) if len(set(found)) == 1 else " / ".join(map(str, found))


def print_plan(wished: Wished, plan: FleetPlan) -> None:
    """The whole plan as text."""
    _answer(wished, plan)
    _fleet(plan)
    _costs(plan)
    _limits(plan)
    _training(plan)
    _others(plan)
    _sensitivity(plan)
    _proof(plan)
    click.echo("\nFacts")
    for fact in wished.facts:
        click.echo(f"  {fact}")


def _answer(wished: Wished, plan: FleetPlan) -> None:
    rented = ", ".join(
        f"{counts(row.devices)} x {row.offer.kind} {offer_words(row.offer)}" for row in plan.offers
    )
    click.echo(f"Rent {rented}: {usd(plan.nano_usd_per_month)} a month, "
               f"{usd(plan.nano_usd_per_million_tokens)} per million tokens.")  # fmt: skip
    click.echo(f"For {wished.traffic.told}.")
    verdict = plan.replay
    if verdict is None:
        return
    margins = ", ".join(
        f"{one.limit.name} {milliseconds(max(one.attained))} of {milliseconds(one.limit.micros)}"
        for one in verdict.limits
    )
    click.echo(
        f"In a replay of {verdict.requests:,} requests, {wished.wish.margin:.0%} denser than "
        f"wished, it holds: {margins}."
    )


def _fleet(plan: FleetPlan) -> None:
    if len(plan.periods) > 1:
        click.echo(f"\nFleet, by period: {' / '.join(plan.periods)}")
    else:
        click.echo("\nFleet")
    print_table(
        ("device", "purchase", "replicas", "devices each", "layout", "weights", "chunk", "busy"),
        [_fleet_row(row) for row in plan.rows],
        right=("replicas", "devices each", "chunk", "busy"),
    )


def _fleet_row(row: FleetRow) -> tuple[object, ...]:
    algorithm = row.setup.algorithm
    return (
        row.setup.kind.name,
        offer_words(row.offer),
        counts(row.replicas),
        row.devices_per_replica,
        algorithm.parallelism,
        algorithm.weights,
        algorithm.chunk_tokens,
        " / ".join(f"{one:.0%}" for one in row.utilisation),
    )


def _costs(plan: FleetPlan) -> None:
    click.echo("\nCost")
    rows: list[tuple[str, str]] = [
        (f"an hour{'' if len(plan.periods) == 1 else f', {period}'}", usd(hourly))
        for period, hourly in zip(plan.periods, plan.nano_usd_per_hour, strict=True)
    ]
    rows += [
        (f"a month, {row.offer.kind} {offer_words(row.offer)}", usd(row.nano_usd_per_month))
        for row in plan.offers
    ]
    rows += [
        ("a month, all", usd(plan.nano_usd_per_month)),
        ("per million tokens, in and out", f"${decimal(plan.nano_usd_per_million_tokens)}"),
        ("the same by a perfect autoscaler, a month", usd(plan.floor)),
    ]
    if plan.sunk_nano_usd_per_month:
        rows.append(("owned devices, paid anyway, a month", usd(plan.sunk_nano_usd_per_month)))
    print_table(("what", "cost"), rows, right=("cost",))


def _limits(plan: FleetPlan) -> None:
    if plan.replay is None or not plan.replay.limits:
        return
    click.echo("\nSLO, in the replay")
    print_table(
        ("limit", "wished", "attained", "margin", "requests inside"),
        [_limit_row(one) for one in plan.replay.limits],
        right=("wished", "attained", "margin", "requests inside"),
    )


def _limit_row(one: LimitVerdict) -> tuple[str, ...]:
    worst = max(one.attained)
    return (
        one.limit.name,
        milliseconds(one.limit.micros),
        milliseconds(worst),
        f"{1 - worst / one.limit.micros:.0%}",
        f"{min(one.attainment):.2%}",
    )


def _training(plan: FleetPlan) -> None:
    if not plan.training:
        return
    click.echo("\nTraining")
    print_table(
        ("job", "device", "purchase", "lent device-hours", "rented device-hours", "cost"),
        [
            (
                row.job,
                row.offer.kind,
                offer_words(row.offer),
                f"{row.lent_device_hours:,.1f}",
                f"{row.rented_device_hours:,.1f}",
                usd(row.nano_usd),
            )
            for row in plan.training
        ],
        right=("lent device-hours", "rented device-hours", "cost"),
    )


def _others(plan: FleetPlan) -> None:
    others: Sequence[Alternative] = (*plan.single_kind, *plan.alternatives)
    if not others:
        return
    click.echo("\nOther fleets, by the same model but not replayed")
    print_table(
        ("choice", "an hour", "fleet", "why it loses"),
        [(one.name, usd(one.nano_usd_per_hour), one.fleet, one.why) for one in others],
        right=("an hour",),
    )


def _sensitivity(plan: FleetPlan) -> None:
    click.echo("\nIf one thing were different, by the same model")
    print_table(
        ("change", "an hour", "fleet"),
        [
            (one.change, usd(one.nano_usd_per_hour), "the same" if one.same_fleet else "another")
            for one in plan.sensitivity
        ],
        right=("an hour",),
    )


def _proof(plan: FleetPlan) -> None:
    click.echo("\nHow sure")
    click.echo(
        f"  no fleet is cheaper than {usd(plan.bound)} a month, queues left out: at most "
        f"{plan.gap:.0%} could be saved. {plan.solver}."
    )
    for one in plan.binding:
        click.echo(f"  {one}")
    idle = ", ".join(
        f"{hours:,.0f} of {kind}" for kind, hours in sorted(plan.idle_device_hours.items()) if hours
    )
    if idle:
        click.echo(f"  device-hours a month that nobody uses: {idle}; training could have them")
    if plan.replay is not None:
        click.echo(f"  fleets replayed before this one was kept: {plan.replay.plans_tried}")


def print_training_plan(plan: TrainingPlan, facts: Sequence[str]) -> None:
    """The plan of a training run as text."""
    algorithm, layout = plan.algorithm, plan.algorithm.parallelism
    days = plan.hours.through(lambda hours: hours / 24)
    click.echo(
        f"{plan.wish.architecture.name} on {plan.wish.tokens:,} tokens takes "
        f"{_span(days.low, days.expected, days.high)} on {plan.choice}"
        + (f": {usd(plan.money.expected)}" if plan.money else "")
        + "."
    )
    if plan.doubt:
        click.echo(plan.doubt)
    rows: list[tuple[str, object, object, object]] = [
        ("days", *_three(days)),
        ("device-hours", *_three(plan.device_hours)),
        ("model FLOPs utilisation, %", *_three(plan.mfu.through(lambda share: 100 * share))),
        ("seconds of a step", *_three(plan.step_seconds)),
        ("kilowatt-hours", *_three(plan.kilowatt_hours)),
    ]
    if plan.money:
        money = plan.money
        rows.insert(2, ("cost", usd(money.low), usd(money.expected), usd(money.high)))
    click.echo("\nWith the 90 % interval")
    right = ("low", "expected", "high")
    print_table(("what", *right), rows, right=right)
    click.echo(
        f"\nLayout: {layout}; ZeRO stage {algorithm.zero}; micro-batch {algorithm.micro_batch} of "
        f"{algorithm.global_batch} sequences of {algorithm.sequence_tokens} tokens; recomputation "
        f"{algorithm.recomputation}; {algorithm.optimizer}"
        + (f"; adapters of rank {algorithm.lora_rank}" if algorithm.lora_rank else "")
    )
    click.echo(f"{plan.steps:,} steps, {plan.model_flops:.3g} FLOPs of the model. {plan.binding}")
    click.echo(f"\nMemory of the fullest device, {plan.memory_room / 1e9:.1f} GB to be filled")
    print_table(
        ("part", "GB"),
        [
            (name, f"{value / 1e9:.2f}")
            for name, value in (*plan.memory.parts.items(), ("all", plan.memory.total))
            if value
        ],
        right=("GB",),
    )
    goodput = plan.goodput
    click.echo(
        f"\nCheckpoint every {plan.checkpoint_minutes:.0f} minutes, "
        f"{goodput.checkpoint_seconds:.0f} s each; {plan.expected_failures:.1f} failures expected "
        f"(one in {goodput.mtbf_hours:,.0f} h); {goodput.productive:.1%} of the time is kept work"
    )
    if plan.alternatives:
        click.echo("\nOther ways")
        print_table(
            ("devices", "layout", "days", "cost", "why it loses"),
            [
                (
                    one.choice,
                    one.algorithm.parallelism,
                    f"{one.hours / 24:,.2f}",
                    usd(one.nano_usd),
                    one.why,
                )
                for one in plan.alternatives
            ],
            right=("days", "cost"),
        )
    click.echo("\nFacts")
    for fact in facts:
        click.echo(f"  {fact}")


def _three(one: Estimate) -> tuple[str, str, str]:
    return _number(one.low), _number(one.expected), _number(one.high)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _span(low: float, expected: float, high: float) -> str:
    """Days, or hours where they are few."""
    if high < 3:
        return f"{_number(expected * 24)} hours ({_number(low * 24)} to {_number(high * 24)})"
    return f"{_number(expected)} days ({_number(low)} to {_number(high)})"
