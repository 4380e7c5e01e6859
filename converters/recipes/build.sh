#!/usr/bin/env bash
# Builds a TensorRT engine from model.onnx, on the board that will run it.
#
#   ./build.sh fp16 [ENGINE]    float16 throughout
#   ./build.sh int8 [ENGINE]    int8 by the scales in calibration.cache, float16 where a tensor has none or it is faster
#
# ENGINE is engine-fp16.plan or engine-int8.plan beside this script unless another path is named.
#
# An engine does not travel: it holds for the GPU and the TensorRT version that it was built with. Build again on every
# other kind of board, and on the same one after an update of JetPack.
#
# TRTEXEC      trtexec's path; by default the one in PATH, else /usr/src/tensorrt/bin/trtexec, where JetPack has it
# TRT_VERSION  digits of TensorRT's version, such as 100300; by default what trtexec says
#
# Not tried: this was written on a machine without TensorRT.
set -euo pipefail

usage() {
    echo "usage: $0 fp16|int8 [ENGINE]" >&2
    exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
precision=${1:-}
engine=${2:-$here/engine-$precision.plan}
trtexec=${TRTEXEC:-$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}
options=(--onnx="$here/model.onnx" --fp16)

[[ $# -le 2 ]] || usage
if [[ ! -x $trtexec ]]; then
    echo "$0: no trtexec at $trtexec; install TensorRT's samples or set TRTEXEC" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "$engine.part"' EXIT

case $precision in
fp16) ;;
int8)
    # trtexec skips a cache that names another TensorRT version, or another calibrator than its own, which is
    # EntropyCalibration2. The scales mean the same whatever the first line says, so it is made to fit here.
    banner=$("$trtexec" --help 2>&1 || true)
    found=$(sed -n 's/.*\[TensorRT v\([0-9][0-9]*\)\].*/\1/p' <<<"$banner")
    version=${TRT_VERSION:-${found%%$'\n'*}}
    if [[ -z $version ]]; then
        echo "$0: $trtexec does not say its version; set TRT_VERSION, such as TRT_VERSION=100300" >&2
        exit 1
    fi
    sed "1s/.*/TRT-$version-EntropyCalibration2/" "$here/calibration.cache" >"$work/calibration.cache"
    options+=(--int8 --calib="$work/calibration.cache")
    ;;
*) usage ;;
esac

"$trtexec" "${options[@]}" --saveEngine="$engine.part"
mv "$engine.part" "$engine"
echo "$engine"
