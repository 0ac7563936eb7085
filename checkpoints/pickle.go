package checkpoints

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// storages are torch's storage classes: element type and width in bytes.
var storages = map[string]torchStorage{
	"DoubleStorage": {dtype: "F64", width: 8}, "FloatStorage": {dtype: "F32", width: 4},
	"HalfStorage": {dtype: "F16", width: 2}, "BFloat16Storage": {dtype: "BF16", width: 2},
	"LongStorage": {dtype: "I64", width: 8}, "IntStorage": {dtype: "I32", width: 4},
	"ShortStorage": {dtype: "I16", width: 2}, "CharStorage": {dtype: "I8", width: 1},
	"ByteStorage": {dtype: "U8", width: 1}, "BoolStorage": {dtype: "BOOL", width: 1},
}

// wrappers are keys under which training programs nest the state dict.
var wrappers = []string{"state_dict", "model_state_dict", "module"}

// A torchStorage names an entry of the archive. Without a key it is a class.
type torchStorage struct {
	dtype    string
	width    int
	key      string
	elements int64
}

// A torchTensor is a view of a storage, as pickled; sizes are in elements.
type torchTensor struct {
	storage torchStorage
	offset  int64
	shape   []int
	strides []int
}

// unpickle returns the tensors of a pickled state dict. No code of the file runs:
// checkPickle lets pass only the opcodes and the few names that a state dict needs,
// and every one of these names is a function below.
func unpickle(b []byte, f *torchFile) (found map[string]*torchTensor, err error) {
	if err := checkPickle(b); err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	// gopickle trusts its input in places: it indexes without a check and hashes what
	// cannot be hashed. Such a panic means a damaged file, and is reported as one.
	defer func() {
		if r := recover(); r != nil {
			found, err = nil, fmt.Errorf("data.pkl is damaged: %.200v", r)
		}
	}()
	u := pickle.NewUnpickler(bytes.NewReader(b))
	u.FindClass = findClass
	u.PersistentLoad = loadStorage
	value, err := u.Load()
	if err != nil {
		return nil, fmt.Errorf("data.pkl is damaged: %.200s", err.Error())
	}
	return stateDict(value)
}

// findClass gives meaning to the names that checkPickle allows.
func findClass(module, name string) (any, error) {
	if s, ok := storages[name]; ok && module == "torch" {
		return s, nil
	}
	switch module + "." + name {
	case "torch._utils._rebuild_tensor_v2":
		return callable(rebuildTensor), nil
	case "torch._utils._rebuild_parameter":
		return callable(rebuildParameter), nil
	case "torch.Size":
		return callable(rebuildSize), nil
	}
	return nil, fmt.Errorf("%s.%s is not allowed", module, name)
}

type callable func(args []any) (any, error)

// Call implements gopickle's types.Callable.
func (c callable) Call(args ...any) (any, error) { return c(args) }

// loadStorage reads the persistent id ("storage", class, key, device, elements).
func loadStorage(id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() != 5 || t.Get(0) != "storage" {
		return nil, errors.New("a persistent id is not that of a storage")
	}
	s, ok := t.Get(1).(torchStorage)
	key, okKey := t.Get(2).(string)
	elements, okElements := t.Get(4).(int)
	if !ok || !okKey || !okElements || elements < 0 {
		return nil, errors.New("a storage is not (class, key, device, elements)")
	}
	s.key, s.elements = key, int64(elements)
	return s, nil
}

// rebuildTensor takes (storage, offset, shape, strides, requires_grad, hooks).
func rebuildTensor(args []any) (any, error) {
	if len(args) < 4 {
		return nil, errors.New("_rebuild_tensor_v2 needs at least 4 arguments")
	}
	s, ok := args[0].(torchStorage)
	offset, okOffset := args[1].(int)
	shape, okShape := integers(args[2])
	strides, okStrides := integers(args[3])
	if !ok || s.key == "" || !okOffset || offset < 0 || !okShape || !okStrides || len(shape) != len(strides) {
		return nil, errors.New("the arguments of _rebuild_tensor_v2 are not storage, offset, shape and strides")
	}
	return &torchTensor{storage: s, offset: int64(offset), shape: shape, strides: strides}, nil
}

// rebuildParameter takes (tensor, requires_grad, hooks).
func rebuildParameter(args []any) (any, error) {
	if len(args) > 0 {
		if t, ok := args[0].(*torchTensor); ok {
			return t, nil
		}
	}
	return nil, errors.New("the argument of _rebuild_parameter is not a tensor")
}

// rebuildSize takes (tuple of integers).
func rebuildSize(args []any) (any, error) {
	if len(args) == 1 {
		if _, ok := integers(args[0]); ok {
			return args[0], nil
		}
	}
	return nil, errors.New("the argument of torch.Size is not a tuple of integers")
}

// integers returns a tuple of integers that are not negative.
func integers(v any) ([]int, bool) {
	t, ok := v.(*types.Tuple)
	if !ok {
		return nil, false
	}
	list := make([]int, t.Len())
	for i := range list {
		n, ok := t.Get(i).(int)
		if !ok || n < 0 {
			return nil, false
		}
		list[i] = n
	}
	return list, true
}

// stateDict turns the unpickled dict into a map. A dict that wraps the state dict
// under a known key is opened once.
func stateDict(v any) (map[string]*torchTensor, error) {
	items, ok := dictItems(v)
	if !ok {
		return nil, errors.New("data.pkl holds no dict of tensors")
	}
	for _, key := range wrappers {
		if inner, ok := dictItems(items[key]); ok {
			items = inner
			break
		}
	}
	found := make(map[string]*torchTensor, len(items))
	for key, v := range items {
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("a key of the state dict is a %T, not a string", key)
		}
		t, ok := v.(*torchTensor)
		if !ok {
			return nil, fmt.Errorf("entry %.80q of the state dict is a %T, not a tensor (save model.state_dict() alone)", name, v)
		}
		found[name] = t
	}
	return found, nil
}

func dictItems(v any) (map[any]any, bool) {
	items := map[any]any{}
	switch d := v.(type) {
	case *types.Dict:
		for _, e := range *d {
			items[e.Key] = e.Value
		}
	case *types.OrderedDict:
		for key, e := range d.Map {
			items[key] = e.Value
		}
	default:
		return nil, false
	}
	return items, true
}
