"""Fine-tuning: the default model adapts to one person's face and webcam from a recording, without
forgetting others.

Two short stages, each accepted only if it helped (`AcceptanceRule`, `choose`):

* *detector*. Keypoints of the default model are named landmarks, from which the live path reads
  eyes and mouth, so they may not drift to wherever reconstruction is easiest. Each frame's target
  is therefore the detector's own answer, averaged over augmented views of the frame. Half of the
  loss comes from procedural puppets with exact landmarks.
* *animator*. With the detector frozen, dense motion and generator reconstruct the recording's
  frames from each other (FOMM, section 3.2). Half of the loss comes from procedural puppets with
  true flow (`AnimatorTask`), which keeps motion between faces.

The recording is split by time: the first 70 % for training, then a validation part that chooses
among candidates, and a test part that is measured only once, to accept or reject. Candidates are
the EMA weights half-way and at the end, and interpolations of the latter with the weights before
(Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
"""
