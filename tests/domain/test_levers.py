import pytest

from meted.domain.levers import ALL, parse_lever
from meted.domain.variant import (
    Calibration,
    Distil,
    ExportFloat,
    FloatType,
    GgufType,
    IntType,
    PruneHeads,
    PruneLayers,
    PruneNeurons,
    Quantise,
    QuantiseGguf,
    Repair,
    Transformation,
)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("bf16", ExportFloat(type=FloatType.BF16)),
        ("int8-sym", Quantise(type=IntType.INT8_SYM)),
        ("int4", Quantise(type=IntType.INT4)),
        ("int4-sym-g128", Quantise(type=IntType.INT4_SYM, group_size=128)),
        (
            "int4-g64-r0.8-awq",
            Quantise(
                type=IntType.INT4, group_size=64, ratio=0.8, calibration=Calibration.AWQ
            ),
        ),
        ("gguf-q4_0", QuantiseGguf(type=GgufType.Q4_0)),
        ("layers-10%", PruneLayers(share=0.1)),
        ("heads-2", PruneHeads(groups=2)),
        ("neurons-25%", PruneNeurons(share=0.25)),
        ("distil-33%", Distil(share=0.33)),
    ],
)  # fmt: skip
def test_a_name_stands_for_one_transformation(name: str, step: Transformation) -> None:
    assert parse_lever(name).steps == ((name, step),)


def test_plus_joins_steps_in_their_order() -> None:
    assert [part for part, _ in parse_lever("layers-10%+int4-g64").steps] == [
        "layers-10%",
        "int4-g64",
    ]


@pytest.mark.parametrize("name", ["", "int5", "int4-g48", "int8-g64", "layers-0%", "int8+", "q8_0"])
def test_another_name_is_refused_and_the_forms_are_told(name: str) -> None:
    with pytest.raises(ValueError, match="lever"):
        parse_lever(name)


def test_all_names_different_levers_that_exist() -> None:
    steps = [parse_lever(name).steps[0][1] for name in ALL]
    assert len(set(steps)) == len(ALL)


def test_training_steps_replace_those_of_repair_and_distillation_only() -> None:
    lever = parse_lever("layers-10%+int8", training_steps=7)
    assert lever.steps[0][1] == PruneLayers(share=0.1, repair=Repair(steps=7))
    assert lever.steps[1] == parse_lever("int8").steps[0]
    assert parse_lever("distil-33%", training_steps=7).steps[0][1] == Distil(share=0.33, steps=7)


def test_a_transformation_that_makes_no_sense_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="group_size is 48"):
        Quantise(type=IntType.INT4, group_size=48)
    with pytest.raises(ValueError, match="takes no group size"):
        Quantise(type=IntType.INT8, group_size=64)
    with pytest.raises(ValueError, match="share is 1"):
        PruneLayers(share=1.0)
