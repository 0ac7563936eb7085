package checkpoints

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// How an opcode's argument is stored behind it.
const (
	argNone  = iota
	argByte  // 1 byte
	argTwo   // 2 bytes
	argFour  // 4 bytes
	argEight // 8 bytes
	argLen1  // 1 byte of length, then so many
	argLen4  // 4 bytes of length, then so many
	argNames // module and name, a line each
)

// opcodes are those of pickle protocols 2 and 3 that a state dict can hold.
// Protocol 2 is what torch.save writes unless told otherwise.
var opcodes = map[byte]int{
	0x80: argByte,                                           // PROTO
	'}':  argNone, ']': argNone, ')': argNone, '(': argNone, // empty dict, list, tuple; mark
	't': argNone, 0x85: argNone, 0x86: argNone, 0x87: argNone, // tuples
	'u': argNone, 's': argNone, 'a': argNone, 'e': argNone, 'd': argNone, // fill dicts and lists
	'N': argNone, 0x88: argNone, 0x89: argNone, // None, True, False
	'K': argByte, 'M': argTwo, 'J': argFour, 'G': argEight, // numbers
	0x8a: argLen1,                             // LONG1
	'X':  argLen4, 'T': argLen4, 'U': argLen1, // strings
	'q': argByte, 'r': argFour, 'h': argByte, 'j': argFour, // memo
	'c': argNames, 'R': argNone, 'Q': argNone, 'b': argNone, '0': argNone, '.': argNone, // names, calls, storages
}

// allowed are the names that a state dict refers to, beside the storage classes.
var allowed = map[string]bool{
	"collections OrderedDict":         true,
	"torch._utils _rebuild_tensor_v2": true,
	"torch._utils _rebuild_parameter": true,
	"torch Size":                      true,
}

// checkPickle walks a pickle without running it: every opcode and name must be
// known, and every length must lie inside the pickle, so that no reader can be made
// to allocate more than the file's size.
func checkPickle(b []byte) error {
	if len(b) < 2 || b[0] != 0x80 {
		return errors.New("not a pickle of protocol 2")
	}
	if b[1] != 2 && b[1] != 3 {
		return fmt.Errorf("pickle protocol %d is not read (save with torch.save's default, 2)", b[1])
	}
	for i := 0; i < len(b); {
		op := b[i]
		arg, ok := opcodes[op]
		if !ok {
			return fmt.Errorf("opcode %#02x at byte %d has no place in a state dict: refused", op, i)
		}
		n, err := argSize(arg, b[i+1:])
		if err != nil {
			return fmt.Errorf("at byte %d: %w", i, err)
		}
		if op == '.' {
			return nil
		}
		i += 1 + n
	}
	return errors.New("the pickle has no end")
}

// argSize returns the bytes that the argument at the start of b takes.
func argSize(arg int, b []byte) (int, error) {
	n := 0
	switch arg {
	case argByte:
		n = 1
	case argTwo:
		n = 2
	case argFour:
		n = 4
	case argEight:
		n = 8
	case argLen1:
		if len(b) > 0 {
			n = int(b[0])
		}
		n++
	case argLen4:
		if len(b) >= 4 {
			n = int(binary.LittleEndian.Uint32(b))
		}
		n += 4
	case argNames:
		return checkNames(b)
	}
	if n > len(b) {
		return 0, errors.New("an argument reaches behind the pickle's end")
	}
	return n, nil
}

// checkNames refuses every class or function that is not one of a state dict's.
func checkNames(b []byte) (int, error) {
	module, rest, ok := bytes.Cut(b, []byte("\n"))
	name, _, okName := bytes.Cut(rest, []byte("\n"))
	if !ok || !okName {
		return 0, errors.New("a name reaches behind the pickle's end")
	}
	_, isStorage := storages[string(name)]
	if !(isStorage && string(module) == "torch") && !allowed[string(module)+" "+string(name)] {
		return 0, fmt.Errorf("the file wants to call %.60q.%.60q, which no state dict needs: refused "+
			"(if you trust the file, convert it to safetensors with PyTorch)", module, name)
	}
	return len(module) + len(name) + 2, nil
}
