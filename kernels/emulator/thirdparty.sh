#!/usr/bin/env bash
# Runs kernels on the emulator that nobody here has written, and compares with numpy:
#
#   kernels/emulator/thirdparty.sh [cub] [std] [triton] [families]     without arguments: all
#
# cub        primitives of blocks and warps of NVIDIA's CUB (a wheel of 3 MB)
# std        functions of NVIDIA's libcu++ (the same wheel) and of the toolkit's headers
# triton     products, softmax, arithmetic, atomics compiled by Triton (1 GB unpacked)
# families   every family of instructions in kernels/cuda/*.ptx is in one of those kernels
#
# A kernel and an emulator that come from one reading of the manual can share a mistake;
# these do not. To be run by hand when instructions are added or changed. Everything goes
# into build/thirdparty. No GPU is used: Triton compiles for any card.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=build/thirdparty
sources=kernels/emulator/testdata/thirdparty
pip=$out/venv/bin/pip
mkdir -p "$out"
[[ $# -gt 0 ]] || set -- cub std triton families

.ci/cuda emulator compiler
[[ -x $pip ]] || python3 -m venv "$out/venv"
"$pip" install --quiet --disable-pip-version-check numpy==2.3.5

for what in "$@"; do
	case $what in
	cub | std)
		"$pip" install --quiet --disable-pip-version-check --no-deps nvidia-cuda-cccl==13.0.85
		build/cuda/toolkit/bin/nvcc -arch=compute_80 -O3 -std=c++17 -lineinfo -I"$(echo "$out"/venv/lib/python3*/site-packages/nvidia/cu13/include/cccl)" \
			-ptx -o "$out/$what.ptx" "$sources/$what.cu"
		;;
	triton)
		"$pip" install --quiet --disable-pip-version-check triton==3.9.0
		rm -rf "$out/triton"
		;;
	families)
		"$out/venv/bin/python" "$sources/families.py" "$out" kernels/cuda/*.ptx
		continue
		;;
	*)
		echo "thirdparty: no kernels of $what" >&2
		exit 1
		;;
	esac
	# Triton: keep its cache here, and fuse as it has done so far.
	export TRITON_CACHE_DIR=$PWD/$out/triton TRITON_DEFAULT_FP_FUSION=1
	for seed in 0 1 2; do
		EMULATOR_SEED=$seed PYTHONPATH=$sources "$out/venv/bin/python" "$sources/check_$what.py" build/emulator/libcuda.so.1 "$out"
	done
done
