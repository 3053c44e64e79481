"""Where the moving picture goes, each place in a thread of its own."""
