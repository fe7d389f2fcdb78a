"""The doors of money and keys: exact amounts, audited changes, a tenant's own view."""

import aiohttp
import pytest
from test_gateway_wire import events

from meted.domain.budget import Budget, Period
from meted.domain.units import BudgetName, NanoUSD, TenantName
from meted.testing.fake_doors import ADMIN_KEY, OTHER_KEY, TENANT_KEY, Manners

CHAT = "/v1/chat/completions"
HI = {"model": "words", "messages": [{"role": "user", "content": "one two three"}]}
BUDGET = {"tenant": "acme", "period": "month", "limit_usd": "12.50"}
OWNED = {
    "kind": "owned",
    "purchase_usd": "2000",
    "lifetime_hours": 35_040,
    "milliwatts": 300_000,
    "usd_per_kwh": "0.30",
}
CARD = {
    "charge": "card",
    "input_usd_per_million": "2.5",
    "cached_input_usd_per_million": "0.25",
    "output_usd_per_million": "10",
    "training_usd_per_device_second": "0.000001",
}


@pytest.fixture
async def admin(url):
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with aiohttp.ClientSession(f"{url}/meted/v1/", headers=headers) as session:
        yield session


@pytest.fixture
async def tenant(url):
    headers = {"authorization": f"Bearer {TENANT_KEY}"}
    async with aiohttp.ClientSession(f"{url}/meted/v1/", headers=headers) as session:
        yield session


