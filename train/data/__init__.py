"""People's own videos: reading, checking and preparing them, and drawing pairs from them."""
