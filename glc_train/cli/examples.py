"""What stands at the end of the help of each command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

EXAMPLES = {
    "glc": """
glc compress photo.png photo.glc
glc decompress photo.glc decoded.png
glc COMMAND --help
""",
    "glc compress": """
glc compress photo.png photo.glc --quality 0
glc compress photos/ coded/ --target-bpp 0.04 --jobs 4 --skip-existing
glc compress *.png more/*.jpg coded/
glc compress photo.png photo.glc --effort 5
glc compress photo.png photo.glc --json
glc compress clip.mp4 clip.glcv
""",
    "glc decompress": """
glc decompress photo.glc decoded.png
glc decompress coded/ decoded/ --jobs 4
glc decompress clip.glcv clip.mp4 --start 96
glc compress clip.mp4 - | glc decompress - frames/
""",
    "glc info": """
glc info photo.glc clip.glcv
glc info coded/*.glc --json
glc info outputs/run/weights.safetensors
""",
    "glc fetch-weights": """
glc fetch-weights
""",
    "glc compare": """
glc compare photo.png --quality 1
glc compare photo.png --bytes 2000 --codecs avif,webp --out sheet.png
""",
    "glc demo": """
glc demo
glc demo --port 8000 --max-seconds 30
""",
    "glc export": """
glc export decoder decoder.onnx
glc export encoder encoder.pt2 --weights outputs/run/weights.safetensors
""",
    "glc plot": """
glc plot outputs/evaluation/kodak/* --metric dists --published
""",
    "glc report": """
glc report outputs/evaluation/kodak/RUN
glc report RUN OTHER_RUN --out both.html
""",
    "glc data": """
glc data list
glc data prepare kodak --root data
""",
    "glc data prepare": """
glc data prepare kodak --root data
glc data prepare uvg --root data --from ~/Downloads/uvg
""",
    "glc data verify": """
glc data verify data/kodak
""",
    "glc data list": """
glc data list
""",
    "glc data shard": """
glc data shard photos/ shards/ --short-side 512 --format webp
glc data shard clips/ shards/ --clips
""",
    "glc data index": """
glc data index shards/
glc data index 's3://bucket/{000..127}.tar' --out index.safetensors --storage anon=true
""",
    "glc weights": """
glc weights list
glc weights add outputs/run/weights.safetensors --name mine
""",
    "glc weights list": """
glc weights list --json
""",
    "glc weights add": """
glc weights add outputs/run/weights.safetensors --name mine
glc compress photo.png photo.glc --weights mine
""",
    "glc weights where": """
glc weights where
glc weights where glc_image_small
""",
    "glc completion": """
glc completion bash > ~/.local/share/bash-completion/completions/glc
glc completion zsh > ~/.zfunc/_glc
""",
}


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Show those of each command below its options."""
    for each in parsers(parser):
        if each.prog in EXAMPLES:
            each.epilog = "examples:\n  " + EXAMPLES[each.prog].strip().replace("\n", "\n  ")
            each.formatter_class = argparse.RawDescriptionHelpFormatter
