"""Metrics on clips of real faces. There is no ground truth: optical flow and the frames themselves
stand in.

*Following*: keypoints' motion over `STEP` frames against optical flow, and the model's dense motion
against it. *Reconstruction*: each frame from the clip's first, beside leaving that alone and beside
the bare warp. *Mouth*: how much of a mouth's opening is shown. *Steadiness*: keypoints of a face
that holds still. *Confidence*: on faces, and on the same images cut into tiles and shuffled, which
show none.
"""
