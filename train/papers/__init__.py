"""The papers' own training: FOMM and Monkey-Net as tasks, their losses, schedules and ablations."""
