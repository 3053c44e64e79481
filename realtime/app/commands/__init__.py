"""The sub-commands of `livepuppet`, one module each."""
