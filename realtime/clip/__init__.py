"""A driving file, looked at from its beginning to its end before anything is drawn."""
