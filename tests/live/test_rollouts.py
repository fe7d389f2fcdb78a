"""Rollouts in the real house on a played clock: who serves when, what clients see, what remains."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rollout_world import BLOCK_S, Manners, World, deployment, wish

from meted.live import books
from meted.live.doors import Ended, HouseError
from meted.live.lever_doors import FrontPoint
from meted.live.stores import open_store

MOST_S = 30 * BLOCK_S


@asynccontextmanager
async def lived(tmp_path: Path, **manners: Manners) -> AsyncIterator[World]:
    world = World(folder=tmp_path, manners={"big": Manners(), "small": Manners(), **manners})
    await world.begin(deployment())
    yield world
    await world.stop()
    check = books.check(world.books)
    assert check.balanced, [law for law in check.laws if law.fault]


def names(world: World) -> set[str]:
    return set(world.house.state.deployments)


async def test_a_saving_is_promoted_and_no_request_is_dropped(tmp_path: Path) -> None:
    async with lived(tmp_path, small=Manners(factor=0.7)) as world:
        started = await world.doors.start_rollout(wish())
        assert started["id"] == "chat~2"
        assert [one.name for one in world.doors.models()] == ["chat"]
        await world.traffic(MOST_S)
        view = world.doors.rollout("chat")
        assert (view["phase"], view["status"]) == ("promoted", "verified")
        assert 0.25 < view["measured"]["low"] < 0.3 < view["measured"]["high"] < 0.35
        assert names(world) == {"chat~2"}
        assert [(one.name, one.checkpoint) for one in world.doors.models()] == [("chat", "small")]
        assert world.errors() == []
        assert all(one.end is not None for one in world.heard)
        found = await world.doors.savings()
        assert found["receipts"][0]["tokens_since"] > 10_000
        total = found["total_nano_usd"]
        assert 0 < total["low"] < total["expected"] < total["high"]
        with pytest.raises(HouseError, match="runs already"):
            await world.doors.deploy(
                name="chat", checkpoint="big", path=None, replicas=1, settings=deployment().settings
            )


async def test_a_change_that_changes_nothing_is_not_there(tmp_path: Path) -> None:
    async with lived(tmp_path) as world:
        await world.doors.start_rollout(wish())
        await world.traffic(MOST_S)
        view = world.doors.rollout("chat~2")
        assert (view["phase"], view["status"]) == ("returned", "not_there")
        assert view["blocks_done"] == 24
        assert names(world) == {"chat"}
        assert world.errors() == []
        assert (await world.doors.savings())["total_nano_usd"] == dict.fromkeys(
            ("low", "expected", "high"), 0
        )


async def test_a_candidate_that_dies_returns_at_once_and_no_client_notices(tmp_path: Path) -> None:
    async with lived(tmp_path, small=Manners(dies_after=3)) as world:
        await world.doors.start_rollout(wish())
        await world.traffic(1.8 * BLOCK_S)
        view = world.doors.rollout("chat~2")
        assert (view["phase"], view["status"]) == ("returned", "failed")
        assert view["reason"].endswith("died (it was told to die)")
        await world.run(5)
        assert names(world) == {"chat"}
        assert world.errors() == []
        assert all(one.end is not None for one in world.heard)


async def test_what_a_candidate_refuses_the_first_version_answers(tmp_path: Path) -> None:
    async with lived(tmp_path, small=Manners(rejects_over=1_000)) as world:
        await world.doors.start_rollout(wish())
        await world.traffic(2.5 * BLOCK_S)
        view = world.doors.rollout("chat~2")
        assert view["status"] == "failed"
        assert "requests failed" in view["reason"]
        assert world.errors() == []


async def test_what_no_version_takes_is_the_clients_mistake(tmp_path: Path) -> None:
    refusing = Manners(rejects_over=1_000)
    async with lived(tmp_path, small=refusing, big=refusing) as world:
        await world.doors.start_rollout(wish())
        await world.traffic(2.5 * BLOCK_S)
        view = world.doors.rollout("chat~2")
        assert view["phase"] == "comparing"
        assert set(world.errors()) == {"too long for me"}


async def test_a_candidate_that_does_not_load_is_failed_and_was_never_asked(tmp_path: Path) -> None:
    async with lived(tmp_path, small=Manners(fails_to_load=True)) as world:
        await world.doors.start_rollout(wish())
        await world.traffic(BLOCK_S)
        view = world.doors.rollout("chat")
        assert (view["status"], view["blocks_done"]) == ("failed", 0)
        assert world.errors() == []


async def test_a_full_queue_of_the_candidate_turns_nobody_away(tmp_path: Path) -> None:
    slow = Manners(latency_ms=60_000)
    world = World(folder=tmp_path, manners={"big": Manners(), "small": slow})
    await world.begin(deployment(max_queue=4))
    await world.doors.start_rollout(wish())
    await world.traffic(2.2 * BLOCK_S)
    view = world.doors.rollout("chat")
    assert view["phase"] == "returned"
    await world.run(70)
    assert world.errors() == []
    await world.stop()
    assert books.check(world.books).balanced


async def test_a_rollout_is_stopped_at_once_and_its_queue_is_answered(tmp_path: Path) -> None:
    async with lived(tmp_path, small=Manners(latency_ms=3_000)) as world:
        await world.doors.start_rollout(wish(canary_s=5.0))
        await world.traffic(9)
        assert world.doors.rollout("chat")["serving"] == "chat~2"
        assert world.doors.stop_rollout("chat")["status"] == "rolled_back"
        before = len(world.heard)
        await world.traffic(1, seed=3)
        served = world.house.serving.deployments
        assert served["chat~2"].running > 0
        assert len(world.heard) > before
        await world.run(4)
        assert names(world) == {"chat"}
        assert world.errors() == []
        with pytest.raises(HouseError, match="has ended"):
            world.doors.stop_rollout("chat")


async def test_a_killed_house_goes_on_with_its_rollout(tmp_path: Path) -> None:
    world = World(folder=tmp_path, manners={"big": Manners(), "small": Manners(factor=0.7)})
    await world.begin(deployment())
    await world.doors.start_rollout(wish())
    await world.traffic(8.5 * BLOCK_S)
    before = world.doors.rollout("chat")
    assert before["phase"] == "comparing"
    assert before["blocks_done"] > 2
    await world.die()

    await world.begin(deployment())
    assert names(world) == {"chat", "chat~2"}
    view = world.doors.rollout("chat")
    assert (view["blocks_done"], view["void"]) == (before["blocks_done"], 1)
    assert world.doors.receipts()[0]["status"] == "measuring"
    await world.traffic(MOST_S, seed=2)
    assert world.doors.rollout("chat")["phase"] == "promoted"
    assert names(world) == {"chat~2"}
    await world.die()

    # The configuration still names the first version, which a rollout has ended.
    await world.begin(deployment())
    assert names(world) == {"chat~2"}
    await world.traffic(5, seed=3)
    assert world.errors() == []
    assert (await world.doors.undeploy("chat"))["status"] == "draining"
    await world.run(1)
    assert names(world) == set()
    await world.stop()
    assert books.check(world.books).balanced

    await world.begin(deployment())
    assert names(world) == {"chat"}
    assert (await world.doors.start_rollout(wish()))["id"] == "chat~3"
    await world.stop()
    store = open_store(world.books, house="here")
    statuses = [one.body for one in store.document_versions("receipt", "chat~2")]
    store.close()
    assert len(statuses) == 2
    assert '"verified"' in statuses[-1]


async def test_a_quiet_night_is_waited_out_and_fills_no_store(tmp_path: Path) -> None:
    async with lived(tmp_path, small=Manners(factor=0.7)) as world:

        def versions() -> int:
            return len(world.store.document_versions("rollout", "chat~2"))

        def told() -> list[str]:
            return [why for _, why in world.house.decisions if "waiting for requests" in why]

        await world.doors.start_rollout(wish())
        await world.run(31 * BLOCK_S)
        view = world.doors.rollout("chat")
        assert (view["phase"], view["void"], view["quiet"]) == ("canary", 0, 30)
        assert view["waiting"] == "waiting for requests: none came in 30 turns"
        assert versions() == 2
        await world.traffic(5.5 * BLOCK_S)
        evening = world.doors.rollout("chat")
        assert (evening["phase"], evening["waiting"]) == ("comparing", None)
        assert all(one["arrived"] >= one["requests"] > 0 for one in evening["blocks"])
        # The turn in which it became quiet is the first to be repeated, or still counts.
        await world.run(2 * BLOCK_S)
        written = versions()
        await world.run(30 * BLOCK_S)
        night = world.doors.rollout("chat")
        assert night["blocks_done"] - evening["blocks_done"] in (0, 1)
        assert night["quiet"] > 30
        assert (night["void"], versions()) == (0, written)
        assert len(told()) == 2
        await world.traffic(MOST_S, seed=2)
        assert world.doors.rollout("chat")["phase"] == "promoted"
        assert world.errors() == []


async def test_a_house_that_is_killed_in_a_quiet_night_goes_on_waiting(tmp_path: Path) -> None:
    world = World(folder=tmp_path, manners={"big": Manners(), "small": Manners(factor=0.7)})
    await world.begin(deployment())
    await world.doors.start_rollout(wish())
    await world.run(20 * BLOCK_S)
    await world.die()
    await world.begin(deployment())
    await world.run(20 * BLOCK_S)
    view = world.doors.rollout("chat")
    assert (view["phase"], view["void"]) == ("canary", 1)
    assert view["waiting"] is not None
    await world.traffic(MOST_S)
    assert world.doors.rollout("chat")["phase"] == "promoted"
    assert world.errors() == []
    await world.stop()


async def test_a_rollout_that_waits_is_stopped_at_once(tmp_path: Path) -> None:
    async with lived(tmp_path) as world:
        await world.doors.start_rollout(wish())
        await world.run(4 * BLOCK_S)
        view = world.doors.stop_rollout("chat")
        assert (view["status"], view["waiting"]) == ("rolled_back", None)
        await world.run(1)
        assert names(world) == {"chat"}


async def test_answers_that_outlast_every_block_are_void_as_they_came(tmp_path: Path) -> None:
    """A request just before each turn's end: it came, and the turn cannot tell how it went."""
    slow = Manners(latency_ms=900)
    async with lived(tmp_path, big=slow, small=slow) as world:
        await world.doors.start_rollout(wish())
        while world.doors.rollout("chat")["phase"] == "canary":
            turn = world.doors.rollout("chat")["turn"]
            await world.run(max(0.1, (turn["seconds_left"] or 0) - 0.5))
            world.ask()
            await world.run(0.7)
        view = world.doors.rollout("chat")
        assert (view["phase"], view["status"]) == ("returned", "rolled_back")
        assert (view["void"], view["quiet"]) == (9, 0)
        await world.run(2)


