"""The names that the published release gives its parameters, and ours for them."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

# Published name → ours, first match wins. `.block.` of the published blocks is dropped first.
PUBLISHED_NAMES: tuple[tuple[str, str], ...] = (
    (r"^vqgan\.generator\.", "autoencoder.decoder."),
    (r"^vqgan\.quantize\.", "autoencoder.quantiser."),
    (r"^vqgan\.encoder\.", "autoencoder.encoder."),
    (r"^q_enc$", "transform.analysis.gain"),
    (r"^q_dec$", "transform.decoder.synthesis.gain"),
    (r"^enc\.enc_1\.", "transform.analysis.first."),
    (r"^enc\.enc_2\.", "transform.analysis.second."),
    (r"^dec\.dec_1\.", "transform.decoder.synthesis.first."),
    (r"^dec\.dec_2\.", "transform.decoder.synthesis.second."),
    (r"^hyper_enc\.", "transform.hyper_analysis."),
    (r"^z_vq\.", "transform.z_quantiser."),
    (r"^hyper_dec\.([01])\.subpel_conv\.0\.", r"transform.decoder.hyper_synthesis.upsample.\1.main.0."),
    (r"^hyper_dec\.([01])\.upsample\.0\.", r"transform.decoder.hyper_synthesis.upsample.\1.skip.0."),
    (r"^hyper_dec\.([01])\.conv\.", r"transform.decoder.hyper_synthesis.upsample.\1.conv."),
    (r"^hyper_dec\.2\.", "transform.decoder.hyper_synthesis.refine."),
    (r"^y_prior_fusion\.", "transform.decoder.hyper_synthesis.fusion."),
    (r"^y_spatial_prior_reduction\.", "transform.decoder.context.reduction."),
    (r"^y_spatial_prior_adaptor_1\.", "transform.decoder.context.adaptors.0."),
    (r"^y_spatial_prior_adaptor_2\.", "transform.decoder.context.adaptors.1."),
    (r"^y_spatial_prior_adaptor_3\.", "transform.decoder.context.adaptors.2."),
    (r"^y_spatial_prior\.", "transform.decoder.context.shared."),
)
# Training heads of the published file; `predictor_state` gives them to the losses.
PUBLISHED_HEADS = ("code_pred_loss.", "code_pred_pix_loss.")
IMAGE_MARKER = "vqgan.quantize.embedding.weight"
# The same for the video model, whose file holds an auto-encoder of its own.
PUBLISHED_VIDEO_NAMES: tuple[tuple[str, str], ...] = (
    (r"^vqgan\.generator\.", "own_autoencoder.decoder."),
    (r"^vqgan\.quantize\.", "own_autoencoder.quantiser."),
    (r"^vqgan\.encoder\.", "own_autoencoder.encoder."),
    (r"^y_q_enc$", "transform.analysis.gain"),
    (r"^y_q_dec$", "transform.decoder.synthesis.gain"),
    (r"^encoder\.enc_1\.", "transform.analysis.first."),
    (r"^encoder\.enc_2\.", "transform.analysis.second."),
    (r"^decoder\.dec_1\.", "transform.decoder.synthesis.first."),
    (r"^decoder\.dec_2\.", "transform.decoder.synthesis.second."),
    (r"^feature_adaptor_I\.", "transform.decoder.context_model.intra_adaptor."),
    (r"^feature_adaptor\.", "transform.decoder.context_model.adaptors."),
    (r"^feature_extractor\.context_refine\.", "transform.decoder.context_model.refine."),
    (r"^weight_generator\.conv\.", "transform.decoder.weight_generator.layers."),
    (r"^temporal_prior_encoder\.", "transform.decoder.temporal_prior."),
    (r"^hyper_inv_tokenizer\.", "transform.decoder.inverse_tokenizer."),
    (r"^prior_fusion_adaptor_([01])\.conv1\.", r"transform.decoder.fusion.adaptors.\1.0."),
    (r"^prior_fusion_adaptor_([01])\.conv2\.", r"transform.decoder.fusion.adaptors.\1.1."),
    (r"^y_prior_fusion\.conv\.", "transform.decoder.fusion.fusion."),
    (r"^y_spatial_prior\.conv\.", "transform.decoder.spatial_context.layers."),
    (r"^temporal_cond\.", "transform.tokenizer.condition."),
    (r"^y_temporal_combine\.conv\.", "transform.tokenizer.combine."),
    (r"^hyper_tokenizer\.prior_extraction\.", "transform.tokenizer.extraction."),
    (r"^hyper_tokenizer\.proj\.", "transform.tokenizer.values."),
    (r"^hyper_tokenizer\.", "transform.tokenizer."),
    (r"^z_vq\.", "transform.z_quantiser."),
)
VIDEO_MARKER = "hyper_inv_tokenizer.proj.weight"


def rename_published(
    state: Mapping[str, Tensor], names: Sequence[tuple[str, str]] = PUBLISHED_NAMES
) -> dict[str, Tensor]:
    """Published state → our names, without the training heads. Unknown names stay and are reported as unexpected.

    `names`: `PUBLISHED_NAMES` for the image model, `PUBLISHED_VIDEO_NAMES` for the video model.
    """
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(PUBLISHED_HEADS):
            continue
        ours = name.replace(".block.", ".") if not name.startswith("vqgan.") else name
        for pattern, replacement in names:
            ours, count = re.subn(pattern, replacement, ours)
            if count:
                break
        renamed[ours] = tensor
    return renamed


def predictor_state(state: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """State of one published code predictor ("code_pred_loss" or "code_pred_pix_loss") for `losses.CodePredictor`."""
    return {name.removeprefix(head + "."): t for name, t in state.items() if name.startswith(head + ".")}
