// Package configs holds the schema of a run, its defaults, and the recipes that
// ship with the program. Names are Hugging Face's where it has one.
//
// The schema is the struct Run. Its tags are all there is to know of a setting:
// loading, checking, printing and the reference in docs are derived from them (see
// field), so that a new setting is one line here.
package configs

// A Run is everything that a training run is configured by.
type Run struct {
	Model  Model  `mapstructure:"model" json:"model"`
	Data   Data   `mapstructure:"data" json:"data"`
	Loss   Loss   `mapstructure:"loss" json:"loss"`
	Train  Train  `mapstructure:"train" json:"train"`
	Device string `mapstructure:"device" json:"device" default:"auto" oneof:"auto cpu cuda cuda:N" meant:"gpu=cuda nvidia=cuda" doc:"where to compute: cuda:N is the GPU of that number, counted from 0; auto takes the first if this program was built for GPUs and finds one"`
}

// Model says what is trained.
type Model struct {
	NameOrPath       string `mapstructure:"name_or_path" json:"name_or_path" kind:"path" required:"true" aka:"model model_name model_name_or_path base_model" doc:"Hugging Face folder of a Llama, Mistral or Qwen2 chat model, a hub id, or a reward model to go on with"`
	DType            string `mapstructure:"dtype" json:"dtype" default:"bfloat16" oneof:"float32 bfloat16" aka:"bf16 fp16 torch_dtype precision" doc:"storage of weights and activations; sums are float32, and bfloat16 weights have a float32 master copy (but see train.stochastic_rounding)"`
	ValueHeadInit    string `mapstructure:"value_head_init" json:"value_head_init" default:"normal" oneof:"zeros normal" doc:"a new value head: zeros, or normal with standard deviation 1/sqrt(hidden_size+1); a head that the model has is kept"`
	MaxPositionCheck bool   `mapstructure:"max_position_check" json:"max_position_check" default:"true" doc:"refuse a data.max_length above the model's max_position_embeddings"`
}

// Data says what is learned from.
type Data struct {
	Train          []string `mapstructure:"train" json:"train" kind:"path" required:"true" doc:"files, folders or hub ids of datasets: Parquet or JSON lines (.gz too) of ranked answers, pairs or finished texts"`
	Eval           []string `mapstructure:"eval" json:"eval" kind:"path" doc:"the same, for evaluation"`
	EvalPrompts    int      `mapstructure:"eval_prompts" json:"eval_prompts" default:"0" min:"0" doc:"without eval: hold out this many prompts of train, with all of their rows"`
	MaxLength      int      `mapstructure:"max_length" json:"max_length" default:"2048" min:"2" aka:"max_seq_length max_seq_len cutoff_len" doc:"tokens that a conversation keeps"`
	TruncationSide string   `mapstructure:"truncation_side" json:"truncation_side" default:"left" oneof:"left right" doc:"where longer conversations are cut"`
	ChatTemplate   string   `mapstructure:"chat_template" json:"chat_template" default:"auto" kind:"template" also:"auto transcript none" doc:"auto (the model's own; without one, transcript), transcript (Nectar's Human/Assistant text), none (only finished texts), or a Jinja file"`
	ScorePosition  string   `mapstructure:"score_position" json:"score_position" default:"last_token" oneof:"last_token last_non_pad before_first_pad" doc:"the token whose hidden state is scored"`
	MaxAnswers     int      `mapstructure:"max_answers" json:"max_answers" default:"0" min:"0" aka:"num_answers" doc:"keep at most this many answers of a group, at least 2; 0 for all"`
	OnBadRow       string   `mapstructure:"on_bad_row" json:"on_bad_row" default:"error" oneof:"error skip" doc:"a row without two usable answers, with a missing rank or a null"`
	Cache          string   `mapstructure:"cache" json:"cache" kind:"path" doc:"folder for tokenized data; default: train.output_dir/cache"`
	Seed           int      `mapstructure:"seed" json:"seed" default:"0" min:"0" doc:"order of prompts, and the choice of eval_prompts"`
}

