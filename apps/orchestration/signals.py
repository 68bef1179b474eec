"""What the ledger tells the rooms above it."""

from django.dispatch import Signal

# Sent once, inside the ledger's transaction, by whoever ended the run. `sender`: the class Run; `run`: the run.
run_ended = Signal()
