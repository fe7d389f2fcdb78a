"""/metrics: parsable, under the known names, the same in both formats."""

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from meted.domain.budget import Budget, Period
from meted.domain.units import BudgetName, NanoUSD, TenantName
from meted.gateway.metrics import FINISHES_PER_READ, TIMES, Histogram

HI = {"model": "words", "messages": [{"role": "user", "content": "one two three"}]}
OPEN = "application/openmetrics-text; version=1.0.0"


async def samples(client, accept: str) -> dict:
    async with client.get("/metrics", headers={"accept": accept}) as response:
        assert response.status == 200
        text = await response.text()
        parse = parse_open if "openmetrics" in response.headers["content-type"] else parse_text
    rows = {}
    for family in parse(text):
        for one in family.samples:
            labels = tuple(sorted(label for label in one.labels.items() if label[0] != "le"))
            if "le" not in one.labels or one.labels["le"] == "+Inf":
                rows[one.name, labels] = one.value
    assert "acme" not in text
    return rows


@pytest.mark.parametrize("accept", ["text/plain", OPEN])
async def test_what_was_served_is_counted(client, accept):
    for _ in range(2):
        async with client.post("/v1/chat/completions", json=HI) as response:
            assert response.status == 200
    rows = await samples(client, accept)
    words = (("model_name", "words"),)
    assert rows["vllm:num_requests_running", words] == 0
    assert rows["vllm:num_requests_waiting", words] == 0
    assert rows["vllm:kv_cache_usage_perc", words] == 0.25
    assert rows["vllm:prompt_tokens_total", words] == 6
    assert rows["vllm:generation_tokens_total", words] == 6
    assert rows["meted_cached_tokens_total", words] == 2
    done = (("finished_reason", "stop"), *words)
    assert rows["vllm:request_success_total", done] == 2
    assert rows["meted_requests_total", (*words, ("outcome", "done"))] == 2
    assert rows["meted_device_seconds_total", (("kind", "request"),)] == 0.012
    assert rows["meted_cost_usd_total", (("kind", "request"),)] == 84e-9
    for name in TIMES:
        expected = 4 if "inter_token" in name else 2
        assert rows[f"{name}_count", words] == expected
        assert rows[f"{name}_bucket", words] == expected
        assert rows[f"{name}_count", (("model_name", "vectors"),)] == 0
    assert rows["vllm:time_to_first_token_seconds_sum", words] == 0.04


async def test_finishes_do_not_pile_up_unread(client, doors):
    for _ in range(FINISHES_PER_READ):
        async with client.post("/v1/chat/completions", json=HI):
            pass
    assert doors.take_finishes() == []
    rows = await samples(client, "text/plain")
    outcome = (("model_name", "words"), ("outcome", "done"))
    assert rows["meted_requests_total", outcome] == FINISHES_PER_READ


def test_a_histogram_counts_a_bound_in_its_own_bucket():
    histogram = Histogram()
    histogram.observe([1_000, 1_001, 10**9])
    buckets = dict(histogram.buckets())
    assert (buckets["0.001"], buckets["0.0025"], buckets["160.0"], buckets["+Inf"]) == (1, 2, 2, 3)
    assert histogram.sum_s == 1000.002001


async def test_health_and_version_need_no_key(url, doors):
    async with aiohttp.ClientSession(url) as client:
        async with client.get("/health") as response:
            assert response.status == 200
        async with client.get("/version") as response:
            assert "version" in await response.json()
        doors.request_shutdown()
        async with client.get("/health") as response:
            assert response.status == 503


@pytest.mark.parametrize("accept", ["text/plain", OPEN])
async def test_budgets_are_told_under_their_names(client, doors, accept):
    for name, limit in (("cap", 130), ("Größe", 10**9)):
        doors.money.save_budget(
            Budget(
                name=BudgetName(name),
                tenant=TenantName("acme"),
                period=Period.MONTH,
                limit=NanoUSD(limit),
            )
        )
    for status in (200, 200, 402):
        async with client.post("/v1/chat/completions", json=HI) as response:
            assert response.status == status
    rows = await samples(client, accept)
    cap = (("budget", "cap"),)
    assert rows["meted_budget_limit_usd", cap] == 130e-9
    assert rows["meted_budget_spent_usd", cap] == 120e-9
    assert rows["meted_budget_reserved_usd", cap] == 0
    assert rows["meted_budget_refusals_total", cap] == 1
    assert rows["meted_budget_alerts_total", cap] == 2
    assert rows["meted_budget_limit_usd", (("budget", "Größe"),)] == 1
