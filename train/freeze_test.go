package train

import (
	"slices"
	"testing"

	"rmtrain/kernels/llama"
)

func TestFrozenNamesParameters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		freeze []string
		want   []string
	}{
		{[]string{"embed"}, []string{"model.embed_tokens.weight"}},
		{[]string{"norm"}, []string{"model.norm.weight"}},
		{[]string{"1", "1-1"}, layer("1")},
		{[]string{"0-1"}, append(layer("0"), layer("1")...)},
		{[]string{"10"}, layer("10")}, // and not layer 1
	} {
		frozen, err := Frozen(c.freeze, 12)
		check(t, err)
		deep := tiny
		deep.Layers = 12
		var got []string
		for _, p := range llama.Table(deep) {
			if frozen(p.Name) {
				got = append(got, p.Name)
			}
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("freeze %q: %v, want %v", c.freeze, got, c.want)
		}
	}
}

func layer(n string) []string {
	var out []string
	for _, p := range []string{
		"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
		"post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
	} {
		out = append(out, "model.layers."+n+"."+p+".weight")
	}
	return out
}

func TestFrozenRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{"", "head", "1-", "-1", "2-1", "12", "0-12", "1.5", "a-b"} {
		if _, err := Frozen([]string{entry}, 12); err == nil {
			t.Errorf("freeze %q is taken", entry)
		}
	}
	if frozen, err := Frozen(nil, 12); frozen != nil || err != nil {
		t.Errorf("freeze nothing: %v", err)
	}
}
