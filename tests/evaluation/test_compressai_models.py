"""CompressAI's models as a codec, with the real package where it is installed; weights are random."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glc_train.evaluation import CompressAICodec, EvaluationError, EvaluationSettings, run_evaluation
from glc_train.evaluation.baselines.search import Single
from glc_train.media import write_picture
from glc_train.pickles import PickleError
from tests.evaluation.sections import metrics, pictures
from tests.metrics.rendered import render

ARCHITECTURES = ["bmshj2018-factorized", "mbt2018-mean", "cheng2020-anchor"]


@pytest.fixture
def registry() -> Any:
    pytest.importorskip("compressai", reason="CompressAI is not installed: pip install 'glc_train[compressai]'")
    import compressai.models
    import compressai.registry

    return compressai.registry


def saved(registry: Any, path: Path, architecture: str, seed: int = 0, **wrapped: Any) -> Path:
    """Weights of a small random model, bare or in a checkpoint."""
    torch.manual_seed(seed)
    channels = (8,) if architecture.startswith("cheng") else (8, 12)
    model = registry.MODELS[architecture](*channels)
    state = model.state_dict()
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, path)
    return path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(64, 128), (33, 70)])
def test_files_hold_all_and_decode_to_what_the_model_gives(
    tmp_path: Path, registry: Any, architecture: str, size: tuple[int, int]
) -> None:
    paths = [saved(registry, tmp_path / f"{seed}.pth", architecture, seed) for seed in range(2)]
    picture, codec = render(*size), CompressAICodec(architecture, [str(path) for path in paths])
    padded = np.pad(picture, [((-n % 64) // 2, -n % 64 - (-n % 64) // 2) for n in size] + [(0, 0)])
    x = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    for setting in codec.settings:
        data, encoded = codec.encode_at(Single(picture), setting)
        (frame,) = encoded.frames
        assert frame.bytes == len(data)
        model = registry.MODELS[architecture].from_state_dict(torch.load(paths[setting], weights_only=True))
        model.update(force=True)
        with torch.no_grad():
            made = model.eval().compress(x)
            x_hat = model.decompress(**made)["x_hat"]
        strings = [string for (string,) in made["strings"]]
        assert len(data) == 10 + 4 * (len(strings) - 1) + sum(map(len, strings))
        assert data.endswith(b"".join(strings))
        top, left = ((-n % 64) // 2 for n in size)
        expected = x_hat[0, :, top : top + size[0], left : left + size[1]].mul(255).round().clamp(0, 255).byte()
        assert np.array_equal(codec.decompress(data), expected.permute(1, 2, 0).numpy())


def test_it_is_evaluated_at_its_weights_and_named_in_the_results(tmp_path: Path, registry: Any) -> None:
    write_picture(tmp_path / "pictures/p.png", render(64, 96))
    weights = [str(saved(registry, tmp_path / f"{n}.pth", "mbt2018-mean", n, wrapped=True)) for n in range(2)]
    section = {
        "_target_": "glc_train.evaluation.CompressAICodec",
        "architecture": "mbt2018-mean",
        "weights": weights,
    }
    settings = EvaluationSettings(
        data=pictures(tmp_path / "pictures"),
        out=str(tmp_path / "out"),
        codec={"compressai": section},
        qualities=[0, 1],
        metrics=metrics("psnr"),
        device="cpu",
        progress=False,
    )
    results = run_evaluation(settings)[0].results
    sizes = [(tmp_path / f"out/files/q{q}/p.cai").stat().st_size for q in range(2)]
    assert [result.bytes for result in results] == sizes
    assert re.search(r"mbt2018-mean is of CompressAI .* q0 0.pth", (tmp_path / "out/results.json").read_text())


def test_other_weights_are_one_sentence(tmp_path: Path, registry: Any) -> None:
    path = saved(registry, tmp_path / "a.pth", "bmshj2018-factorized")
    with pytest.raises(EvaluationError, match=r"a\.pth holds no weights of CompressAI's mbt2018-mean: give others\.$"):
        CompressAICodec("mbt2018-mean", str(path))
    with pytest.raises(EvaluationError, match=r"^CompressAI has no architecture vtm: choose among bmshj2018-fac"):
        CompressAICodec("vtm", str(path))
    with pytest.raises(EvaluationError, match=r"b\.pth does not exist: give weights=\[FILE,\.\.\.\] of mbt2018-mean"):
        CompressAICodec("mbt2018-mean", str(tmp_path / "b.pth"))
    torch.save({"state_dict": {"a": print}}, path)
    with pytest.raises(PickleError, match=r"a\.pth is no weights file that can be read safely"):
        CompressAICodec("mbt2018-mean", str(path))


def test_what_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EvaluationError, match=r"^compressai needs architecture=NAME, as mbt2018-mean, and weights="):
        CompressAICodec(None, None)
    monkeypatch.setitem(sys.modules, "compressai.zoo", None)
    with pytest.raises(EvaluationError, match=r"needs the package compressai: .*'glc_train\[compressai\]'"):
        CompressAICodec("mbt2018-mean", "a.pth")
