"""The training loop: steps, averaging, checkpoints and resume, several processes, alarms, and the journal."""
