//go:build ignore

#include "streams.h"

#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <set>

#include "order.h"

std::recursive_mutex driver_mutex;

struct Stream;

// A point in a stream, which an event remembers.
struct Mark {
	Stream* stream = nullptr;
	bool done = false;
	double seconds = 0;
	Clock clock;  // what comes before it
};
typedef std::shared_ptr<Mark> MarkPointer;

struct Event {
	MarkPointer mark;  // of the last record; null: never recorded
};

struct Item {
	std::function<void()> work;  // may be empty
	MarkPointer wait_for;        // may be null
	Clock clock;                 // of the work
};

struct Stream {
	bool blocking;  // with respect to the default stream
	u32 number;     // for clocks
	Clock clock;    // what comes before what is added next
	std::deque<Item> items;
};

static std::set<Stream*> streams;
static std::set<Event*> events;
static Stream default_stream = {true, 0, {}, {}};
static Clock waited_for;       // by the host
static int kept_failure = OK;  // a failed kernel spoils the context, as on the device

int guarded(const std::function<void()>& f) {
	try {
		f();
		return OK;
	} catch (const Failure& e) {
		fprintf(stderr, "emulator: error %d: %s\n", e.code, e.text.c_str());
		return e.code;
	}
}

// ---- doing the work

// work gives f, which s is to do next, its place among what other streams do.
static Item work(Stream& s, std::function<void()> f) {
	join(s.clock, waited_for);
	if (s.blocking) join(s.clock, default_stream.clock);
	if (s.clock.size() <= s.number) s.clock.resize(s.number + 1);
	s.clock[s.number]++;
	return {std::move(f), nullptr, s.clock};
}

static int run(const Stream& s, const Item& item) {
	begin_work(s.number, item.clock);
	return guarded(item.work);
}

static void run_kept(const Stream& s, const Item& item) {
	if (kept_failure == OK) kept_failure = run(s, item);
}

static void step(Stream& s);

// Does the work of a stream up to a mark in it.
static void reach(const Mark& m) {
	while (!m.done && !m.stream->items.empty()) step(*m.stream);
}

static void step(Stream& s) {
	Item item = std::move(s.items.front());
	s.items.pop_front();
	if (item.wait_for) reach(*item.wait_for);
	if (item.work) run_kept(s, item);
}

static void drain(Stream& s) {
	while (!s.items.empty()) step(s);
}

// The default stream comes after all that were not created as non-blocking.
static void drain_blocking() {
	for (Stream* s : streams) {
		if (!s->blocking) continue;
		drain(*s);
		join(default_stream.clock, s->clock);
	}
}

// 0, 1 and 2 are the default stream, by its three names.
static bool is_default(void* handle) { return (u64)handle <= 2; }

static Stream* find_stream(void* handle) {
	if (is_default(handle)) return &default_stream;
	auto it = streams.find((Stream*)handle);
	return it == streams.end() ? nullptr : *it;
}

static int add_item(Stream& s, Item item) {
	s.items.push_back(std::move(item));
	if (!settings.lazy) drain(s);
	return kept_failure;
}

int enqueue(void* stream, std::function<void()> f) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	if (kept_failure != OK) return kept_failure;
	if (!is_default(stream)) {
		Stream* s = find_stream(stream);
		return s ? add_item(*s, work(*s, std::move(f))) : INVALID_HANDLE;
	}
	drain_blocking();
	run_kept(default_stream, work(default_stream, std::move(f)));
	return kept_failure;
}

int at_once(std::function<void()> f) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	drain_blocking();
	if (kept_failure != OK) return kept_failure;
	const int result = run(default_stream, work(default_stream, std::move(f)));
	join(waited_for, default_stream.clock);
	return result;
}

int after_everything(std::function<void()> f) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	for (Stream* s : streams) {
		drain(*s);
		join(waited_for, s->clock);
	}
	return at_once(std::move(f));
}

int synchronize(void* stream) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	if (is_default(stream)) drain_blocking();
	Stream* s = find_stream(stream);
	if (!s) return INVALID_HANDLE;
	drain(*s);
	join(waited_for, s->clock);
	return kept_failure;
}

// ---- the driver's functions

API cuCtxSynchronize() {
	return after_everything([] {});
}

API cuStreamCreate(Stream** s, unsigned flags) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	constexpr unsigned NON_BLOCKING = 1;
	static u32 last_number = 0;  // of the default stream
	*s = new Stream{(flags & NON_BLOCKING) == 0, ++last_number, {}, {}};
	streams.insert(*s);
	return OK;
}
API cuStreamCreateWithPriority(Stream** s, unsigned flags, int) { return cuStreamCreate(s, flags); }

API cuStreamDestroy_v2(Stream* s) {
	std::lock_guard lock(driver_mutex);
	if (is_default(s) || !find_stream(s)) return INVALID_HANDLE;
	drain(*s);
	streams.erase(s);
	delete s;
	return OK;
}

API cuStreamSynchronize(void* stream) { return synchronize(stream); }

API cuStreamQuery(void* stream) {
	std::lock_guard lock(driver_mutex);
	if (kept_failure != OK || is_default(stream)) return kept_failure;
	Stream* s = find_stream(stream);
	if (!s) return INVALID_HANDLE;
	if (!s->items.empty()) return NOT_READY;
	join(waited_for, s->clock);
	return OK;
}

API cuLaunchHostFunc(void* stream, void (*f)(void*), void* argument) {
	return enqueue(stream, [=] { f(argument); });
}

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

API cuEventCreate(Event** e, unsigned) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	*e = new Event;
	events.insert(*e);
	return OK;
}

API cuEventDestroy_v2(Event* e) {
	std::lock_guard lock(driver_mutex);
	if (!events.erase(e)) return INVALID_HANDLE;
	delete e;
	return OK;
}

API cuEventRecord(Event* e, void* stream) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	Stream* s = find_stream(stream);
	if (!s) return INVALID_HANDLE;
	auto mark = std::make_shared<Mark>();
	mark->stream = s;
	e->mark = mark;
	const int result = enqueue(stream, [mark] {
		mark->done = true;
		mark->seconds = now();
	});
	mark->clock = s->clock;
	return result;
}
API cuEventRecordWithFlags(Event* e, void* stream, unsigned) { return cuEventRecord(e, stream); }

API cuStreamWaitEvent(void* stream, Event* e, unsigned) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	Stream* s = find_stream(stream);
	if (!s) return INVALID_HANDLE;
	if (!e->mark) return kept_failure;
	join(s->clock, e->mark->clock);
	const int result = add_item(*s, {nullptr, e->mark, {}});
	if (s == &default_stream) drain(*s);
	return result;
}

API cuEventSynchronize(Event* e) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	if (!e->mark) return kept_failure;
	reach(*e->mark);
	join(waited_for, e->mark->clock);
	return kept_failure;
}

API cuEventQuery(Event* e) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	if (kept_failure != OK || !e->mark) return kept_failure;
	if (!e->mark->done) return NOT_READY;
	join(waited_for, e->mark->clock);
	return OK;
}

API cuEventElapsedTime(float* milliseconds, Event* from, Event* to) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(from) || !events.count(to) || !from->mark || !to->mark) return INVALID_HANDLE;
	if (!from->mark->done || !to->mark->done) return NOT_READY;
	*milliseconds = (float)((to->mark->seconds - from->mark->seconds) * 1e3);
	return OK;
}
API cuEventElapsedTime_v2(float* milliseconds, Event* from, Event* to) { return cuEventElapsedTime(milliseconds, from, to); }
