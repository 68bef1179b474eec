"""What a history consists of."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.histories.writers import CHANGES

# The `updated_at` that a change leaves: the database's clock, the old value, or that clock in a session whose time zone is not UTC.
STAMPS = ("now", "unchanged", "west", "east")


@dataclass(frozen=True)
class Change:
    """A change of CHANGES. `at` and `value` choose the row and what is written, whatever there is."""

    what: str
    at: int
    value: int
    stamp: str = "now"


@dataclass(frozen=True)
class Open:
    """Changes in a transaction that stays open, after the one before was committed."""

    changes: list[Change]


@dataclass(frozen=True)
class Close:
    """The end of the open transaction."""

    commit: bool


@dataclass(frozen=True)
class Wait:
    minutes: int


@dataclass(frozen=True)
class Run:
    """A run. `ahead`: by how many minutes the sources' clock is wrong while it lasts."""

    mode: str
    dry: bool = False
    reread: bool = False
    ahead: int = 0


@dataclass(frozen=True)
class Race:
    """An incremental run while another program makes changes."""

    changes: list[Change]


Step = Change | Open | Close | Wait | Run | Race
History = list[Step]

numbers = st.integers(0, 99)


@st.composite
def draw_change(draw: st.DrawFn) -> Change:
    return Change(draw(st.sampled_from(sorted(CHANGES))), draw(numbers), draw(numbers), draw(st.sampled_from(STAMPS)))


changes = draw_change()
several = st.lists(changes, min_size=1, max_size=4)
racing = st.lists(changes, min_size=2, max_size=8)
runs = st.sampled_from(
    [Run("incremental")] * 6
    + [Run("incremental", dry=True), Run("full"), Run("full", dry=True), Run("full", reread=True)]
    + [Run("incremental", ahead=180), Run("full", ahead=180)]
)
waits = st.sampled_from([1, 9, 11, 60, 1_440, 4 * 1_440]).map(Wait)
others = st.one_of(several.map(Open), several.map(Open), st.booleans().map(Close), waits, racing.map(Race))
kinds: dict[str, st.SearchStrategy[Step]] = {"change": changes, "run": runs, "other": others}
# Not one_of(changes, changes, ...): hypothesis draws each different strategy equally often.
steps = st.sampled_from(["change"] * 6 + ["run", "other"]).flatmap(kinds.__getitem__)
histories = st.lists(steps, min_size=6, max_size=20)