// Loss says what is minimized.
type Loss struct {
	Type           string  `mapstructure:"type" json:"type" default:"plackett_luce" oneof:"plackett_luce top_m_plackett_luce bradley_terry" aka:"loss_type" doc:"K-wise maximum likelihood of the ranking, of its first m places, or of all pairs"`
	M              int     `mapstructure:"m" json:"m" default:"0" min:"0" doc:"places that top_m_plackett_luce ranks; only for it, and required by it"`
	Ties           string  `mapstructure:"ties" json:"ties" default:"efron" oneof:"efron breslow drop" doc:"equal ranks in Plackett-Luce, as in Cox regression: efron is nearest to the exact likelihood, breslow simpler, drop lets tied answers not compete; bradley_terry leaves tied pairs out"`
	Normalization  string  `mapstructure:"normalization" json:"normalization" default:"pairs" oneof:"pairs terms sum" doc:"divide the loss of a group of K by K(K-1)/2 (bradley_terry: by its ordered pairs), by K-1, or by nothing"`
	Margin         float64 `mapstructure:"margin" json:"margin" default:"0" min:"0" doc:"by how much scores should differ per step of rank, on top of the margin that a data row may have"`
	CenterRewards  float64 `mapstructure:"center_rewards_coefficient" json:"center_rewards_coefficient" default:"0" min:"0" doc:"times the mean square of a group's scores"`
	LabelSmoothing float64 `mapstructure:"label_smoothing" json:"label_smoothing" default:"0" min:"0" below:"0.5" doc:"probability that a ranking was noted the other way round: mixes in the loss of the reversed ranking"`
}

