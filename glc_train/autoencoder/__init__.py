"""Picture ⇄ latent: the generative VQ-VAE and the discriminator it is trained against."""

from glc_train.autoencoder.discriminator import DiscriminatorNorm, PatchDiscriminator
from glc_train.autoencoder.networks import Decoder, Encoder
from glc_train.autoencoder.vqvae import VQVAE, VQVAEOutput

__all__ = ["VQVAE", "Decoder", "DiscriminatorNorm", "Encoder", "PatchDiscriminator", "VQVAEOutput"]
