"""What happens to the keypoints between `detect` and `render`, in NumPy."""
