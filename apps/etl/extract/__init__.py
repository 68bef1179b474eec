"""Sources to raw batches: survey cuts the work into slices, facts and dimensions read one slice in consistent snapshots."""
