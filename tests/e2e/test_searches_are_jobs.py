"""Searches run in the house like any job: metered, paid for, killed, resumed, and found again."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from meted.domain.units import NANOS_PER_SECOND
from meted.testing.house import RealHouse

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Chapter {n}. Of the number {n * 7919}." for n in range(400)))
    return path


def job(house: RealHouse, name: str) -> dict[str, Any]:
    return house.admin(f"jobs/{name}")


def wait(house: RealHouse, name: str, status: str) -> dict[str, Any]:
    house.wait_until(
        f"the job {name} is {status}", lambda: job(house, name)["status"] == status, patience_s=300
    )
    return job(house, name)


def family(house: RealHouse) -> list[psutil.Process]:
    """All processes of a house."""
    assert house.process is not None
    return psutil.Process(house.process.pid).children(recursive=True)


def measures(house: RealHouse) -> bool:
    """Whether the search's process has started a replica of its own that lives."""
    assert house.process is not None
    return len(family(house)) > len(psutil.Process(house.process.pid).children())


def test_a_search_of_serving_survives_the_house_and_is_paid_by_its_tenant(
    own_house: RealHouse, text: Path
) -> None:
    house = own_house.start()
    house.meted(
        *("optimise", "serving", MODEL, "--data", str(text), "--name", "cheaper", "--detach"),
        *("--traffic", "rate=4,input=60,output=8", "--requests", "8", "--effort", "1.5"),
        *("--levers", "prefix", "--tenant", "acme"),
    )
    house.wait_until(
        "something is measured", lambda: job(house, "cheaper")["step"] > 0, patience_s=300
    )
    answer = house.openai().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say yes."}], max_tokens=4
    )
    assert answer.choices[0].message.content, "the house serves meanwhile"
    house.wait_until("a replica is being measured", lambda: measures(house))
    kept = json.loads((house.home / "jobs" / "cheaper" / "evidence.json").read_text())
    children = family(house)
    house.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "its replicas, and those of the search, have gone with it"
    house.start()
    ended = wait(house, "cheaper", "done")
    found = ended["result"]
    assert found["evidence"][: len(kept)] == kept, "what was measured stays measured"
    keys = {MODEL, f"{MODEL}, no prefix cache"}
    assert {one["key"] for one in found["points"]} <= keys
    assert found["chosen_key"] in keys
    assert (ended["kind"], ended["tenant"]) == ("serving", "acme")
    [front] = house.admin("fronts")
    assert {one["key"] for one in front["points"]} == {one["key"] for one in found["points"]}
    # Loading a replica and answering with it took this much at least, by the search's own meter.
    assert ended["device_seconds"] > 5 * len(found["evidence"]) / 10
    shown = house.meted("jobs", "cheaper")
    assert f"chosen: {found['chosen_key']}" in shown and "how to serve" in shown
    house.stop()
    house.meted("bill", "--check")
    [row] = [
        one
        for one in json.loads(house.meted("bill", "--by", "tenant", "--by", "kind", "--json"))[
            "rows"
        ]
        if (one["tenant"], one["kind"]) == ("acme", "training")
    ]
    assert row["price_nano_usd"] > 0
    assert row["device_nanos"] <= ended["device_seconds"] * NANOS_PER_SECOND


def test_a_search_of_variants_waits_for_money_and_goes_on_when_there_is_some(
    own_house: RealHouse, tmp_path: Path
) -> None:
    house = own_house.start()
    folder = tmp_path / "notes"
    folder.mkdir()
    for n in range(64):
        words = " ".join(f"In year {n * k} the house paid {n + k} dollars." for k in range(9))
        (folder / f"{n}.txt").write_text(words)
    house.meted("budgets", "set", "tight", "--tenant", "acme", "--limit", "0.00001")
    handed = (
        *("optimise", "model", MODEL, "--data", str(folder), "--levers", "gguf-q8_0"),
        *("--blocks", "20", "--questions", "4", "--most-loss-increase", "1"),
        *("--tenant", "acme", "--name", "smaller"),
    )
    house.meted(*handed, "--detach")
    wait(house, "smaller", "no money")
    house.wait_until("it says why", lambda: "'tight'" in job(house, "smaller")["held"])
    house.meted("budgets", "set", "tight", "--tenant", "acme", "--limit", "5")
    found = wait(house, "smaller", "done")["result"]
    [trial] = found["trials"]
    assert (trial["name"], trial["registered"]) == (f"{MODEL}--gguf-q8_0", True)
    assert any(one["name"] == trial["name"] for one in house.admin("checkpoints"))
    house.stop()
    house.meted("bill", "--check")
