"""People's names from Faker (uk_UA) and their Latin spelling for e-mail addresses."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from faker import Faker

from apps.demo.draw import chosen, pick

# A pool of 1 000 by sex and part makes a million pairs; Faker makes it in 0.02 s, a name for each of 100 000 customers takes 1 s.
POOL = 1_000
ALPHABET = "абвгґдеєжзиіїйклмнопрстуфхцчшщюя"  # the soft sign and the apostrophe are not spelled
SPELLED = "a b v h g d e ie zh z y i i i k l m n o p r s t u f kh ts ch sh shch iu ia"
LATIN = dict(zip(ALPHABET, SPELLED.split(), strict=True))


def latin(name: str) -> str:
    """By the table of the Cabinet of Ministers, resolution 55 of 2010, simplified; what is no letter falls away."""
    return "".join(LATIN.get(letter, "") for letter in name.lower())


@dataclass(frozen=True)
class People:
    first_names: list[str]
    last_names: list[str]

    @cached_property
    def addresses(self) -> list[str]:
        """The part of an e-mail before its number, not yet unique."""
        return [f"{latin(first)}.{latin(last)}" for first, last in zip(self.first_names, self.last_names, strict=True)]


class Names:
    """A pool of names, the same for the same seed."""

    def __init__(self, seed: int):
        faker = Faker("uk_UA")
        faker.seed_instance(seed)
        self.first = [faker.first_name_female() for _ in range(POOL)] + [faker.first_name_male() for _ in range(POOL)]
        self.last = [faker.last_name_female() for _ in range(POOL)] + [faker.last_name_male() for _ in range(POOL)]

    def people(self, rng: np.random.Generator, count: int) -> People:
        sex = np.where(chosen(rng, 50, count), POOL, 0)
        first, last = (sex + rng.integers(0, POOL, count) for _ in range(2))
        return People(pick(self.first, first), pick(self.last, last))
