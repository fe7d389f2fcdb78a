"""meted.yaml: defaults, exact prices, and errors that name the key, the value and the way out."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from meted.domain.deployment import SLO, Task
from meted.domain.engine_settings import CachePrecision, EngineSettings, draft_model
from meted.domain.units import Micros
from meted.live.config import Config, ConfigError, load_config, parse_config, usable_cores
from meted.policy.allocation.static import StaticPolicy

EXAMPLE = Path(__file__).parents[2] / "meted.example.yaml"


def parse(content: Any) -> Config:
    return parse_config(content, folder=Path("/srv"))


def test_example_is_the_default_configuration() -> None:
    assert load_config(EXAMPLE) == load_config()


def test_example_shows_every_key() -> None:
    """A key that the example leaves out, or only comments out, is still named in it."""
    text = EXAMPLE.read_text()
    for key in (
        *("cores", "path", "engine", "threads", "parameters", "max_queue", "flush_ms"),
        *("store", "acknowledge", "when_down", "spool_mib", "fold_after_days"),
        *("body_timeout_s", "webhook", "weights", "least", "most", "settings", "chunk_tokens"),
        *("cache", "cache_gib", "prefix_cache", "speculation", "context_tokens"),
        "kept_answers",
    ):
        assert f"{key}:" in text


def test_default_serves_a_language_model_and_an_encoder_on_all_cores() -> None:
    config = load_config()
    assert [one.name for one in config.deployments] == ["smollm2-135m", "all-minilm-l6-v2"]
    assert config.pool.indices == usable_cores()
    assert config.pool.price.nano_usd_per_device_hour == 20_000_000
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)


def test_deployment_knows_its_task_only_from_its_checkpoint() -> None:
    (one,) = parse(
        {"deployments": [{"name": "chat", "path": "w.gguf", "slo": {"ttft_p95_ms": 0.5}}]}
    ).deployments
    assert one.path == Path("/srv/w.gguf")
    deployment = one.deployment(Task.EMBED)
    assert (deployment.name, deployment.checkpoint, deployment.task) == ("chat", "chat", "embed")
    assert deployment.slo == SLO(ttft_p95=Micros(500), tpot_p95=Micros(200_000))


@pytest.mark.parametrize(
    ("price", "nano"),
    [("0.02", 20_000_000), (0.02, 20_000_000), (1, 10**9), ("0.000000001", 1), ("0", 0), (1e-9, 1)],
)
def test_price_is_exact(price: str | float, nano: int) -> None:
    config = parse({"pool": {"price_usd_per_device_hour": price}})
    assert config.pool.price.nano_usd_per_device_hour == nano


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({}, (1, 1)),
        ({"replicas": 2}, (2, 2)),
        ({"least": 0}, (0, 1)),
        ({"most": 3}, (1, 3)),
        ({"least": 2}, (2, 2)),
        ({"least": 0, "most": 4}, (0, 4)),
    ],
)
def test_replicas_lie_between_two_bounds(given: dict[str, int], bounds: tuple[int, int]) -> None:
    (one,) = parse({"deployments": [{"name": "a", **given}]}).deployments
    assert one.deployment(Task.GENERATE).bounds == bounds


@pytest.mark.parametrize("price", ["0.0000000001", "-1", "cheap", "nan", "inf", -0.5])
def test_price_that_is_no_exact_number_of_nano_usd_is_refused(price: str | float) -> None:
    with pytest.raises(ConfigError, match=r"price_usd_per_device_hour is .*at most 9 decimals"):
        parse({"pool": {"price_usd_per_device_hour": price}})


def test_cores_are_a_count_or_a_list() -> None:
    first = usable_cores()[0]
    assert parse({"pool": {"cores": 1}}).pool.indices == (first,)
    assert parse({"pool": {"cores": [first]}}).pool.indices == (first,)


def test_policy_gets_its_parameters() -> None:
    config = parse({"policy": {"name": "static", "parameters": {"serving_share": 0.25}}})
    assert config.policy.policy == StaticPolicy(serving_share=0.25)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"pol": {}}, ["pol", "did you mean", "pol"]),
        ({"server": {"prot": 81}}, ["server.prot", "81", "did you mean 'port'"]),
        ({"deployments": [{"name": "a", "slo": {"x": 1}}]}, ["deployments[0].slo.x", "known:"]),
        ({"books": {"interval": 2}}, ["books.interval", "'interval_s'"]),
        ({7: 1}, ["7", "known:"]),
        ({"server": {"port": "81"}}, ["server.port", "int"]),
        ({"server": {"port": 70000}}, ["server.port is 70000", "65535"]),
        ({"pool": {"cores": 0}}, ["pool.cores is 0"]),
        ({"pool": {"cores": []}}, ["no device"]),
        ({"pool": {"cores": [99999]}}, ["core 99999"]),
        ({"pool": {"cores": [0, 0]}}, ["twice"]),
        ({"policy": {"name": "greedy"}}, ["greedy", "demand"]),
        ({"policy": {"parameters": {"speed": 1}}}, ["demand", "speed"]),
        ({"policy": {"interval_s": 0}}, ["policy.interval_s is 0"]),
        ({"deployments": [{"checkpoint": "c"}]}, ["name"]),
        ({"deployments": [{"name": "a"}, {"name": "a"}]}, ["'a' twice"]),
        ({"deployments": [{"name": "a", "replicas": 0}]}, ["deployments[0].replicas is 0"]),
        ({"deployments": [{"name": "a", "least": -1}]}, ["deployments[0].least is -1", "0 to 64"]),
        ({"deployments": [{"name": "a", "least": 0, "most": 0}]}, ["deployments[0].most is 0"]),
        (
            {"deployments": [{"name": "a", "least": 3, "most": 2}]},
            ["deployments[0].most is 2 and least 3", "lower least or raise most"],
        ),
        (
            {"deployments": [{"name": "a", "replicas": 3, "most": 2}]},
            ["most is 2 and replicas 3", "lower replicas or raise most"],
        ),
        (
            {"deployments": [{"name": "a", "least": 0, "max_queue": 0}]},
            ["least is 0 and max_queue 0", "set max_queue to 1 or more"],
        ),
        ({"policy": {"parameters": {"keep_warm_s": -1}}}, ["keep_warm_s is -1"]),
        (
            {"books": {"acknowledge": "later"}},
            ["books.acknowledge is 'later'", "durable or at-once"],
        ),
        ({"books": {"when_down": "ajar"}}, ["books.when_down is 'ajar'", "closed or open"]),
        ({"books": {"spool_mib": 0}}, ["books.spool_mib is 0", "1 to 1048576"]),
        ({"books": {"spool_mib": 1.5}}, ["books.spool_mib", "int"]),
        ({"books": {"fold_after_days": 0}}, ["books.fold_after_days is 0", "1 to 36500"]),
        ({"books": {"store": "mysql://db/meted"}}, ["books.store", "mysql://", "postgresql://"]),
        ({"books": {"spool": 64}}, ["books.spool", "64", "'spool_mib'"]),
        ({"server": {"body_timeout_s": 0}}, ["server.body_timeout_s is 0", "0.1 to 3600"]),
        ({"budgets": {"webhook": "ftp://x"}}, ["budgets.webhook is 'ftp://x'", "https"]),
        ({"fairness": {"weights": {"acme": 0}}}, ["fairness.weights.acme is 0", "1 to 1000000"]),
        ({"fairness": {"weights": {"acme": "2"}}}, ["fairness.weights", "int"]),
        ([1], ["object"]),
    ],
)
def test_error_names_the_key_and_the_way_out(content: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(content)
    for word in words:
        assert word in str(caught.value)


def test_books_fail_closed_unless_told_otherwise() -> None:
    closed = load_config().books
    assert (closed.spool_mib, closed.acknowledge_durably) == (0, True)
    opened = parse({"books": {"when_down": "open", "acknowledge": "at-once"}}).books
    assert (opened.spool_mib, opened.acknowledge_durably) == (64, False)
    assert parse({"books": {"when_down": "closed", "spool_mib": 9}}).books.spool_mib == 0
    assert parse({"books": {"when_down": "open", "spool_mib": 9}}).books.spool_mib == 9


def test_store_is_a_file_beside_the_configuration_or_an_address_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_config().books.store is None
    assert parse({"books": {"store": "books/b.sqlite"}}).books.store == "/srv/books/b.sqlite"
    monkeypatch.setenv("BOOKS_PASSWORD", "s3cret")
    address = "postgresql://meted:${BOOKS_PASSWORD}@db/meted"
    assert parse({"books": {"store": address}}).books.store == "postgresql://meted:s3cret@db/meted"


def test_tenants_have_weights_and_alerts_an_address() -> None:
    config = parse(
        {
            "fairness": {"weights": {"acme": 3}},
            "budgets": {"webhook": "https://example.com/alerts"},
            "server": {"body_timeout_s": 2.5},
        }
    )
    assert config.tenant_weights == {"acme": 3}
    assert config.alert_webhook == "https://example.com/alerts"
    assert config.server.body_timeout_s == 2.5


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    path = tmp_path / "meted.yaml"
    for content in ("pool: [", yaml.safe_dump({"sever": {}})):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"meted\.yaml"):
            load_config(path)


def test_empty_file_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "meted.yaml"
    path.write_text("")
    assert load_config(path) == load_config()


def test_settings_of_a_deployment_reach_it_and_engine_is_one_of_them() -> None:
    settings = {"chunk_tokens": 64, "speculation": {"kind": "draft", "checkpoint": "small"}}
    (one, two) = parse(
        {
            "deployments": [
                {"name": "a", "settings": settings},
                {"name": "b", "engine": "m:F", "settings": {"cache": "int8"}},
            ]
        }
    ).deployments
    wanted = EngineSettings(chunk_tokens=64, speculation=draft_model("small"))
    assert one.deployment(Task.GENERATE).settings == wanted
    assert two.settings == EngineSettings(engine="m:F", cache=CachePrecision.INT8)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"chunk": 64}, r"unknown key deployments\[0\].settings.chunk with value 64"),
        (
            {"speculation": {"kind": "draft", "model": "x"}},
            r"unknown key deployments\[0\].settings.speculation.model",
        ),
        ({"cache": "int2"}, "Invalid enum value 'int2'"),
        ({"cache_gib": 0}, "cache_gib is 0"),
        ({"threads": 1000}, r"settings.threads is 1000, expected 1 to"),
        ({"engine": "other:G"}, "they mean the same"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse({"deployments": [{"name": "a", "engine": "m:F", "settings": settings}]})
