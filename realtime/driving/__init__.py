"""What drives a picture without a camera: faces in numbers, from a microphone, the pointer, a phone or a tracker."""
