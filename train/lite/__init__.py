"""The default model's own training, on puppets: its stages, and how much of each motion it shows."""
