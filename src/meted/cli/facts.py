"""`meted facts`: what models, devices and prices are, as predictions and plans take them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from meted.cli.common import common_options, examples, print_json
from meted.cli.fact_files import FactVerbs, facts_option, read_facts
from meted.cli.fact_prices import show_prices
from meted.cli.render import print_table
from meted.domain.architecture import Architecture, ModelKind
from meted.domain.catalogue import ARCHITECTURES, DEVICE_KINDS, lookup_device_kind
from meted.domain.device_kind import DeviceKind, Precision
from meted.live.facts import ModelFacts, resolve_model
from meted.live.home import Home
from meted.predict.counting import (
    flops_per_pair,
    flops_per_token,
    kv_bytes_per_token,
    parameters,
    weight_bytes,
)

KEPT = (Precision.FP32, Precision.BF16, Precision.FP8, Precision.INT8, Precision.INT4)
"""Precisions in which weights are shown."""
KV_KEPT = (Precision.BF16, Precision.FP8)
GIB = 1024**3


@click.group(
    cls=FactVerbs,
    epilog=examples(
        "meted facts models llama-3.1-70b", "meted facts devices h100", "meted facts prices"
    ),
)
@common_options
def facts(home: Home, as_json: bool) -> None:
    """Show what predictions and plans know of models, devices and prices."""


@facts.command(
    "models",
    epilog=examples(
        "meted facts models",
        "meted facts models llama-3.1-70b",
        "meted facts models Qwen/Qwen2.5-7B-Instruct --json",
        "meted facts models ~/models/mine.gguf",
    ),
)
@click.argument("name", required=False)
@facts_option
@common_options
def show_models(name: str | None, facts_file: Path | None, home: Home, as_json: bool) -> None:
    """List the models that are known, or show one: by its name, a config.json, a folder with one,
    a .gguf file, or as a checkpoint of the home."""
    more = read_facts(facts_file)
    if name is not None:
        found = resolve_model(name, home=home, facts=more)
        shown = _model(found)
        if as_json:
            print_json(shown)
        else:
            _print_model(found, shown)
        return
    known = {**ARCHITECTURES, **more.models}.values()
    if as_json:
        print_json([_model(ModelFacts(architecture=one)) for one in known])
        return
    print_table(
        ("model", "family", "kind", "parameters", "active", "context", "KV bytes/token"),
        [
            (
                *(one.name, one.family, one.kind, _short(parameters(one).total)),
                *(_short(parameters(one).active), one.positions, _kv(one, Precision.BF16)),
            )
            for one in known
        ],
        right=("parameters", "active", "context", "KV bytes/token"),
    )


def _model(found: ModelFacts) -> dict[str, Any]:
    one = found.architecture
    counted = parameters(one)
    return {
        **asdict(one),
        "parameters": counted.total,
        "parameters_active": counted.active,
        "parameters_by_part": asdict(counted),
        "weights": found.weights,
        "weight_bytes": found.weight_bytes,
        "weight_bytes_by_precision": {kept: round(weight_bytes(one, kept)) for kept in KEPT},
        "kv_bytes_per_token_by_precision": {kept: _kv(one, kept) for kept in KV_KEPT},
        "flops_per_token": flops_per_token(one),
        "flops_per_attended_token": flops_per_pair(one),
    }


def _kv(one: Architecture, kept: Precision) -> int | None:
    """Bytes that a token adds to the KV cache, None for a model that has none."""
    return round(kv_bytes_per_token(one, kept)) if one.kind is ModelKind.DECODER else None


def _print_model(found: ModelFacts, shown: dict[str, Any]) -> None:
    one = found.architecture
    sizes = shown["weight_bytes_by_precision"]
    rows: list[tuple[str, Any]] = [
        ("model", f"{one.name} ({one.family}, {one.kind})"),
        ("layers", f"{one.layers}, {one.hidden} wide, {one.heads} heads, {_keys(one)}"),
        ("context", f"{one.positions} tokens{_windows(one)}"),
        ("parameters", f"{shown['parameters']:,} ({_short(shown['parameters'])})"),
        ("active for a token", f"{shown['parameters_active']:,}{_visits(one)}"),
        *((f"weights in {kept}", f"{size / 1e9:.2f} GB") for kept, size in sizes.items()),
    ]
    if found.weight_bytes is not None:
        rows.append(("weights as kept", f"{found.weight_bytes / 1e9:.2f} GB, near {found.weights}"))
    elif found.weights is not None:
        rows.append(("weights as kept", f"{found.weights}"))
    for kept, size in shown["kv_bytes_per_token_by_precision"].items():
        if size is not None:
            rows.append((f"KV cache in {kept}", f"{size:,} bytes a token"))
    rows += [
        ("FLOPs of a token", f"{shown['flops_per_token']:.4g} forward"),
        ("FLOPs of attention", f"{shown['flops_per_attended_token']:.4g} for each token seen"),
        ("source", one.source),
    ]
    print_table(("fact", "value"), rows)


def _keys(one: Architecture) -> str:
    if one.latent is None:
        return f"{one.kv_heads} for keys"
    return f"keys and values from a latent of {one.latent.kv_rank}"


def _windows(one: Architecture) -> str:
    if one.window is None:
        return ""
    return f"; {one.window_layers} of the layers look back {one.window}"


def _visits(one: Architecture) -> str:
    if one.experts is None:
        return ""
    shared = f" and {one.experts.shared} shared" if one.experts.shared else ""
    return f", {one.experts.active} of {one.experts.count} experts{shared}"


def _short(count: int) -> str:
    """A count of parameters as people say it: 70.6B, 135M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        # What rounds to a thousand of the smaller unit is one of this.
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return str(count)


