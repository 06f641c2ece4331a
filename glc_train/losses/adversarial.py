"""The discriminator's side of training: hinge losses and the adaptive weight of VQGAN."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.autoencoder import DiscriminatorNorm, PatchDiscriminator


def without_margin(x: Tensor, margin: int) -> Tensor:
    """Pictures (B, C, H, W) without their outer `margin` rows and columns.

    A decoder knows the borders and corners by its padding, and may put there, in every picture alike, what sways a loss
    that takes statistics over the whole picture; one that does not see them gives it no cause to.

    Raises:
        ValueError: nothing would be left.
    """
    if margin < 0 or 2 * margin >= min(x.shape[-2:]):
        raise ValueError(f"a margin of {margin} leaves nothing of pictures of {x.shape[-2]}x{x.shape[-1]} pixels")
    return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin]


@dataclass(frozen=True)
class GeneratorGradient:
    """What the generator gets through its picture.

    Attributes:
        gradient: (B, 3, H, W), to be sent back from x_hat.
        loss: scalar generator loss.
        weight: scalar adaptive weight (the mean of the pictures' own).
        seen: what the discriminator judged, for `Adversary.discriminator_loss`.
    """

    gradient: Tensor
    loss: Tensor
    weight: Tensor
    seen: list[Tensor]


class Adversary(nn.Module):
    """A discriminator with hinge loss (GLC, CVPR 2024, stage I and III; weights as in VQGAN).

    Args:
        channels, layers, norm: of the `PatchDiscriminator`.
        discriminator: instead of it, such as a `ProjectedDiscriminator`: pictures (B, 3, H, W) → logits of any shape,
            or a list of them that count alike. One that is frozen as far as its method `project`, pictures → a list of
            tensors, and has a method `judge`, that list → logits, projects a reconstruction once a step.
        weight: generator weight, multiplied by the adaptive weight.
        start: training step at which the generator begins to see the discriminator.
        warmup: steps that the discriminator learns before `start`.
        clamp: upper bound of the adaptive weight.
        per_sample: one adaptive weight per picture instead of one per batch.
        lr: learning rate of the discriminator.
        margin: the discriminator sees every picture `without_margin` of this many pixels.
    """

    def __init__(
        self,
        channels: int = 64,
        layers: int = 4,
        weight: float = 0.8,
        start: int = 0,
        warmup: int = 0,
        clamp: float = 1.0,
        lr: float = 1e-4,
        per_sample: bool = False,
        norm: DiscriminatorNorm = "group",
        margin: int = 0,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator or PatchDiscriminator(channels, layers, norm)
        self.weight = weight
        self.start = start
        self.warmup = warmup
        self.clamp = clamp
        self.per_sample = per_sample
        self.lr = lr
        self.margin = margin

    def learns(self, step: int) -> bool:
        """Whether the discriminator trains at this step."""
        return step >= self.start - self.warmup

    def seen_by_generator(self, step: int) -> bool:
        """Whether the generator gets the discriminator's gradient at this step."""
        return step >= self.start

    def generator_gradient(
        self,
        x_hat: Tensor,
        reconstruction: Tensor,
        last_layer: Tensor,
        average: Callable[[Tensor], Tensor] = lambda gradient: gradient,
    ) -> GeneratorGradient:
        """Adds the adversarial gradient, balanced at the decoder's last layer.

        The adaptive weight is ‖∇(reconstruction)‖ / ‖∇(adversarial)‖ at `last_layer` (Esser et al. 2021, equation 7).
        Both gradients are taken at x_hat first, so only the last layer is passed again, never the whole network.

        Args:
            x_hat: (B, 3, H, W), part of the graph.
            reconstruction: (B, 3, H, W), gradient of the other losses with respect to x_hat.
            last_layer: weight of the decoder's last convolution.
            average: mean of a gradient over all processes, so that the weight is that of the whole batch.
        """
        trained = [parameter for parameter in self.discriminator.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        leaf = x_hat.detach().requires_grad_()
        seen = self._project(leaf)
        loss = -_mean(self._judge(seen))
        (adversarial,) = torch.autograd.grad(loss, leaf)
        for parameter in trained:
            parameter.requires_grad_(True)
        if self.per_sample:
            norms = [self._norms_per_sample(x_hat, g, last_layer) for g in (reconstruction, adversarial)]
        else:
            norms = [average(_at(last_layer, x_hat, g)).norm() for g in (reconstruction, adversarial)]
        adaptive = (norms[0] / (norms[1] + 1e-6)).clamp(0.0, self.clamp)
        weight = self.weight * adaptive.view(-1, 1, 1, 1)
        gradient = reconstruction + weight * adversarial
        return GeneratorGradient(gradient, loss.detach(), adaptive.mean(), [each.detach() for each in seen])

    @staticmethod
    def _norms_per_sample(x_hat: Tensor, gradient: Tensor, last_layer: Tensor) -> Tensor:
        """Norm (B,) of each picture's gradient at the last layer: B passes, each through that layer alone."""
        norms = []
        for i in range(len(x_hat)):
            alone = torch.zeros_like(gradient)
            alone[i] = gradient[i]
            norms.append(_at(last_layer, x_hat, alone).norm())
        return torch.stack(norms)

    def discriminator_loss(self, x: Tensor, x_hat: Tensor, seen: list[Tensor] | None = None) -> Tensor:
        """Scalar hinge loss on originals x and reconstructions x_hat, both (B, 3, H, W).

        Args:
            x, x_hat: the pictures.
            seen: of the `GeneratorGradient` of x_hat, where there is one.
        """
        real, fake = self._judge(self._project(x)), self._judge(seen or self._project(x_hat.detach()))
        return 0.5 * (_mean([F.relu(1 - logits) for logits in real]) + _mean([F.relu(1 + logits) for logits in fake]))

    def _project(self, x: Tensor) -> list[Tensor]:
        """What does not learn: of pictures (B, 3, H, W), they without their margin or maps of frozen features."""
        x = without_margin(x, self.margin)
        project: Callable[[Tensor], list[Tensor]] | None = getattr(self.discriminator, "project", None)
        return [x] if project is None else project(x)

    def _judge(self, seen: list[Tensor]) -> list[Tensor]:
        """Logits, one or several maps, of what `_project` gives."""
        judge = getattr(self.discriminator, "judge", None)
        logits: Tensor | list[Tensor] = self.discriminator(*seen) if judge is None else judge(seen)
        return [each.float() for each in (logits if isinstance(logits, list) else [logits])]


def _mean(maps: list[Tensor]) -> Tensor:
    """Mean of the means."""
    return torch.stack([each.mean() for each in maps]).mean()


def _at(layer: Tensor, x_hat: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to `layer` of what has `gradient` with respect to x_hat."""
    (result,) = torch.autograd.grad(x_hat, layer, grad_outputs=gradient, retain_graph=True)
    return result.float()
