// Work on streams: done as late as the API allows, so that a missing synchronization shows.
#pragma once
#include <functional>
#include <mutex>

#include "emulator.h"

#define API extern "C" __attribute__((visibility("default"))) int

// Held by every entry point that changes something.
extern std::recursive_mutex driver_mutex;

// Has the calling thread a current context? What needs one returns INVALID_CONTEXT otherwise.
bool has_context();

// Runs f and returns its result; a failure is printed.
int guarded(const std::function<void()>& f);

// Work in the order of a stream. On the default stream it is done at once, after that of
// all streams which were not created as non-blocking.
int enqueue(void* stream, std::function<void()> f);

// What the host asks for and waits for: the same as on the default stream.
int at_once(std::function<void()> f);

// Waits for all streams, then runs f.
int after_everything(std::function<void()> f);

// Waits for this stream; returns the failure that the context has kept.
int synchronize(void* stream);
