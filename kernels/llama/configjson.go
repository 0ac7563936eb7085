package llama

func ParseConfig(configJSON []byte) (Config, error) { panic("contract") }
