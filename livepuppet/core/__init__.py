"""What everything else builds on: values, Eq. 14-15, files, images and video. No torch, no click;
imports nothing above.
"""
