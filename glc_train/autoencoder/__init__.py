"""Picture ⇄ latent: the generative VQ-VAE and the discriminator it is trained against."""

from glc_train.autoencoder.bounded import check_room, run_decoder, run_encoder
from glc_train.autoencoder.discriminator import DiscriminatorNorm, PatchDiscriminator
from glc_train.autoencoder.footprint import Footprint, footprint
from glc_train.autoencoder.networks import Decoder, Encoder
from glc_train.autoencoder.vqvae import VQVAE, VQVAEOutput

__all__ = [
    "VQVAE",
    "Decoder",
    "DiscriminatorNorm",
    "Encoder",
    "Footprint",
    "PatchDiscriminator",
    "VQVAEOutput",
    "check_room",
    "footprint",
    "run_decoder",
    "run_encoder",
]
