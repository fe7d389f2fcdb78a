"""A catalogue's rows become offers of devices: per device, the cheapest zone, nothing guessed."""

from pathlib import Path

import pytest

from meted.domain.market import Purchase
from meted.live.facts.errors import FactError
from meted.live.facts.sky_catalogue import ImportedPrices, read_sky_catalogue

HEADER = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,"
    "GpuInfo,AvailabilityZone"
)


def catalogue(
    tmp_path: Path, *rows: str, header: str = HEADER, **options: object
) -> ImportedPrices:
    path = tmp_path / "vms.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return read_sky_catalogue(path, **options)  # type: ignore[arg-type]


def test_an_instances_price_is_its_devices_and_the_cheapest_zone_is_kept(tmp_path: Path) -> None:
    found = catalogue(
        tmp_path,
        "p5.48xlarge,H100,8.0,192.0,2048.0,55.04,24.1,us-east-1,\"{'Gpus': []}\",us-east-1a",
        "p5.48xlarge,H100,8.0,192.0,2048.0,55.04,21.000000001,us-east-1,,us-east-1b",
        "g6.xlarge,L4,1.0,4.0,16.0,0.8048,,us-east-1,,us-east-1a",
        "m6i.large,,,2.0,8.0,0.096,0.03,us-east-1,,us-east-1a",
        provider="aws",
        dated="2025-06-05",
    )
    by = {(one.kind, one.purchase): one for one in found.offers}
    assert set(by) == {
        ("h100-80gb", Purchase.ON_DEMAND),
        ("h100-80gb", Purchase.SPOT),
        ("l4", Purchase.ON_DEMAND),
    }
    h100 = by["h100-80gb", Purchase.ON_DEMAND]
    assert (h100.nano_usd_per_device_hour, h100.devices) == (6_880_000_000, 8)
    assert (h100.provider, h100.region, h100.dated) == ("aws", "us-east-1", "2025-06-05")
    assert h100.source == "p5.48xlarge in vms.csv"
    # 21.000000001 / 8 is 2.625000000125: rounded up to a whole nano-USD.
    assert by["h100-80gb", Purchase.SPOT].nano_usd_per_device_hour == 2_625_000_001
    assert found.left_out == {}


def test_regions_stay_apart_and_can_be_chosen(tmp_path: Path) -> None:
    rows = [f"g6.xlarge,L4,1,4,16,{price},,{region},,a" for price, region in ((1, "x"), (2, "y"))]
    assert len(catalogue(tmp_path, *rows).offers) == 2
    (one,) = catalogue(tmp_path, *rows, regions=("y",)).offers
    assert one.nano_usd_per_device_hour == 2_000_000_000


def test_a_catalogues_a100_has_40_gb_and_a_tpus_slice_is_counted_in_chips(tmp_path: Path) -> None:
    found = catalogue(
        tmp_path,
        "p4d.24xlarge,A100,8,96,1152,21.95764,,r,,a",
        "p4de.24xlarge,A100-80GB,8,96,1152,27.44705,,r,,a",
        ",tpu-v5litepod-8,1,,,9.6,,r,,a",
        ",tpu-v5p-8,1,,,16.8,,r,,a",
    )
    priced = {one.kind: (one.nano_usd_per_device_hour, one.devices) for one in found.offers}
    assert priced == {
        "a100-40gb": (2_744_705_000, 8),
        "a100-80gb": (3_430_881_250, 8),
        "tpu-v5e": (1_200_000_000, 8),
        "tpu-v5p": (4_200_000_000, 4),
    }


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    found = catalogue(
        tmp_path,
        "trn1.2xlarge,Trainium,1,8,32,1.34,,r,,a",
        "trn1.2xlarge,Trainium,1,8,32,1.34,,s,,a",
        "g6f.large,L4,0.125,2,8,0.2,,r,,a",
        ",L4,1,,,0.56,,r,,a",
    )
    assert found.offers == ()
    assert found.left_out == {
        "Trainium, not a known device kind": 2,
        "L4, a part of a device": 1,
        "L4, priced without an instance": 1,
    }


def test_a_missing_column_and_a_wrong_cell_are_named(tmp_path: Path) -> None:
    with pytest.raises(FactError, match="lacks the column SpotPrice"):
        catalogue(tmp_path, header=HEADER.replace(",SpotPrice", ""))
    for wrong in ("cheap", "-1", "inf"):
        with pytest.raises(FactError, match=rf"Price in line 2 of .*vms\.csv is '{wrong}'"):
            catalogue(tmp_path, f"g6.xlarge,L4,1,4,16,{wrong},,r,,a")
    with pytest.raises(FactError, match="cannot be read"):
        read_sky_catalogue(tmp_path / "missing.csv")
