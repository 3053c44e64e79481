"""Contact sheets: what trainings and evaluations look like, as PNG files."""
