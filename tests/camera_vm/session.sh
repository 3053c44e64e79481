#!/usr/bin/env bash
# Runs inside the virtual machine: session.sh DRIVING FRAMES READ AVATAR MODEL [CLIP]
# Drives AVATAR from the camera DRIVING into /dev/video9 while another process reads READ frames back from there.
# With CLIP, that clip is played into /dev/video8 first, so that it is a camera that shows a face.
# What is read back, the statistics and the logs go to /out.
set -u
# The emulated processor faults in NumPy's masked AVX2 gathers (vpgatherdd in np.maximum of a number and an array), which
# real ones run.
export OPENCV_LOG_LEVEL=ERROR PYTHONFAULTHANDLER=1 NPY_DISABLE_CPU_FEATURES=X86_V3
driving=$1 frames=$2 read=$3 avatar=$4 model=$5 clip=${6:-}
here=$(dirname "$(realpath "$0")")
size=320x240
cd /out
if [ -n "$clip" ]; then
  $PYTHON "$here/feed.py" /dev/video8 "$clip" 320 240 >feed.log 2>&1 &
  feeder=$!
  for _ in $(seq 120); do $PYTHON -m livepuppet devices 2>/dev/null | grep -q '/dev/video8.*fed' && break; sleep 1; done
fi
[ -z "$clip" ] && $PYTHON "$here/move_pattern.py" /dev/video0 >pattern.log 2>&1
$PYTHON -m livepuppet devices >devices.txt 2>&1
$PYTHON "$here/read_back.py" /dev/video9 "$read" /out/frames >read.log 2>&1 &
reader=$!
$PYTHON -m livepuppet run --avatar "$avatar" --model "$model" --driving "$driving" --camera-size $size \
  --output virtual:/dev/video9 --size $size --frames "$frames" --stats /out/stats.json >run.log 2>&1
status=$?
echo "run ended with $status" >>run.log
wait $reader
echo "reader ended with $?" >>read.log
[ -n "$clip" ] && kill "$feeder"
exit $status
