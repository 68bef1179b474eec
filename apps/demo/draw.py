"""Chance that repeats: one independent stream of random numbers for each seed, subject and chunk."""

import zlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]


def stream(seed: int, subject: str, *place: int) -> np.random.Generator:
    """A stream of its own for every chunk: what one chunk draws never depends on how much another drew."""
    return np.random.default_rng([seed, zlib.crc32(subject.encode()), *place])


def weighted(rng: np.random.Generator, percents: list[int], size: int) -> Ints:
    """Positions in `percents`, each as often as its percent says."""
    return np.searchsorted(np.cumsum(percents), rng.integers(0, sum(percents), size), side="right").astype(np.int64)


def chosen(rng: np.random.Generator, percent: int, size: int) -> Flags:
    return rng.integers(0, 100, size) < percent


def pick(texts: list[str], positions: Ints) -> list[str]:
    return [texts[position] for position in positions.tolist()]
