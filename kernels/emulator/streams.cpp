//go:build ignore

#include "streams.h"

#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <set>

std::recursive_mutex driver_mutex;

struct Stream;

// A point in a stream, which an event remembers.
struct Mark {
	Stream* stream = nullptr;
	bool done = false;
	double seconds = 0;
};
typedef std::shared_ptr<Mark> MarkPointer;

struct Event {
	MarkPointer mark;  // of the last record; null: never recorded
};

struct Item {
	std::function<void()> work;  // may be empty
	MarkPointer wait_for;        // may be null
};

struct Stream {
	bool blocking;  // with respect to the default stream
	std::deque<Item> items;
};

static std::set<Stream*> streams;
static std::set<Event*> events;
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

static void run_kept(const std::function<void()>& f) {
	if (kept_failure == OK) kept_failure = guarded(f);
}

static void step(Stream& s) {
	Item item = std::move(s.items.front());
	s.items.pop_front();
	if (item.wait_for)
		while (!item.wait_for->done && item.wait_for->stream && !item.wait_for->stream->items.empty()) step(*item.wait_for->stream);
	if (item.work) run_kept(item.work);
}

static void drain(Stream& s) {
	while (!s.items.empty()) step(s);
}

static void drain_all() {
	for (Stream* s : streams) drain(*s);
}

static void drain_blocking() {
	for (Stream* s : streams)
		if (s->blocking) drain(*s);
}

// 0, 1 and 2 are the default stream, by its three names.
static bool is_default(void* handle) { return (u64)handle <= 2; }

static Stream* find_stream(void* handle) {
	auto it = streams.find((Stream*)handle);
	return it == streams.end() ? nullptr : *it;
}

static int add_item(Stream* s, Item item) {
	if (!s) return INVALID_HANDLE;
	s->items.push_back(std::move(item));
	if (!settings.lazy) drain(*s);
	return kept_failure;
}

int enqueue(void* stream, std::function<void()> f) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	if (kept_failure != OK) return kept_failure;
	if (!is_default(stream)) return add_item(find_stream(stream), {std::move(f), nullptr});
	drain_blocking();
	run_kept(f);
	return kept_failure;
}

int at_once(std::function<void()> f) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	drain_blocking();
	return kept_failure != OK ? kept_failure : guarded(f);
}

int after_everything(std::function<void()> f) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	drain_all();
	return kept_failure != OK ? kept_failure : guarded(f);
}

int synchronize(void* stream) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	if (is_default(stream)) drain_blocking();
	else if (Stream* s = find_stream(stream)) drain(*s);
	else return INVALID_HANDLE;
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
	*s = new Stream{(flags & NON_BLOCKING) == 0, {}};
	streams.insert(*s);
	return OK;
}
API cuStreamCreateWithPriority(Stream** s, unsigned flags, int) { return cuStreamCreate(s, flags); }

API cuStreamDestroy_v2(Stream* s) {
	std::lock_guard lock(driver_mutex);
	if (!find_stream(s)) return INVALID_HANDLE;
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
	return !s ? INVALID_HANDLE : s->items.empty() ? OK : NOT_READY;
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
	auto mark = std::make_shared<Mark>();
	mark->stream = find_stream(stream);
	e->mark = mark;
	return enqueue(stream, [mark] {
		mark->done = true;
		mark->seconds = now();
	});
}
API cuEventRecordWithFlags(Event* e, void* stream, unsigned) { return cuEventRecord(e, stream); }

API cuStreamWaitEvent(void* stream, Event* e, unsigned) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	if (!e->mark || is_default(stream)) {
		if (e->mark && e->mark->stream) drain(*e->mark->stream);
		return kept_failure;
	}
	return add_item(find_stream(stream), {nullptr, e->mark});
}

API cuEventSynchronize(Event* e) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	while (e->mark && !e->mark->done && e->mark->stream && !e->mark->stream->items.empty()) step(*e->mark->stream);
	return kept_failure;
}

API cuEventQuery(Event* e) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(e)) return INVALID_HANDLE;
	return kept_failure != OK ? kept_failure : e->mark && !e->mark->done ? NOT_READY : OK;
}

API cuEventElapsedTime(float* milliseconds, Event* from, Event* to) {
	std::lock_guard lock(driver_mutex);
	if (!events.count(from) || !events.count(to) || !from->mark || !to->mark) return INVALID_HANDLE;
	if (!from->mark->done || !to->mark->done) return NOT_READY;
	*milliseconds = (float)((to->mark->seconds - from->mark->seconds) * 1e3);
	return OK;
}
API cuEventElapsedTime_v2(float* milliseconds, Event* from, Event* to) { return cuEventElapsedTime(milliseconds, from, to); }