async def test_a_kill_between_promotion_and_cleaning_up_loses_no_version(tmp_path: Path) -> None:
    world = World(folder=tmp_path, manners={"big": Manners(), "small": Manners(factor=0.5)})
    await world.begin(deployment())
    await world.doors.start_rollout(wish())
    for second in range(int(MOST_S)):
        if world.doors.rollout("chat")["phase"] == "promoted":
            break
        await world.traffic(1, seed=second)
    assert world.doors.rollout("chat")["phase"] == "promoted"
    # As if the removals had not reached the store: both versions are still remembered.
    await world.die()
    store = open_store(world.books, house="here")
    store.save_deployment(deployment())
    store.remove_deployment(deployment("chat~2").name)
    store.close()
    await world.begin()
    assert names(world) == {"chat~2"}
    assert world.ask() is not None
    await world.run(1)
    assert world.errors() == []
    assert [one.checkpoint for one in world.doors.models()] == ["small"]
    await world.stop()


@pytest.mark.parametrize("seed", range(4))
async def test_whenever_it_is_killed_a_house_has_a_version_to_serve(
    tmp_path: Path, seed: int
) -> None:
    """Kills do not wait for writes; what a rollout ended with, it keeps."""
    chance = random.Random(seed)
    world = World(folder=tmp_path, manners={"big": Manners(), "small": Manners(factor=0.6)})
    await world.begin(deployment())
    await world.doors.start_rollout(wish())
    await world.run(0.1)
    phases = list[str]()
    for life in range(6):
        await world.traffic(chance.uniform(1, 8 * BLOCK_S), seed=life, wait=False)
        phases.append(world.doors.rollout("chat")["phase"])
        await world.die()
        await world.begin(deployment())
        view = world.doors.rollout("chat")
        running = view["phase"] in ("canary", "comparing")
        assert names(world) == ({"chat", "chat~2"} if running else {view["serving"]})
        asked = world.ask()
        await world.run(1)
        world.listen()
        assert isinstance(asked.end, Ended)
        assert asked.end.error is None
        if not running:
            assert view["phase"] in phases
    await world.stop()
    assert books.check(world.books).balanced


