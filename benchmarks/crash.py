"""kill -9 of anything at any moment: whatever a client was told is in the books, once.

Two real houses share a store and answer a steady load of real clients, whole and streamed, under a
hard budget. In every round one process is killed at a random moment: a house, a replica, a trainer
(a real fine-tune of the built-in model), PostgreSQL, or PostgreSQL and a house. Once it is back,
every answer that any client has seen to its end must be in the books exactly once, with the price
and the cost that the client was told, and `meted bill --check` must find no fault.

    .venv/bin/python benchmarks/crash.py [--store sqlite] [--rounds house=30 replica=20] [--json]
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from houses import FakeModel, Houses, Plan, Told, attempt, entered, plans, sessions
from meted.testing.house import RealHouse, machine, shared_checkpoints

CLIENTS = 8
BUDGET = 10**12
"""More than all clients can spend: money is set aside and leased, and nobody waits for it."""
PATIENCE_S = 90.0
JOB = "night"
MODEL = FakeModel(decode_us=4_000, early_permille=300)
ROUNDS = {
    "sqlite": {"house": 26, "replica": 18, "trainer": 6},
    "postgres": {"house": 14, "replica": 12, "trainer": 4, "postgres": 12, "both": 8},
    "postgres, spool": {"postgres": 12, "both": 8},
}
"""By store; the last one acknowledges from its spool while PostgreSQL is down."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """The rounds with one kind of victim. wrong: in the books with another price or cost."""

    store: str
    victim: str
    rounds: int = 0
    acknowledged: int = 0
    missing: int = 0
    doubled: int = 0
    wrong: int = 0
    check_faults: int = 0
    not_back: int = 0
    broken: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        return bool(
            self.missing or self.doubled or self.wrong or self.check_faults or self.not_back
        )


class Load:
    """Clients that ask again as soon as they are answered, and keep what they were told."""

    def __init__(self, houses: Houses, seed: int) -> None:
        self._houses = houses
        self._seed = seed
        self._number = 0
        self.acknowledged: list[Told] = []
        self.by_house = [0] * len(houses.all)
        self.broken = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with sessions() as session:
            await asyncio.gather(*(self._client(session, number) for number in range(CLIENTS)))

    async def _client(self, session: Any, number: int) -> None:
        asked: Iterator[Plan] = iter(())
        place = number
        turn = 0
        while True:
            plan = next(asked, None)
            if plan is None:
                turn += 1
                seed = self._seed * 1_000_000 + number * 1_000 + turn
                asked = iter(plans(200, seed=seed, leaving_permille=100, tokens=(2, 60)))
                continue
            place = (place + 1) % len(self._houses.all)
            house = self._houses.all[place]
            told = await attempt(session, house.url, house.key, plan)
            if told.acknowledged:
                self.acknowledged.append(told)
                self.by_house[place] += 1
            elif not told.left:
                self.broken += 1
                await asyncio.sleep(0.05)


class Rounds:
    """Kills, waits until all is back, and holds the clients' memory against the books."""

    def __init__(self, houses: Houses, server: Any, *, store: str, seed: int) -> None:
        self._houses = houses
        self._server = server
        self._store = store
        self._rng = random.Random(seed)
        self._load = Load(houses, seed)
        self._kills = 0
        self.tallies: list[Tally] = []

    async def run(self, victims: dict[str, int]) -> None:
        loading = asyncio.create_task(self._load.run())
        try:
            await self._all_answer()
            for victim, count in victims.items():
                tally = Tally(store=self._store, victim=victim)
                self.tallies.append(tally)
                began, before = time.monotonic(), len(self._load.acknowledged)
                broken = self._load.broken
                async with self._training(victim == "trainer"):
                    for _ in range(count):
                        await self._round(victim, tally)
                tally.seconds = round(time.monotonic() - began, 1)
                tally.acknowledged = len(self._load.acknowledged) - before
                tally.broken = self._load.broken - broken
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    async def _round(self, victim: str, tally: Tally) -> None:
        await asyncio.sleep(self._rng.uniform(0.1, 1.2))
        try:
            await asyncio.wait_for(self._kill(victim), PATIENCE_S)
            await self._all_answer()
        except TimeoutError:
            tally.not_back += 1
        tally.rounds += 1
        await self._verify(tally)

    # Victims.

    async def _kill(self, victim: str) -> None:
        house = self._rng.choice(self._houses.all)
        match victim:
            case "house":
                house.kill()
                await asyncio.to_thread(house.start)
            case "replica":
                await self._kill_replica(house)
            case "trainer":
                await self._kill_trainer(self._houses.all[0])
            case "postgres":
                self._server.kill()
                await asyncio.sleep(self._rng.uniform(0.0, 2.0))
                await asyncio.to_thread(self._server.start)
            case "both":
                self._server.kill()
                await asyncio.sleep(self._rng.uniform(0.0, 1.0))
                house.kill()
                await asyncio.to_thread(self._server.start)
                await asyncio.to_thread(house.start)
            case _:
                raise ValueError(f"victim is {victim!r}, expected one of {ROUNDS}")

    async def _kill_replica(self, house: RealHouse) -> None:
        pid = await _until(lambda: _replica_pid(house))
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: (fresh := _replica_pid(house)) and fresh != pid)

    async def _kill_trainer(self, house: RealHouse) -> None:
        """While it loads, or after a checkpoint: a job that never makes one gives up."""
        pid = await _until(lambda: house.admin(f"jobs/{JOB}")["pid"])
        if self._kills % 2 == 0:
            step = house.admin(f"jobs/{JOB}")["checkpoint_step"]
            await _until(lambda: house.admin(f"jobs/{JOB}")["checkpoint_step"] > step)
        self._kills += 1
        await asyncio.sleep(self._rng.uniform(0.0, 4.0))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await _until(lambda: (fresh := house.admin(f"jobs/{JOB}")["pid"]) and fresh != pid)

    @contextlib.asynccontextmanager
    async def _training(self, wanted: bool) -> Any:
        """A real fine-tune in the first house, checkpointed every other step."""
        if not wanted:
            yield
            return
        house = self._houses.all[0]
        corpus = Path(tempfile.mkdtemp(prefix="meted-corpus-")) / "corpus.txt"
        corpus.write_text("\n\n".join(f"Entry {n}: the river runs on." for n in range(200)))
        await asyncio.to_thread(
            house.meted,
            *("train", "--model", "smollm2-135m", "--data", str(corpus), "--name", JOB),
            *("--steps", "100000", "--sequence-tokens", "32", "--batch-tokens", "32"),
            *("--checkpoint-every", "2", "--eval-every", "100000", "--tenant", "acme"),
            "--detach",
        )
        await _until(lambda: house.admin(f"jobs/{JOB}")["step"] >= 3)
        yield
        await asyncio.to_thread(house.admin, f"jobs/{JOB}/cancel", "POST")

    # Afterwards.

    async def _all_answer(self) -> None:
        """Until every house has answered anew. Raises TimeoutError."""
        before = list(self._load.by_house)
        end = time.monotonic() + PATIENCE_S
        while any(now <= was for now, was in zip(self._load.by_house, before, strict=True)):
            if time.monotonic() > end:
                raise TimeoutError
            await asyncio.sleep(0.05)

    async def _verify(self, tally: Tally) -> None:
        told = list(self._load.acknowledged)
        missing = wrong = doubled = 0
        # What was acknowledged from a spool is in the books once it has been replayed.
        patience = 15.0 if "spool" in self._store else 0.0
        end = time.monotonic() + patience
        while True:
            books = await asyncio.to_thread(entered, self._houses.target)
            rows = [(one, books.get(one.request_id)) for one in told]
            missing = sum(row is None for _, row in rows)
            doubled = sum(row is not None and row.how_often > 1 for _, row in rows)
            wrong = sum(
                row is not None and (row.price, row.cost) != (one.price, one.cost)
                for one, row in rows
            )
            if not missing or time.monotonic() > end:
                break
            await asyncio.sleep(0.2)
        tally.missing = max(tally.missing, missing)
        tally.doubled = max(tally.doubled, doubled)
        tally.wrong = max(tally.wrong, wrong)
        try:
            await asyncio.to_thread(self._houses.check)
        except RuntimeError as error:
            tally.check_faults += 1
            tally.faults.append(str(error)[-1500:])


