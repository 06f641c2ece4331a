"""`glc data shard` and `glc data index`: folders to WebDataset shards, and indices of shards."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glc_train.cli.errors import CommandError

if TYPE_CHECKING:
    from glc_train.data import ShardIndex


def add_commands(commands: Any) -> None:
    """Add both to the commands of `glc data`."""
    shard = commands.add_parser(
        "shard", help="write the pictures or clips under a folder to WebDataset shards, with an index"
    )
    shard.add_argument("folder", type=Path, metavar="DIR", help="searched with its subfolders")
    shard.add_argument("out", type=Path, metavar="OUT", help="a new folder, or one that an interrupted call began")
    shard.add_argument("--clips", action="store_true", help="clips: as segments, or as frames if they have few")
    shard.add_argument("--segment", type=int, default=32, metavar="N", help="frames of a segment; default: 32")
    shard.add_argument("--short-side", type=int, metavar="N", help="reduce larger pictures to N pixels on this side")
    shard.add_argument("--format", choices=("jpeg", "png", "webp"), help="encode anew (webp: without loss)")
    shard.add_argument("--quality", type=int, default=95, metavar="Q", help="of JPEG, 1 to 100; default: 95")
    size = shard.add_mutually_exclusive_group()
    size.add_argument("--samples", type=int, metavar="N", help="of a shard")
    size.add_argument("--mb", type=float, default=256, metavar="M", help="of a shard, about; default: 256")
    shard.add_argument("--seed", type=int, default=0, metavar="S", help="of the order of the samples; default: 0")
    shard.set_defaults(does=f"{__name__}:_shard", extra="train")

    index = commands.add_parser("index", help="make the index of shards that others wrote, reading them once")
    index.add_argument(
        "shards", nargs="+", metavar="URL", help="a folder, shards, or patterns such as URL/{000..127}.tar"
    )
    index.add_argument("--out", type=Path, metavar="FILE", help="default: index.safetensors beside local shards")
    index.add_argument(
        "--storage", action="append", default=[], metavar="OPTION=VALUE",
        help="of the file system, such as anon=true or client_kwargs.endpoint_url=URL of s3; may be repeated",
    )  # fmt: skip
    index.set_defaults(does=f"{__name__}:_index", extra="train")
    for command in (shard, index):
        jobs = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        command.add_argument("--jobs", type=int, default=jobs, metavar="J", help="processes; default: all cores")


def _shard(args: argparse.Namespace) -> int:
    from glc_train.data import ClipEncoder, PictureEncoder, WrittenShard, write_shards

    left_out = 0

    def done(shard: WrittenShard) -> None:
        nonlocal left_out
        left_out += shard.left_out
        print(f"{shard.path}: {shard.samples} samples, {shard.size / 1e6:,.1f} MB ({shard.number + 1} of {shard.of})")
        for refusal in shard.refusals:
            print(f"glc: {refusal}", file=sys.stderr)

    if not 1 <= args.quality <= 100 or min(args.segment, 1 if args.short_side is None else args.short_side) < 1:
        raise CommandError("--quality lies between 1 and 100, --short-side and --segment are positive.")
    if args.clips and args.format:
        raise CommandError("--format: only of pictures; clips are H.264, and short ones keep their frames.")
    pictures = PictureEncoder(args.short_side, args.format, args.quality)
    encoder = ClipEncoder(args.short_side, args.segment) if args.clips else pictures
    index = write_shards(args.folder, args.out, encoder, args.samples, args.mb, args.seed, args.jobs, done)
    print(f"{_summary(index)}, {left_out} left out")
    return 1 if left_out else 0


def _index(args: argparse.Namespace) -> int:
    from glc_train.data import index_shards

    index = index_shards(args.shards, args.out, args.jobs, _storage_options(args.storage))
    print(_summary(index))
    return 0


def _summary(index: ShardIndex) -> str:
    counts = {"sample": len(index), "shard": len(index.urls)}
    return f"{index.url}: " + " in ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())


def _storage_options(given: list[str]) -> dict[str, object]:
    """As `data.train.reading.storage.OPTION=VALUE` are in a training."""
    from omegaconf import OmegaConf

    if wrong := [each for each in given if not each.partition("=")[0] or "=" not in each]:
        raise CommandError(f"--storage {wrong[0]}: give OPTION=VALUE, such as anon=true.")
    return cast(dict[str, object], OmegaConf.to_container(OmegaConf.from_dotlist(given)))
