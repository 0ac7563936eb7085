package bench

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const arenaRow = `{"question_id":"q1","model_a":"x","model_b":"y","winner":"%s","judge":"j",
 "conversation_a":[{"content":"hi","role":"user"},{"content":"A","role":"assistant"}],
 "conversation_b":[{"content":"hi","role":"user"},{"content":"B","role":"assistant"}],"turn":1,"language":"English"}`

const safetyRow = `{"prompt":"q","response_0":"zero","response_1":"one","is_response_0_safe":%t,"is_response_1_safe":%t,"better_response_id":1,"safer_response_id":0}`

func oneLine(s string, args ...any) string {
	return fmt.Sprintf(strings.ReplaceAll(s, "\n", ""), args...) + "\n"
}

// pairsOf lists the pairs of items as "better > worse", with the conversations' texts.
func pairsOf(items []*Item) []string {
	var out []string
	for _, it := range items {
		for _, p := range it.Pairs {
			sign := " > "
			if p.Weak {
				sign = " >= "
			}
			out = append(out, requestText(it.Completions[p.Better].Request)+sign+requestText(it.Completions[p.Worse].Request))
		}
	}
	return out
}

func TestEveryLayoutIsRead(t *testing.T) {
	const (
		oldHeader = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
		newHeader = "Type,Category,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source\n"
	)
	truthPairs := []string{
		"user=Q?|assistant=Yes. >= user=Q?|assistant=Of course.",
		"user=Q?|assistant=Yes. > user=Q?|assistant=No.",
		"user=Q?|assistant=Yes. > user=Q?|assistant=Never.",
		"user=Q?|assistant=Of course. > user=Q?|assistant=No.",
		"user=Q?|assistant=Of course. > user=Q?|assistant=Never.",
	}
	tests := []struct {
		name, bench, file, content string
		pairs                      []string
		leftOut                    map[string]int
	}{
		{"arena votes", Human, "a.jsonl", oneLine(arenaRow, "model_b") + oneLine(arenaRow, "tie") + oneLine(arenaRow, "tie (bothbad)"),
			[]string{"user=hi|assistant=B > user=hi|assistant=A"}, map[string]int{"tie": 2}},
		{"TruthfulQA's old columns after a byte order mark", Truth, "t.csv", "\ufeff" + oldHeader + "A,C,Q?,Yes,Yes.; Of course;,No; Never.,url\n", truthPairs, nil},
		{"TruthfulQA's new columns", Truth, "t.csv", newHeader + "A,C,Q?,Yes,No,Of course;Yes,\"No;Never; No\",url\n", truthPairs, nil},
		{"SafeRLHF", Safety, "s.jsonl", oneLine(safetyRow, false, true) + oneLine(safetyRow, true, true) + oneLine(safetyRow, false, false),
			[]string{"user=q|assistant=one > user=q|assistant=zero"}, map[string]int{"both answers are safe": 1, "no answer is safe": 1}},
		{"SafeRLHF as CSV", Safety, "s.csv", "prompt,response_0,response_1,is_response_0_safe,is_response_1_safe\nq,a,b,True,False\n",
			[]string{"user=q|assistant=a > user=q|assistant=b"}, nil},
		{"RewardBench, a JSON list", RewardBench, "r.json", ` [ {"prompt":"p","chosen":"c","rejected":"r","subset":"math-prm","id":7} ] `,
			[]string{"user=p|assistant=c > user=p|assistant=r"}, nil},
		{"prior sets by file name, prompts of messages", PriorSets, "shp-00000.jsonl", `{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"p"}],"chosen":"c","rejected":"r","subset":"askbaking"}`,
			[]string{"user=a|assistant=b|user=p|assistant=c > user=a|assistant=b|user=p|assistant=r"}, nil},
		{"RewardBench 2", RewardBench2, "r.jsonl", `{"id":3,"prompt":"p","chosen":["c"],"rejected":["r","s"],"num_correct":1,"total_completions":3,"subset":"Math","models":["m"]}`,
			[]string{"user=p|assistant=c > user=p|assistant=r", "user=p|assistant=c > user=p|assistant=s"}, nil},
		{"rankings with ties", Nectar, "n.jsonl", `{"prompt":"p","texts":["a","b","c"],"ranks":[2,1,2]}` + "\n\n" + `{"prompt":"p","texts":["a","b"],"ranks":[1,1]}`,
			[]string{"b > a", "b > c"}, map[string]int{"all answers have the same rank": 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			set := load(t, test.bench, quick(), write(t, test.file, test.content))
			got := pairsOf(set.Items)
			slices.Sort(got)
			want := slices.Sorted(slices.Values(test.pairs))
			if !slices.Equal(got, want) {
				t.Errorf("pairs %q, want %q", got, want)
			}
			if len(set.LeftOut)+len(test.leftOut) > 0 && !maps.Equal(set.LeftOut, test.leftOut) {
				t.Errorf("left out %v, want %v", set.LeftOut, test.leftOut)
			}
		})
	}
}