async def call(session, method, path, body=None, status=200):
    async with session.request(method, path, json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def spend(url, secret) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(url, headers=headers) as session:
        async with session.post(CHAT, json=HI) as response:
            assert response.status == 200


# What a request says of money.


async def test_price_and_cost_are_told_apart_in_header_body_and_stream(client) -> None:
    async with client.post(CHAT, json=HI) as response:
        usage = (await response.json())["usage"]
        assert response.headers["x-meted-cost-usd"] == usage["meted_cost_usd"] == "0.000000042"
        assert response.headers["x-meted-price-usd"] == usage["meted_price_usd"] == "0.000000060"
        assert "x-meted-stopped" not in response.headers
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    async with client.post(CHAT, json=HI | stream) as response:
        rows = await events(response)
    assert rows[-2]["usage"]["meted_price_usd"] == "0.000000060"
    assert rows[-2]["usage"]["meted_cost_usd"] == "0.000000042"
    assert not any("meted_stopped" in row for row in rows[:-1])


def cap(doors, limit: int, name: str = "cap") -> None:
    doors.money.save_budget(
        Budget(
            name=BudgetName(name),
            tenant=TenantName("acme"),
            period=Period.MONTH,
            limit=NanoUSD(limit),
        )
    )


async def test_an_answer_that_money_ended_says_so(client, doors) -> None:
    cap(doors, 100, "Größe; x")
    async with client.post(CHAT, json=HI) as response:
        body = await response.json()
    assert "x-meted-stopped" not in response.headers
    async with client.post(CHAT, json=HI) as response:
        body = await response.json()
        # 40 are left: three words in, one out.
        assert response.headers["x-meted-stopped"] == "budget; name=Gr%C3%B6%C3%9Fe%3B%20x"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["message"]["content"] == "one"
    assert (body["meted_stopped"], body["meted_budget"]) == ("budget", "Größe; x")
    async with client.post(CHAT, json=HI) as response:
        assert response.status == 402


async def test_a_stream_that_money_ended_says_so_with_the_finish_reason(client, doors) -> None:
    cap(doors, 50)
    async with client.post(CHAT, json=HI | {"stream": True}) as response:
        rows = await events(response)
    last = rows[-2]
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["meted_stopped"] == "budget"
    assert not any("meted_stopped" in row for row in rows[:-2])


@pytest.mark.parametrize(("status", "code"), [(402, "budget_exceeded"), (429, "budget_reserved")])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_names_the_budget_and_its_numbers(
    client, doors, status, code, stream
) -> None:
    doors.manners = Manners(refuses_with=status)
    async with client.post(CHAT, json=HI | {"stream": stream}) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert response.headers["x-meted-budget"] == "acme-month"
        assert "retry-after" in response.headers
    assert error["code"] == code
    for member in ("budget", "spent_usd", "reserved_usd", "limit_usd", "resets_at"):
        assert member in error
    assert error["limit_usd"] == "5.000000000"


async def test_the_fake_house_keeps_budgets_honestly(client, doors) -> None:
    cap(doors, 130)
    for _ in range(2):
        async with client.post(CHAT, json=HI) as response:
            assert response.status == 200
    (gauge,) = doors.budget_gauges()
    assert (gauge.spent, gauge.reserved, gauge.refusals, gauge.alerts) == (120, 0, 0, 2)
    async with client.post(CHAT, json=HI) as response:
        assert response.status == 402
    (gauge,) = doors.budget_gauges()
    assert (gauge.spent, gauge.reserved, gauge.refusals) == (120, 0, 1)


# Budgets, keys, prices, rates.


async def test_a_budget_is_put_changed_and_removed(admin) -> None:
    made = await call(admin, "PUT", "budgets/trial", BUDGET)
    assert (made["limit_usd"], made["limit_nano_usd"]) == ("12.500000000", 12_500_000_000)
    assert (made["hard"], made["alerts"], made["spent_usd"]) == (True, [50, 80, 100], "0.000000000")
    assert made["resets_at"] == "2025-11-01T00:00:00Z"
    soft = BUDGET | {"limit_usd": "0.000000001", "hard": False, "alerts": [90, 10, 90]}
    changed = await call(admin, "PUT", "budgets/trial", soft)
    assert (changed["limit_nano_usd"], changed["hard"], changed["alerts"]) == (1, False, [10, 90])
    moved = await call(admin, "PUT", "budgets/trial", BUDGET | {"tenant": "other"}, 409)
    assert moved["error"]["param"] == "name"
    assert len(await call(admin, "GET", "budgets")) == 1
    assert await call(admin, "DELETE", "budgets/trial") == {"name": "trial", "removed": True}
    await call(admin, "DELETE", "budgets/trial", status=404)


@pytest.mark.parametrize("value", [1, 1.5, "NaN", "Infinity", "-1", "1e400", "", "0.0000000001"])
async def test_money_that_is_no_exact_decimal_is_refused_by_name(admin, value) -> None:
    for method, path, body, param in (
        ("PUT", "budgets/b", BUDGET | {"limit_usd": value}, "limit_usd"),
        (
            *("POST", "prices"),
            {"device_kind": "x", "basis": {"kind": "rented", "usd_per_device_hour": value}},
            "basis.usd_per_device_hour",
        ),
        (
            *("POST", "prices"),
            {"device_kind": "x", "basis": OWNED | {"purchase_usd": value}},
            "basis.purchase_usd",
        ),
        (
            *("POST", "rates"),
            {"rates": CARD | {"output_usd_per_million": value}},
            "rates.output_usd_per_million",
        ),
    ):
        error = (await call(admin, method, path, body, 400))["error"]
        assert error["param"] == param
        assert param in error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"period": "week"}, "period"),
        ({"alerts": [0]}, "alerts[0]"),
        ({"alerts": [50] * 11}, "alerts"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a\u200bcme"}, "tenant"),
        ({"project": "a\nb"}, "project"),
        ({"hard": 1}, "hard"),
        ({"limit": "5"}, "limit"),
    ],
)
async def test_a_wrong_budget_is_named(admin, change, param) -> None:
    error = (await call(admin, "PUT", "budgets/b", BUDGET | change, 400))["error"]
    assert error["param"] == param


