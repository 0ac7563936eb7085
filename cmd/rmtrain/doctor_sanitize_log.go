package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A sanitizerLog is what compute-sanitizer wrote.
type sanitizerLog struct {
	summed           bool // there is a summary; without one the numbers mean nothing
	errors, warnings int
	records          []sanitizerRecord
	untracked        []string // launches that the tool could not watch
}

// A sanitizerRecord is one kind of message, at one place.
type sanitizerRecord struct {
	text  string
	times int
}

var (
	errorSummary = regexp.MustCompile(`^ERROR SUMMARY: ([\d,]+) errors?$`)
	raceSummary  = regexp.MustCompile(`^RACECHECK SUMMARY: [\d,]+ hazards? displayed \(([\d,]+) errors?, ([\d,]+) warnings?\)`)
)

// parseSanitizer reads a log. All lines of compute-sanitizer begin with a row of "="; a
// message is one line and then, indented, where it was and how the program came there. Of
// those the first is kept, which names the kernel:
//
//	========= Invalid __global__ write of size 4 bytes
//	=========     at unaligned_kernel()+0x50
//	=========     by thread (0,0,0) in block (0,0,0)
//
// The summaries are "ERROR SUMMARY: 2 errors" and, of racecheck, "RACECHECK SUMMARY: 1
// hazard displayed (1 error, 0 warnings)". Another line that begins as the former tells how
// many errors were not printed; they are among its number already.
func parseSanitizer(log string) (l sanitizerLog) {
	const prefix = "========="
	whole, detailed := "", true // the current message; it has its place
	end := func() {
		if whole != "" {
			l.add(whole)
		}
		whole = ""
	}
	for line := range strings.Lines(log) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if !ok {
			continue
		}
		message := strings.TrimPrefix(text, " ")
		switch {
		case strings.HasPrefix(message, " "):
			if whole != "" && !detailed {
				whole, detailed = whole+" "+strings.TrimSpace(message), true
			}
			continue
		case l.summary(message):
			end()
		case message == "" || message == "COMPUTE-SANITIZER" || strings.HasPrefix(message, "ERROR SUMMARY") || strings.HasPrefix(message, "LEAK SUMMARY"):
			end()
		default:
			end()
			whole, detailed = message, false
		}
	}
	end()
	return l
}

// summary takes the numbers if the message is a summary.
func (l *sanitizerLog) summary(message string) bool {
	if m := errorSummary.FindStringSubmatch(message); m != nil {
		l.summed = true
		l.errors += number(m[1])
		return true
	}
	if m := raceSummary.FindStringSubmatch(message); m != nil {
		l.summed = true
		l.errors += number(m[1])
		l.warnings += number(m[2])
		return true
	}
	return false
}

// number is one of digits, and commas between thousands.
func number(digits string) int {
	n, err := strconv.Atoi(strings.ReplaceAll(digits, ",", ""))
	if err != nil {
		return 1 // too many to count
	}
	return n
}

func (l *sanitizerLog) add(message string) {
	if strings.Contains(message, "didn't track the launch") {
		l.untracked = append(l.untracked, message)
		return
	}
	for i := range l.records {
		if l.records[i].text == message {
			l.records[i].times++
			return
		}
	}
	l.records = append(l.records, sanitizerRecord{message, 1})
}

// messages are those of all records.
func (l *sanitizerLog) messages() (texts []string) {
	for _, r := range l.records {
		texts = append(texts, r.text)
	}
	return texts
}

// listed is a line for each of the first records.
func (l *sanitizerLog) listed() string {
	const most = 5
	var lines []string
	for i, r := range l.records {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more places", len(l.records)-most))
			break
		}
		lines = append(lines, fmt.Sprintf("%d times: %s", r.times, r.text))
	}
	return strings.Join(lines, "\n")
}