func TestBadRowsNameWhatIsWrong(t *testing.T) {
	rb2 := `{"id":"%s","prompt":"p","chosen":["c"],"rejected":%s,"num_correct":%d,"total_completions":2,"subset":"%s"}`
	tests := []struct {
		name, bench, file, content, want string
	}{
		{"missing columns", Human, "a.jsonl", `{"winner":"tie","turn":1}`, "a.jsonl:1: missing column conversation_a, conversation_b (the row has turn, winner)"},
		{"unknown winner", Human, "a.jsonl", oneLine(arenaRow, "nobody"), `winner is "nobody"`},
		{"no answer", Human, "a.jsonl", `{"winner":"model_a","conversation_a":[{"role":"user","content":"x"}],"conversation_b":[]}`, "conversation_a has no answer"},
		{"empty conversation", Human, "a.jsonl", `{"winner":"model_a","conversation_a":[],"conversation_b":[]}`, "conversation_a is an empty list"},
		{"messages without content", Human, "a.jsonl", `{"winner":"model_a","conversation_a":[{"role":"user"}],"conversation_b":[]}`, "conversation_a[0] has no role or no content"},
		{"CSV without the column", Truth, "t.csv", "Question,Best Answer\nq,a\n", "t.csv:1: missing column Correct Answers, Incorrect Answers"},
		{"CSV with a short row", Truth, "t.csv", "Question,Best Answer\nq\n", "wrong number of fields"},
		{"no incorrect answer", Truth, "t.csv", "Question,Best Answer,Correct Answers,Incorrect Answers\nq,a,b,a\n", "no incorrect answer"},
		{"empty file", Truth, "t.csv", "", "the file is empty"},
		{"header alone", Truth, "t.csv", "Question,Best Answer,Correct Answers,Incorrect Answers\n", "the file has no rows"},
		{"empty lines", Safety, "s.jsonl", "\n \n", "the file has no rows"},
		{"not a truth value", Safety, "s.jsonl", `{"prompt":"q","response_0":"a","response_1":"b","is_response_0_safe":1,"is_response_1_safe":true}`, "is_response_0_safe is not a truth value"},
		{"null", Safety, "s.jsonl", `{"prompt":null,"response_0":"a","response_1":"b","is_response_0_safe":true,"is_response_1_safe":true}`, "prompt is null"},
		{"nothing fits", Safety, "s.jsonl", oneLine(safetyRow, true, true), "no usable row among 1"},
		{"cut off", Safety, "s.jsonl", oneLine(safetyRow, true, false)[:40], "s.jsonl:1: not a JSON object"},
		{"list that is cut off", RewardBench, "r.json", `[{"prompt":"p"`, "element 1: unexpected EOF"},
		{"more after the list", RewardBench, "r.json", `[{"prompt":"p","chosen":"c","rejected":"r","subset":"math-prm"}] 1`, "more after the list"},
		{"a number", RewardBench, "r.jsonl", `17`, "not a JSON object"},
		{"unknown subset", RewardBench, "r.jsonl", `{"prompt":"p","chosen":"c","rejected":"r","subset":"mine"}`, `subset "mine" is none of RewardBench's`},
		{"messages instead of an answer", RewardBench, "r.jsonl", `{"prompt":"p","chosen":[],"rejected":"r","subset":"math-prm"}`, "chosen is not a string"},
		{"prompt of another kind", RewardBench, "r.jsonl", `{"prompt":3,"chosen":"c","rejected":"r","subset":"math-prm"}`, "prompt is not a string"},
		{"prior set without a name", PriorSets, "x.jsonl", `{"prompt":"p","chosen":"c","rejected":"r"}`, "neither subset nor the file's name"},
		{"wrong count", RewardBench2, "r.jsonl", oneLine(rb2, "1", `["r"]`, 2, "Math"), "num_correct is 2, but there are 1"},
		{"nothing rejected", RewardBench2, "r.jsonl", oneLine(rb2, "1", `[]`, 1, "Math"), "rejected is an empty list"},
		{"null among texts", RewardBench2, "r.jsonl", oneLine(rb2, "1", `[null]`, 1, "Math"), "rejected[0] is null"},
		{"id of Ties", RewardBench2, "r.jsonl", oneLine(rb2, "12", `["r"]`, 1, "Ties"), `id "12" of the subset Ties`},
		{"unknown kind of file", Human, "a.txt", "x", "not a known kind of file"},
		{"compressed otherwise", Safety, "s.jsonl.gz", "text, without a header", "gzip"},
		{"not Parquet", Human, "a.parquet", "PAR1 nonsense PAR1", "not a Parquet file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(context.Background(), test.bench, []string{write(t, test.file, test.content)}, quick(), rankedRow)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestABenchmarkWithoutFilesSaysWhereTheyAre(t *testing.T) {
	for _, name := range Names() {
		_, err := Load(context.Background(), name, nil, quick(), rankedRow)
		if err == nil || !strings.Contains(err.Error(), "--data "+name+"=PATH") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Known("mmlu", false); err == nil || !strings.Contains(err.Error(), "human, truth, safety") {
		t.Errorf("unknown benchmark: %v", err)
	}
}

func TestBadRowsCanBeSkipped(t *testing.T) {
	s := quick()
	s.SkipBad = true
	set := load(t, Safety, s, write(t, "s.jsonl", "{\n"+oneLine(safetyRow, true, false)+"[]\n"))
	if len(set.Items) != 1 || set.Bad != 2 || !strings.Contains(set.FirstBad, "s.jsonl:1:") {
		t.Errorf("%d items, %d bad, the first %q", len(set.Items), set.Bad, set.FirstBad)
	}
}

func TestSingleTurnLeavesLongConversationsOut(t *testing.T) {
	long := strings.ReplaceAll(oneLine(arenaRow, "model_a"), `[{"content":"hi","role":"user"}`, `[{"content":"hi","role":"user"},{"content":"hm","role":"assistant"},{"content":"go on","role":"user"}`)
	s := quick()
	path := write(t, "a.jsonl", long+oneLine(arenaRow, "model_a"))
	if n := len(load(t, Human, s, path).Items); n != 2 {
		t.Errorf("%d items of all turns", n)
	}
	s.SingleTurn = true
	if set := load(t, Human, s, path); len(set.Items) != 1 || set.LeftOut["more than one turn"] != 1 {
		t.Errorf("%d items of a single turn, left out %v", len(set.Items), set.LeftOut)
	}
}

func TestAFolderIsAllItsFiles(t *testing.T) {
	dir := t.TempDir()
	for name, first := range map[string]bool{"b.jsonl": true, "a.jsonl": false, "notes.txt": true} {
		if err := writeFile(dir+"/"+name, whole([]byte(oneLine(safetyRow, first, !first)))); err != nil {
			t.Fatal(err)
		}
	}
	set := load(t, Safety, quick(), dir)
	if len(set.Files) != 2 || !strings.HasSuffix(set.Files[0].Path, "a.jsonl") || len(set.Items) != 2 {
		t.Errorf("%d items of %v", len(set.Items), set.Files)
	}
}

func TestAFileThatIsNamedTwiceIsRefused(t *testing.T) {
	path := write(t, "a.jsonl", oneLine(safetyRow, true, false))
	for name, paths := range map[string][]string{
		"path": {path, path}, "its folder, too": {path, filepath.Dir(path)}, "a copy": {path, write(t, "b.jsonl", oneLine(safetyRow, true, false))},
	} {
		if _, err := Load(context.Background(), Safety, paths, quick(), nil); err == nil || !strings.Contains(err.Error(), "would count twice") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
