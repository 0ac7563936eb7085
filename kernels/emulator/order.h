// What happens before what between streams. Each piece of work (a launch, a copy, a memset)
// has a number in its stream; what comes before it is a number for every stream.
#pragma once
#include <vector>

#include "emulator.h"

// How many pieces of work of each stream come first, by the number of the stream.
typedef std::vector<u32> Clock;

void join(Clock& clock, const Clock& other);

// Starts the next piece of work of a stream, before which comes what its clock counts; the
// clock counts the piece itself, too. It has one serial number already.
void begin_work(u32 stream, const Clock& clock);

// Returns the first of n serial numbers of the piece of work that runs. What it touches is
// marked with one of them (Stamp::block), and they grow with each piece.
u32 take_serials(u32 n);
u32 work_serial();  // the one that every piece of work has

// Serial numbers below are of work that comes before what runs; above some may be, too.
u32 settled();
bool happened_before(u32 serial);  // the same for one number: exact, slower, true of its own
