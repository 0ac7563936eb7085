//go:build ignore

// The clocks of order.h: vector clocks whose events are pieces of work. They say what the
// events of CUDA and the host's waiting order, whatever order work is done in here.
#include "order.h"

#include <algorithm>

// A piece of work that was done or runs.
struct Work {
	u32 serial;  // its first
	u32 stream, number;
};

static std::vector<Work> done;                // in the order in which it was done
static std::vector<std::vector<u32>> serials;  // the first of each piece, by stream and number
static Clock now;                              // what comes before what runs
static u32 next_serial = 1, current = 0, first_unsettled = 0;

void join(Clock& clock, const Clock& other) {
	if (clock.size() < other.size()) clock.resize(other.size());
	for (size_t s = 0; s < other.size(); s++) clock[s] = std::max(clock[s], other[s]);
}

static u32 count(const Clock& clock, size_t stream) { return stream < clock.size() ? clock[stream] : 0; }

void begin_work(u32 stream, const Clock& clock) {
	now = clock;
	current = take_serials(1);
	if (serials.size() <= stream) serials.resize(stream + 1);
	serials[stream].push_back(current);
	done.push_back({current, stream, (u32)serials[stream].size()});
	first_unsettled = current;
	for (size_t s = 0; s < serials.size(); s++)
		if (count(now, s) < serials[s].size()) first_unsettled = std::min(first_unsettled, serials[s][count(now, s)]);
}

u32 take_serials(u32 n) {
	const u32 first = next_serial;
	next_serial += n;
	return first;
}

u32 work_serial() { return current; }
u32 settled() { return first_unsettled; }

bool happened_before(u32 serial) {
	if (serial < first_unsettled) return true;
	const auto after = std::upper_bound(done.begin(), done.end(), serial, [](u32 x, const Work& w) { return x < w.serial; });
	const Work& w = *std::prev(after);
	return w.number <= count(now, w.stream);
}
