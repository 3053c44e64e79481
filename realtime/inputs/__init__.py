"""Where driving frames come from: cameras, files, streams, the screen; and the one slot they land
in.
"""
