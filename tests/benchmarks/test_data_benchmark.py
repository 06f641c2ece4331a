"""The benchmark of loading: every loader gives crops, and the table has a line for each."""

import pytest

from benchmarks import data


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    data.main(["--pictures", "64", "--rounds", "1", "--workers", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0 workers: crops/s")
    assert [line.split()[0] for line in lines[1:]] == ["PIL", "WebDataset", "FolderCrops", "ShardCrops"]
    assert all(float(line.split()[-3]) > 0 for line in lines[1:])
