"""How passwords of the admin's users are hashed."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one thread, as OWASP's cheat sheet on password storage has it.

    Django's default of 100 MiB for each login would let eight guesses at a time exhaust the memory of a web process.
    """

    memory_cost = 19_456
    time_cost = 2
    parallelism = 1
