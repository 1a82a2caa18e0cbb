"""Compares how fast a class folder is read: as a trial reads it, and by torchvision's ImageFolder in a DataLoader.

    python -m benchmarks.reading --images 512 --processes 2

Both decode the same JPEGs of 500 x 375 pixels, scale and crop them as CLIP does, and put them into one array. They take
turns within a round. A trial reads in threads, as many as torch may use; the DataLoader has as many processes. Times
are the clock's and the processor's, of children too; the latter say more where others use the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from advlora.config import DataConfig
from advlora.data import load_split
from advlora.models import Preprocessing

SIZE, CLASSES, BATCH = 224, 8, 64


def written(folder: Path, images: int) -> None:
    """Writes smooth noise, which compresses as photographs do (about 50 KB each)."""
    random = np.random.default_rng(0)
    for number in range(images):
        place = folder / "train" / f"class {number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (94, 125, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)
    (folder / "prompts.txt").write_text("a photo of a {}\n")


def ours(folder: Path) -> Tensor:
    """Reads the folder as a trial does that finds its files examined."""
    return load_split(DataConfig(name=str(folder), layout="folders"), "train", Preprocessing(SIZE)).images


def theirs(folder: Path, processes: int) -> Tensor:
    """Reads the folder by torchvision."""
    bicubic = v2.InterpolationMode.BICUBIC
    prepare = v2.Compose([v2.Resize(SIZE, bicubic), v2.CenterCrop(SIZE), v2.PILToTensor()])
    images = ImageFolder(str(folder / "train"), prepare)
    loader = DataLoader(images, batch_size=BATCH, num_workers=processes)
    found = torch.empty(len(images), 3, SIZE, SIZE, dtype=torch.uint8)
    for number, (batch, _) in enumerate(loader):
        found[number * BATCH : number * BATCH + len(batch)] = batch
    return found


@dataclass(frozen=True)
class Times:
    """Seconds that a reading took.

    Attributes:
        clock: By the clock.
        processor: Of all its processes.
    """

    clock: float
    processor: float


def timed(read: Callable[[], Tensor]) -> Times:
    """Measures a reading."""
    begin, before = time.perf_counter(), _processor()
    read()
    return Times(time.perf_counter() - begin, _processor() - before)


def _processor() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(folder: Path, processes: int, rounds: int) -> dict[str, list[Times]]:
    """Returns the times of both, which take turns; a round before the first is a warm-up."""
    torch.set_num_threads(processes)
    ways = {"advlora": lambda: ours(folder), "ImageFolder": lambda: theirs(folder, processes)}
    times: dict[str, list[Times]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, read in ways.items():
            spent = timed(read)
            times[name] += [spent] if number else []
    return times


def rows(times: dict[str, list[Times]], images: int) -> list[str]:
    """Returns the rows of a table: images per second by clock and processor, and the ratio within each round."""
    found = [
        f"| {name} | {images / median(each.clock for each in own):.0f} | "
        f"{images / median(each.processor for each in own):.0f} |"
        for name, own in times.items()
    ]
    pairs = list(zip(*times.values(), strict=True))
    ratios = [[getattr(them, what) / getattr(us, what) for us, them in pairs] for what in ("clock", "processor")]
    spread = (f"{median(each):.2f} ({min(each):.2f}-{max(each):.2f})" for each in ratios)
    return [*found, f"| ratio | {' | '.join(spread)} |"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["ADVLORA_CACHE"] = str(Path(place, "cache"))
        written(Path(place, "set"), options.images)
        times = compare(Path(place, "set"), options.processes, options.rounds)
    print(f"{options.processes} processes, images/s by the clock, and per second of processor time:")
    print("\n".join(rows(times, options.images)))


if __name__ == "__main__":
    main()