def _replica_pid(house: RealHouse) -> int | None:
    for replica in house.admin("status")["deployments"][0]["replicas"]:
        if replica["status"] == "ready":
            return replica["pid"]
    return None


async def _until(look: Any) -> Any:
    """The first true answer; what cannot be asked now is asked again. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(OSError):
                found = await asyncio.to_thread(look)
                if found:
                    return found
            await asyncio.sleep(0.05)


def measure(store: str, victims: dict[str, int], seed: int) -> list[Tally]:
    """All rounds on one store, with houses of their own."""
    with contextlib.ExitStack() as stack:
        server, target = None, None
        if store != "sqlite":
            from meted.testing.postgres import PostgresServer

            server = stack.enter_context(PostgresServer())
            target = server.dsn()
        books = {"when_down": "open"} if "spool" in store else {}
        training = "trainer" in victims
        cache = shared_checkpoints() if training else None
        # A load without a gap leaves no time to train, unless a device is set apart for it.
        policy = "static" if training else "demand"
        houses = Houses(2, target, model=MODEL, books=books, cache=cache, policy=policy)
        stack.callback(houses.remove)
        houses.start()
        houses.set_budget("cap", BUDGET)
        rounds = Rounds(houses, server, store=store, seed=seed)
        asyncio.run(rounds.run(victims))
        houses.stop()
        last = rounds.tallies[-1]
        try:
            houses.check()
        except RuntimeError as error:
            last.check_faults += 1
            last.faults.append(f"at the end: {str(error)[-1500:]}")
    return rounds.tallies


def show(tallies: list[Tally]) -> None:
    print(
        f"{'store':<17}{'victim':<10}{'rounds':>7}{'acknowledged':>13}{'missing':>8}{'doubled':>8}"
        f"{'wrong':>6}{'check faults':>13}{'not back':>9}{'broken off':>11}{'s':>7}"
    )
    for one in tallies:
        print(
            f"{one.store:<17}{one.victim:<10}{one.rounds:>7}{one.acknowledged:>13}{one.missing:>8}"
            f"{one.doubled:>8}{one.wrong:>6}{one.check_faults:>13}{one.not_back:>9}"
            f"{one.broken:>11}{one.seconds:>7.1f}"
        )
        for fault in one.faults[:3]:
            print(fault)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=ROUNDS, action="append", dest="stores")
    parser.add_argument("--rounds", nargs="*", metavar="VICTIM=COUNT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also add all to this file, one a line")
    parser.add_argument("--show", type=Path, help="only show what is in this file")
    arguments = parser.parse_args()
    facts = machine()
    if arguments.show:
        lines = [json.loads(line) for line in arguments.show.read_text().splitlines()]
        tallies = [Tally(**line["tally"]) for line in lines]
        show(tallies)
        print(json.dumps(lines[-1]["machine"]))
        raise SystemExit(any(one.bad for one in tallies))
    tallies = []
    for store in arguments.stores or list(ROUNDS):
        victims = ROUNDS[store]
        if arguments.rounds:
            victims = {
                name: int(count) for name, count in (one.split("=") for one in arguments.rounds)
            }
        tallies += measure(store, victims, arguments.seed)
    show(tallies)
    print(json.dumps({"machine": facts, "clients": CLIENTS, "seed": arguments.seed}))
    if arguments.json:
        with arguments.json.open("a") as file:
            for one in tallies:
                file.write(json.dumps({"machine": facts, "tally": asdict(one)}) + "\n")
    raise SystemExit(any(one.bad for one in tallies))


if __name__ == "__main__":
    main()
