"""How many inputs each test tries, and what they are made of."""

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

INPUTS = int(os.environ.get("INPUTS", "60"))
IS_LONG = "INPUTS" in os.environ
# Shrinking takes minutes; `make fuzz` does it, and tries other inputs each time.
PHASES = [Phase.explicit, Phase.generate, *([Phase.shrink] if IS_LONG else [])]
SECRET = "c4nary-S3cret"  # no part of any other text


def fuzzed(share: float = 1.0) -> settings:
    """Return hypothesis' settings for a test that tries `share` of the inputs: less where one takes long."""
    return settings(
        max_examples=max(12, int(INPUTS * share)),
        phases=PHASES,
        deadline=None,
        database=None,
        derandomize=not IS_LONG,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


# Controls, escapes of a terminal, line ends that are not \n, marks of direction, lone surrogates, letters of two units, other digits.
ODD = "\x00\x07\x08\t\n\x0b\x0c\r\x1b\x1c\x7f\x85\x9b\xa0\u2028\u2029\u200b\u202e\ufeff\ud800\udfff😀٣２ІїЄґß"
texts = st.one_of(st.text(max_size=40), st.text(alphabet=st.sampled_from(ODD + "ab1 '\"<>&;=,{}[]()$%\\/:@#?"), max_size=40))
# What the environment can hold: no NUL, and bytes that are no UTF-8 as surrogates.
variables = st.one_of(texts, st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))).map(
    lambda text: text.replace("\0", "")
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def spliced(*parts: Sequence[str]) -> st.SearchStrategy[str]:
    """Return texts of one choice of each part; now and then a part is any text."""
    return st.tuples(*(st.one_of(st.sampled_from(part), st.sampled_from(part), texts) for part in parts)).map("".join)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return `whole` cut, with bytes overwritten, doubled or removed."""
    place = st.integers(0, len(whole))

    def splice(start: int, end: int, between: bytes) -> bytes:
        return whole[: min(start, end)] + between + whole[max(start, end) :]

    cut = place.map(lambda end: whole[:end])
    near = st.tuples(place, st.integers(0, 8), st.binary(max_size=8)).map(lambda it: splice(it[0], it[0] + it[1], it[2]))
    return st.one_of(cut, near, st.builds(splice, place, place, st.binary(max_size=16)))
