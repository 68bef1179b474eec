"""Repeatable randomness: an independent generator for each seed, subject and chunk."""

import zlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]


def make_rng(seed: int, subject: str, *keys: int) -> np.random.Generator:
    """Return a generator of its own for every chunk: what one chunk draws never depends on how much another drew."""
    return np.random.default_rng([seed, zlib.crc32(subject.encode()), *keys])


def draw_weighted(rng: np.random.Generator, percents: list[int], size: int) -> Ints:
    """Draw positions in `percents`, each with its percentage as the probability."""
    return np.searchsorted(np.cumsum(percents), rng.integers(0, sum(percents), size), side="right").astype(np.int64)


def draw_flags(rng: np.random.Generator, percent: int, size: int) -> Flags:
    """Draw booleans that are true in `percent` of the cases."""
    return rng.integers(0, 100, size) < percent


def pick(texts: list[str], positions: Ints) -> list[str]:
    """Return the text at each position."""
    return [texts[position] for position in positions.tolist()]
