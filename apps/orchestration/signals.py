"""Signals that the ledger sends to the layers above it."""

from django.dispatch import Signal

# Sent once, inside the ledger's transaction, by the process that ended the run. `sender`: the class Run; `run`: the run.
run_ended = Signal()
