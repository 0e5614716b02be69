"""The memory that fitting methods, and a task that scores them, are projected to hold.

Shapes: C channel (the strain first), W witness, F frequency, T time, N sample, K frequency of a filter.
"""

from glitchflow.data.build import BASE_MEMORY
from glitchflow.data.content import Content
from glitchflow.data.memory import Memory, Shape
from glitchflow.methods.images import FIT_PIXELS
from glitchflow.methods.method import EVENTS, TRIMMED_BYTES, fitted_window, read_at_once
from glitchflow.signal.wiener import ROOM

FIT_EVENTS = 4096  # events that image methods are fitted to at most; their likelihood is flat beyond
FIT_BYTES = 2**28  # of the witnesses' images at most: a hundred channels have fewer events to spare
BLOCK = 32  # events that methods see at once, at most
BLOCK_BYTES = 64 * 2**20  # of their images and series
IMAGES, SERIES = 6, 4  # of a method's that are held at once
FILTERED = 3  # copies of a witness's series: as read, in double precision, and of the block before
ROBUST = "segments of a robust filter, beyond them"
SPECTRA = 2  # of all witnesses with each other: a part of them while the next is made, a robust filter's or a mask's
FITTED = 4  # copies of the series that filters are fitted to: as read, in double precision, and their segments' spectra


def block_events(channels: int, image: int, samples: int) -> int:
    """Count the events that methods see at once, of so many channels, pixels and samples (0: there are no series)."""
    return min(BLOCK, max(1, BLOCK_BYTES // (channels * (4 * image + 8 * samples))))


def scoring(shape: Shape, channels: int, methods: int, copies: int = FILTERED) -> Memory:
    """Project what a task holds that scores so many methods, which see so many channels, the strain among them; copies:
    of a channel's series at once."""
    events = min(block_events(channels, shape.image, shape.kept_samples), shape.events)
    kept = shape.read("series", channels) if shape.kept_samples else 0
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "methods as fitted": 8 * channels * shape.kept_samples,
            "a shard's images": shape.read("qplot", channels),
            "its series": kept,
            "a block's images": 4 * events * shape.image * (channels + IMAGES * methods),
            "its series at work": 8 * events * shape.kept_samples * (copies * channels + SERIES * methods),
        }
    )


def fitting(
    shape: Shape, content: Content, channels: int, lengths: tuple[float, tuple[float, float]]
) -> Memory:
    """Project what the process holds that fits all methods to so many channels of a dataset that is made from this.

    lengths: s of a Wiener filter, and the band in Hz that is measured. Images, or where there are series what filters
    are fitted to, whichever is larger.
    """
    columns, witnesses, (segment, band) = content.qplot.shape[1], channels - 1, lengths
    train = int(shape.events * (1 - content.split.validation - content.split.test))
    most = FIT_BYTES // (4 * shape.image)
    strain, seen = min(most, FIT_EVENTS, train), min(most // channels, FIT_PIXELS // columns, train)
    rows = segment * (content.qplot.frange[1] - content.qplot.frange[0]) + 1
    sliding = content.source == "ingest" and content.ingest.times.end is not None
    window = fitted_window(content.series, content.qplot, segment, sliding)
    most_segments = int(min(train, EVENTS) * 16 * channels * 2 * window * (band[1] - band[0]))
    block = read_at_once(channels, content.series.samples)
    matrices = int(16 * witnesses**2 * rows)
    cross = SPECTRA * min(ROOM, matrices)
    # and of some frequencies at once a copy of those that are kept: it comes after the others, and is more or less
    robust = int(min(TRIMMED_BYTES, most_segments) * (1 + 1 / -(-matrices // ROOM)))
    filters = {
        "cross spectra": cross,
        ROBUST: max(0, robust - cross),
        "series at work": FITTED * 8 * block * channels * content.series.samples,
    }
    read = [shape.read("qplot", channels)]
    read += [shape.read("series", channels)] if shape.kept_samples else []
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "images fitted to": 4 * shape.image * (strain + seen * witnesses),
            "what is read": max(read),
            **(filters if shape.kept_samples else {"their sum": 3 * 8 * channels * seen * columns}),
        }
    )
