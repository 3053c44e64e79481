"""Run a model live: engines, motion, framing, inputs, outputs, compositing, `Animator`; the
application on top of them.
"""
