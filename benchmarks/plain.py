"""The plain formulation of a training step, to measure ours against; used by the benchmarks alone.

float32 arithmetic and contiguous memory (see `step.py`), a codebook look-up by one-hot matrices as in VQGAN's code, and
the adaptive GAN weight by differentiating the losses as far as the decoder's last layer. The results are those of ours.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from glc_train.layers import Quantised, VectorQuantiser
from glc_train.losses import without_margin
from glc_train.training import AutoencoderStage, Draws, JointStage, Losses, PictureLoss, TransformStage
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


class _PlainGradient(Stage):
    """With `adversary.per_sample` an adaptive weight for each sample in a loop; else one for the batch, as in VQGAN."""

    picture: PictureLoss

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


class PlainAutoencoderStage(_PlainGradient, AutoencoderStage):
    """Stage I."""


class PlainTransformStage(_PlainGradient, TransformStage):
    """Stage II."""


class PlainJointStage(_PlainGradient, JointStage):
    """Stage III."""