async def test_a_configuration_that_changed_meanwhile_ends_the_comparison(tmp_path: Path) -> None:
    world = World(folder=tmp_path, manners={name: Manners() for name in ("big", "small", "other")})
    await world.begin(deployment())
    await world.doors.start_rollout(wish())
    await world.traffic(3 * BLOCK_S)
    await world.die()
    await world.begin(deployment(checkpoint="other"))
    view = world.doors.rollout("chat")
    assert (view["phase"], view["status"]) == ("returned", "rolled_back")
    assert "configured otherwise" in view["reason"]
    await world.run(2)
    assert names(world) == {"chat"}
    await world.stop()


async def test_doors_refuse_what_cannot_be(tmp_path: Path) -> None:
    async with lived(tmp_path) as world:
        doors = world.doors
        for wrong, status in (
            (wish(name="nobody"), 404),
            (wish(name="chat~2"), 404),
            (wish(most_blocks=5), 400),
            (wish(washout_s=20.0), 400),
            (wish(quality_unknown=False), 409),
        ):
            with pytest.raises(HouseError) as caught:
                await doors.start_rollout(wrong)
            assert caught.value.status == status, caught.value
        assert names(world) == {"chat"}
        await doors.start_rollout(wish())
        with pytest.raises(HouseError, match="runs; wait for it"):
            await doors.start_rollout(wish())
        with pytest.raises(HouseError, match="is a version of 'chat'"):
            await doors.undeploy("chat~2")
        with pytest.raises(HouseError) as caught:
            await doors.deploy(
                name="a~2", checkpoint="big", path=None, replicas=1, settings=deployment().settings
            )
        assert caught.value.status == 400
        with pytest.raises(HouseError):
            doors.rollout("words")
        assert (await doors.undeploy("chat"))["status"] == "draining"
        await world.run(1)
        assert doors.rollout("chat")["status"] == "rolled_back"
        assert names(world) == set()
        assert doors.models() == []


