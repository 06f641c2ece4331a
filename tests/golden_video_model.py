"""The video model with the parameters of the golden figures; see `tests.golden_model`."""

from torch import Tensor, nn

from glc_train.autoencoder import VQVAE
from glc_train.codecs import ImageCodec, VideoCodec
from glc_train.transform import ImageTransform, VideoTransform
from glc_train.weights import PUBLISHED_VIDEO_NAMES, load_published_video, load_strictly, rename_published
from tests.golden_model import golden_parameter, golden_state, published_name

QUALITY = 21
FRAMES = 3

# Our module → its published name, longest first; written independently of the table in `glc_train.weights`.
PUBLISHED_VIDEO = {
    "transform.decoder.context_model.intra_adaptor": "feature_adaptor_I",
    "transform.decoder.context_model.adaptors": "feature_adaptor",
    "transform.decoder.context_model.refine": "feature_extractor.context_refine",
    "transform.decoder.weight_generator.layers": "weight_generator.conv",
    "transform.decoder.inverse_tokenizer": "hyper_inv_tokenizer",
    "transform.decoder.temporal_prior": "temporal_prior_encoder",
    "transform.decoder.fusion.adaptors.0.0": "prior_fusion_adaptor_0.conv1",
    "transform.decoder.fusion.adaptors.0.1": "prior_fusion_adaptor_0.conv2",
    "transform.decoder.fusion.adaptors.1.0": "prior_fusion_adaptor_1.conv1",
    "transform.decoder.fusion.adaptors.1.1": "prior_fusion_adaptor_1.conv2",
    "transform.decoder.fusion.fusion": "y_prior_fusion.conv",
    "transform.decoder.spatial_context.layers": "y_spatial_prior.conv",
    "transform.decoder.synthesis.first": "decoder.dec_1",
    "transform.decoder.synthesis.second": "decoder.dec_2",
    "transform.decoder.synthesis.gain": "y_q_dec",
    "transform.analysis.first": "encoder.enc_1",
    "transform.analysis.second": "encoder.enc_2",
    "transform.analysis.gain": "y_q_enc",
    "transform.tokenizer.condition": "temporal_cond",
    "transform.tokenizer.combine": "y_temporal_combine.conv",
    "transform.tokenizer.extraction": "hyper_tokenizer.prior_extraction",
    "transform.tokenizer.enhancement": "hyper_tokenizer.enhancement",
    "transform.tokenizer.values": "hyper_tokenizer.proj",
    "transform.tokenizer.out_proj": "hyper_tokenizer.out_proj",
    "transform.z_quantiser": "z_vq",
    "own_autoencoder.decoder": "vqgan.generator",
    "own_autoencoder.quantiser": "vqgan.quantize",
    "own_autoencoder.encoder": "vqgan.encoder",
}


def published_video_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Published name → shape, of all parameters of a codec but its image codec's."""
    return {
        published_name(module, name, PUBLISHED_VIDEO): tuple(parameter.shape)
        for name, parameter in module.named_parameters()
        if not name.startswith("image.")
    }


def golden_video_state(module: nn.Module) -> dict[str, Tensor]:
    """The golden parameters of the video model under their published names."""
    return {name: golden_parameter(name, shape) for name, shape in published_video_shapes(module).items()}


def golden_video_transform() -> VideoTransform:
    """The base transform with the golden parameters."""
    holder = nn.ModuleDict({"transform": VideoTransform()})
    state = rename_published(golden_video_state(holder), PUBLISHED_VIDEO_NAMES)
    load_strictly(holder, state, "golden video transform", ["transform.z_counts"])
    transform = holder["transform"].eval()
    assert isinstance(transform, VideoTransform)
    return transform


def golden_video_codec() -> VideoCodec:
    """The pair of base models with the golden parameters."""
    image = ImageCodec(VQVAE(), ImageTransform())
    load_strictly(image, rename_published(golden_state(image, {})), "golden image", ["transform.z_counts"])
    codec = VideoCodec(image, VideoTransform(), VQVAE())
    load_published_video(codec, golden_video_state(codec), "golden video")
    return codec.eval()