// Train says how.
type Train struct {
	OutputDir          string   `mapstructure:"output_dir" json:"output_dir" kind:"path" required:"true" aka:"out output save_path" doc:"where states, logs and the final model go"`
	PromptsPerStep     int      `mapstructure:"prompts_per_step" json:"prompts_per_step" default:"64" min:"1" aka:"batch_size per_device_train_batch_size train_batch_size global_batch_size" doc:"groups of an optimizer step"`
	MaxTokensPerBatch  int      `mapstructure:"max_tokens_per_batch" json:"max_tokens_per_batch" default:"0" min:"0" aka:"gradient_accumulation_steps micro_batch_size micro_train_batch_size" doc:"rows of one forward and backward pass, after sharing prompts; a larger group has a pass of its own; 0 takes 2048, or data.max_length if that is more: larger passes take memory and save little time"`
	NumTrainEpochs     float64  `mapstructure:"num_train_epochs" json:"num_train_epochs" default:"1" min:"0" aka:"epochs num_epochs max_epochs" doc:"passes over the data"`
	MaxSteps           int      `mapstructure:"max_steps" json:"max_steps" default:"-1" min:"-1" doc:"optimizer steps, instead of num_train_epochs; -1 trains for epochs"`
	LearningRate       float64  `mapstructure:"learning_rate" json:"learning_rate" default:"1e-5" min:"0" aka:"lr" doc:"peak learning rate"`
	LRSchedulerType    string   `mapstructure:"lr_scheduler_type" json:"lr_scheduler_type" default:"constant_with_log_warmup" oneof:"constant_with_log_warmup constant linear cosine cosine_with_min_lr" aka:"scheduler lr_scheduler" doc:"constant_with_log_warmup is DeepSpeed's WarmupLR, which Starling used; the others warm up linearly"`
	MinLRRate          float64  `mapstructure:"min_lr_rate" json:"min_lr_rate" default:"0.1" min:"0" max:"1" doc:"where cosine_with_min_lr ends, as a share of learning_rate"`
	WarmupSteps        int      `mapstructure:"warmup_steps" json:"warmup_steps" default:"0" min:"0" doc:"steps until the peak"`
	WarmupRatio        float64  `mapstructure:"warmup_ratio" json:"warmup_ratio" default:"0" min:"0" max:"1" doc:"the same as a share of all steps; give one of the two"`
	WeightDecay        float64  `mapstructure:"weight_decay" json:"weight_decay" default:"0" min:"0" aka:"wd" doc:"on matrices and embeddings, not on norms and biases, as Hugging Face's Trainer"`
	AdamBeta1          float64  `mapstructure:"adam_beta1" json:"adam_beta1" default:"0.9" min:"0" below:"1" aka:"beta1 betas adam_betas" doc:"decay of the first moment"`
	AdamBeta2          float64  `mapstructure:"adam_beta2" json:"adam_beta2" default:"0.999" min:"0" below:"1" doc:"decay of the second moment"`
	AdamEpsilon        float64  `mapstructure:"adam_epsilon" json:"adam_epsilon" default:"1e-8" above:"0" aka:"eps" doc:"added to the root of the second moment"`
	StochasticRounding bool     `mapstructure:"stochastic_rounding" json:"stochastic_rounding" default:"false" aka:"bf16_stochastic_round stochastic_round" doc:"bfloat16 weights without a float32 master copy: an updated weight is rounded up or down at random, with the probability of how near it is; saves 4 bytes a parameter; only with model.dtype bfloat16"`
	MaxGradNorm        float64  `mapstructure:"max_grad_norm" json:"max_grad_norm" default:"1" min:"0" aka:"grad_clip clip gradient_clipping" doc:"clip the global norm of gradients; 0 does not"`
	Freeze             []string `mapstructure:"freeze" json:"freeze" kind:"freeze" aka:"freeze_layers num_unfrozen" doc:"what is not trained: embed, norm (the last one), a layer such as 3, or a range of layers such as 0-41"`
	Seed               int      `mapstructure:"seed" json:"seed" default:"0" min:"0" doc:"initialization of a new value head, and the random numbers of stochastic_rounding"`
	LoggingSteps       int      `mapstructure:"logging_steps" json:"logging_steps" default:"10" min:"1" aka:"log_every" doc:"steps between log lines"`
	ReportTo           []string `mapstructure:"report_to" json:"report_to" default:"jsonl" kind:"report" aka:"logger loggers log_with" doc:"where metrics go: jsonl (output_dir/metrics.jsonl, written in any case), tensorboard (event files in output_dir/tensorboard)"`
	EvalSteps          int      `mapstructure:"eval_steps" json:"eval_steps" default:"0" min:"0" doc:"steps between evaluations; 0 evaluates at the end only"`
	SaveSteps          int      `mapstructure:"save_steps" json:"save_steps" default:"0" min:"0" doc:"steps between states; 0 saves at the end only"`
	SaveTotalLimit     int      `mapstructure:"save_total_limit" json:"save_total_limit" default:"2" min:"1" doc:"states that are kept, besides the best"`
	LoadBestModelAtEnd bool     `mapstructure:"load_best_model_at_end" json:"load_best_model_at_end" default:"false" doc:"export the state with the best metric instead of the last; needs save_steps to be a multiple of eval_steps"`
	MetricForBestModel string   `mapstructure:"metric_for_best_model" json:"metric_for_best_model" default:"eval_loss" oneof:"eval_loss eval_pairwise_accuracy" doc:"what is best"`
	EarlyStopping      int      `mapstructure:"early_stopping_patience" json:"early_stopping_patience" default:"0" min:"0" doc:"stop after this many evaluations without improvement; 0 does not"`
	ResumeFrom         string   `mapstructure:"resume_from_checkpoint" json:"resume_from_checkpoint" default:"auto" kind:"resume" also:"auto never" aka:"resume" doc:"auto (the newest state in output_dir, if it is of the same run), never, or a checkpoint-N folder"`
	SharePrefix        bool     `mapstructure:"share_prefix" json:"share_prefix" default:"true" doc:"compute the prompt of a group once; false is for comparisons"`
	Recompute          string   `mapstructure:"recompute" json:"recompute" default:"auto" oneof:"auto always never" aka:"gradient_checkpointing activation_checkpointing" doc:"recompute all activations in the backward pass: auto does if they would not fit, never only those that cost next to nothing; the results are equal to the bit"`
	ExportDialect      string   `mapstructure:"export_dialect" json:"export_dialect" default:"huggingface" oneof:"huggingface starling" doc:"names of the exported tensors"`
}

// defaultPassRows are enough to keep a processor busy: passes of twice as many save
// 0 to 4 % of the time of a step (docs/performance.md) and double the activations.
const defaultPassRows = 2048

// PassRows returns the rows of a pass that train.max_tokens_per_batch means.
func (r Run) PassRows() int {
	if r.Train.MaxTokensPerBatch > 0 {
		return r.Train.MaxTokensPerBatch
	}
	return max(defaultPassRows, r.Data.MaxLength)
}
