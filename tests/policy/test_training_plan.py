"""Training plans: they fit, keep their limits or say which one stands in the way."""

from dataclasses import replace
from functools import cache

import pytest

from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.market import Offer, Purchase
from meted.domain.units import NanoUSD
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.training_plan import TrainingPlan
from meted.policy.training_planner import plan_training
from meted.policy.training_search import as_seen, layouts, usual_batch
from meted.policy.training_wish import TrainingChoice, TrainingWish
from meted.predict.training.efficiency import published_efficiency
from meted.predict.training.memory import training_memory


def choice(devices: int, kind: str, dollars_per_hour: float | None = 2.0) -> TrainingChoice:
    offer = None
    if dollars_per_hour is not None:
        offer = Offer(
            kind=kind,
            purchase=Purchase.ON_DEMAND,
            nano_usd_per_device_hour=NanoUSD(round(dollars_per_hour * 1e9)),
        )
    return TrainingChoice(kind=lookup_device_kind(kind), devices=devices, offer=offer)


GPT_3 = TrainingWish(
    architecture=lookup_architecture("gpt3-175b"),
    tokens=300_000_000_000,
    choices=(choice(1024, "a100-80gb"),),
)


@cache
def gpt_3() -> TrainingPlan:
    return plan_training(GPT_3)


def test_gpt_3_on_1024_a100_takes_weeks_and_3e23_flop() -> None:
    plan = gpt_3()
    assert plan.model_flops == pytest.approx(3.14e23, rel=0.03)
    assert plan.hours.low / 24 < 34 < plan.hours.high / 24
    assert 0.35 < plan.mfu.expected < 0.65
    assert plan.algorithm.global_batch == 1536
    assert plan.steps == pytest.approx(300e9 / (1536 * 2048), rel=0.001)


def test_equal_wishes_give_equal_plans() -> None:
    assert plan_training(GPT_3) == gpt_3()


def test_money_is_whole_nano_dollars_of_all_devices_and_hours() -> None:
    plan = gpt_3()
    assert plan.money is not None
    assert plan.money.expected == round(2_000_000_000 * 1024 * plan.hours.expected)
    assert plan.money.low < plan.money.expected < plan.money.high
    assert isinstance(plan.money.expected, int)


@pytest.mark.parametrize(
    ("model", "devices", "kind", "rank"),
    [
        ("llama-3.1-8b", 8, "h100-80gb", None),
        ("llama-3.1-8b", 1, "l4", 16),
        ("mixtral-8x7b", 64, "a100-80gb", None),
        ("smollm2-135m", 4, "cpu-core", None),
    ],
)
def test_no_layout_that_is_weighed_violates_memory(
    model: str, devices: int, kind: str, rank: int | None
) -> None:
    wish = TrainingWish(
        architecture=lookup_architecture(model),
        tokens=10_000_000,
        choices=(choice(devices, kind),),
        lora_rank=rank,
    )
    found = layouts(wish, wish.choices[0], published_efficiency())
    seen, count = as_seen(wish.choices[0])
    for one in found:
        memory = training_memory(wish.architecture, one.algorithm)
        assert memory.total <= one.memory_room < seen.memory_bytes
        assert one.algorithm.parallelism.devices <= count
    plan = plan_training(wish)
    assert plan.memory.total <= plan.memory_room
    assert plan.step.seconds == min(one.step.seconds for one in found)
    assert plan.layouts_tried == len(found)


def test_twice_the_devices_take_less_time() -> None:
    hours = [
        plan_training(replace(GPT_3, choices=(choice(devices, "a100-80gb"),))).hours.expected
        for devices in (256, 512, 1024)
    ]
    assert hours[0] > 1.6 * hours[1]
    assert hours[1] > 1.6 * hours[2]


def test_the_cheapest_choice_that_keeps_the_deadline_wins() -> None:
    slow, quick = choice(256, "a100-80gb", 1.0), choice(1024, "h100-80gb", 4.0)
    both = replace(GPT_3, choices=(slow, quick))
    free = plan_training(both)
    assert free.choice == slow
    assert "dearer" in free.alternatives[0].why
    hurried = plan_training(replace(both, deadline_hours=40 * 24.0))
    assert hurried.choice == quick
    assert "past the deadline" in hurried.alternatives[0].why


def test_without_prices_the_fastest_wins() -> None:
    wish = replace(GPT_3, choices=(choice(256, "a100-80gb", None), choice(512, "a100-80gb", None)))
    plan = plan_training(wish)
    assert plan.choice.devices == 512
    assert plan.money is None


def test_alternatives_lose_and_say_why() -> None:
    plan = gpt_3()
    assert plan.alternatives
    for one in plan.alternatives:
        assert one.hours >= plan.hours.expected
        assert one.why
    lays = [one.algorithm.parallelism for one in plan.alternatives]
    assert len(set(lays)) == len(lays)
    assert plan.algorithm.parallelism not in lays


def test_a_deadline_that_none_keeps_names_the_nearest() -> None:
    with pytest.raises(InfeasibleError, match="no choice of devices keeps the deadline") as caught:
        plan_training(replace(GPT_3, deadline_hours=100.0))
    error = caught.value
    assert (error.constraint, error.asked, error.unit) == ("deadline", 100.0, "h")
    assert error.nearest is not None
    assert plan_training(replace(GPT_3, deadline_hours=error.nearest)).hours.expected > 100