@facts.command(
    "devices",
    epilog=examples(
        "meted facts devices", "meted facts devices h100", "meted facts devices --json"
    ),
)
@click.argument("name", required=False)
@facts_option
@common_options
def show_devices(name: str | None, facts_file: Path | None, home: Home, as_json: bool) -> None:
    """List the kinds of devices that are known, or show one."""
    more = read_facts(facts_file).devices
    if name is not None:
        kind = lookup_device_kind(name, more)
        if as_json:
            print_json(kind)
        else:
            print_table(("fact", "value"), _device_rows(kind))
        return
    known = {**DEVICE_KINDS, **more}.values()
    if as_json:
        print_json([asdict(one) for one in known])
        return
    print_table(
        ("device", "title", "GiB", "GB/s", "TFLOP/s 16 bit", "8 bit", "link GB/s", "watts", "idle"),
        [
            (
                *(one.name, one.title, f"{one.memory_bytes / GIB:.0f}"),
                f"{one.bandwidth / 1e9:.0f}",
                _tera(one, Precision.BF16, Precision.FP16),
                _tera(one, Precision.FP8, Precision.INT8),
                f"{one.link.bytes_per_second / 1e9:.0f}",
                *(f"{one.watts_busy:.0f}", f"{one.watts_idle:.0f}"),
            )
            for one in known
        ],
        right=("GiB", "GB/s", "TFLOP/s 16 bit", "8 bit", "link GB/s", "watts", "idle"),
    )


def _tera(kind: DeviceKind, *precisions: Precision) -> str | None:
    """The first of these peaks that the kind has, in TFLOP/s."""
    for one in precisions:
        if one in kind.peak_flops:
            return f"{kind.peak_flops[one] / 1e12:.4g}"
    return None


def _device_rows(kind: DeviceKind) -> Sequence[tuple[str, str]]:
    return [
        ("device", f"{kind.name}: {kind.title}"),
        *(
            (f"peak in {one}", f"{peak / 1e12:.5g} TFLOP/s, dense")
            for one, peak in kind.peak_flops.items()
        ),
        ("memory", f"{kind.memory_bytes / GIB:.1f} GiB at {kind.bandwidth / 1e9:.0f} GB/s"),
        ("devices of a node", str(kind.node_devices)),
        ("link in the node", f"{kind.link.bytes_per_second / 1e9:.4g} GB/s in one direction"),
        ("network", f"{kind.network.bytes_per_second / 1e9:.3g} GB/s for each device"),
        ("power", f"{kind.watts_busy:.0f} W busy, {kind.watts_idle:g} W idle"),
        ("source", kind.source),
    ]


facts.add_command(show_prices)