@pytest.mark.parametrize("name", ["chat~2", "chat~3", "words"])
async def test_a_version_that_clients_do_not_know_cannot_be_asked(
    tmp_path: Path, name: str
) -> None:
    async with lived(tmp_path) as world:
        await world.doors.start_rollout(wish())
        await world.run(2)
        error = world.ask(deployment=name).end
        assert isinstance(error, HouseError)
        assert (error.status, error.code) == (404, "model_not_found")
        assert error.message.endswith("there are: chat")


async def test_the_last_front_of_each_deployment_outlives_the_house(tmp_path: Path) -> None:
    world = World(folder=tmp_path, manners={"big": Manners()})
    await world.begin(deployment())
    for cost in (0.5, 0.4):
        point = FrontPoint(key="int8", usd_per_million=cost, rejected="its loss")
        await world.doors.save_front("chat", (point,))
    saved = await world.doors.save_front("words", ())
    await world.die()
    await world.begin(deployment())
    chat, words = await world.doors.fronts()
    assert words == saved
    assert chat["deployment"] == "chat"
    assert chat["points"] == [
        {
            **{"key": "int8", "usd_per_million": 0.4, "ttft_p95_ms": None, "loss": None},
            **{"chosen": False, "rejected": "its loss"},
        }
    ]
    await world.stop()
