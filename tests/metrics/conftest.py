from pathlib import Path

import pytest

from glc_train.backbones import BackboneError, find_backbone


@pytest.fixture(scope="session")
def backbone_folder(request: pytest.FixtureRequest) -> Path | None:
    """Folder of the ImageNet weights, ``None`` where a cache holds them; skips where this machine has none."""
    try:
        for net in ("alexnet", "vgg16"):
            find_backbone(net, download=False)
    except BackboneError:
        folder: Path = request.getfixturevalue("shared") / "weights"
        return folder
    return None
