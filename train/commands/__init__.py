"""`livepuppet train`, `evaluate`, `puppets`, `prepare` and `imagine`."""
