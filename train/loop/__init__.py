"""The training loop: optimiser steps, EMA, checkpoints and resume, several processes, health
checks, logs.
"""
