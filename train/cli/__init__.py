"""The commands of `train`: options in, messages out. The work is done by `train.recipes` and
`train.metrics`.
"""
