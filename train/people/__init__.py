"""People to train on: heads of MakeHuman's shapes, moved by its expression units and drawn by OpenGL, with exact truth.

They stand beside the procedural puppets (`train.puppets`) and speak their interface: identities, motions by the same
factors, pictures with truth, pools. What must be installed: docs/training/people.md.
"""
