"""People's names from Faker (uk_UA), and their Latin transliteration for e-mail addresses."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from faker import Faker

from apps.demo.randomness import draw_flags, pick

# First and last names of each sex: 1 000 of each make a million pairs. Faker makes the pool in 0.02 s; a name for each of 100 000
# customers would take 1 s.
NAMES_PER_POOL = 1_000
CYRILLIC = "абвгґдеєжзиіїйклмнопрстуфхцчшщюя"  # the soft sign and the apostrophe are not transliterated
LATIN = "a b v h g d e ie zh z y i i i k l m n o p r s t u f kh ts ch sh shch iu ia"
LATIN_BY_LETTER = dict(zip(CYRILLIC, LATIN.split(), strict=True))


def transliterate(name: str) -> str:
    """Transliterate by the table of resolution 55 (2010) of the Cabinet of Ministers, simplified; drop all that is no letter."""
    return "".join(LATIN_BY_LETTER.get(letter, "") for letter in name.lower())


@dataclass(frozen=True)
class PersonNames:
    first_names: list[str]
    last_names: list[str]

    @cached_property
    def mailboxes(self) -> list[str]:
        """The local parts of e-mail addresses, "olena.shevchenko": not unique until a number is added."""
        return [f"{transliterate(first)}.{transliterate(last)}" for first, last in zip(self.first_names, self.last_names, strict=True)]


class NamePool:
    """A pool of names, the same for the same seed."""

    def __init__(self, seed: int):
        faker = Faker("uk_UA")
        faker.seed_instance(seed)
        size = NAMES_PER_POOL
        self.first = [faker.first_name_female() for _ in range(size)] + [faker.first_name_male() for _ in range(size)]
        self.last = [faker.last_name_female() for _ in range(size)] + [faker.last_name_male() for _ in range(size)]

    def draw_people(self, rng: np.random.Generator, count: int) -> PersonNames:
        sex = np.where(draw_flags(rng, 50, count), NAMES_PER_POOL, 0)
        first, last = (sex + rng.integers(0, NAMES_PER_POOL, count) for _ in range(2))
        return PersonNames(pick(self.first, first), pick(self.last, last))
