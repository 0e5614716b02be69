"""The memory that cleaning is projected to hold, a process by itself: file after file, some windows or blocks at once.

Shapes: R recorded channel, N sample.
"""

from glitchflow.analysis.clean.line import LOT, crops_together
from glitchflow.analysis.infer import KERNELS
from glitchflow.config import Clean, Source
from glitchflow.data.build import BASE_MEMORY
from glitchflow.data.memory import ENCODING, Memory, Shape
from glitchflow.errors import InputError
from glitchflow.methods.memory import ROBUST, scoring
from glitchflow.signal.recorded.frames import Piece, pieces
from glitchflow.signal.recorded.recording import RAW, STRETCH
from glitchflow.signal.recorded.samples import Samples, read_samples
from glitchflow.twin.estimate import PIECE
from glitchflow.twin.kind import Kind, working

BESIDE = 8  # numbers for each sample of a channel of a crop that waits, or is filtered, beside another
SEEN = 6  # copies of a channel's series, of windows that a method cleans in the process that reads them; measured
COPIES = 5  # of a file's strain: as read, cleaned, and what writing it makes of it
LINEAR = (
    "Python and libraries",
    "images fitted to",
    "what is read",
)  # of what is fitted, the linear method's part
PART = 2  # of each part of the estimate: as found, and as written
# numbers for each sample of the windows at work: complex tiles of all rows, masked, and their inverse
TILES = 24


def by_masks(shape: Shape, recorded: bool, longest: int) -> Memory:
    """Project what cleaning holds by masks of what a network of images generated.

    longest: samples of the strain's longest file; of synthetic events, of one.
    """
    kept = shape.read("series", 1) if shape.kept_samples else 0
    return _cleaning(
        longest,
        {
            "windows as recorded": kept + (STRETCH + 2 * RAW if recorded and not kept else 0),
            "predictions": 4 * ENCODING * shape.shard * shape.image,
            "windows at work": TILES * 8 * PIECE,
        },
    )


def by_series(shape: Shape, longest: int) -> Memory:
    """Project what cleaning simulated events holds by what a coherent network predicted."""
    predictions = 4 * ENCODING * shape.shard * shape.samples
    return _cleaning(longest, {"what is read": shape.read("series", 1), "predictions": predictions})


def by_method(shape: Shape, fitted: Memory, method: str, channels: int, longest: int) -> Memory:
    """Project what cleaning holds by a method of so many channels: while it is fitted, or then, a block of events at
    once, whichever is larger. fitted: while all methods are."""
    mine = {name: size for name, size in fitted.parts.items() if name != ROBUST or method == "wiener_robust"}
    parts = max(Memory(mine), scoring(shape, channels, 1, SEEN), key=lambda one: one.total).parts
    return _cleaning(longest, {name: size for name, size in parts.items() if size != BASE_MEMORY})


def judging(shape: Shape, fitted: Memory, channels: int) -> Memory:
    """Project what the verdict on a network holds, before anything is cleaned: the linear method as it is fitted, or
    then a block of events by both, whichever is larger. fitted: while all methods are."""
    linear = {name: size for name, size in fitted.parts.items() if name in LINEAR}
    return max(Memory(linear), scoring(shape, channels, 2, SEEN), key=lambda one: one.total)


def along(
    settings: Clean, kind: Kind, channels: int, times: tuple[float, int], longest: int, parts: int
) -> Memory:
    """Project what cleaning holds along the time line, by a coherent network of so many recorded channels.

    times: rate in Hz, and samples that the network sees at once. parts: of the estimate, which are written too.
    """
    rate, crop = times
    read, whole = round(LOT * settings.block * rate), 8 * channels * longest
    others = crops_together(kind, channels, crop) - 1
    return _cleaning(
        longest,
        {
            "torch's kernels": KERNELS,
            "parts of the estimate": parts * PART * 8 * longest,
            "the recording": min(STRETCH, whole) + 2 * min(RAW, whole),
            "blocks read together": 8 * channels * read,
            "a crop at work": working(kind, channels, crop),
            "crops beside it": others * 4 * crop * (kind.activations + BESIDE * channels),
        },
    )


def _cleaning(longest: int, parts: dict[str, int]) -> Memory:
    return Memory({"Python and libraries": BASE_MEMORY, "a file": COPIES * 8 * longest, **parts})


def longest_file(source: Source) -> int:
    """Count the samples of the longest file of a channel. Raises `InputError` where it cannot be read."""
    piece = max(pieces(source), key=lambda piece: piece.stop - piece.start)
    return round(_one_second(source, piece).rate * (piece.stop - piece.start))


def sampled(source: Source) -> tuple[float, int]:
    """Return the rate of a channel in Hz, and the bytes of a sample. Raises `InputError` where it cannot be read."""
    found = _one_second(source, pieces(source)[-1])
    return found.rate, found.values.dtype.itemsize


def _one_second(source: Source, piece: Piece) -> Samples:
    name = source.channel or source.name
    found = read_samples(piece.path, source.format, [name], piece.start, piece.start + 1)[name]
    if isinstance(found, str):
        raise InputError(f"ingest.channels {source.name}: {piece.path} cannot be read: {found}")
    return found
