"""The live path: sources, avatars, engines, motion, framing, outputs, the loop and the command line."""
