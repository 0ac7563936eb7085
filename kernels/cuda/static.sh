#!/usr/bin/env bash
# What the compiler froze into the cubins, as a table that is committed: testdata/static.txt.
#
#   kernels/cuda/static.sh            compares; fails on a difference or on a flaw
#   kernels/cuda/static.sh --update   writes the table anew
#
# Package cuda embeds the table, too: figures.go reads the first five columns.
#
# Needs build/cuda/cubin and nvdisasm: run `.ci/cuda compiler kernels` first.
#
#   regs     registers of a thread
#   spill    bytes of stack and spills: a flaw if it is not 0
#   shared   bytes of shared memory of a block, with what testdata/dynamic_shared.txt adds
#   blocks   that fit on a multiprocessor at once; warps: theirs
#   fchk     slow divisions in the whole kernel: a flaw in a loop with tensor instructions
#
# and of the loop with most tensor instructions, of several the shortest (the inner one, or the
# one without a mask), or else the longest:
#
#   loop     instructions; tensor, ldsm, mufu and fp of them are mma, ldmatrix, special
#            functions and arithmetic of float32
#   tensor%  cycles that its tensor instructions take at the card's full rate, of the cycles
#            in which it is issued: the share of the peak that it cannot exceed. It counts
#            both sides of branches, and it is a bound, not a forecast.
#   shared%  the same with the cycles in which shared memory, which four warps share, delivers
#            128 bytes each to ldmatrix and takes them from cp.async: another bound. It also has
#            what a warp stores for its partner in pieces of 16 bytes: once where one of two stores
#            and the other loads, twice with 256 channels, where both do both.
set -euo pipefail
cd "$(dirname "$0")/../.."

toolkit=build/cuda/toolkit
table=kernels/cuda/testdata/static.txt
dynamic=kernels/cuda/testdata/dynamic_shared.txt # kernel, bytes that its launch asks for
new=build/cuda/static.txt

# describe NAME ARCH: the rows of one kernel file.
describe() {
	local cubin=build/cuda/cubin/$1.$2
	"$toolkit/bin/nvdisasm" -c "$cubin.cubin" >"$cubin.sass"
	awk -v arch="$2" -v TENSOR='^([HID]MMA|HGMMA)' '
		FILENAME ~ /dynamic_shared/ { if ($1 !~ /^#/) dynamic[$1] = $2; next }
		FILENAME ~ /ptx$/ {
			if (match($0, /\.entry [A-Za-z0-9_]+/)) entry = substr($0, RSTART + 7, RLENGTH - 7)
			if (match($0, /\.maxntid [0-9]+/)) threads[entry] = substr($0, RSTART + 9) + 0
			next
		}
		FILENAME ~ /log$/ {
			if (match($0, /entry function .[A-Za-z0-9_]+/)) entry = substr($0, RSTART + 16, RLENGTH - 16)
			if (match($0, /Used [0-9]+ registers/)) regs[entry] = substr($0, RSTART + 5) + 0
			if (match($0, /[0-9]+ bytes smem/)) shared[entry] = substr($0, RSTART) + 0
			if (match($0, /[0-9]+ bytes stack frame/)) spill[entry] += substr($0, RSTART) + 0
			if (match($0, /[0-9]+ bytes spill stores/)) spill[entry] += substr($0, RSTART) + 0
			next
		}
		/^\.text\./ { finish(); kernel = substr($1, 7, length($1) - 7); next }
		/^\.L/ { label[substr($1, 1, length($1) - 1)] = count; next }
		match($0, /^ +\/\*[0-9a-f]+\*\/ +/) {
			text = substr($0, RSTART + RLENGTH)
			sub(/^@!?U?P[0-9T]+ +/, "", text)
			split(text, word, /[ ;]/)
			op[count] = word[1]
			if (word[1] ~ /^BRA/ && match(text, /\.L[A-Za-z0-9_]+/)) {
				target = substr(text, RSTART, RLENGTH)
				if (target in label && label[target] < count) { from[++loops] = label[target]; to[loops] = count }
			}
			count++
		}
		function least(a, b) { return a < b ? a : b }
		function share(pattern, at,   i, n) { for (i = from[at]; i <= to[at]; i++) n += op[i] ~ pattern; return n + 0 }
		function fitting(smem,   warps, by_warp, n) {
			warps = threads[kernel] / 32
			by_warp = int((regs[kernel] + 7) / 8) * 8 * 32
			n = int(int(16384 / by_warp) * 4 / warps)
			if (smem) n = least(n, int((arch == "sm_80" ? 167936 : 233472) / (smem + 1024)))
			return least(least(n, int(2048 / threads[kernel])), 32)
		}
		function finish(   l, at, best, n, smem, b, len, tensor, fchk, i, cycles, lines) {
			if (kernel == "") return
			best = -1
			for (l = 1; l <= loops; l++) {
				n = to[l] - from[l]
				if (share(TENSOR, l)) n = share(TENSOR, l) * 100000 - n
				if (n > best) { best = n; at = l }
			}
			smem = shared[kernel] + dynamic[kernel]
			b = fitting(smem)
			for (i = 0; i < count; i++) fchk += op[i] ~ /^FCHK/
			len = loops ? to[at] - from[at] + 1 : 0
			tensor = loops ? share(TENSOR, at) : 0
			# m16n8k16 is 2048 multiplications and additions; a quarter of a multiprocessor
			# does 256 of them a cycle on an A100, 512 on an H100
			cycles = tensor * (arch == "sm_80" ? 8 : 4)
			lines = loops ? 4 * share("^(LDSM.*[.]4$|LDGSTS.*[.]128$|STS[.]128$)", at) : 0
			if (loops && kernel ~ /_256$/) lines += 4 * share("^STS[.]128$", at)
			printf "%-28s %-6s %4d %5d %6d %6d %5d %4d | %5d %6d %5d %5d %5d %6.0f%% %6.0f%%%s\n", kernel, arch, regs[kernel], spill[kernel], smem, b, b * threads[kernel] / 32, fchk,
				len, tensor, loops ? share("^LDSM", at) : 0, loops ? share("^MUFU", at) : 0, loops ? share("^F(FMA|ADD|MUL|MNMX|SEL)", at) : 0, len ? 100 * least(1, cycles / len) : 0, lines ? 100 * least(1, cycles / (4 * lines)) : 0,
				(spill[kernel] > 0 || b < 1 || (tensor && share("^FCHK", at)) ? " FLAW" : "")
			split("", op); split("", label); split("", from); split("", to)
			count = loops = 0
		}
		END { finish() }
	' "$dynamic" "kernels/cuda/$1.ptx" "$cubin.log" "$cubin.sass" | LC_ALL=C sort
}

{
	printf '%-28s %-6s %4s %5s %6s %6s %5s %4s | %5s %6s %5s %5s %5s %7s %7s\n' kernel arch regs spill shared blocks warps fchk loop tensor ldsm mufu fp tensor% shared%
	for ptx in kernels/cuda/*.ptx; do
		for arch in sm_80 sm_90a; do describe "$(basename "$ptx" .ptx)" $arch; done
	done
} >"$new"

if [[ ${1:-} == --update ]]; then
	cp "$new" "$table"
elif ! diff -u "$table" "$new"; then
	echo "static: the cubins are not what $table says (if they should be: $0 --update, and look at the difference)" >&2
	exit 1
fi
if grep FLAW "$new" >&2; then
	echo 'static: spills, a block that does not fit, or slow division in a loop with tensor instructions' >&2
	exit 1
fi
