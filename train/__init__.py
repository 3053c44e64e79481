"""Training and evaluation: recipes, tasks, losses, metrics, data, and the procedural puppet
renderer.
"""