async def test_a_key_is_made_rotated_and_revoked_at_once(admin, url) -> None:
    body = {"tenant": "acme", "project": "chat", "name": "ci", "requests_per_minute": 9}
    made = await call(admin, "POST", "keys", body)
    assert made["limits"]["requests_per_minute"] == 9

    async def status(secret) -> int:
        headers = {"authorization": f"Bearer {secret}"}
        async with aiohttp.ClientSession(url, headers=headers) as session:
            async with session.get("/v1/models") as response:
                return response.status

    assert await status(made["secret"]) == 200
    rotated = await call(admin, "POST", f"keys/{made['id']}/rotate")
    assert await status(made["secret"]) == 401
    assert await status(rotated["secret"]) == 200
    await call(admin, "DELETE", f"keys/{made['id']}")
    assert await status(rotated["secret"]) == 401
    assert "secret" not in str(await call(admin, "GET", "keys"))
    await call(admin, "POST", f"keys/{made['id']}/rotate", status=404)
    await call(admin, "DELETE", "keys/key-nope", status=404)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"concurrent": 2**63}, "concurrent"),
        ({"concurrent": 10**400}, "concurrent"),
        ({"concurrent": 1.5}, "concurrent"),
        ({"admin": "yes"}, "admin"),
        ({"tenant": "../x"}, "tenant"),
        ({"secret": "mine"}, "secret"),
    ],
)
async def test_a_wrong_key_is_named(admin, change, param) -> None:
    error = (await call(admin, "POST", "keys", {"tenant": "acme"} | change, 400))["error"]
    assert error["param"] == param


async def test_prices_and_rates_are_appended(admin) -> None:
    rented = {"kind": "rented", "usd_per_device_hour": "0.02", "spot": True}
    body = {"device_kind": "cpu-core", "basis": rented, "effective": "2026-01-01T00:00:00Z"}
    made = await call(admin, "POST", "prices", body)
    assert made["effective_us"] == 1_767_225_600_000_000
    assert made["basis"] == rented | {"usd_per_device_hour": "0.020000000"}
    owned = await call(admin, "POST", "prices", {"device_kind": "gpu", "basis": OWNED})
    # 2000 / 35040 h + 0.3 kW x 0.30, rounded up to a nano-dollar.
    assert owned["usd_per_device_hour"] == "0.147077626"
    assert len(await call(admin, "GET", "prices")) == 2
    card = await call(admin, "POST", "rates", {"tenant": "acme", "rates": CARD})
    assert card["rates"]["input_usd_per_million"] == "2.500000"
    marked = {"rates": {"charge": "cost", "markup_permille": -1000}}
    assert (await call(admin, "POST", "rates", marked))["tenant"] is None
    ended = await call(admin, "POST", "rates", {"tenant": "acme", "rates": None})
    assert ended["rates"] is None
    assert len(await call(admin, "GET", "rates")) == 3


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("rates", {}, "rates"),
        ("rates", {"rates": {"charge": "cost", "markup_permille": -1001}}, "rates.markup_permille"),
        ("rates", {"rates": {"charge": "magic"}}, "rates.charge"),
        ("rates", {"rates": None, "effective": "yesterday"}, "effective"),
        ("rates", {"rates": None, "effective": "2026-01-01T00:00:00"}, "effective"),
        ("rates", {"rates": None, "effective": "1066-01-01T00:00:00Z"}, "effective"),
        ("rates", {"rates": None, "effective": "9" * 40}, "effective"),
        ("rates", {"rates": None, "note": "x" * 1001}, "note"),
        ("prices", {"device_kind": "x", "basis": {"kind": "stolen"}}, "basis.kind"),
        (
            "prices",
            {"device_kind": "x", "basis": OWNED | {"lifetime_hours": 0}},
            "basis.lifetime_hours",
        ),
    ],
)
async def test_a_wrong_price_or_rate_is_named(admin, path, body, param) -> None:
    assert (await call(admin, "POST", path, body, 400))["error"]["param"] == param


# Bills and the tenant's own view.


async def test_an_admin_sees_all_and_a_tenant_only_its_own(admin, tenant, url) -> None:
    await spend(url, TENANT_KEY)
    await spend(url, OTHER_KEY)
    whole = await call(admin, "GET", "bill?by=tenant&by=kind")
    assert {(row["tenant"], row["kind"]) for row in whole["rows"]} == {
        ("acme", "request"),
        ("umbrella", "request"),
        (None, "idle"),
    }
    assert whole["nano_usd"] == sum(row["nano_usd"] for row in whole["rows"])
    own = await call(tenant, "GET", "bill?by=tenant")
    assert [row["tenant"] for row in own["rows"]] == ["acme"]
    assert (own["nano_usd"], own["price_nano_usd"]) == (42, 60)
    assert [row["kind"] for row in (await call(tenant, "GET", "bill"))["rows"]] == ["request"]
    for path in ("bill", "bill?by=request", "bill?by=deployment&by=key", "budgets", "keys"):
        said = str(await call(tenant, "GET", path))
        assert "umbrella" not in said
        assert "house" not in said
        assert "idle" not in said


