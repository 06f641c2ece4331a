import math

import torch

from glc_train.losses import CodePredictor


def small(grid: int = 4) -> CodePredictor:
    torch.manual_seed(0)
    return CodePredictor(latent_channels=6, codes=10, width=16, heads=2, mlp=24, layers=2, grid=grid)


def test_logits_are_in_raster_order() -> None:
    predictor, latent = small(), torch.randn(2, 6, 4, 4)
    torch.nn.init.normal_(predictor.position_emb)
    logits = predictor(latent)
    assert logits.shape == (2, 16, 10)
    # Pre-norm layers keep each position's own features: a change at one place moves its own logits the most.
    latent[0, :, 1, 2] += 5.0
    moved = (predictor(latent) - logits)[0].abs().sum(1)
    assert int(moved.argmax()) == 1 * 4 + 2


def test_other_sizes_interpolate_the_positions() -> None:
    predictor = small()
    torch.nn.init.normal_(predictor.position_emb)
    for height, width in ((4, 6), (2, 2), (7, 3)):
        assert predictor(torch.randn(1, 6, height, width)).shape == (1, height * width, 10)
    torch.nn.init.constant_(predictor.position_emb, 0.7)
    assert torch.allclose(predictor._position(5, 3), torch.full((15, 16), 0.7))


def test_the_value_gets_no_position() -> None:
    predictor, latent = small(), torch.randn(1, 6, 1, 1).expand(1, 6, 4, 4)
    torch.nn.init.normal_(predictor.position_emb)
    logits = predictor(latent)  # equal values, whatever the attention: equal results
    assert torch.allclose(logits, logits[:, :1].expand_as(logits), atol=1e-5)


def test_loss_and_share_of_right_predictions() -> None:
    predictor, latent = small(), torch.randn(2, 6, 4, 4)
    with torch.no_grad():
        predictor.get_parameter("idx_pred_layer.1.weight").zero_()
    loss, accuracy = predictor.loss(latent, torch.zeros(2, 4, 4, dtype=torch.int64))
    assert math.isclose(loss.item(), math.log(10), rel_tol=1e-5)
    assert float(accuracy) == 1.0  # ties go to index 0
    predictor = small()
    best = predictor(latent).argmax(-1).view(2, 4, 4)
    wrong = (best + 1) % 10
    assert float(predictor.loss(latent, best)[1]) == 1.0
    assert float(predictor.loss(latent, wrong)[1]) == 0.0
    assert predictor.loss(latent, best)[0].item() < predictor.loss(latent, wrong)[0].item()


def test_it_learns() -> None:
    predictor, latent = small(), torch.randn(4, 6, 4, 4)
    indices = latent[:, :1].argsort(dim=1)[:, 0] + (latent[:, 0] > 0).long()
    optimiser = torch.optim.Adam(predictor.parameters(), 3e-3)
    first = predictor.loss(latent, indices)[0].item()
    for _ in range(60):
        optimiser.zero_grad()
        loss, _ = predictor.loss(latent, indices)
        loss.backward()
        optimiser.step()
    assert predictor.loss(latent, indices)[0].item() < 0.3 * first
