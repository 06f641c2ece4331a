"""The plain formulation of a training step, to measure ours against; used by the benchmarks alone.

What one gets by putting together what the authors of the parts publish: see README.md in this folder, and `step.py` for
arithmetic and memory format. The results are those of ours.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from glc_train.backbones import find_backbone, load_lpips
from glc_train.layers import Quantised, VectorQuantiser
from glc_train.losses import style_loss, without_margin
from glc_train.losses.perceptual import on_device_of
from glc_train.precision import choose
from glc_train.training import AutoencoderStage, Draws, JointStage, Losses, PictureLoss, TransformStage
from glc_train.training.muon import Muon
from glc_train.training.stage import Stage


class PlainQuantiser(VectorQuantiser):
    """The whole matrix of squared distances, a one-hot matrix, and its product with the codebook."""

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Indices (B, h, w) int64 of the code vectors nearest to x (B, C, h, w)."""
        flat = rearrange(x, "b c h w -> (b h w) c")
        codebook = self.embedding.weight
        distance = flat.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * flat @ codebook.t()
        return rearrange(distance.argmin(1), "(b h w) -> b h w", b=x.shape[0], h=x.shape[2])

    def forward(self, x: Tensor) -> Quantised:
        """Quantises x (B, C, h, w)."""
        indices = self.nearest(x)
        one_hot = torch.zeros(indices.numel(), self.codes, device=x.device)
        one_hot.scatter_(1, indices.reshape(-1, 1), 1.0)
        flat = one_hot @ self.embedding.weight
        vectors = rearrange(flat, "(b h w) c -> b c h w", b=x.shape[0], h=x.shape[2])
        return Quantised(vectors, x + (vectors - x).detach(), indices)


def with_plain_quantisers(module: nn.Module) -> None:
    """Replaces every `VectorQuantiser` inside; values stay."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is VectorQuantiser:
                plain = PlainQuantiser(child.codes, child.embedding.embedding_dim)
                plain.load_state_dict(child.state_dict())
                setattr(parent, name, plain)


class PlainPerceptualLoss:
    """LPIPS by the module of its authors' package, and style by a pass of its own through torchvision's VGG16."""

    _COMPARED = (3, 8, 15, 22, 29)  # the activations whose style is compared

    def __init__(self, net: Literal["alex", "vgg"]) -> None:
        self.lpips = load_lpips(net)
        self.network = nn.ModuleList([self.lpips])
        self.features = _vgg16() if net == "vgg" else None
        if self.features is not None:
            self.network.append(self.features)

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """As of `PerceptualLoss`."""
        on_device_of(x, self.network)
        distance: Tensor = self.lpips(x_hat, x).mean()
        return distance

    def with_style(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """As of `PerceptualLoss`."""
        on_device_of(x, self.network)
        with torch.no_grad():
            of_x = self._activations(x)
        pairs = zip(self._activations(x_hat), of_x, strict=True)
        return self(x_hat, x), torch.stack([style_loss(*pair) for pair in pairs]).mean()

    def _activations(self, x: Tensor) -> list[Tensor]:
        assert self.features is not None
        x, found = self.lpips.get_submodule("scaling_layer")(x), []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._COMPARED:
                found.append(x)
        return found


def _vgg16() -> nn.Sequential:
    import torchvision

    with torch.device("meta"):
        layers = torchvision.models.vgg16().features[:30]
    trunk = {name.removeprefix("features."): value for name, value in find_backbone("vgg16")[0].items()}
    layers.load_state_dict(trunk, assign=True)
    return layers.requires_grad_(False).eval()


class PlainPictureLoss(PictureLoss):
    """`PictureLoss` by other people's networks."""

    perceptual = PlainPerceptualLoss


class PlainMuon(torch.optim.Optimizer):
    """Muon matrix by matrix: all of Newton-Schulz's iterations on the whole matrix."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"])
                update = _orthogonalised(update.reshape(len(update), -1))
                scale = 0.2 * max(update.shape) ** 0.5
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * scale)


def _orthogonalised(matrix: Tensor) -> Tensor:
    x = matrix.to(choose(matrix.device).dtype)
    tall = len(x) > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.norm() + 1e-12)
    for _ in range(5):
        gram = x @ x.t()
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.t() if tall else x).to(matrix.dtype)


class _PlainGradient(Stage):
    """With `adversary.per_sample` an adaptive weight for each sample in a loop; else one for the batch, as in VQGAN."""

    picture: PictureLoss

    def configure_optimizers(self) -> Any:
        """Optimisers that go parameter by parameter."""
        ours: Any = super().configure_optimizers()
        return [PlainMuon(o.param_groups, o.defaults["lr"]) if isinstance(o, Muon) else _adamw(o) for o in ours]

    def _generator_backward(self, losses: Losses, step: int, share: float) -> tuple[dict[str, Tensor], None]:
        total = torch.stack([part for part in (losses.picture, losses.other) if part is not None]).sum()
        terms = {"loss": total.detach()}
        if losses.picture is None or self.adversary is None or not self.adversary.seen_by_generator(step):
            self.manual_backward(share * total)
            return terms, None
        assert losses.x_hat is not None
        assert losses.x is not None
        self.adversary.discriminator.requires_grad_(False)
        if self.adversary.per_sample:
            pairs = zip(losses.x_hat.split(1), losses.x.split(1), strict=True)
            draws = Draws(self.settings.seed, step, self.global_rank, self.trainer.world_size)
            weight = torch.stack([self._weight(self.picture(x_hat, x, draws)[0], x_hat) for x_hat, x in pairs])
        else:
            weight = self._weight(losses.picture, losses.x_hat)[None]
        means = [logits.flatten(1).mean(1) for logits in self._logits(losses.x_hat)]
        adversarial = -(weight * torch.stack(means).mean(0)).mean()
        self.manual_backward(share * (total + self.adversary.weight * adversarial))
        self.adversary.discriminator.requires_grad_(True)
        return terms | {"loss/generator": adversarial.detach(), "adaptive_weight": weight.mean()}, None

    def _logits(self, x_hat: Tensor) -> list[Tensor]:
        assert self.adversary is not None
        logits = self.adversary.discriminator(without_margin(x_hat, self.adversary.margin))
        return logits if isinstance(logits, list) else [logits]

    def _weight(self, reconstruction: Tensor, x_hat: Tensor) -> Tensor:
        assert self.adversary is not None
        last_layer = self.codec.autoencoder.decoder.last_layer
        adversarial = -torch.stack([logits.mean() for logits in self._logits(x_hat)]).mean()
        norms = [
            torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)
        ]
        return (norms[0] / (norms[1] + 1e-6)).clamp(0.0, self.adversary.clamp).detach()


def _adamw(optimiser: torch.optim.Optimizer) -> torch.optim.AdamW:
    kept = {name: optimiser.defaults[name] for name in ("lr", "betas", "weight_decay")}
    return torch.optim.AdamW([p for group in optimiser.param_groups for p in group["params"]], **kept)


class PlainAutoencoderStage(_PlainGradient, AutoencoderStage):
    """Stage I."""


class PlainTransformStage(_PlainGradient, TransformStage):
    """Stage II."""

    def encode(self, x: Tensor) -> Tensor:
        """By the layers as training computes them: with gradients enabled, though nothing here has one."""
        latent: Tensor = self.codec.autoencoder.encoder(x)
        return latent


class PlainJointStage(_PlainGradient, JointStage):
    """Stage III."""