def test_a_budget_that_none_keeps_names_the_nearest() -> None:
    with pytest.raises(InfeasibleError, match="keeps the budget of") as caught:
        plan_training(replace(GPT_3, budget_nano_usd=NanoUSD(1_000 * 10**9)))
    error = caught.value
    assert (error.constraint, error.asked, error.unit) == ("budget", 1_000.0, "USD")
    money = gpt_3().money
    assert money is not None
    assert error.nearest == money.expected / 1e9
    assert plan_training(replace(GPT_3, budget_nano_usd=money.expected)).money == money


def test_a_budget_without_any_price_is_refused() -> None:
    wish = replace(
        GPT_3, choices=(choice(1024, "a100-80gb", None),), budget_nano_usd=NanoUSD(10**9)
    )
    with pytest.raises(ValueError, match="none of the devices has a price"):
        plan_training(wish)


def test_too_little_memory_names_the_part_and_how_many_devices_would_do() -> None:
    wish = replace(GPT_3, choices=(choice(8, "a100-80gb"),))
    with pytest.raises(InfeasibleError, match="largest part are its") as caught:
        plan_training(wish)
    error = caught.value
    assert (error.constraint, error.asked) == ("memory", 8)
    assert error.nearest is not None
    enough = replace(wish, choices=(choice(int(error.nearest), "a100-80gb"),))
    assert plan_training(enough).choice.devices == error.nearest
    fewer = replace(wish, choices=(choice(int(error.nearest) - 8, "a100-80gb"),))
    with pytest.raises(InfeasibleError, match="cannot hold the run"):
        plan_training(fewer)


def on_spot(interruptions: float) -> TrainingWish:
    offer = Offer(
        kind="a100-80gb",
        purchase=Purchase.SPOT,
        nano_usd_per_device_hour=NanoUSD(1_000_000_000),
        interruptions_per_device_hour=interruptions,
    )
    spot = TrainingChoice(kind=lookup_device_kind("a100-80gb"), devices=64, offer=offer)
    return TrainingWish(
        architecture=lookup_architecture("llama-2-7b"), tokens=10**10, choices=(spot,)
    )


def test_devices_that_vanish_cost_time_and_shorten_checkpoints() -> None:
    steady, fickle = plan_training(on_spot(0.0)), plan_training(on_spot(0.01))
    assert fickle.hours.expected > 1.05 * steady.hours.expected
    assert fickle.goodput.productive < steady.goodput.productive
    assert fickle.checkpoint_minutes < steady.checkpoint_minutes
    assert fickle.expected_failures > 50 * steady.expected_failures


def test_devices_that_vanish_faster_than_work_is_kept_are_refused_or_passed_over() -> None:
    with pytest.raises(InfeasibleError, match="cannot keep its work") as told:
        plan_training(on_spot(5.0))
    assert told.value.constraint == "failures"
    both = replace(on_spot(5.0), choices=(*on_spot(5.0).choices, choice(64, "a100-80gb")))
    assert plan_training(both).choice == choice(64, "a100-80gb")


def test_a_choice_that_is_too_small_is_told_beside_the_plan() -> None:
    plan = plan_training(replace(GPT_3, choices=(choice(8, "a100-80gb"), *GPT_3.choices)))
    assert plan.choice.devices == 1024
    assert "8 x a100-80gb cannot hold it" in plan.binding
    assert "cannot hold" not in gpt_3().binding


def test_adapters_train_on_one_small_device_where_all_weights_do_not() -> None:
    wish = TrainingWish(
        architecture=lookup_architecture("llama-3.1-8b"),
        tokens=20_000_000,
        choices=(choice(1, "l4"),),
        lora_rank=16,
    )
    plan = plan_training(wish)
    assert 1 < plan.hours.expected < 48
    assert "no published run" in plan.doubt
    with pytest.raises(InfeasibleError):
        plan_training(replace(wish, lora_rank=None))


def test_processor_cores_share_their_memory_and_are_one_device() -> None:
    wish = TrainingWish(
        architecture=lookup_architecture("smollm2-135m"),
        tokens=1_000_000,
        choices=(choice(8, "cpu-core", 0.02),),
    )
    plan = plan_training(wish)
    assert plan.algorithm.parallelism.devices == 1
    assert plan.memory_room == pytest.approx(0.9 * 8 * wish.choices[0].kind.memory_bytes)
    slower = plan_training(replace(wish, choices=(choice(2, "cpu-core", 0.02),)))
    assert slower.hours.expected == pytest.approx(4 * plan.hours.expected, rel=0.1)


def test_usual_batches_are_those_of_gpt_3_and_leave_steps_to_learn_by() -> None:
    assert usual_batch(GPT_3) == 1536
    small = replace(GPT_3, architecture=lookup_architecture("gpt3-1.3b"))
    assert 256 <= usual_batch(small) <= 384
    assert usual_batch(replace(GPT_3, tokens=2048)) == 1
    assert usual_batch(replace(GPT_3, lora_rank=8)) == 32


def test_a_wish_that_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match="tokens to train on is 0"):
        replace(GPT_3, tokens=0)
    with pytest.raises(ValueError, match="choices of devices is empty"):
        replace(GPT_3, choices=())
