"""Profiles and workloads of Pollux are read as they are written."""

from pathlib import Path

import pytest

from meted.live.pollux_profiles import read_profile, read_workload


def write(folder: Path) -> None:
    (folder / "placements.csv").write_text(
        "placement,local_bsz,step_time,sync_time\n24,8,0.5,0.1\n"
    )
    (folder / "scalability.csv").write_text(
        "num_nodes,num_replicas,local_bsz,step_time,sync_time\n6,12,16,0.9,0.3\n"
    )
    (folder / "validation-32.csv").write_text(
        "progress,iteration,metric,grad_sqr,grad_var\n7.5,7,0.1,2.0,3.0\n"
    )


def test_a_profile_has_its_steps_and_epochs(tmp_path: Path) -> None:
    write(tmp_path)
    profile = read_profile(tmp_path)
    assert [(one.placement, one.nodes, one.devices) for one in profile.steps] == [
        ((2, 4), 2, 6),
        ((), 6, 12),
    ]
    assert profile.ends == (7.5,)
    assert profile.epochs[32][0].noise.variance == 3.0
    assert (profile.least_local, profile.most_local) == (8, 8)


def test_a_wrong_line_of_a_workload_is_named(tmp_path: Path) -> None:
    path = tmp_path / "workload.csv"
    path.write_text("name,time,application,num_replicas,batch_size\na,1,bert,two,12\n")
    with pytest.raises(ValueError, match=r"workload\.csv line 2"):
        read_workload(path)


def test_a_folder_without_epochs_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="validation"):
        read_profile(tmp_path)
