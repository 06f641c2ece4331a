"""The public data sets that can be prepared: where they are, what they must hold, and where their files go.

Addresses and checksums are those that others have published; a set whose address is not public has none here.
"""

from __future__ import annotations

from dataclasses import dataclass

from glc_train.datasets.errors import DataSetError

_CLIC = "https://data.vision.ee.ethz.ch/cvl/clic"
_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
_OPEN_IMAGES = "https://storage.googleapis.com/openimages/2018_04/train/train-images-boxable-with-rotation.csv"
_UVG = ("Beauty", "Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide")
_OWNERS_PAGE = "see the owner's page"


@dataclass(frozen=True)
class Source:
    """One part of a set: where it is, and what it must come to.

    Attributes:
        split: that its files belong to.
        urls: archives, or the files themselves; none: it is the user's to get.
        place: folder of its files in that of the set; empty: it is called as the split.
        count: samples that it holds; `None` if that is not known.
        size, sha256: of the only file in `urls`, if known.
    """

    split: str
    urls: tuple[str, ...] = ()
    place: str = ""
    count: int | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class RawVideo:
    """Raw 8-bit 4:2:0 sequences, whose files are called as in `Cactus_1920x1080_50.yuv`.

    Attributes:
        names: how the files' names begin, each once.
        width, height: in pixels.
    """

    names: tuple[str, ...]
    width: int
    height: int


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes:
        name: as in `glc data prepare NAME`.
        about: what it is, in a line.
        version, licence: as recorded in the manifest.
        sources: its parts.
        owner: from whom to get what has no public address.
        suffixes: of its files, in lower case; others are left where they are.
        depth: parts of a file's path that are kept; 1 is its name alone.
        frames: whether a folder of files is one sample, a clip of `frames` files; 0: each file is a sample.
        video: what its raw sequences are; `None`: there are none.
        lists: of clips, one a line: the split that each stands for, and its name; clips in none are "rest".
        numbered: whether files are called by numbers, of which the first source has the first, and so on.
        drawn: samples that are drawn unless another number is asked for; `None`: the set is taken whole.
        growth: disk space that unpacked files take, in sizes of what is downloaded.
        mean_size: of a file that is downloaded by itself, in bytes, where they are too many to ask for.
        listing: address of a CSV table whose column ImageID names its pictures, of which there are `listed`.
        sha1: of all its files, one after the other in the order of their names.
        md5: name of a JSON file that may lie beside the files and has the MD5 of each, as that of FFHQ.
    """

    name: str
    about: str
    version: str
    licence: str
    sources: tuple[Source, ...]
    owner: str = ""
    suffixes: tuple[str, ...] = (".png",)
    depth: int = 1
    frames: int = 0
    video: RawVideo | None = None
    lists: tuple[tuple[str, str], ...] = ()
    numbered: bool = False
    drawn: int | None = None
    growth: float = 1.1
    mean_size: int = 0
    listing: str | None = None
    listed: int | None = None
    sha1: str | None = None
    md5: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(dict.fromkeys(source.split for source in self.sources))

    def count(self, split: str) -> int | None:
        """Samples in a split; `None` if that is not known, or the set is drawn."""
        counts = [source.count for source in self.sources if source.split == split]
        return None if self.drawn is not None or None in counts else sum(count or 0 for count in counts)


def _hevc(letter: str, width: int, height: int, *names: str) -> DataSet:
    return DataSet(
        f"hevc_{letter}",
        f"HEVC test sequences, class {letter.upper()}: {len(names)} clips, {width}×{height}",
        "common test conditions",
        _OWNERS_PAGE,
        (Source("test", count=len(names)),),
        owner="JCT-VC, by account (hevc.hhi.fraunhofer.de): raw .yuv files",
        suffixes=(".yuv", ".y4m"),
        video=RawVideo(names, width, height),
    )


_ALL = (
    DataSet(
        "kodak",
        "24 photographs, 768×512",
        "PhotoCD PCD0992",
        "released by Kodak for unrestricted use",
        (Source("test", tuple(f"http://r0k.us/graphics/kodak/kodak/kodim{k:02}.png" for k in range(1, 25)), count=24),),
        sha1="076e2a5fd4515b5fda677f15fe63dd112d266bc5",
    ),
    DataSet(
        "clic2020",
        "CLIC 2020: test of 428 photographs (250 professional, 178 mobile), train, valid",
        "2020",
        _OWNERS_PAGE,
        (
            Source(
                "test",
                (f"{_CLIC}/test/CLIC2020Professional_test.zip",),
                "test/professional",
                250,
                891_643_809,
                "857df244fc2bfa5da28d4c66bf0db16ee99bfc79eb807be8afa89cd507852884",
            ),
            Source(
                "test",
                (f"{_CLIC}/test/CLIC2020Mobile_test.zip",),
                "test/mobile",
                178,
                721_789_976,
                "2025f07a6c652270e534640de4271feef3b3dd3260beed4ac4821064837aa732",
            ),
            Source("train", (f"{_CLIC}/professional_train_2020.zip",), "train/professional", 585),
            Source("train", (f"{_CLIC}/mobile_train_2020.zip",), "train/mobile"),
            Source("valid", (f"{_CLIC}/professional_valid_2020.zip",), "valid/professional", 41),
            Source("valid", (f"{_CLIC}/mobile_valid_2020.zip",), "valid/mobile"),
        ),
    ),
    DataSet(
        "div2k",
        "DIV2K, high resolution: 800 photographs to train, 100 to validate",
        "NTIRE 2017",
        _OWNERS_PAGE,
        (
            Source("train", (f"{_DIV2K}/DIV2K_train_HR.zip",), count=800),
            Source(
                "valid",
                (f"{_DIV2K}/DIV2K_valid_HR.zip",),
                count=100,
                sha256="20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
            ),
        ),
    ),
    DataSet(
        "flickr2k",
        "Flickr2K: 2,650 photographs",
        "EDSR",
        _OWNERS_PAGE,
        (Source("train", ("https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",), count=2650),),
    ),
    DataSet(
        "openimages",
        "Open Images: a sample of 300,000 photographs (--count) of the 1,743,042 with boxes",
        "V4 to V7, train",
        "pictures CC BY 2.0, annotations CC BY 4.0",
        (Source("train", ("https://open-images-dataset.s3.amazonaws.com/train/{}.jpg",)),),
        suffixes=(".jpg",),
        drawn=300_000,
        mean_size=300_000,
        listing=_OPEN_IMAGES,
        listed=1_743_042,
    ),
    DataSet(
        "imagenet",
        "ImageNet: 1,281,167 photographs to train, in folders of classes",
        "ILSVRC 2012",
        _OWNERS_PAGE,
        (Source("train", count=1_281_167),),
        owner="image-net.org, by account: the training pictures of ILSVRC 2012 (unpack the outer archive)",
        suffixes=(".jpeg",),
        depth=2,
    ),
    DataSet(
        "lsdir",
        "LSDIR: 84,991 photographs to train",
        "2023",
        _OWNERS_PAGE,
        (Source("train", count=84_991),),
        owner="the authors of LSDIR, by account: the high-resolution training pictures",
    ),
    DataSet(
        "vimeo90k",
        "Vimeo-90k septuplets: 91,701 clips of seven frames, 448×256",
        "septuplet",
        _OWNERS_PAGE,
        (Source("train", ("http://data.csail.mit.edu/tofu/dataset/vimeo_septuplet.zip",), "sequences", 91_701),),
        suffixes=(".png",),
        depth=3,
        frames=7,
        lists=(("train", "sep_trainlist.txt"), ("test", "sep_testlist.txt")),
    ),
    DataSet(
        "uvg",
        "UVG: 7 clips, 1920×1080 at 120 frames a second",
        "8 bits, 4:2:0",
        _OWNERS_PAGE,
        (
            Source(
                "test",
                tuple(f"https://ultravideo.fi/video/{name}_1920x1080_120fps_420_8bit_YUV_RAW.7z" for name in _UVG),
                count=7,
            ),
        ),
        suffixes=(".yuv",),
        video=RawVideo(_UVG, 1920, 1080),
        growth=3.0,
    ),
    DataSet(
        "mcl_jcv",
        "MCL-JCV: 30 clips, 1920×1080",
        "2016",
        _OWNERS_PAGE,
        (Source("test", count=30),),
        owner="the Media Communications Lab of USC, by form: the 30 raw source sequences",
        suffixes=(".yuv", ".y4m"),
        video=RawVideo(tuple(f"videoSRC{k:02}" for k in range(1, 31)), 1920, 1080),
    ),
    _hevc("b", 1920, 1080, "BasketballDrive", "BQTerrace", "Cactus", "Kimono", "ParkScene"),
    _hevc("c", 832, 480, "BasketballDrill", "BQMall", "PartyScene", "RaceHorses"),
    _hevc("d", 416, 240, "BasketballPass", "BlowingBubbles", "BQSquare", "RaceHorses"),
    _hevc("e", 1280, 720, "FourPeople", "Johnny", "KristenAndSara"),
    DataSet(
        "ffhq",
        "FFHQ: 70,000 faces, 1024×1024: the first 60,000 to train, 10,000 to test",
        "v2",
        "CC BY-NC-SA 4.0",
        (Source("train", count=60_000), Source("test", count=10_000)),
        owner="NVIDIA (github.com/NVlabs/ffhq-dataset): images1024x1024, with ffhq-dataset-v2.json beside it",
        numbered=True,
        md5="ffhq-dataset-v2.json",
    ),
    DataSet(
        "celeba_hq",
        "CelebA-HQ: 30,000 faces, 1024×1024",
        "1024×1024",
        _OWNERS_PAGE,
        (Source("all", count=30_000),),
        owner="the authors of CelebA-HQ: the 30,000 pictures of 1024×1024",
        suffixes=(".png", ".jpg"),
    ),
    DataSet(
        "coco30k",
        "30,000 photographs drawn from COCO 2014 val",
        "2014 val",
        "annotations CC BY 4.0; pictures under the terms of Flickr, each its own",
        (Source("test", ("http://images.cocodataset.org/zips/val2014.zip",)),),
        suffixes=(".jpg",),
        drawn=30_000,
    ),
)

SETS: dict[str, DataSet] = {each.name: each for each in _ALL}


def find_set(name: str) -> DataSet:
    """The data set of that name. Raises: DataSetError if there is none."""
    if name not in SETS:
        raise DataSetError(f"There is no data set called {name}: choose one of {', '.join(SETS)}.")
    return SETS[name]
