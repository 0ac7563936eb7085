package report

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of TensorFlow's event.proto and summary.proto. A message is written
// field by field in ascending order, as the generated code would.
const (
	eventWallTime    = 1 // double, seconds since 1970
	eventStep        = 2 // int64
	eventFileVersion = 3 // string
	eventSummary     = 5 // Summary
	eventSessionLog  = 7 // SessionLog

	summaryValue = 1 // repeated Summary.Value
	valueTag     = 1 // string
	valueSimple  = 2 // float

	sessionStatus = 1 // enum
	sessionStart  = 1
)

// fileVersion begins every event file. From version 2 on, readers take a SessionLog
// START as the sign of a restart.
const fileVersion = "brain.Event:2"

func appendTime(b []byte, seconds float64) []byte {
	b = protowire.AppendTag(b, eventWallTime, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(seconds))
}

// versionEvent is the first event of a file.
func versionEvent(seconds float64) []byte {
	b := appendTime(nil, seconds)
	b = protowire.AppendTag(b, eventFileVersion, protowire.BytesType)
	return protowire.AppendString(b, fileVersion)
}

// startEvent tells a reader to forget everything from step 0 on, which is the
// default and left out: what it has read of earlier files comes again.
func startEvent(seconds float64) []byte {
	status := protowire.AppendTag(nil, sessionStatus, protowire.VarintType)
	status = protowire.AppendVarint(status, sessionStart)
	b := appendTime(nil, seconds)
	b = protowire.AppendTag(b, eventSessionLog, protowire.BytesType)
	return protowire.AppendBytes(b, status)
}

// body is an event of scalars behind its time, which comes first.
func (s scalars) body() []byte {
	var summary []byte
	for _, v := range s.values {
		value := protowire.AppendTag(nil, valueTag, protowire.BytesType)
		value = protowire.AppendString(value, v.tag)
		value = protowire.AppendTag(value, valueSimple, protowire.Fixed32Type)
		value = protowire.AppendFixed32(value, math.Float32bits(v.value))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, value)
	}
	b := protowire.AppendTag(nil, eventStep, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(s.step))
	b = protowire.AppendTag(b, eventSummary, protowire.BytesType)
	return protowire.AppendBytes(b, summary)
}

// splitEvent cuts an event of ours into its time and its body. Other events are not
// ok.
func splitEvent(event []byte) (seconds float64, body []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(event)
	if n < 0 || number != eventWallTime || kind != protowire.Fixed64Type {
		return 0, nil, false
	}
	bits, m := protowire.ConsumeFixed64(event[n:])
	if m < 0 {
		return 0, nil, false
	}
	return math.Float64frombits(bits), event[n+m:], true
}