async def test_a_tenant_sees_only_its_own_keys_and_budgets(admin, tenant) -> None:
    for name, body in (("a", BUDGET), ("b", BUDGET | {"tenant": "umbrella"})):
        await call(admin, "PUT", f"budgets/{name}", body)
    assert [row["name"] for row in await call(tenant, "GET", "budgets")] == ["a"]
    assert [row["id"] for row in await call(tenant, "GET", "keys")] == ["key-acme"]
    assert len(await call(admin, "GET", "keys")) == 4


async def test_a_long_bill_is_cut_and_says_so(admin, url) -> None:
    for _ in range(3):
        await spend(url, TENANT_KEY)
    bill = await call(admin, "GET", "bill?by=request&limit=2")
    assert (len(bill["rows"]), bill["more_rows"]) == (2, 2)


async def test_moments_may_be_micros_or_iso(admin) -> None:
    for moment in ("1760000000000001", "2025-10-09T10:53:20.000001%2B02:00"):
        assert (await call(admin, "GET", f"bill?from={moment}"))["intervals"] == 0
        assert (await call(admin, "GET", f"bill?to={moment}"))["intervals"] == 1


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=planet", "by"),
        ("by=kind&by=kind", "by"),
        ("by=kind&by=hour&by=tenant", "by"),
        ("from=yesterday", "from"),
        ("from=1&from=2", "from"),
        ("to=-1", "to"),
        ("to=1e400", "to"),
        ("to=" + "9" * 30, "to"),
        ("from=NaN", "from"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=٣", "limit"),
        ("tenant=umbrella", "tenant"),
    ],
)
async def test_a_wrong_question_is_named(tenant, query, param) -> None:
    assert (await call(tenant, "GET", f"bill?{query}", status=400))["error"]["param"] == param


# The audit log.


async def test_every_admin_action_is_logged_exactly_once(admin) -> None:
    job = {"name": "tune", "base": "words", "data": "/data/book.txt", "tenant": "acme", "steps": 5}
    rented = {"kind": "rented", "usd_per_device_hour": "0.02"}
    made = await call(admin, "POST", "keys", {"tenant": "acme"})
    for method, path, body in (
        ("POST", f"keys/{made['id']}/rotate", None),
        ("DELETE", f"keys/{made['id']}", None),
        ("PUT", "budgets/b", BUDGET),
        ("DELETE", "budgets/b", None),
        ("POST", "prices", {"device_kind": "cpu-core", "basis": rented}),
        ("POST", "rates", {"rates": {"charge": "cost"}}),
        ("POST", "deployments", {"name": "tuned"}),
        ("DELETE", "deployments/tuned", None),
        ("POST", "jobs", job),
        ("POST", "jobs/tune/pause", None),
        ("POST", "jobs/tune/resume", None),
        ("POST", "jobs/tune/cancel", None),
        ("POST", "refresh", None),
        ("POST", "shutdown", None),
    ):
        await call(admin, method, path, body)
    log = await call(admin, "GET", "audit")
    assert [row["action"] for row in log][::-1] == [
        *("key.create", "key.rotate", "key.revoke", "budget.save", "budget.remove"),
        *("price.add", "rate.add", "deploy", "undeploy", "train"),
        *("job.pause", "job.resume", "job.cancel", "shutdown"),
    ]
    assert {row["actor"] for row in log} == {"key-house"}
    assert len(await call(admin, "GET", "audit?limit=3")) == 3


async def test_what_is_refused_is_not_logged_as_done(admin, tenant) -> None:
    await call(admin, "DELETE", "deployments/nope", status=404)
    await call(admin, "DELETE", "budgets/nope", status=404)
    await call(admin, "POST", "jobs/nope/pause", status=404)
    await call(tenant, "POST", "shutdown", status=403)
    assert await call(admin, "GET", "audit") == []


async def test_changes_are_reread_before_they_are_told(admin, doors) -> None:
    await call(admin, "PUT", "budgets/b", BUDGET)
    assert doors.rereads == 1
    await call(admin, "POST", "refresh")
    assert doors.rereads == 2
